--- A configuration's plan as the recipe that states it: `ftengine convert config.yml -o recipe.lua`.
local sorted_keys = require "ft.sorted_keys"

local recipe_text = {}

--- A key of a table as Lua writes it.
local function key_text(name) return name:match("^[%a_][%w_]*$") and name or ("[%q]"):format(name) end

--- A value as Lua writes it.
local function literal(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" then
    for _, digits in ipairs { "%.15g", "%.17g" } do
      local text = digits:format(value)
      if tonumber(text) == value then return text end
    end
  end
  if type(value) ~= "table" then return tostring(value) end
  if value.parts then return recipe_text.block(value) end
  local items = {}
  for i, item in ipairs(value) do items[i] = literal(item) end
  if #items == 0 then
    for i, name in ipairs(sorted_keys(value)) do items[i] = key_text(name) .. " = " .. literal(value[name]) end
  end
  return "{ " .. table.concat(items, ", ") .. " }"
end

--- "ft.lora { r = 8, alpha = 16 }"; the value that may stand without its name leads.
function recipe_text.block(block)
  local items, first = {}, block.values.dir and block.constructor and "dir" or block.values.path and "path"
  if first then items[1] = literal(block.values[first]) end
  for _, name in ipairs(sorted_keys(block.values)) do
    if name ~= first then items[#items + 1] = name .. " = " .. literal(block.values[name]) end
  end
  local body = #items > 0 and "{ " .. table.concat(items, ", ") .. " }" or "{}"
  return (block.constructor and "ft." .. block.constructor .. " " or "") .. body
end

--- Breaks a line behind commas, as long as it is longer than `width`.
local function fold(line, width)
  local out, indent = {}, line:match("^ *") .. "  "
  while #line > width do
    local cut, quoted = nil, false
    for i = 1, width do
      local c = line:sub(i, i)
      if c == '"' and line:sub(i - 1, i - 1) ~= "\\" then quoted = not quoted end
      if c == "," and not quoted and i > #indent + 20 then cut = i end
    end
    if not cut then break end
    out[#out + 1] = line:sub(1, cut)
    line = indent .. line:sub(cut + 1):gsub("^ ", "")
  end
  out[#out + 1] = line
  return table.concat(out, "\n")
end

local function loop_text(loop, plan)
  local lines = { "", "local run = plan:start()" }
  local function add(text) lines[#lines + 1] = text end
  local validated = plan.by_path["data.val"] ~= nil
  local share = "math.max(1, math.floor(run.total_steps / (plan.plan.epochs * %d) + 0.5))"
  local between = validated and (loop.evaluate
    and (loop.evaluate < 1 and ("math.max(1, math.ceil(run.total_steps * %s))"):format(literal(loop.evaluate))
      or literal(loop.evaluate)) or loop.evaluations and share:format(loop.evaluations))
  if between then add("local every = " .. between .. "  -- steps between two evaluations") end
  if loop.watchdog then add "local high = 0  -- steps in a row whose loss was too high" end
  add "for step, window in run:steps() do"
  local norm = loop.clip > 0 and literal(loop.clip)
  if loop.dpo then
    add(("  local row = ft.dpo.step(run, window, %s)  -- the base without its adapter is the reference"):format(
      literal(loop.dpo)))
    if norm then add(("  row.grad_norm = run:clip(%s)"):format(norm)) end
    add "  run:update()"
    add "  row.step, row.lr = step, run.lr"
  else
    add "  local tokens = run:sum(window:tokens())    -- of all ranks: packed rows hold unequal numbers of labels"
    add "  local loss = 0"
    add "  for batch in window:each() do loss = loss + run:backward(batch, tokens) end"
    if norm then add(("  local norm = run:clip(%s)"):format(norm)) end
    add "  run:update()"
    add("  local row = { step = step, loss = run:sum(loss), " .. (norm and "grad_norm = norm, " or "") .. "lr = run.lr }")
  end
  if validated then
    add(("  if %sstep == run.total_steps then"):format(between and "step % every == 0 or " or ""))
    if loop.dpo then
      add(("    for name, value in pairs(ft.dpo.evaluate(run, \"val\", %s)) do row[name] = value end"):format(literal(loop.dpo)))
    else
      add "    row.val_loss = run:evaluate(\"val\").loss"
    end
    add "  end"
  end
  local some = "  if row.val_loss or step %% %d == 0 or step == run.total_steps then run:log(row) end"
  add(loop.log > 1 and some:format(loop.log) or "  run:log(row)")
  if loop.watchdog then
    add(("  high = row.loss > %s and high + 1 or 0"):format(literal(loop.watchdog.threshold)))
    add(("  if high == %d then break end"):format(loop.watchdog.patience))
  end
  add "end"
  add "run:finish()"
  return lines
end

local order = { "model", "adapter", "data", "parallel", "optimizer", "batch", "save" }

--- @param config what dialect.read gave   @return the recipe's text
function recipe_text.write(config, name)
  local plan = config.parts
  local lines = { "-- " .. config.reader.file:match("[^/]+$") .. ", as a recipe.", "--   ftengine run " .. name }
  local seen, words = {}, {}
  for _, note in ipairs(config.reader.notes) do
    if not seen[note.key] then words[#words + 1] = note.key end
    seen[note.key] = true
  end
  for _, fault in ipairs(config.reader.faults) do
    if fault.warning and not seen[fault.path] then words[#words + 1] = fault.path end
    seen[fault.path] = true
  end
  local line = "-- Without a counterpart, or by another name:"
  for i, word in ipairs(words) do
    if #line + #word > 110 then
      lines[#lines + 1] = line
      line = "--  "
    end
    line = line .. " " .. word .. (i < #words and "," or "")
  end
  if #words > 0 then lines[#lines + 1] = line end
  if plan.resume then lines[#lines + 1] = "-- resume_from_checkpoint: run it with --resume " .. plan.resume end
  lines[#lines + 1] = 'local ft = require "ft"\n\nlocal plan = ft.plan {'
  for _, key in ipairs(order) do
    local text
    if key == "data" then
      local splits = {}
      for _, split in ipairs { "train", "val" } do
        local block = plan.by_path["data." .. split]
        if block then splits[#splits + 1] = ("    %s = %s,"):format(split, recipe_text.block(block)) end
      end
      lines[#lines + 1] = "  data = {"
      for _, split in ipairs(splits) do lines[#lines + 1] = fold(split, 118) end
      lines[#lines + 1] = "  },"
    elseif plan.by_path[key] then
      local block = plan.by_path[key]
      if key == "save" then block.values.out = block.values.dir end
      if key == "parallel" then block.constructor = "fsdp2" end
      text = ("  %s = %s,"):format(key, recipe_text.block(block))
    end
    if text then lines[#lines + 1] = fold(text, 118) end
  end
  for _, entry in ipairs(plan.own) do
    lines[#lines + 1] = fold(("  %s = %s,"):format(entry.name, literal(entry.value)), 118)
  end
  lines[#lines + 1] = "}"
  for _, rule in ipairs(require("ft.rules").list) do
    if config.off[rule.name] then lines[#lines + 1] = ("plan:without %q"):format(rule.name) end
  end
  for _, text in ipairs(loop_text(plan.loop, plan)) do lines[#lines + 1] = text end
  return table.concat(lines, "\n") .. "\n"
end

return recipe_text
