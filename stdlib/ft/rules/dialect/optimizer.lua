--- Optimizers in a YAML configuration, with the layouts that they run on there.
local bnb = { adamw_8bit = true, adamw_bnb_8bit = true }

return function(rule)
  rule("dialect.fsdp2_optimizer", {
    keys = { "optimizer", "fsdp_version" }, sentence = "FSDP2 takes no bitsandbytes AdamW",
    reason = "its CUDA kernels do not know sharded parameters; adamw_torch_8bit is the same here",
    source = "Axolotl, check_fsdp2_base_model_w_8bit_optimizer", help = "use adamw_torch_8bit",
  }, function(c, r)
    return not (r.uses_fsdp and r.version == "2" and bnb[c.optimizer]), "write optimizer: adamw_torch_8bit", "optimizer",
      ("FSDP2 not compatible with %s, use `adamw_torch_8bit` instead"):format(tostring(c.optimizer))
  end)

  rule("dialect.fsdp1_optimizer_is_renamed", {
    severity = "warning", keys = { "optimizer", "fsdp_version" }, sentence = "8-bit AdamW is called adamw_torch_8bit",
    reason = "FSDP1's configuration is read as FSDP2's, which has the one 8-bit AdamW", source = "Axolotl, optimizers",
    help = "write optimizer: adamw_torch_8bit",
  }, function(c, r)
    return not (r.uses_fsdp and r.version == "1" and bnb[c.optimizer]), "write optimizer: adamw_torch_8bit", "optimizer",
      ("%s is read as adamw_torch_8bit"):format(tostring(c.optimizer))
  end)

  rule("dialect.fsdp1_offload_optimizer", {
    keys = { "optimizer", "fsdp_config.offload_params" }, sentence = "FSDP1's offload takes no 8-bit optimizer",
    reason = "its kernels need the state on the GPU", source = "Axolotl, check_fsdp_offload_w_8bit_optimizer",
    help = "set fsdp_version: 2 and optimizer: adamw_torch_8bit, which runs on the host here",
  }, function(c, r)
    local fsdp = c.fsdp_config or {}
    return not (r.uses_fsdp and r.version == "1" and fsdp.offload_params and tostring(c.optimizer or ""):find("8bit", 1, true)),
      "set fsdp_version: 2 and optimizer: adamw_torch_8bit, which runs on the host here", "optimizer",
      ("FSDP Offload not compatible with %s"):format(tostring(c.optimizer))
  end)

  rule("dialect.muon_without_deepspeed", {
    keys = { "optimizer", "deepspeed" }, sentence = "Muon runs without DeepSpeed", reason = "it looks at whole matrices",
    source = "Axolotl, check_muon", help = "use fsdp_version: 2",
  }, function(c)
    return not (c.optimizer == "muon" and c.deepspeed), "write fsdp_version: 2 and fsdp_config, in which it works here",
      "optimizer",
      "Muon optimizer is currently incompatible with DeepSpeed"
  end)

  rule("dialect.muon_needs_fsdp2", {
    keys = { "optimizer", "fsdp_version" }, sentence = "Muon over FSDP needs version 2", reason = "FSDP1 flattens matrices",
    source = "Axolotl, check_muon", help = "set fsdp_version: 2",
  }, function(c, r)
    return not (c.optimizer == "muon" and r.uses_fsdp and r.version == "1"), "set fsdp_version: 2", "optimizer",
      "Muon optimizer is only compatible with FSDP2. Set fsdp_version: 2 to use Muon with FSDP."
  end)

  rule("dialect.lr_groups_or_loraplus", {
    keys = { "lr_groups", "loraplus_lr_ratio" }, sentence = "lr_groups and loraplus_lr_ratio exclude one another",
    reason = "both say the rate of lora_B", source = "Axolotl, check_lr_groups", help = "remove one of them",
  }, function(c)
    return not (c.loraplus_lr_ratio and c.lr_groups and #c.lr_groups > 0),
      "remove one of them; lr_groups may name lora_B itself", "loraplus_lr_ratio",
      "lr_groups and loraplus_lr_ratio cannot be used together."
  end)

  rule("dialect.loraplus_needs_an_adapter", {
    keys = { "loraplus_lr_ratio", "adapter" }, sentence = "LoRA+ goes with an adapter", reason = "it scales the rate of lora_B",
    source = "arXiv 2402.12354", help = "add adapter: lora",
  }, function(c)
    return c.loraplus_lr_ratio == nil or (c.adapter ~= nil and c.adapter ~= ""), "add adapter: lora, or remove it",
      "loraplus_lr_ratio",
      "is the rate of lora_B over lora_A, and there is no adapter"
  end)

  rule("dialect.one_warmup", {
    keys = { "warmup_steps", "warmup_ratio" }, sentence = "warm-up is steps or a share",
    reason = "one of them would be ignored",
    source = "Axolotl, warmup_steps and warmup_ratio", help = "remove one of them",
  }, function(c)
    return c.warmup_steps == nil or c.warmup_ratio == nil, "remove one of them", "warmup_ratio",
      "warmup_steps and warmup_ratio are mutually exclusive"
  end)
end
