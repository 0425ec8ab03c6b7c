--- A configuration in FSDP2's spelling, line by line, so that comments and order stay:
--- `ftengine convert config.yml -o new.yml`.
local renames = require "ft.dialect.renames"
local sorted_keys = require "ft.sorted_keys"

local fsdp2_text = {}

local of_fsdp = { fsdp = true, fsdp_config = true, fsdp_version = true }
local bitsandbytes = { adamw_8bit = true, adamw_bnb_8bit = true }

--- Lines of the file by the top-level key that they belong to: { { key = nil or name, lines = { … } }, … }
local function sections(text)
  local list = { { lines = {} } }
  for line in (text:gsub("\r", "") .. "\n"):gmatch("(.-)\n") do
    local key = line:match("^([%w_]+)%s*:")
    if key then
      list[#list + 1] = { key = key, lines = {} }
    elseif line:match("^%S") and line:sub(1, 1) ~= "-" and list[#list].key then
      list[#list + 1] = { lines = {} } -- a comment at the margin begins what follows
    end
    table.insert(list[#list].lines, line)
  end
  local last = list[#list].lines
  if last[#last] == "" then last[#last] = nil end
  return list
end

--- A line of fsdp_config in the present spelling; nil where it is dropped.
local function line_of(line, strategy)
  local indent, key, rest = line:match("^(%s+)([%w_]+)%s*:(.*)$")
  if not key then return line end
  local name = key:match("^fsdp_(.+)$") or key
  if name == "version" or renames.dropped[name] then return nil end
  if name == "sharding_strategy" then return ("%sreshard_after_forward: %s"):format(indent, tostring(strategy.reshard)) end
  return indent .. name .. ":" .. rest
end

local function fsdp_lines(section, strategy, fsdp, version)
  local out = { "fsdp_config:" }
  if section and not section.lines[1]:match(":%s*{") then
    for i = 2, #section.lines do out[#out + 1] = line_of(section.lines[i], strategy) end
  else
    for _, name in ipairs(sorted_keys(fsdp)) do
      out[#out + 1] = line_of(("  %s: %s"):format(name, tostring(fsdp[name])), strategy)
    end
  end
  if fsdp.offload_params == nil and strategy.offload then out[#out + 1] = "  offload_params: true" end
  if version == "1" and fsdp.sharding_strategy == nil and fsdp.reshard_after_forward == nil then
    out[#out + 1] = "  reshard_after_forward: " .. tostring(strategy.reshard)
  end
  return out
end

--- @param config what dialect.read gave   @return the configuration's text in FSDP2's spelling
function fsdp2_text.write(config, text)
  local r = config.reader
  local fsdp = r.values.fsdp_config or {}
  local quiet = setmetatable({ faults = {} }, { __index = r })
  local strategy = renames.strategy(quiet, fsdp)
  local list = sections(text)
  local block, at = nil, nil
  for i, section in ipairs(list) do
    if section.key == "fsdp_config" then block, at = section, i end
  end
  for i, section in ipairs(list) do if not at and section.key == "fsdp" then at = i end end
  local out = {}
  local function add(lines) for _, line in ipairs(lines) do out[#out + 1] = line end end
  for i, section in ipairs(list) do
    local key = section.key
    if i == at and r.uses_fsdp and strategy.zero_stage == 3 then
      add { "fsdp_version: 2" }
      if strategy.hybrid and not r.values.dp_replicate_size then add { "dp_replicate_size: 1  # nodes" } end
      add(fsdp_lines(block, strategy, fsdp, r.version))
    elseif r.uses_fsdp and of_fsdp[key] then
      add {} -- written above, or read as DDP
    elseif renames.names[key] then
      add { (section.lines[1]:gsub("^[%w_]+", renames.names[key])) }
    elseif key == "gradient_checkpointing" and r.values[key] == "offload" then
      add { "gradient_checkpointing: true" }
      if r.values.activation_offloading == nil then add { "activation_offloading: true" } end
    elseif key == "optimizer" and r.uses_fsdp and bitsandbytes[r.values.optimizer] then
      add { "optimizer: adamw_torch_8bit" }
    else
      add(section.lines)
    end
  end
  return table.concat(out, "\n") .. "\n"
end

return fsdp2_text
