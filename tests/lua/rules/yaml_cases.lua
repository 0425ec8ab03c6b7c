--- Every rule on YAML configurations: lines that it refuses (or warns of), and lines beside them that pass. Where they
--- have an fsdp_config, rules_test.lua tries its keys with the fsdp_ prefix, too.
local fsdp2 = "fsdp_version: 2\nfsdp_config:\n  reshard_after_forward: true\n"

local dpo = "datasets: [{ path: recipes/demo/pairs.jsonl }]\nadapter: lora\nrl: dpo\n"
local qdpo = (dpo:gsub("lora", "qlora"))
local turing, ampere = { name = "Tesla T4", sm = 75 }, { name = "NVIDIA A100-SXM4-80GB", sm = 80 }

local function yaml(lines, more)
  local case = more or {}
  case.yaml = lines
  return case
end

return {
  ["dialect.fsdp1_cannot_unpin"] = {
    refuses = yaml "fsdp_version: 1\nfsdp_config:\n  offload_params: true\n  cpu_offload_pin_memory: false",
    passes = yaml "fsdp_version: 2\nfsdp_config:\n  offload_params: true\n  cpu_offload_pin_memory: false",
  },
  ["dialect.unpin_needs_offload"] = {
    refuses = yaml "fsdp_version: 2\nfsdp_config:\n  cpu_offload_pin_memory: false",
    passes = yaml "fsdp_version: \"2\"\nfsdp_config:\n  cpu_offload_pin_memory: false\n  offload_params: true",
  },
  ["dialect.fsdp1_is_deprecated"] = { refuses = yaml "fsdp_config:\n  offload_params: true", passes = yaml(fsdp2) },
  ["dialect.fsdp_version_is_known"] = {
    refuses = yaml "fsdp_version: 3\nfsdp_config:\n  offload_params: true", passes = yaml(fsdp2),
  },
  ["dialect.one_fsdp_version"] = {
    refuses = yaml "fsdp_version: 2\nfsdp_config:\n  version: 1\n  offload_params: true",
    passes = yaml "fsdp_config:\n  version: 2\n  offload_params: true",
  },
  ["dialect.min_num_params_for_size"] = {
    refuses = yaml(fsdp2 .. "  auto_wrap_policy: SIZE_BASED_WRAP"),
    passes = yaml(fsdp2 .. "  auto_wrap_policy: SIZE_BASED_WRAP\n  min_num_params: 1000"),
  },
  ["dialect.no_local_state_dict"] = {
    refuses = yaml(fsdp2 .. "  state_dict_type: LOCAL_STATE_DICT"),
    passes = yaml(fsdp2 .. "  state_dict_type: FULL_STATE_DICT"),
  },
  ["dialect.qlora_saves_shards"] = {
    refuses = yaml("adapter: qlora\nload_in_4bit: true\n" .. fsdp2 .. "  state_dict_type: FULL_STATE_DICT", { nproc = 2 }),
    passes = yaml("adapter: qlora\nload_in_4bit: true\n" .. fsdp2 .. "  state_dict_type: SHARDED_STATE_DICT", { nproc = 2 }),
  },
  ["dialect.checkpointing_in_one_place"] = {
    refuses = yaml(fsdp2 .. "  activation_checkpointing: true\ngradient_checkpointing: true"),
    passes = yaml(fsdp2 .. "  activation_checkpointing: true"),
  },
  ["dialect.fsdp_or_deepspeed"] = {
    refuses = yaml(fsdp2 .. "deepspeed: zero3_bf16.json"), passes = yaml "deepspeed: zero3_bf16.json",
  },
  ["dialect.fsdp2_optimizer"] = {
    refuses = yaml(fsdp2 .. "optimizer: adamw_bnb_8bit"), passes = yaml(fsdp2 .. "optimizer: adamw_torch_8bit"),
  },
  ["dialect.fsdp1_optimizer_is_renamed"] = {
    refuses = yaml "fsdp_version: 1\nfsdp_config:\n  reshard_after_forward: true\noptimizer: adamw_8bit",
    passes = yaml "fsdp_version: 1\nfsdp_config:\n  reshard_after_forward: true\noptimizer: adamw_torch_8bit",
  },
  ["dialect.fsdp1_offload_optimizer"] = {
    refuses = yaml "fsdp_version: 1\nfsdp_config:\n  offload_params: true\noptimizer: adamw_torch_8bit",
    passes = yaml "fsdp_version: 2\nfsdp_config:\n  offload_params: true\noptimizer: adamw_torch_8bit",
  },
  ["dialect.muon_without_deepspeed"] = {
    refuses = yaml "optimizer: muon\ndeepspeed: zero1.json", passes = yaml("optimizer: muon\n" .. fsdp2),
  },
  ["dialect.muon_needs_fsdp2"] = {
    refuses = yaml "optimizer: muon\nfsdp_version: 1\nfsdp_config:\n  reshard_after_forward: true",
    passes = yaml("optimizer: muon\n" .. fsdp2),
  },
  ["dialect.loraplus_needs_an_adapter"] = {
    refuses = yaml "loraplus_lr_ratio: 16", passes = yaml "loraplus_lr_ratio: 16\nadapter: lora",
  },
  ["dialect.lr_groups_or_loraplus"] = {
    refuses = yaml("adapter: lora\nloraplus_lr_ratio: 16\nlr_groups:\n  - name: q\n    modules: [q_proj]\n    lr: 1e-4"),
    passes = yaml("adapter: lora\nlr_groups:\n  - name: q\n    modules: [self_attn.q_proj]\n    lr: 1e-4"),
  },
  ["dialect.one_warmup"] = { refuses = yaml "warmup_steps: 10\nwarmup_ratio: 0.1", passes = yaml "warmup_ratio: 0.1" },
  ["dialect.qlora_needs_4bit"] = {
    refuses = yaml "adapter: qlora", passes = yaml "adapter: qlora\nload_in_4bit: true",
  },
  ["dialect.qlora_not_in_8bit"] = {
    refuses = yaml "adapter: qlora\nload_in_8bit: true", passes = yaml "adapter: qlora\nload_in_4bit: true",
  },
  ["dialect.one_quantization"] = {
    refuses = yaml "adapter: lora\nload_in_4bit: true\nload_in_8bit: true",
    passes = yaml "adapter: qlora\nload_in_4bit: true\nload_in_8bit: false",
  },
  ["dialect.lora_in_4bit_is_qlora"] = {
    refuses = yaml "adapter: lora\nload_in_4bit: true", passes = yaml "adapter: lora",
  },
  ["dialect.quantized_base_needs_an_adapter"] = {
    refuses = yaml "load_in_4bit: true", passes = yaml "load_in_4bit: true\nadapter: qlora",
  },
  ["dialect.adapter_is_known"] = { refuses = yaml "adapter: mora", passes = yaml "adapter: lora" },
  ["dialect.no_merge_while_quantized"] = {
    refuses = yaml "adapter: qlora\nload_in_4bit: true\nmerge_lora: true",
    passes = yaml "adapter: qlora\nload_in_4bit: true\nmerge_lora: false",
  },
  ["dialect.layers_pattern_needs_layers"] = {
    refuses = yaml "adapter: lora\npeft_layers_pattern: layers",
    passes = yaml "adapter: lora\npeft_layers_pattern: layers\npeft_layers_to_transform: [0]",
  },
  ["dialect.offloading_needs_checkpointing"] = {
    refuses = yaml "activation_offloading: true", passes = yaml "activation_offloading: true\ngradient_checkpointing: true",
  },
  ["dialect.one_precision"] = { refuses = yaml "bf16: true\nfp16: true", passes = yaml "bf16: auto\nfp16: false" },
  ["dialect.lora_kernels"] = {
    refuses = yaml "adapter: lora\nlora_mlp_kernel: true\nfsdp_version: 1\nfsdp_config:\n  reshard_after_forward: true",
    passes = yaml("adapter: lora\nlora_mlp_kernel: true\n" .. fsdp2),
  },
  ["dialect.packing_under_context_parallel"] = {
    refuses = yaml("context_parallel_size: 2\nflash_attention: true\nsample_packing: true\nmicro_batch_size: 2\n" .. fsdp2,
      { nproc = 2 }),
    passes = yaml("context_parallel_size: 2\nflash_attention: true\nsample_packing: true\nmicro_batch_size: 1\n" .. fsdp2,
      { nproc = 2 }),
  },
  ["dialect.context_parallel_needs_flash"] = {
    refuses = yaml("context_parallel_size: 2\nsdp_attention: true\n" .. fsdp2, { nproc = 2 }),
    passes = yaml("context_parallel_size: 2\nattn_implementation: flash_attention_2\n" .. fsdp2, { nproc = 2 }),
  },
  ["dialect.tied_embeddings_under_tensor_parallel"] = {
    refuses = yaml("tensor_parallel_size: 2\n" .. fsdp2, { nproc = 2 }), passes = yaml(fsdp2, { nproc = 2 }),
  },
  ["dialect.tensor_parallel_optimizer"] = {
    refuses = yaml("base_model: FOLDER/untied\ntensor_parallel_size: 2\noptimizer: adamw_torch_8bit\n" .. fsdp2, { nproc = 2 }),
    passes = yaml("base_model: FOLDER/untied\ntensor_parallel_size: 2\noptimizer: adamw_torch_fused\n" .. fsdp2, { nproc = 2 }),
  },
  ["dialect.dp_shard_needs_fsdp"] = {
    refuses = yaml("dp_shard_size: 2", { nproc = 2 }), passes = yaml("dp_shard_size: 2\n" .. fsdp2, { nproc = 2 }),
  },
  ["dialect.one_tensor_size"] = {
    refuses = yaml("base_model: FOLDER/untied\ntensor_parallel_size: 2\ntensor_parallel_degree: 4\n" .. fsdp2, { nproc = 2 }),
    passes = yaml("base_model: FOLDER/untied\ntensor_parallel_size: 2\ntensor_parallel_degree: 2\n" .. fsdp2, { nproc = 2 }),
  },
  ["dialect.one_context_size"] = {
    refuses = yaml("context_parallel_size: 2\nsequence_parallel_degree: 4\nflash_attention: true\n" .. fsdp2, { nproc = 2 }),
    passes = yaml("context_parallel_size: 2\nsequence_parallel_degree: 2\nflash_attention: true\n" .. fsdp2, { nproc = 2 }),
  },
  ["dialect.deepspeed_without_tensor_parallel"] = {
    refuses = yaml("base_model: FOLDER/untied\ntensor_parallel_size: 2\ndeepspeed: zero3.json", { nproc = 2 }),
    passes = yaml("base_model: FOLDER/untied\ntensor_parallel_size: 2\ndeepspeed: zero1.json", { nproc = 2 }),
  },
  ["dialect.replicas_need_shards"] = {
    refuses = yaml("dp_replicate_size: 2\ncontext_parallel_size: 2\nflash_attention: true", { nproc = 4 }),
    passes = yaml("dp_replicate_size: 2\ndp_shard_size: 2\ncontext_parallel_size: 2\nflash_attention: true\n" .. fsdp2,
      { nproc = 8 }),
  },
  ["dialect.batch_size_changes_nothing"] = {
    refuses = yaml "batch_size: 64", passes = yaml "micro_batch_size: 2\ngradient_accumulation_steps: 32",
  },
  ["dialect.evaluation_needs_data"] = {
    refuses = yaml "eval_steps: 4", passes = yaml "eval_steps: 4\nval_set_size: 0.05",
  },
  ["dialect.evaluations_of_nothing"] = {
    refuses = yaml "evals_per_epoch: 4", passes = yaml "evals_per_epoch: 4\nval_set_size: 0.05",
  },
  ["dialect.evaluations_have_their_strategy"] = {
    refuses = yaml "eval_strategy: epoch\neval_steps: 4\nval_set_size: 0.05",
    passes = yaml "eval_strategy: steps\neval_steps: 4\nval_set_size: 0.05",
  },
  ["dialect.one_validation_set"] = {
    refuses = yaml "val_set_size: 0.05\ntest_datasets: [{ path: recipes/demo/test.jsonl, type: chat_template }]",
    passes = yaml "val_set_size: 0\ntest_datasets: [{ path: recipes/demo/test.jsonl, type: chat_template }]",
  },
  ["dialect.accumulation_or_batch_size"] = {
    refuses = yaml "gradient_accumulation_steps: 4\nbatch_size: 64", passes = yaml "batch_size: 64",
  },
  ["dialect.jinja_has_its_template"] = {
    refuses = yaml "chat_template: jinja",
    passes = yaml "chat_template: jinja\nchat_template_jinja: tests/fuzz/corpus/chat_template/chatml.jinja",
  },
  ["dialect.tf32_needs_newer_cards"] = {
    refuses = yaml("tf32: true", { cards = { turing } }), passes = yaml("tf32: true", { cards = { ampere } }),
  },
  ["dialect.flash_needs_newer_cards"] = {
    refuses = yaml("flash_attention: true", { cards = { turing } }),
    passes = yaml("flash_attention: true", { cards = { ampere } }),
  },
  ["dialect.pairs_are_not_packed"] = {
    refuses = yaml(dpo .. "sample_packing: true"), passes = yaml(dpo .. "sample_packing: false"),
  },
  ["dialect.pairs_need_an_adapter"] = { refuses = yaml((dpo:gsub("adapter: lora\n", ""))), passes = yaml(dpo) },
  ["dialect.quantized_pairs_under_fsdp2"] = {
    refuses = yaml(qdpo .. "load_in_4bit: true\n" .. fsdp2, { nproc = 2 }),
    passes = yaml(qdpo .. "load_in_4bit: true\ndeepspeed: zero3.json", { nproc = 2 }),
  },
  ["dialect.pairs_are_whole"] = {
    refuses = yaml(dpo .. "context_parallel_size: 2\nflash_attention: true\n" .. fsdp2, { nproc = 2 }),
    passes = yaml(dpo .. fsdp2, { nproc = 2 }),
  },
  ["dialect.pairs_need_rl"] = { refuses = yaml "rl_beta: 0.2", passes = yaml(dpo .. "rl_beta: 0.2") },
  ["dialect.one_beta"] = {
    refuses = yaml(dpo .. "rl_beta: 0.2\ndpo_beta: 0.1"), passes = yaml(dpo .. "rl_beta: 0.2\ndpo_beta: 0.2"),
  },
  ["dialect.evaluation_steps_or_epochs"] = {
    refuses = yaml "eval_steps: 10\nevals_per_epoch: 4\nval_set_size: 0.05", passes = yaml "eval_steps: 10\nval_set_size: 0.05",
  },
  ["dialect.saves_steps_or_epochs"] = {
    refuses = yaml "save_steps: 10\nsaves_per_epoch: 1", passes = yaml "save_steps: 10",
  },
  ["dialect.steps_have_their_strategy"] = {
    refuses = yaml "save_strategy: epoch\nsave_steps: 10", passes = yaml "save_strategy: steps\nsave_steps: 10",
  },
  ["dialect.eval_packing_goes_with_packing"] = {
    refuses = yaml "eval_sample_packing: true\nsample_packing: false",
    passes = yaml "eval_sample_packing: true\nsample_packing: true",
  },
  -- while a configuration is read
  ["dialect.unknown_key"] = { refuses = yaml "lora_aplha: 16", passes = yaml "lora_alpha: 16" },
  ["dialect.unsupported"] = { refuses = yaml "neftune_noise_alpha: 5", passes = yaml "neftune_noise_alpha:" },
  ["dialect.unknown_value"] = {
    refuses = yaml "fsdp_version: 2\nfsdp_config:\n  sharding_strategy: FULL_SHRD",
    passes = yaml "fsdp_version: 2\nfsdp_config:\n  sharding_strategy: FULL_SHARD",
  },
  ["dialect.given_twice"] = {
    refuses = yaml("fsdp_version: 2\nfsdp_config:\n  offload_params: true\n  fsdp_offload_params: false", { prefixed = true }),
    passes = yaml("fsdp_version: 2\nfsdp_config:\n  offload_params: true\n  fsdp_offload_params: true", { prefixed = true }),
  },
  ["dialect.ignored_warning"] = {
    refuses = yaml "ignore_warnings: [dialect.loger]",
    passes = yaml "ignore_warnings: [dialect.logger]\nwandb_project: mine",
  },
  ["dialect.missing"] = { refuses = yaml "learning_rate:", passes = yaml "learning_rate: 2e-5" },
  ["dialect.number"] = { refuses = yaml "learning_rate: fast", passes = yaml "learning_rate: \"2e-5\"" },
  ["dialect.lr_groups"] = {
    refuses = yaml "lr_groups:\n  - name: q\n    lr: 1e-4",
    passes = yaml "lr_groups:\n  - name: q\n    modules: [self_attn.q_proj]\n    lr: 1e-4",
  },
  ["dialect.datasets"] = {
    refuses = yaml "datasets:\n  - recipes/demo/train.jsonl",
    passes = yaml "datasets:\n  - path: recipes/demo/train.jsonl\n    type: chat_template",
  },
  ["dialect.no_such_model"] = {
    refuses = yaml "base_model: nobody/NoModel-1B", passes = yaml "base_model: recipes/demo/model",
  },
  ["dialect.no_such_data"] = {
    refuses = yaml "datasets:\n  - path: nobody/no_data\n    type: alpaca",
    passes = yaml "datasets:\n  - path: recipes/demo/train.jsonl\n    type: alpaca",
  },
  ["dialect.no_such_file"] = { refuses = yaml "deepspeed: zreo2.json", passes = yaml "deepspeed: zero2.json" },
  ["dialect.deepspeed_disagrees"] = {
    refuses = yaml "micro_batch_size: 2\ndeepspeed:\n  train_micro_batch_size_per_gpu: 4\n  zero_optimization:\n    stage: 2",
    passes = yaml "micro_batch_size: 2\ndeepspeed:\n  train_micro_batch_size_per_gpu: auto\n  zero_optimization:\n    stage: 2",
  },
  ["dialect.logger"] = { refuses = yaml "wandb_project: mine", passes = yaml "wandb_project:" },
  ["dialect.renamed"] = {
    refuses = yaml("base_model: FOLDER/untied\ntensor_parallel_degree: 2\n" .. fsdp2, { nproc = 2 }),
    passes = yaml("base_model: FOLDER/untied\ntensor_parallel_size: 2\n" .. fsdp2, { nproc = 2 }),
  },
  ["dialect.own_template"] = {
    refuses = yaml "chat_template: qwen3", passes = yaml "chat_template: tokenizer_default",
  },
  ["dialect.fsdp_prefix"] = {
    refuses = yaml("fsdp_version: 2\nfsdp_config:\n  fsdp_offload_params: true", { prefixed = true }),
    passes = yaml("fsdp_version: 2\nfsdp_config:\n  offload_params: true", { prefixed = true }),
  },
  ["dialect.fsdp_list"] = { refuses = yaml "fsdp: [full_shard, auto_wrap]", passes = yaml(fsdp2) },
  ["dialect.sharding_strategy"] = {
    refuses = yaml "fsdp_version: 2\nfsdp_config:\n  sharding_strategy: SHARD_GRAD_OP",
    passes = yaml "fsdp_version: 2\nfsdp_config:\n  reshard_after_forward: false",
  },
  ["dialect.dropped"] = { refuses = yaml(fsdp2 .. "  use_orig_params: true"), passes = yaml(fsdp2) },
}
