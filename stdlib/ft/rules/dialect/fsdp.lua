--- FSDP in a YAML configuration, as it was written, in the order and the words that its users know.
local function true_in(value) return value == true end

return function(rule)
  rule("dialect.fsdp1_cannot_unpin", {
    keys = { "fsdp_config.cpu_offload_pin_memory", "fsdp_version" },
    sentence = "cpu_offload_pin_memory: false goes with fsdp_version: 2",
    reason = "FSDP1 pins its host memory whatever it is told; no fsdp_version means 1",
    source = "Axolotl, check_fsdp2_cpu_offload_pin_memory", help = "set fsdp_version: 2",
  }, function(c, r)
    local fsdp = c.fsdp_config or {}
    return fsdp.cpu_offload_pin_memory ~= false or r.version == "2", "set fsdp_version: 2",
      "fsdp_config.cpu_offload_pin_memory",
      "FSDP1 does not support disabling cpu_offload_pin_memory, please set `fsdp_version` to 2"
  end)

  rule("dialect.unpin_needs_offload", {
    keys = { "fsdp_config.cpu_offload_pin_memory", "fsdp_config.offload_params" },
    sentence = "cpu_offload_pin_memory: false goes with offload_params: true",
    reason = "without offload there is no host memory that could be left unpinned",
    source = "Axolotl, check_fsdp2_cpu_offload_pin_memory", help = "set offload_params: true",
  }, function(c, r)
    local fsdp = c.fsdp_config or {}
    return fsdp.cpu_offload_pin_memory ~= false or r.version ~= "2" or true_in(fsdp.offload_params),
      "set offload_params: true, or remove cpu_offload_pin_memory", "fsdp_config.cpu_offload_pin_memory",
      "disabling cpu_offload_pin_memory requires enabling offload_params"
  end)

  rule("dialect.fsdp1_is_deprecated", {
    severity = "warning", keys = { "fsdp_version", "fsdp_config", "fsdp" },
    sentence = "fsdp_version is 2", reason = "FSDP1 is read as FSDP2 by the table of renames; no fsdp_version means 1",
    source = "Axolotl, check_fsdp_version", help = "set fsdp_version: 2",
  }, function(c, r)
    return not r.uses_fsdp or r.version ~= "1", "set fsdp_version: 2; `ftengine convert` writes that spelling",
      r.version_key or c.fsdp_config and "fsdp_config" or "fsdp",
      "FSDP1 is deprecated; this configuration is read as FSDP2. We recommend migrating to fsdp_version: 2"
  end)

  rule("dialect.fsdp_version_is_known", {
    keys = { "fsdp_version" }, sentence = "fsdp_version is 1 or 2", reason = "there are no others",
    source = "Axolotl, fsdp_version",
    help = "set fsdp_version: 2",
  }, function(_, r)
    return r.version == "1" or r.version == "2", "set fsdp_version: 2", r.version_key,
      ("got '%s', want 1 or 2"):format(r.version)
  end)

  rule("dialect.one_fsdp_version", {
    keys = { "fsdp_version", "fsdp_config.version" }, sentence = "the two places of the version agree",
    reason = "one of them would be ignored", source = "Axolotl, fsdp_version", help = "keep fsdp_version at the top",
  }, function(c)
    local inside = c.fsdp_config and (c.fsdp_config.fsdp_version or c.fsdp_config.version)
    return c.fsdp_version == nil or inside == nil or tostring(c.fsdp_version) == tostring(inside),
      "keep fsdp_version at the top",
      "fsdp_version", ("got %s, but fsdp_config says %s"):format(tostring(c.fsdp_version), tostring(inside))
  end)

  rule("dialect.min_num_params_for_size", {
    keys = { "fsdp_config.min_num_params", "fsdp_config.auto_wrap_policy" },
    sentence = "SIZE_BASED_WRAP says min_num_params", reason = "layers are joined until they have so many parameters",
    source = "Axolotl, FSDPConfig", help = "set min_num_params: 100000000",
  }, function(c)
    local fsdp = c.fsdp_config or {}
    return fsdp.auto_wrap_policy ~= "SIZE_BASED_WRAP" or fsdp.min_num_params ~= nil, "set min_num_params: 100000000",
      "fsdp_config.auto_wrap_policy", "fsdp_config.min_num_params is required when auto_wrap_policy is SIZE_BASED_WRAP"
  end)

  rule("dialect.no_local_state_dict", {
    keys = { "fsdp_config.state_dict_type" }, sentence = "checkpoints are full or sharded",
    reason = "FSDP2 has no local state dict", source = "Accelerate, FullyShardedDataParallelPlugin",
    help = "write SHARDED_STATE_DICT",
  }, function(c)
    local fsdp = c.fsdp_config or {}
    for _, key in ipairs { "state_dict_type", "final_state_dict_type" } do
      if fsdp[key] == "LOCAL_STATE_DICT" then
        return false, "write SHARDED_STATE_DICT", "fsdp_config." .. key, "LOCAL_STATE_DICT is not there in FSDP2"
      end
    end
    return true
  end)

  rule("dialect.qlora_saves_shards", {
    severity = "warning", keys = { "fsdp_config.state_dict_type", "adapter" },
    sentence = "QLoRA over ranks is saved in shards",
    reason = "gathering whole tensors is a spike of memory elsewhere, and here a wait; shards are merged at the end",
    source = "Axolotl, FSDP guide, rule 3", help = "write state_dict_type: SHARDED_STATE_DICT",
  }, function(c, r)
    local fsdp = c.fsdp_config or {}
    return not (r.uses_fsdp and c.adapter == "qlora" and fsdp.state_dict_type == "FULL_STATE_DICT"),
      "write state_dict_type: SHARDED_STATE_DICT; ftengine merge makes one directory of it",
      "fsdp_config.state_dict_type",
      "FULL_STATE_DICT with QLoRA: training waits while rank 0 gathers whole tensors; SHARDED_STATE_DICT does not"
  end)

  rule("dialect.checkpointing_in_one_place", {
    keys = { "fsdp_config.activation_checkpointing", "gradient_checkpointing" },
    sentence = "layers are run again by one key", reason = "both would wrap the same layers twice",
    source = "Accelerate, activation_checkpointing and gradient_checkpointing", help = "remove one of them",
  }, function(c)
    local fsdp = c.fsdp_config or {}
    return not (fsdp.activation_checkpointing and c.gradient_checkpointing), "keep fsdp_config.activation_checkpointing alone",
      "gradient_checkpointing", "is true, and fsdp_config.activation_checkpointing is too: they are two names of one thing"
  end)

  rule("dialect.fsdp_or_deepspeed", {
    keys = { "deepspeed", "fsdp", "fsdp_config" }, sentence = "one of FSDP and DeepSpeed splits the model",
    reason = "each says what is split over the ranks", source = "Axolotl, check_fsdp_deepspeed", help = "remove one of them",
  }, function(c, r)
    return not (r.uses_fsdp and c.deepspeed ~= nil and c.deepspeed ~= ""), "remove one of them", "deepspeed",
      "deepspeed and fsdp cannot be used together."
  end)
end
