--- Checkpoints: how often, and what a run goes on from.
local native = require "ft.native"

--- The directory of the run that save.resume names; nil with "auto" before there is one, false when it is none.
local function run_of(save)
  local wanted = save.resume
  if wanted == "auto" then
    return save.out and native.exists(save.out .. "/run.json") and save.out or nil
  end
  local path = native.absolute(wanted)
  if native.exists(path .. "/run.json") then return path end
  local above = path:match("^(.*)/checkpoint%-%d+/?$") or path:match("^(.*)/latest/?$") or path:match("^(.*)/best/?$")
  return above and native.exists(path .. "/manifest.json") and native.exists(above .. "/run.json") and above or false
end

--- Another engine's training checkpoint, where save.resume names one: { adapter = what it was made with }.
local function foreign(save)
  return save.resume ~= "auto" and native.foreign_checkpoint(native.absolute(save.resume)) or nil
end

--- What must be as it was, in the order in which it is said.
local kept = {
  "model.config.model_type", "model.config.hidden_size", "model.config.num_hidden_layers",
  "model.config.intermediate_size", "model.config.num_attention_heads", "model.config.num_key_value_heads",
  "model.config.vocab_size", "adapter.r", "adapter.target_modules", "optimizer.kind", "optimizer.bits", "seed",
  "batch.total",
}

--- The same of another engine's adapter; which modules it is on, its matrices' names and shapes tell.
local kept_of_adapters = {
  "adapter.r", "adapter.alpha", "adapter.use_rslora", "adapter.use_dora", "adapter.lora_bias", "adapter.rank_pattern",
  "adapter.alpha_pattern", "adapter.modules_to_save",
}

local function at(plan, path)
  for key in path:gmatch("[^.]+") do
    if type(plan) ~= "table" then return nil end
    plan = plan[key]
  end
  return plan
end

--- Lists are of names, whose order says nothing.
local function text(value)
  if type(value) ~= "table" then return value and tostring(value) or "none" end
  if next(value) == nil then return "none" end
  if #value == 0 then return native.to_json(value) end
  local names = {}
  for i = 1, #value do names[i] = tostring(value[i]) end
  table.sort(names)
  return table.concat(names, ", ")
end

return function(rule)
  rule("checkpoints.one_distance", {
    keys = { "save.every", "save.per_epoch" },
    sentence = "checkpoints are counted in steps or by the epoch",
    reason = "one of them would be ignored",
    source = "docs/recipes.md",
    help = "remove one of them",
  }, function(p)
    return not (p.save.every > 0 and p.save.per_epoch), "remove one of them", "save.per_epoch",
      ("got %d, but save.every is %g"):format(p.save.per_epoch or 0, p.save.every)
  end)

  rule("checkpoints.every_is_steps_or_a_share", {
    keys = { "save.every" },
    sentence = "checkpoints come after whole steps",
    reason = "a number below 1 is a share of all steps, a larger one counts them",
    source = "transformers, TrainingArguments.save_steps",
    help = "write a whole number, or a share such as 0.1",
  }, function(p)
    local every = p.save.every
    return every < 1 or every == math.floor(every), ("write save.every = %d, or a share such as 0.1"):format(math.floor(every)),
      "save.every", ("got %g, want a whole number of steps, or a share below 1"):format(every)
  end)

  rule("checkpoints.resume_is_a_run", {
    keys = { "save.resume" },
    sentence = "what a run goes on from is there",
    reason = "a run that begins anew where it was to go on is found out days later",
    source = "engine/train/resume.h",
    help = "give the directory of a run, a checkpoint in it, or another engine's checkpoint",
  }, function(p)
    if not p.save.resume then return true end
    if p.save.resume == "auto" and not p.save.out then
      return false, "give it with --out DIR, or as save.out", "save.resume", "auto wants to know the run's directory"
    end
    return run_of(p.save) ~= false or foreign(p.save) ~= nil,
      "give the directory that the run printed when it started, or a checkpoint-<step>, latest or best in it", "save.resume",
      ("'%s' is neither a run directory, nor a checkpoint in one, nor another engine's checkpoint"):format(
        tostring(p.save.resume))
  end)

  rule("checkpoints.resume_is_of_this_plan", {
    keys = { "save.resume", "model.config", "adapter", "optimizer", "seed", "batch.total" },
    sentence = "a run goes on with the model, adapter, optimizer and rows that it began with",
    reason = "its checkpoints hold the state of those parameters, and the place in that order of rows",
    source = "engine/train/resume.h",
    help = "keep it as it was, or start a new run",
  }, function(p)
    if not p.save.resume then return true end
    local run, before, keys = run_of(p.save), nil, kept
    if run and native.exists(run .. "/plan.json") then
      before = native.read_json(run .. "/plan.json")
    elseif run == false then
      run, before, keys = p.save.resume, foreign(p.save), kept_of_adapters
      if not before or not before.adapter then return true end
    end
    if not before then return true end
    local plan = { model = p.model, adapter = p.adapter, optimizer = p.optimizer, seed = p.seed, batch = p.batch }
    for _, path in ipairs(keys) do
      local was, is = at(before, path), at(plan, path)
      if text(was) ~= text(is) then
        return false, "keep it as it was, or start a new run", path,
          ("got %s, but %s was made with %s"):format(text(is), run, text(was))
      end
    end
    return true
  end)
end
