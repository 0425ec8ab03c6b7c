--- A configuration of the YAML dialect as it was written: keys known, unsupported or misspelt, values of the right kinds,
--- prefixes stripped; each value with the line, flag or environment variable that set it. What is wrong is gathered.
local native = require "ft.native"
local keys = require "ft.dialect.keys"
local unsupported = require "ft.dialect.unsupported"
local accepted = require "ft.dialect.accepted"
local sorted_keys = require "ft.sorted_keys"

local Reader = {}
Reader.__index = Reader

--- Adds what is wrong with a key ("fsdp_config.offload_params").
function Reader:fault(warning, key, message, help, rule)
  local file, line = self:place(key)
  self.faults[#self.faults + 1] = {
    warning = warning, path = file:sub(1, 2) == "--" and "" or key, message = message, help = help or "", rule = rule or "",
      file = file,
    line = line,
  }
end

function Reader:refuse(...) self:fault(false, ...) end
function Reader:warn(...) self:fault(true, ...) end

--- Refuses what this engine does not do; --allow-unsupported makes it a warning.
function Reader:unsupported(key, message, help)
  self:fault(self.allowed, key, message, help or (self.allowed and "it is left out" or
    "remove it, or run with --allow-unsupported, which leaves it out"), "dialect.unsupported")
end

--- File and line of where an entry of a list begins: of the first of its keys.
local function begin_of(entry)
  local file, first
  for name in pairs(entry) do
    local from, line = native.origin(entry, name)
    if line > 0 and (not first or line < first) then file, first = from, line end
  end
  return file, first
end

--- File and line of a key; of the nearest block that is known. A key that is not there has no line.
function Reader:place(key)
  local list, number = key:match("^([%w_]+)%[(%d+)%]$")
  if list then
    local entry = type(self.written[list]) == "table" and self.written[list][tonumber(number)]
    local file, line = begin_of(type(entry) == "table" and entry or {})
    if file then return file, line end
    return self:place(list)
  end
  if not key:find("[.%[]") and self.written[key] == nil and not self.mentioned[key] then return self.file, 0 end
  return native.origin(self.written, key)
end

--- What this machine's ranks would compute on (ft.device).
function Reader:device() return require("ft.device").facts("auto") end

--- One option's declaration as the registry reads it.
local function declared_of(list)
  local out = {}
  for i, key in ipairs(sorted_keys(list)) do out[i] = { key = key, option = list[key] } end
  return out
end

local switches = { ["true"] = "true", yes = "true", on = "true", ["false"] = "false", no = "false", off = "false" }

--- What to write where a text stands for a value of another kind: `load_in_4bit: true, without quotes`; nil for other texts.
local function unquoted(key, text, wanted)
  local plain
  if wanted == "boolean" then plain = switches[text:lower()] else plain = tonumber(text) and text end
  return plain and ("write %s: %s%s"):format(key, plain, plain == text and ", without quotes" or "")
end

