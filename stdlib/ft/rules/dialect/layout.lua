--- Parallel sizes in a YAML configuration: some refusals hold in that dialect alone, and say what works here.
local native = require "ft.native"

local function ring(c) return c.context_parallel_size or c.sequence_parallel_degree or 1 end
local function tensor(c) return c.tensor_parallel_size or c.tensor_parallel_degree or 1 end

--- The stage of ZeRO that a DeepSpeed JSON asks for: of the mapping, of a file, or of a built-in one by its name.
local function zero_stage(deepspeed)
  if type(deepspeed) == "string" and native.exists(deepspeed) == "file" then deepspeed = native.read_json(deepspeed) end
  if type(deepspeed) == "string" then return tonumber(deepspeed:match("zero(%d)")) end
  local zero = type(deepspeed) == "table" and deepspeed.zero_optimization
  return type(zero) == "table" and tonumber(zero.stage) or nil
end

return function(rule)
  rule("dialect.packing_under_context_parallel", {
    keys = { "context_parallel_size", "sample_packing", "micro_batch_size" },
    sentence = "packed rows under context parallelism are computed one by one",
    reason = "ring-flash-attn takes one packed row at a time; the ring here takes any",
    source = "Axolotl, check_context_parallel_size",
    help = "set micro_batch_size: 1; in a recipe batch.micro may be larger",
  }, function(c)
    return ring(c) == 1 or not c.sample_packing or (c.micro_batch_size or 1) == 1,
      "set micro_batch_size: 1; in a recipe (ftengine convert) batch.micro may be larger", "micro_batch_size",
      "micro_batch_size must be set to 1 when sample_packing is enabled due to a `ring-flash-attn` requirement"
  end)

  rule("dialect.context_parallel_needs_flash", {
    keys = { "context_parallel_size", "flash_attention" }, sentence = "context parallelism goes with flash attention",
    reason = "the ring is made of it there; here attention is always the fused one",
    source = "Axolotl, check_context_parallel_size",
    help = "set flash_attention: true",
  }, function(c)
    local flash = c.flash_attention or tostring(c.attn_implementation or ""):find("^flash_attention")
    return ring(c) == 1 or flash, "set flash_attention: true; a recipe needs no such key",
      c.context_parallel_size and "context_parallel_size" or "sequence_parallel_degree",
      "context_parallel_size > 1 requires flash attention (attn_implementation: flash_attention_2 or flash_attention_3)."
  end)

  rule("dialect.tied_embeddings_under_tensor_parallel", {
    keys = { "tensor_parallel_size" }, sentence = "tensor parallelism goes with untied embeddings",
    reason = "transformers' plan cannot share a tied embedding; the engine can", source = "Axolotl, check_tensor_parallel_size",
    help = "in a recipe parallel.mesh.tensor takes tied embeddings",
  }, function(c, r)
    if tensor(c) == 1 or not c.base_model then return true end
    local config = native.exists(c.base_model .. "/config.json")
      and native.read_json(c.base_model .. "/config.json")
    return not (config and config.tie_word_embeddings == true),
      "write a recipe (ftengine convert): parallel.mesh.tensor takes tied embeddings",
      r.values.tensor_parallel_size and "tensor_parallel_size" or "tensor_parallel_degree",
      "Tensor parallelism is incompatible with models configured with `tie_word_embeddings` enabled."
  end)

  rule("dialect.tensor_parallel_optimizer", {
    keys = { "tensor_parallel_size", "optimizer" }, sentence = "tensor parallelism goes without a bitsandbytes optimizer",
    reason = "8-bit blocks of DTensors are cut wrongly there", source = "Axolotl, check_tensor_parallel_optimizer",
    help = "write optimizer: adamw_torch_fused; in a recipe bits = 8 works",
  }, function(c)
    return tensor(c) == 1 or not tostring(c.optimizer or ""):find("8bit", 1, true),
      "write optimizer: adamw_torch_fused; in a recipe ft.adamw { bits = 8 } works",
      "optimizer", ("tensor_parallel_size > 1 is not supported with the 8-bit optimizer %s"):format(tostring(c.optimizer))
  end)

  rule("dialect.dp_shard_needs_fsdp", {
    keys = { "dp_shard_size", "fsdp_config" }, sentence = "dp_shard_size goes with fsdp_config",
    reason = "it says over how many ranks FSDP splits",
    source = "Axolotl, check_dp_shard_size", help = "add fsdp_version: 2 and fsdp_config",
  }, function(c, r)
    return (c.dp_shard_size or 1) == 1 or r.uses_fsdp,
      "add fsdp_version: 2 and fsdp_config: { reshard_after_forward: true }", "dp_shard_size",
      "dp_shard_size was configured without a corresponding fsdp_config! "
      .. "Please ensure you have configured FSDP using fsdp_config."
  end)

  rule("dialect.one_tensor_size", {
    keys = { "tensor_parallel_size", "tensor_parallel_degree" }, sentence = "the two names of the tensor axis agree",
    reason = "one of them would be ignored", source = "Axolotl, tensor_parallel_size", help = "keep tensor_parallel_size",
  }, function(c)
    return not (c.tensor_parallel_size and c.tensor_parallel_degree and c.tensor_parallel_size ~= c.tensor_parallel_degree),
      "keep tensor_parallel_size",
      "tensor_parallel_degree", ("got %d, but tensor_parallel_size is %d"):format(c.tensor_parallel_degree or 0,
        c.tensor_parallel_size or 0)
  end)

  rule("dialect.one_context_size", {
    keys = { "context_parallel_size", "sequence_parallel_degree" }, sentence = "the two names of the context axis agree",
    reason = "one of them would be ignored", source = "Axolotl, sequence_parallel_degree", help = "keep context_parallel_size",
  }, function(c)
    return not (c.context_parallel_size and c.sequence_parallel_degree
      and c.context_parallel_size ~= c.sequence_parallel_degree),
      "keep context_parallel_size", "sequence_parallel_degree",
      ("got %d, but context_parallel_size is %d"):format(c.sequence_parallel_degree or 0, c.context_parallel_size or 0)
  end)

  rule("dialect.deepspeed_without_tensor_parallel", {
    keys = { "deepspeed", "tensor_parallel_size" }, sentence = "ZeRO-3 goes without tensor parallelism",
    reason = "DeepSpeed's AutoTP works with stages 0 to 2", source = "DeepSpeed, AutoTP training",
    help = "use fsdp_version: 2 and fsdp_config",
  }, function(c)
    return not (tensor(c) > 1 and zero_stage(c.deepspeed) == 3),
      "use fsdp_version: 2 and fsdp_config, which do the same",
      "tensor_parallel_size", "ZeRO stage 3 cannot be combined with tensor parallelism"
  end)

  rule("dialect.replicas_need_shards", {
    keys = { "dp_replicate_size", "dp_shard_size", "tensor_parallel_size", "context_parallel_size" },
    sentence = "tensor and context parallelism go with sharded data parallelism",
    reason = "its mesh has no place for whole replicas beside those axes; here it has", source = "Accelerate, ParallelismConfig",
    help = "set dp_shard_size and fsdp_config; a recipe's mesh takes replicate beside tensor and context",
  }, function(c)
    return (tensor(c) == 1 and ring(c) == 1) or (c.dp_replicate_size or 1) == 1 or (c.dp_shard_size or 1) > 1,
      "set dp_shard_size and fsdp_config; in a recipe (ftengine convert) parallel.mesh.replicate works beside the others",
      "dp_replicate_size",
      "Tensor/Context parallelism (tp/cp_size > 1) cannot be used with pure data parallelism (dp_replicate_size > 1)."
  end)
end
