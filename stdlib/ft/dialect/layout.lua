--- What is split over the ranks: fsdp_config of both versions, DeepSpeed, or nothing (DDP); the axes of the mesh.
local deepspeed = require "ft.dialect.deepspeed"
local renames = require "ft.dialect.renames"

--- Axes of the mesh by the dialect's names.
local axes = {
  { "tensor_parallel_size", "tensor_parallel_size" }, { "tensor_parallel_degree", "tensor_parallel_size" },
  { "context_parallel_size", "context_parallel_size" }, { "sequence_parallel_degree", "context_parallel_size" },
  { "dp_shard_size", "dp_shard_size" }, { "dp_replicate_size", "dp_replicate_size" },
}

--- Nodes of the run, as the launcher says.
local function nodes()
  local all, here = tonumber(os.getenv("WORLD_SIZE")), tonumber(os.getenv("LOCAL_WORLD_SIZE"))
  return all and here and here > 0 and all % here == 0 and all / here or 1
end

local function split_by_fsdp(r, block)
  local fsdp = r.values.fsdp_config or {}
  local strategy = renames.strategy(r, fsdp)
  block:set("zero_stage", strategy.zero_stage, strategy.key)
  if strategy.zero_stage == 3 then block:set("reshard_after_forward", strategy.reshard, strategy.key) end
  if strategy.hybrid and not r.values.dp_replicate_size then block:set("dp_replicate_size", nodes(), strategy.key) end
  for _, key in ipairs { "offload_params", "cpu_offload_pin_memory", "auto_wrap_policy", "transformer_layer_cls_to_wrap",
    "min_num_params" } do
    if fsdp[key] ~= nil then block:set(key, fsdp[key], "fsdp_config." .. key) end
  end
  if strategy.offload then block:set("offload_params", true, "fsdp") end
  local classes = fsdp.transformer_layer_cls_to_wrap
  if type(classes) == "string" and classes:find(",", 1, true) then
    local list = {}
    for class in classes:gmatch("[^,%s]+") do list[#list + 1] = class end
    block:set("transformer_layer_cls_to_wrap", list, "fsdp_config.transformer_layer_cls_to_wrap")
  end
end

return function(r, plan)
  local v = r.values
  local block = plan:block("parallel", nil, r.uses_fsdp and "fsdp_config" or "deepspeed")
  if v.deepspeed ~= nil and v.deepspeed ~= "" then
    deepspeed(r, plan, block)
  elseif r.uses_fsdp then
    split_by_fsdp(r, block)
  else
    local shares = (v.tensor_parallel_size or v.tensor_parallel_degree or 1) * (v.context_parallel_size
      or v.sequence_parallel_degree or 1)
    block:set("zero_stage", shares > 1 and 3 or 0, nil)
  end
  for _, axis in ipairs(axes) do
    if v[axis[1]] then
      block:set(axis[2], v[axis[1]], axis[1])
      plan.keys["parallel.mesh"] = plan.keys["parallel.mesh"] or axis[1]
    end
  end
  if v.ddp_timeout then block:set("timeout", v.ddp_timeout, "ddp_timeout") end
end