--- Values of the declared kinds; the others are faults.
function Reader:typed(declared, block, path)
  local values, faults = native.check(declared_of(declared), block, path)
  for _, fault in ipairs(faults) do
    local text, wanted = fault.message:match("^got string '(.-)', want (%a+)$")
    if text then fault.help = unquoted(fault.path:match("[^.]+$"), text, wanted) or fault.help end
    self.faults[#self.faults + 1] = fault
  end
  return values
end

--- The only key that has a word among its parts, or begins with it: num_epochs for epochs, adam_epsilon for adam_eps.
local function the_only_one_with(word, known)
  local found = {}
  for _, key in ipairs(known) do
    if ("_" .. key .. "_"):find("_" .. word .. "_", 1, true) or key:sub(1, #word) == word then found[#found + 1] = key end
  end
  return found[2] == nil and found[1] or nil
end

--- "did you mean …" among everything that means something in the dialect.
local function near_help(word, ...)
  local known = sorted_keys(...)
  local near = native.nearest(word, known) or the_only_one_with(word, known)
  return near and ("did you mean '%s'?"):format(near) or "docs/axolotl.md lists the keys"
end

--- Says of each top-level key that is not read what it is.
function Reader:sort_keys(order)
  for _, entry in ipairs(order) do
    local key, value = entry.key, self.written[entry.key]
    if not native.origin(self.written, key) or self:place(key) == "" then
      native.place(self.written, key, self.file, entry.line)
    end
    if keys.known[key] == nil then
      local note, pattern = accepted.note(key)
      if pattern then
        if value ~= nil and value ~= false then self:warn(key, note, nil, "dialect.logger") end
      elseif unsupported[key] then
        if value ~= nil and value ~= false then self:unsupported(key, unsupported[key]) end
      elseif not note then
        self:refuse(key, "unknown key", near_help(key, keys.known, unsupported), "dialect.unknown_key")
      end
    elseif accepted.notes[key] and value ~= nil and value ~= false then
      self.notes[#self.notes + 1] = { key = key, text = accepted.notes[key] }
    end
  end
end

--- fsdp_config without its prefixes.
function Reader:read_fsdp()
  local block = self.written.fsdp_config
  if type(block) ~= "table" or #block > 0 then return end -- which is no table of keys, as its kind says
  local plain, prefixed = {}, nil
  for _, key in ipairs(sorted_keys(block)) do
    local name = key:match("^fsdp_(.+)$") or key
    if name ~= key and name ~= "version" then prefixed = prefixed or key end
    local path = "fsdp_config." .. key
    local file, line = self:place(path)
    if not keys.fsdp[name] then
      self:refuse(path, "unknown key", near_help(name, keys.fsdp), "dialect.unknown_key")
    elseif plain[name] ~= nil and plain[name] ~= block[key] then
      self:refuse("fsdp_config.fsdp_" .. name, ("given together with '%s', which it is another name of"):format(name),
        ("keep '%s'"):format(name), "dialect.given_twice")
    else
      plain[name] = block[key]
      native.place(plain, name, file, line)
    end
  end
  if prefixed then
    self:warn("fsdp_config." .. prefixed, "Configuring FSDP fields with the `fsdp_` prefix is deprecated. Please omit the "
      .. "`fsdp_` prefix from the any fields in `fsdp_config`.", "write " .. prefixed:sub(6), "dialect.fsdp_prefix")
  end
  self.written.fsdp_config = plain
  self.values.fsdp_config = self:typed(keys.fsdp, plain, "fsdp_config")
  if plain.cpu_ram_efficient_loading then
    self.notes[#self.notes + 1] = { key = "fsdp_config.cpu_ram_efficient_loading",
      text = accepted.notes.cpu_ram_efficient_loading }
  end
end

--- Values of a block inside an entry of datasets; keys that nobody knows are faults.
--- @param refused key -> what it would have done
function Reader:entry(block, declared, refused, path)
  local known = {}
  for _, key in ipairs(sorted_keys(block)) do
    local file, line = native.origin(block, key)
    local fault = { path = path .. "." .. key, file = file, line = line }
    if declared[key] then
      known[key] = block[key]
      native.place(known, key, file, line)
    elseif refused[key] then
      fault.message, fault.warning, fault.rule = refused[key], self.allowed, "dialect.unsupported"
      fault.help = self.allowed and "it is left out" or "remove it, or run with --allow-unsupported, which leaves it out"
      self.faults[#self.faults + 1] = block[key] and fault or nil
    else
      fault.message, fault.help, fault.rule = "unknown key", near_help(key, declared), "dialect.unknown_key"
      self.faults[#self.faults + 1] = fault
    end
  end
  return self:typed(declared, known, path)
end

--- Entries of datasets and test_datasets, and of pretraining_dataset, where a name alone will do.
function Reader:read_datasets(name, declared)
  local list = self.written[name]
  if type(list) ~= "table" then return end
  local out = {}
  for i, entry in ipairs(list) do
    local path = ("%s[%d]"):format(name, i)
    if type(entry) == "string" and declared == keys.pretraining then
      out[i] = entry
    elseif type(entry) ~= "table" or entry[1] ~= nil then
      self:refuse(name, ("entry %d: got %s, want { path, type }"):format(i,
        type(entry) == "table" and "list" or type(entry)), nil, "dialect.datasets")
    else
      out[i] = self:entry(entry, declared, keys.dataset_refused, path)
      local prompt = entry.type
      if type(prompt) == "table" and prompt[1] ~= nil then
        self:refuse(name, ("entry %d: type: got list, want a name, or { format, … }"):format(i), nil, "dialect.datasets")
      elseif type(prompt) == "table" then
        out[i].type = self:entry(prompt, self.written.rl == "dpo" and keys.pair or keys.prompt, {}, path .. ".type")
      end
    end
  end
  self.values[name] = out
end

--- What rules see: the values as they were written, whatever the place; `version` of FSDP as text, "1" where none is said.
function Reader:finish()
  local values = self.values
  local fsdp = values.fsdp_config
  local version = values.fsdp_version or fsdp and (fsdp.fsdp_version or fsdp.version)
  self.version_key = values.fsdp_version ~= nil and "fsdp_version" or fsdp and fsdp.fsdp_version ~= nil
    and "fsdp_config.fsdp_version" or fsdp and fsdp.version ~= nil and "fsdp_config.version" or nil
  self.uses_fsdp = (fsdp ~= nil and next(fsdp) ~= nil) or (values.fsdp ~= nil and #values.fsdp > 0)
    or (fsdp ~= nil and self.file_has_fsdp)
  self.version = version ~= nil and tostring(version):gsub("%.0$", "") or "1"
end

local reader = {}

--- reader.read(file, settings, environment) -> Reader
--- @param settings { { key = "fsdp_config.offload_params", value = text or boolean, flag = "--…" }, … }
function reader.read(file, settings, allowed)
  if native.exists(file) ~= "file" then
    native.raise { kind = "config", where = file, message = "no such file",
      help = "give a recipe (.lua) or a configuration (.yml)" }
  end
  local written, order = native.yaml(file)
  if type(written) ~= "table" or (#order == 0 and written ~= nil and written[1] ~= nil) then
    native.raise { kind = "config", where = file, message = "got no keys and values",
      help = "a configuration says base_model: …, datasets: …" }
  end
  local self = setmetatable({ file = file, written = written, allowed = allowed, faults = {}, notes = {}, keys = {},
    mentioned = {} }, Reader)
  for _, entry in ipairs(order) do
    self.mentioned[entry.key] = true
    local origin, line = native.origin(written, entry.key)
    if origin == "" or line == 0 then native.place(written, entry.key, file, entry.line) end
  end
  for _, setting in ipairs(settings) do
    local block, key = written, setting.key
    local outer, inner = key:match("^([^.]+)%.(.+)$")
    if outer then
      if type(written[outer]) ~= "table" then written[outer] = {} end
      block, key = written[outer], inner
    else
      order[#order + 1] = { key = key, line = 0 }
    end
    block[key] = setting.value
    native.place(block, key, setting.flag, 0)
  end
  self.file_has_fsdp = type(written.fsdp_config) == "table"
  require("ft.dialect.environment").fill(self)
  self:sort_keys(order)
  self.values = self:typed(keys.known, written, "")
  self:read_fsdp()
  self:read_datasets("datasets", keys.dataset)
  self:read_datasets("test_datasets", keys.dataset)
  self:read_datasets("pretraining_dataset", keys.pretraining)
  self:finish()
  return self
end

return reader
