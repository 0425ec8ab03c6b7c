--- Learning from pairs of answers (`rl: dpo`), and what else a configuration says of rewards.
local of_pairs = { "rl_beta", "dpo_beta", "dpo_label_smoothing", "dpo_loss_type" }

local function asks(value) return value ~= nil and value ~= "" and value ~= false end

return function(rule)
  rule("dialect.pairs_are_not_packed", {
    keys = { "rl", "sample_packing" }, sentence = "pairs of answers are not packed",
    reason = "a loss is of two whole sequences", source = "Axolotl, check_sample_packing_w_rl",
    help = "set sample_packing: false",
  }, function(c)
    return not (asks(c.rl) and c.sample_packing), "set sample_packing: false", "sample_packing",
      "`sample_packing: true` does not work with RLHF training"
  end)

  rule("dialect.pairs_need_an_adapter", {
    keys = { "rl", "adapter" }, sentence = "rl: dpo goes with an adapter",
    reason = "the reference is the base without it; a second copy of the model is not kept",
    source = "arXiv 2305.18290; stdlib/ft/dpo.lua", help = "add adapter: lora",
  }, function(c)
    return c.rl ~= "dpo" or asks(c.adapter), "add adapter: lora, or adapter: qlora and load_in_4bit: true", "rl",
      "dpo without an adapter would have kept a second copy of the model as the reference"
  end)

  rule("dialect.quantized_pairs_under_fsdp2", {
    keys = { "rl", "fsdp_version", "load_in_4bit" }, sentence = "rl: dpo on a quantized base goes without FSDP2",
    reason = "its loader does not know the reference there; here it works in a recipe",
    source = "Axolotl, check_fsdp2_base_model_quant_rl",
    help = "use DeepSpeed; in a recipe ft.fsdp2 works: recipes/dpo.lua --quantize nf4",
  }, function(c, r)
    return not (asks(c.rl) and r.uses_fsdp and r.version == "2" and (c.load_in_4bit or c.load_in_8bit)),
      "write deepspeed: zero3_bf16.json; in a recipe it works with FSDP2: recipes/dpo.lua --quantize nf4",
      c.load_in_4bit and "load_in_4bit" or "load_in_8bit",
      ("FSDP2 does not support load_in_8bit or load_in_4bit with %s. Please use DeepSpeed or set `fsdp_version` to 1.")
        :format(tostring(c.rl))
  end)

  rule("dialect.pairs_are_whole", {
    keys = { "rl", "tensor_parallel_size", "context_parallel_size" },
    sentence = "rl: dpo goes without tensor and context parallelism",
    reason = "log-probabilities of sequences are summed where whole rows and the whole vocabulary are",
    source = "engine/train/sequence_scores.h", help = "split by fsdp_config or deepspeed",
  }, function(c)
    for _, key in ipairs { "tensor_parallel_size", "tensor_parallel_degree", "context_parallel_size",
      "sequence_parallel_degree" } do
      if c.rl == "dpo" and (c[key] or 1) > 1 then
        return false, "split by fsdp_config or deepspeed", key, "log-probabilities of sequences that ranks share are not done"
      end
    end
    return true
  end)

  rule("dialect.pairs_need_rl", {
    keys = of_pairs, sentence = "keys of DPO go with rl: dpo", reason = "without it they would change nothing",
    source = "Axolotl, check_dpo", help = "add rl: dpo",
  }, function(c)
    for _, key in ipairs(of_pairs) do
      if asks(c[key]) and not asks(c.rl) then
        return false, "add rl: dpo, or remove it", key, "is of rl: dpo, and rl is not set" end
    end
    return true
  end)

  rule("dialect.one_beta", {
    keys = { "rl_beta", "dpo_beta" }, sentence = "the two names of beta agree", reason = "one of them would be ignored",
    source = "Axolotl, check_rl_beta", help = "keep rl_beta",
  }, function(c)
    return not (c.rl_beta and c.dpo_beta and c.rl_beta ~= c.dpo_beta), "keep rl_beta", "dpo_beta",
      ("got %g, but rl_beta is %g"):format(c.dpo_beta or 0, c.rl_beta or 0)
  end)
end
