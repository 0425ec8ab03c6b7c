--- DeepSpeed's JSON: a file, a name that is built in (zero1.json … zero3_bf16_cpuoffload_all.json), or the mapping itself.
--- "auto" takes what the configuration says.
local native = require "ft.native"

local compiled = { zero1_torch_compile = "zero1", zero2_torch_compile = "zero2" }

--- Keys that are read, and those that tune what is not here.
local tuning = {
  overlap_comm = true, contiguous_gradients = true, sub_group_size = true, reduce_bucket_size = true,
  allgather_bucket_size = true,
  allgather_partitions = true, reduce_scatter = true, stage3_prefetch_bucket_size = true,
  stage3_param_persistence_threshold = true,
  stage3_max_live_parameters = true, stage3_max_reuse_distance = true, stage3_gather_16bit_weights_on_model_save = true,
  stage3_gather_fp16_weights_on_model_save = true, round_robin_gradients = true, ignore_unused_parameters = true,
  load_from_fp32_weights = true, elastic_checkpoint = true,
}
local top = {
  zero_optimization = true, bf16 = true, fp16 = true, gradient_accumulation_steps = true, gradient_clipping = true,
  train_batch_size = true, train_micro_batch_size_per_gpu = true, wall_clock_breakdown = true, steps_per_print = true,
  zero_force_ds_cpu_optimizer = true, zero_allow_untested_optimizer = true, compile = true, communication_data_type = true,
  prescale_gradients = true,
}

local function read(r)
  local given = r.values.deepspeed
  if type(given) == "table" then return r.written.deepspeed, "the mapping" end
  if native.exists(given) == "file" then return native.read_json(given), given end
  local name = given:match("([^/]+)%.json$") or given:match("([^/]+)$")
  local text = name and native.embedded("deepspeed_configs/" .. name .. ".json")
  if text then
    if compiled[name] then
      r.notes[#r.notes + 1] = { key = "deepspeed",
        text = ("%s is %s here: kernels are always fused, nothing is compiled"):format(name, compiled[name]) }
    end
    return native.parse_json(text, given), (compiled[name] or name) .. ".json (built in)"
  end
  local names = {}
  for i, known in ipairs(native.embedded_names("deepspeed_configs/")) do names[i] = known:match("([^/]+)%.json$") end
  local near = native.nearest(name or given, names)
  r:refuse("deepspeed", ("no file '%s'"):format(given),
    (near and ("did you mean '%s.json'? "):format(near) or "") .. "built in: "
    .. table.concat(names, ", "), "dialect.no_such_file")
  return nil
end

--- A number or "auto" of the JSON against what the configuration says.
local function agree(r, json, name, key, want)
  local value = json[name]
  if value == nil or value == "auto" or want == nil or value == want then return end
  r:refuse("deepspeed", ("%s is %s, but %s is %s"):format(name, tostring(value), key, tostring(want)),
    ("write \"%s\": \"auto\""):format(name),
    "dialect.deepspeed_disagrees")
end

local function offload(r, zero, block)
  local pin, used = nil, false
  for _, name in ipairs { "offload_param", "offload_optimizer" } do
    local part = zero[name]
    local device = type(part) == "table" and part.device or "none"
    if device == "nvme" then
      r:unsupported("deepspeed", ("%s.device: nvme would have kept it on the disk"):format(name),
        "write cpu, with pin_memory false: the system may swap it out")
    elseif device == "cpu" then
      used = true
      if part.pin_memory ~= nil then pin = part.pin_memory end
    end
  end
  if not used then return end
  block:set("offload_params", true, "deepspeed")
  if pin ~= nil then block:set("cpu_offload_pin_memory", pin, "deepspeed") end
end

return function(r, plan, block)
  local json, name = read(r)
  if not json then return end
  for key in pairs(json) do
    if not top[key] then
      r:unsupported("deepspeed", ("'%s' would have been DeepSpeed's own setting"):format(key),
        (key == "optimizer" or key == "scheduler")
          and "write optimizer, learning_rate and lr_scheduler into the configuration" or nil)
    end
  end
  local zero = type(json.zero_optimization) == "table" and json.zero_optimization or {}
  for key in pairs(zero) do
    if not tuning[key] and key ~= "stage" and key ~= "offload_param" and key ~= "offload_optimizer" then
      r:unsupported("deepspeed", ("zero_optimization.%s would have been DeepSpeed's own setting"):format(key))
    end
  end
  local stage = tonumber(zero.stage) or 0
  if stage < 0 or stage > 3 or stage % 1 ~= 0 then
    r:refuse("deepspeed", ("zero_optimization.stage is %s, want 0, 1, 2 or 3"):format(tostring(zero.stage)), nil,
      "dialect.unknown_value")
    return
  end
  local v = r.values
  block:set("zero_stage", stage, "deepspeed")
  if stage == 3 then block:set("reshard_after_forward", true, "deepspeed") end
  offload(r, zero, block)
  agree(r, json, "train_micro_batch_size_per_gpu", "micro_batch_size", v.micro_batch_size or 1)
  agree(r, json, "gradient_accumulation_steps", "gradient_accumulation_steps", v.gradient_accumulation_steps or 1)
  if tonumber(json.gradient_clipping)
    and v.max_grad_norm == nil then plan.loop.clip_of_json = tonumber(json.gradient_clipping) end
  agree(r, json, "gradient_clipping", "max_grad_norm", v.max_grad_norm)
  if type(json.bf16) == "table" and json.bf16.enabled == true and (v.fp16 or v.bf16 == false) then
    r:refuse("deepspeed", "bf16.enabled is true, but the configuration says otherwise", "write \"auto\", or bf16: true",
      "dialect.deepspeed_disagrees")
  end
  if type(json.fp16) == "table" and json.fp16.enabled == true and not v.fp16 then
    r:refuse("deepspeed", "fp16.enabled is true, but the configuration does not say fp16: true", "write \"auto\"",
      "dialect.deepspeed_disagrees")
  end
  r.notes[#r.notes + 1] = { key = "deepspeed",
    text = ("%s: ZeRO stage %d%s, micro_batch_size %d, gradient_accumulation_steps %d"):format(name,
    stage, block.values.offload_params and ", offloaded to the host" .. (block.values.cpu_offload_pin_memory == false
      and ", pageable" or "") or "",
    v.micro_batch_size or 1, v.gradient_accumulation_steps or 1) }
end
