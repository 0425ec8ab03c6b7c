--- Adapters, quantization and precision in a YAML configuration.
local device = require "ft.device"

return function(rule)
  rule("dialect.qlora_needs_4bit", {
    keys = { "adapter", "load_in_4bit" }, sentence = "adapter: qlora has load_in_4bit: true",
    reason = "QLoRA is LoRA on a 4-bit base",
    source = "Axolotl, validate_qlora", help = "set load_in_4bit: true",
  }, function(c)
    return c.adapter ~= "qlora" or c.load_in_4bit == true, "set load_in_4bit: true, or adapter: lora", "adapter",
      "Require cfg.load_in_4bit to be True for qlora"
  end)

  rule("dialect.qlora_not_in_8bit", {
    keys = { "adapter", "load_in_8bit" }, sentence = "adapter: qlora has no load_in_8bit",
    reason = "QLoRA is LoRA on a 4-bit base",
    source = "Axolotl, validate_qlora", help = "set load_in_4bit: true instead",
  }, function(c)
    return c.adapter ~= "qlora" or not c.load_in_8bit, "set load_in_4bit: true instead", "load_in_8bit",
      "Can't load qlora in 8bit"
  end)

  rule("dialect.one_quantization", {
    keys = { "load_in_4bit", "load_in_8bit" }, sentence = "weights are in 4 or in 8 bits", reason = "they are kept once",
    source = "bitsandbytes, BitsAndBytesConfig", help = "remove one of them",
  }, function(c)
    return not (c.load_in_4bit and c.load_in_8bit), "keep load_in_4bit: true", "load_in_8bit",
      "load_in_4bit and load_in_8bit exclude one another"
  end)

  rule("dialect.lora_in_4bit_is_qlora", {
    severity = "warning", keys = { "adapter", "load_in_4bit" }, sentence = "LoRA on a 4-bit base says adapter: qlora",
    reason = "elsewhere adapter: lora with load_in_4bit loads the base unquantized, and says nothing; here it is NF4",
    source = "Axolotl, load_in_4bit", help = "write adapter: qlora",
  }, function(c)
    return not (c.adapter == "lora" and c.load_in_4bit), "write adapter: qlora, or remove load_in_4bit", "adapter",
      "lora with load_in_4bit: the base is kept in NF4, which is QLoRA"
  end)

  rule("dialect.quantized_base_needs_an_adapter", {
    keys = { "load_in_4bit", "load_in_8bit", "adapter" }, sentence = "a quantized base has an adapter",
    reason = "quantized weights are frozen", source = "Axolotl, check_quantized_full_finetune", help = "add adapter: qlora",
  }, function(c)
    local without = c.adapter == nil or c.adapter == ""
    return not (without and (c.load_in_4bit or c.load_in_8bit)), "add adapter: qlora, or set load_in_4bit: false",
      c.load_in_4bit and "load_in_4bit" or "load_in_8bit",
      "load_in_8bit and load_in_4bit are not supported without setting an adapter for training."
  end)

  rule("dialect.adapter_is_known", {
    keys = { "adapter" }, sentence = "adapter is lora or qlora", reason = "the others are not built in",
    source = "Axolotl, adapter",
    help = "write adapter: lora or qlora",
  }, function(c)
    local known = c.adapter == nil or c.adapter == "" or c.adapter == "lora" or c.adapter == "qlora"
    return known, "write adapter: lora or adapter: qlora", "adapter",
      ("got '%s', want lora or qlora"):format(tostring(c.adapter))
  end)

  rule("dialect.no_merge_while_quantized", {
    keys = { "merge_lora", "load_in_4bit" }, sentence = "merging is a command of its own",
    reason = "the base is merged in its own precision, not in NF4",
    source = "Axolotl, validate_qlora", help = "ftengine merge RUN -o DIR",
  }, function(c)
    return not c.merge_lora or not (c.load_in_4bit or c.load_in_8bit), "remove it; afterwards: ftengine merge RUN -o DIR",
      "merge_lora",
      ("Can't merge qlora if loaded in %s"):format(c.load_in_4bit and "4bit" or "8bit")
  end)

  rule("dialect.layers_pattern_needs_layers", {
    keys = { "peft_layers_pattern", "peft_layers_to_transform" },
    sentence = "peft_layers_pattern goes with peft_layers_to_transform",
    reason = "it names the list that these layers are counted in, and chooses none by itself",
    source = "Axolotl, check_peft_layers_pattern", help = "set peft_layers_to_transform: [0, 1], or remove the pattern",
  }, function(c)
    local function given(value) return value ~= nil and value ~= "" and (type(value) ~= "table" or #value > 0) end
    return not given(c.peft_layers_pattern) or given(c.peft_layers_to_transform),
      "set peft_layers_to_transform: [0, 1], or remove it", "peft_layers_pattern",
      "peft_layers_pattern requires peft_layers_to_transform to be set"
  end)

  rule("dialect.offloading_needs_checkpointing", {
    keys = { "activation_offloading", "gradient_checkpointing" },
    sentence = "activation_offloading goes with gradient_checkpointing",
    reason = "what is kept on the host are the inputs of layers that are run again",
    source = "Axolotl, check_activation_offloading_wo_gc", help = "set gradient_checkpointing: true",
  }, function(c)
    local again = c.gradient_checkpointing or (c.fsdp_config or {}).activation_checkpointing
    return not c.activation_offloading or again, "set gradient_checkpointing: true", "activation_offloading",
      "activation_offloading requires gradient_checkpointing"
  end)

  rule("dialect.one_precision", {
    keys = { "bf16", "fp16", "float32" }, sentence = "bf16, fp16 and float32 exclude one another",
    reason = "activations have one dtype",
    source = "transformers, TrainingArguments", help = "remove one of them",
  }, function(c)
    local bf16, fp16 = c.bf16 == true or c.bf16 == "full" or c.bfloat16, c.fp16 or c.float16
    local twice = bf16 and fp16 and (c.fp16 and "fp16" or "float16") or c.float32 and (bf16 or fp16) and "float32"
    return not twice, "remove one of them", twice,
      ("%s is set as well: at most one of them may be"):format(bf16 and "bf16" or "fp16")
  end)

  rule("dialect.tf32_needs_newer_cards", {
    keys = { "tf32" }, sentence = "tf32 is asked for where GPUs have it", reason = "it came with compute capability 8.0",
    source = "transformers, TrainingArguments.tf32", help = "set tf32: false, or take a newer GPU",
  }, function(c, r)
    local old = c.tf32 == true and r:device().old
    return not old, "set tf32: false, or take a newer GPU", "tf32",
      old and ("`tf32` requires Ampere or a newer GPU arch: %s"):format(device.text(old))
  end)

  rule("dialect.flash_needs_newer_cards", {
    keys = { "flash_attention", "attn_implementation" }, sentence = "flash attention is asked for where GPUs have it",
    reason = "it is written for compute capability 8.0 and newer", source = "flash-attn", help = "take a newer GPU",
  }, function(c, r)
    local flash = c.flash_attention and "flash_attention"
      or tostring(c.attn_implementation or ""):find("^flash_attention") and "attn_implementation"
    local old = flash and r:device().old
    return not old, "remove it, or take a newer GPU; on the processor (FTENGINE_DEVICE=cpu) attention is fused as well", flash,
      old and ("FlashAttention only supports Ampere GPUs or newer: %s"):format(device.text(old))
  end)

  rule("dialect.lora_kernels", {
    keys = { "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "fsdp_version", "load_in_8bit" },
    sentence = "LoRA kernels are not asked for under FSDP1 or in 8 bit",
    reason = "they do not know flat parameters; here LoRA's kernels are always the fused ones",
    source = "Axolotl, check_lora_kernels",
    help = "remove the key, or set fsdp_version: 2",
  }, function(c, r)
    for _, key in ipairs { "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel" } do
      local flat = r.uses_fsdp and r.version == "1"
      if c[key] and (flat or c.load_in_8bit) then
        return false, "remove it, or set fsdp_version: 2; LoRA's kernels are always fused here", key,
          "lora_mlp_kernel, lora_qkv_kernel, and lora_o_kernel are not compatible with "
          .. (flat and "FSDP1." or "8-bit LoRA a the moment.")
      end
    end
    return true
  end)
end
