--- Applies rules to a plan: every one that fails is reported, together, with the line to blame. A rule that asks for a
--- fact which only the data gives waits until the data is read.
local native = require "ft.native"

local judge = {}
local needs_data = setmetatable({}, { __tostring = function() return "needs data" end })

--- Facts that need the tokens of the training data.
local data_facts = { tokens = true, targets = true, rows = true, documents = true, steps = true }

--- What rules see: the plan's keys, and facts.
---   world_size, data_ranks (those that read rows of their own), trainable, all_parameters, layers, adapted: known from
---   the plan alone
---   tokens, targets, rows, documents, steps: of the training data, over all epochs for tokens and targets
local function facts_of(plan_object, data)
  local plan = plan_object.plan
  local model
  local mesh = plan.parallel.mesh
  local facts = {
    world_size = plan.parallel.nproc, data_ranks = mesh.replicate * mesh.shard,
    facts = {
      launched = plan_object.ranks.world_size, launched_by = plan_object.ranks.said_by, yaml = plan_object.key_of ~= nil,
      tied = plan_object.tied,
    },
  }
  return setmetatable(facts, { __index = function(_, key)
    if plan[key] ~= nil then return plan[key] end
    if key == "trainable" or key == "all_parameters" or key == "layers" or key == "adapted" then
      model = model or native.model_facts(plan)
      return key == "all_parameters" and model.all or model[key]
    end
    if key == "device" then return require("ft.device").facts(plan.parallel.device) end
    if data_facts[key] then
      if not data.train then error(needs_data, 0) end
      local train = data.train:facts(plan.data.train.seq_len, plan.data.train.pack)
      local round = plan.data.train.remainder == "drop" and math.floor or math.ceil
      local steps_per_epoch = round(train.rows / plan.batch.total)
      local epochs = plan.max_steps and plan.max_steps / steps_per_epoch or plan.epochs
      local known = {
        tokens = train.tokens * epochs, targets = train.targets * epochs, rows = train.rows, documents = train.documents,
        steps = plan.max_steps or math.max(1, math.ceil(epochs * steps_per_epoch - 1e-9)), -- as engine/data/sampler counts
      }
      return known[key]
    end
    return nil
  end })
end

--- Help that says "seq_len = 512" of a recipe's key, in the words of a configuration: "sequence_len: 512".
local function in_yaml(help, key, theirs)
  local ours, named = key:match("[^.]+$"), theirs:match("[^.]+$")
  return (help:gsub("%f[%w_]" .. ours .. " = ", named .. ": "))
end

--- The fault of a rule that failed; of a configuration's plan it blames the configuration's key.
local function fault_of(plan_object, rule, help, key, what)
  local file, line = rule.file, rule.line
  if not file then file, line = native.origin(plan_object.plan, key or "") end
  local path = key or (rule.file and "plan:rule") or ""
  local theirs = plan_object.key_of and key and plan_object.key_of(key)
  if theirs then
    file, line = plan_object.place_of(theirs)
    path = file:sub(1, 2) == "--" and "" or theirs
    help = help and in_yaml(help, key, theirs)
  end
  return {
    path = path, message = what or rule.sentence or rule.name, help = help or "", file = file, line = line,
    rule = (what or rule.sentence) and rule.name or "", warning = rule.severity == "warning",
  }
end

--- The fault that a rule met as it asked the engine what the plan comes to; nil for what is no fault of the plan.
local function met(plan_object, raised)
  if type(raised) ~= "table" or raised.kind ~= "config" or not raised.path then return nil end
  local rule = require("ft.rules").known("model.is_built_as_the_plan_says")
  return fault_of(plan_object, rule, raised.help, raised.path, raised.message)
end

--- Warnings that need no data have been said before it was read.
local function without_warnings(list)
  local errors = {}
  for _, fault in ipairs(list) do if not fault.warning then errors[#errors + 1] = fault end end
  return errors
end

--- Applies the rules on a configuration of the YAML dialect as it is written; what fails joins the reader's faults.
function judge.written(reader)
  for _, rule in ipairs(require("ft.rules").written) do
    local ok, help, key, what = rule.check(reader.values, reader)
    if not ok then reader:fault(rule.severity == "warning", key, what, help, rule.name) end
  end
end

--- Applies all rules. @param data token rows by split; {} before they are read. @return names of rules that need data
function judge.apply(plan_object, data)
  local p = facts_of(plan_object, data)
  local faults, waiting, passed, found = {}, {}, 0, nil
  local function try(rule)
    local done, ok, help, key, what = pcall(rule.check, p)
    if plan_object.off[rule.name] then
      return
    elseif not done and ok == needs_data then
      waiting[#waiting + 1] = rule.name
    elseif not done then
      found = met(plan_object, ok) or error(ok, 0)
    elseif not ok then
      faults[#faults + 1] = fault_of(plan_object, rule, help, key, what)
    else
      passed = passed + 1
    end
  end
  for _, rule in ipairs(require("ft.rules").list) do try(rule) end
  for _, rule in ipairs(plan_object.own_rules) do try(rule) end
  if found and #without_warnings(faults) == 0 then faults[#faults + 1] = found end -- else a rule has said it
  if next(data) then faults = without_warnings(faults) end
  require("ft.faults").settle(faults)
  plan_object.waiting, plan_object.passed = waiting, passed
  return waiting
end

return judge
