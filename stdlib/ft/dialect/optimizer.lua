--- Optimizer, schedule, rows a step, and what a step clips.
local adamw8 = {
  adamw_torch_8bit = true, adamw_bnb_8bit = true, adamw_8bit = true, paged_adamw_8bit = true, ao_adamw_8bit = true,
}
local adamw = {
  adamw_torch = true, adamw_torch_fused = true, adamw_hf = true, paged_adamw_32bit = true, paged_adamw = true,
  adamw_anyprecision = true, adamw_apex_fused = true,
}
local others = {
  sgd = "sgd", adafactor = "adafactor", muon = "muon", lion_32bit = "lion", paged_lion_32bit = "lion", lion_pytorch = "lion",
}
local schedules = {
  cosine = "cosine", linear = "linear", constant = "constant", constant_with_warmup = "constant",
  inverse_sqrt = "inverse_sqrt", warmup_stable_decay = "wsd", cosine_with_restarts = "cosine", cosine_with_min_lr = "cosine",
}

--- "0.0002" is a number to those who write it.
local function rate(r)
  local given = r.values.learning_rate
  if given == nil then
    r:refuse("learning_rate", "is missing", "learning_rate: 2e-4 for adapters, 1e-5 for all weights", "dialect.missing")
    return 1e-5
  end
  local number = tonumber(given)
  if not number or number <= 0 then
    r:refuse("learning_rate", ("got '%s', want a number above 0"):format(tostring(given)), "learning_rate: 2e-4",
      "dialect.number")
    return 1e-5
  end
  return number
end

local function schedule(r, optimizer)
  local v = r.values
  local name = v.lr_scheduler or "cosine"
  local kind = schedules[name]
  if not kind then
    r:unsupported("lr_scheduler", ("'%s' would have been the schedule"):format(name),
      "cosine, linear, constant, constant_with_warmup, inverse_sqrt, warmup_stable_decay and cosine_with_restarts are here")
    kind = "cosine"
  end
  local block = optimizer:inner("schedule", kind, "lr_scheduler")
  local args = v.lr_scheduler_kwargs or {}
  local warmup = v.warmup_steps or v.warmup_ratio
  if name == "constant" then warmup = warmup or 0 end
  block:set("warmup", warmup or 0.03, v.warmup_steps and "warmup_steps" or "warmup_ratio")
  if v.cosine_min_lr_ratio then block:set("min_lr_ratio", v.cosine_min_lr_ratio, "cosine_min_lr_ratio") end
  if args.min_lr_rate then block:set("min_lr_ratio", args.min_lr_rate, "lr_scheduler_kwargs") end
  if args.num_cycles then block:set("cycles", args.num_cycles, "lr_scheduler_kwargs") end
  if args.num_decay_steps then block:set("decay", args.num_decay_steps, "lr_scheduler_kwargs") end
  for key in pairs(args) do
    if key ~= "min_lr_rate" and key ~= "num_cycles" and key ~= "num_decay_steps" then
      r:unsupported("lr_scheduler_kwargs", ("%s would have shaped the schedule"):format(key))
    end
  end
end

--- Whether lora_target_modules names an embedding, whose adapter LoRA+ gives a rate of its own.
local function adapts_embedding(v)
  for _, name in ipairs(type(v.lora_target_modules) == "table" and v.lora_target_modules or {}) do
    if tostring(name):find("embed_tokens", 1, true) then return true end
  end
  return false
end

local function groups(r, optimizer, lr)
  local v = r.values
  local list = {}
  for _, group in ipairs(v.lr_groups and r.written.lr_groups or {}) do
    group = type(group) == "table" and group or {}
    local names = {}
    for i, name in ipairs(type(group.modules) == "table" and group.modules or {}) do
      names[i] = (tostring(name):gsub("%.", "\\."))
    end
    if #names == 0 or not tonumber(group.lr) then
      r:refuse("lr_groups", "want { name, modules: [ … ], lr } in each entry", nil, "dialect.lr_groups")
      return
    end
    list[#list + 1] = { pattern = table.concat(names, "|"), lr = tonumber(group.lr) }
  end
  if v.loraplus_lr_ratio then
    list[#list + 1] = { pattern = "lora_B", lr = v.loraplus_lr_ratio * lr }
    if adapts_embedding(v) then list[#list + 1] = { pattern = "lora_embedding_", lr = v.loraplus_lr_embedding or 1e-6 } end
  end
  if #list > 0 then optimizer:set("groups", list, v.lr_groups and "lr_groups" or "loraplus_lr_ratio") end
end

local function averages(r, optimizer, kind)
  local v = r.values
  if kind == "adamw" or kind == "lion" then
    if v.adam_beta1 or v.adam_beta2 then
      local second = kind == "adamw" and 0.999 or 0.99
      optimizer:set("betas", { v.adam_beta1 or 0.9, v.adam_beta2 or second }, v.adam_beta1 and "adam_beta1" or "adam_beta2")
    end
    if v.adam_epsilon and kind == "adamw" then optimizer:set("eps", v.adam_epsilon, "adam_epsilon") end
  end
  if v.optim_args ~= nil and v.optim_args ~= "" then
    r:unsupported("optim_args", "would have given the optimizer more arguments",
      "adam_beta1, adam_beta2, adam_epsilon and weight_decay are read")
  end
end

return function(r, plan)
  local v = r.values
  local name = v.optimizer or "adamw_torch_fused"
  local kind = others[name] or (adamw8[name] or adamw[name]) and "adamw"
  if not kind then
    r:unsupported("optimizer", ("'%s' would have been the optimizer"):format(name),
      "adamw_torch, adamw_torch_8bit, sgd, lion_32bit, adafactor and muon are here")
    kind = "adamw"
  end
  local optimizer = plan:block("optimizer", kind, "optimizer")
  local lr = rate(r)
  optimizer:set("lr", lr, "learning_rate")
  optimizer:set("weight_decay", v.weight_decay or 0, "weight_decay")
  if adamw8[name] then optimizer:set("bits", 8, "optimizer") end
  averages(r, optimizer, kind)
  groups(r, optimizer, lr)
  schedule(r, optimizer)
  local batch = plan:block("batch", nil, "micro_batch_size")
  if v.micro_batch_size then batch:set("micro", v.micro_batch_size, "micro_batch_size") end
  if v.gradient_accumulation_steps then batch:set("accumulation", v.gradient_accumulation_steps,
    "gradient_accumulation_steps") end
  plan.loop.clip = v.max_grad_norm or 1.0
  if v.num_epochs then plan:set("epochs", v.num_epochs, "num_epochs") end
  if v.max_steps and v.max_steps > 0 then plan:set("max_steps", v.max_steps, "max_steps") end
  if v.seed then plan:set("seed", v.seed, "seed") end
end
