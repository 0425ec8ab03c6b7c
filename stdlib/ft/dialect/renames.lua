--- Older names and spellings, read as the present ones, each with a word of warning. Rules have seen what was written by
--- then.
local renames = {}

--- Sharding strategies of FSDP1; it also took their numbers.
renames.strategies = {
  FULL_SHARD = { zero_stage = 3, reshard = true, says = "reshard_after_forward: true" },
  SHARD_GRAD_OP = { zero_stage = 3, reshard = false, says = "reshard_after_forward: false" },
  HYBRID_SHARD = { zero_stage = 3, reshard = true, hybrid = true,
    says = "reshard_after_forward: true on a mesh of nodes × ranks (hsdp)" },
  HYBRID_SHARD_ZERO2 = { zero_stage = 3, reshard = false, hybrid = true,
    says = "reshard_after_forward: false on a mesh of nodes × ranks (hsdp)" },
  NO_SHARD = { zero_stage = 0, reshard = false, says = "the ddp profile" },
}
local numbers = { "FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2" }

--- Keys of FSDP1 that mean nothing any more.
renames.dropped = {
  backward_prefetch = "the next unit is always gathered ahead",
  backward_prefetch_policy = "the next unit is always gathered ahead",
  forward_prefetch = "the next unit is always gathered ahead", sync_module_states = "every rank reads its own weights",
  use_orig_params = "parameters always keep their names", limit_all_gathers = "the pool of buffers bounds them",
  mixed_precision_policy = "bf16 and fp16 say it", xla = "there are no TPUs here", xla_fsdp_v2 = "there are no TPUs here",
  xla_fsdp_grad_ckpt = "there are no TPUs here",
}

--- Words of the old `fsdp:` list.
local words = {
  full_shard = { strategy = "FULL_SHARD" }, shard_grad_op = { strategy = "SHARD_GRAD_OP" },
  hybrid_shard = { strategy = "HYBRID_SHARD" }, no_shard = { strategy = "NO_SHARD" }, offload = { offload = true },
  auto_wrap = {},
}

local function of_list(r)
  local list = r.values.fsdp
  if type(list) == "string" then
    local text = list
    list = {}
    for word in text:gmatch("%S+") do list[#list + 1] = word end
  end
  local found = {}
  for _, word in ipairs(list or {}) do
    local known = words[word]
    if not known then
      r:refuse("fsdp", ("unknown word '%s'"):format(tostring(word)), "use fsdp_config", "dialect.unknown_key")
    else
      found.strategy, found.offload = found.strategy or known.strategy, found.offload or known.offload
    end
  end
  if list and list[1] then
    r:warn("fsdp", "is the older spelling", "use fsdp_config: fsdp_version: 2, fsdp_config: { reshard_after_forward: true }",
      "dialect.fsdp_list")
  end
  return found
end

--- What is split, by whichever key says it: { zero_stage, reshard, hybrid, offload, key }.
function renames.strategy(r, fsdp)
  local listed = of_list(r)
  local name, key = fsdp.sharding_strategy, "fsdp_config.sharding_strategy"
  if type(name) == "number" then name = numbers[name] end
  if not name and listed.strategy then name, key = listed.strategy, "fsdp" end
  local known = name and renames.strategies[tostring(name):upper()]
  if name and not known then
    r:refuse(key, ("got '%s', want FULL_SHARD, SHARD_GRAD_OP, HYBRID_SHARD or NO_SHARD"):format(tostring(name)),
      "use reshard_after_forward", "dialect.unknown_value")
  end
  if known and key ~= "fsdp" then
    r:warn(key, ("renamed in FSDP2; read as %s"):format(known.says), "write " .. known.says, "dialect.sharding_strategy")
  end
  for _, dropped in ipairs { "backward_prefetch", "backward_prefetch_policy", "forward_prefetch", "sync_module_states",
    "use_orig_params", "limit_all_gathers", "mixed_precision_policy", "xla", "xla_fsdp_v2", "xla_fsdp_grad_ckpt" } do
    if fsdp[dropped] ~= nil then
      r:warn("fsdp_config." .. dropped, "is dropped: " .. renames.dropped[dropped], "remove it", "dialect.dropped")
    end
  end
  known = known or renames.strategies.FULL_SHARD
  local out = { zero_stage = known.zero_stage, reshard = known.reshard, hybrid = known.hybrid, offload = listed.offload,
    key = key }
  if fsdp.reshard_after_forward ~= nil then out.reshard, out.key = fsdp.reshard_after_forward,
    "fsdp_config.reshard_after_forward" end
  return out
end

--- Older names of top-level keys, and what they are called now.
renames.names = {
  tensor_parallel_degree = "tensor_parallel_size", sequence_parallel_degree = "context_parallel_size",
  evaluation_strategy = "eval_strategy", dpo_beta = "rl_beta",
}

--- Reads older names of top-level keys as the present ones: one warning each.
function renames.top(r)
  local v = r.values
  for _, old in ipairs { "dpo_beta", "evaluation_strategy", "sequence_parallel_degree", "tensor_parallel_degree" } do
    local new = renames.names[old]
    if v[old] ~= nil then r:warn(old, ("is called %s; read as that"):format(new), "write " .. new, "dialect.renamed") end
  end
end

return renames
