--- The keys of the YAML dialect that are read here, with the kinds that they take. What each comes to is said in the
--- file of its subject beside this one.
local keys = {}

local positive = { kind = "integer", above = 0 }
local switch = { kind = "boolean" }
local text = { kind = "string" }
local list = { kind = "list" }
local map = { kind = "table" }

--- Key -> { kind =, above =, … } as ft.options takes it.
keys.known = {
  -- model
  base_model = { kind = "string", help = "a Hugging Face directory, or a hub name that the local cache holds" },
  base_model_config = text, tokenizer_config = text, model_type = text, tokenizer_type = text, trust_remote_code = switch,
  load_in_4bit = switch, load_in_8bit = switch, bnb_config_kwargs = map, revision_of_model = text, tokenizer_use_fast = switch,
  -- adapter
  adapter = { kind = "string" },
  lora_r = positive, lora_alpha = { kind = "number", above = 0 },
  lora_dropout = { kind = "number", at_least = 0, below = 1 },
  lora_target_modules = { kind = "string or list" }, lora_target_linear = switch, lora_model_dir = text,
  lora_modules_to_save = list, lora_fan_in_fan_out = switch, peft_use_rslora = switch, peft_use_dora = switch,
  loraplus_lr_ratio = { kind = "number", above = 0 }, loraplus_lr_embedding = { kind = "number", above = 0 },
  lora_mlp_kernel = switch, lora_qkv_kernel = switch, lora_o_kernel = switch, lora_embedding_kernel = switch,
  merge_lora = switch,
  -- data
  datasets = list, test_datasets = list, pretraining_dataset = { kind = "string or list" },
  sequence_len = { kind = "integer", at_least = 2 }, sample_packing = switch, eval_sample_packing = switch,
  pad_to_sequence_len = switch, train_on_inputs = switch, roles_to_train = list, train_on_eos = { kind = "string" },
  chat_template = text, chat_template_jinja = text, default_system_message = text,
  val_set_size = { kind = "number", at_least = 0 }, dataset_prepared_path = text, special_tokens = map,
  excess_length_strategy = { kind = "string", allowed = { "drop", "truncate", "raise" } },
  shuffle_merged_datasets = switch, group_by_length = switch, dataset_processes = positive,
  dataset_num_proc = positive, shuffle_before_merging_datasets = switch, sample_packing_eff_est = { kind = "number" },
  sample_packing_group_size = positive, sample_packing_bin_size = positive, dataloader_num_workers = { kind = "integer" },
  dataloader_pin_memory = switch, dataloader_prefetch_factor = { kind = "integer" }, skip_prepare_dataset = switch,
  dataset_keep_in_memory = switch, total_num_tokens = { kind = "integer" },
  -- batch and length
  micro_batch_size = positive, gradient_accumulation_steps = positive, batch_size = positive, eval_batch_size = positive,
  num_epochs = { kind = "number", above = 0 }, max_steps = { kind = "integer" },
  -- optimizer
  optimizer = text, lr_scheduler = text, learning_rate = { kind = "number or string" },
  weight_decay = { kind = "number", at_least = 0 }, adam_beta1 = { kind = "number", at_least = 0, below = 1 },
  adam_beta2 = { kind = "number", at_least = 0, below = 1 }, adam_epsilon = { kind = "number", above = 0 },
  max_grad_norm = { kind = "number", at_least = 0 }, warmup_steps = { kind = "integer", at_least = 0 },
  warmup_ratio = { kind = "number", at_least = 0, at_most = 1 }, lr_groups = list,
  cosine_min_lr_ratio = { kind = "number", at_least = 0, at_most = 1 }, lr_scheduler_kwargs = map, optim_args = {
    kind = "string or table" },
  -- precision and memory
  bf16 = { kind = "boolean or string", allowed = { true, false, "auto", "full" } },
  fp16 = switch, tf32 = { kind = "boolean or string", allowed = { true, false, "auto" } },
  bfloat16 = switch, float16 = switch, gradient_checkpointing = { kind = "boolean or string" },
  gradient_checkpointing_kwargs = map, activation_offloading = { kind = "boolean or string" },
  flash_attention = switch, sdp_attention = switch, xformers_attention = switch, flex_attention = switch,
  eager_attention = switch, s2_attention = switch, attn_implementation = text, torch_compile = { kind = "boolean or string" },
  torch_compile_backend = text, torch_compile_mode = text, torch_compile_options = map, plugins = list,
  liger_rope = switch, liger_rms_norm = switch, liger_layer_norm = switch, liger_glu_activation = switch,
  liger_swiglu = switch, liger_cross_entropy = switch, liger_fused_linear_cross_entropy = switch,
  liger_rms_norm_gated = switch, liger_use_token_scaling = switch, cut_cross_entropy = switch,
  chunked_cross_entropy = switch, flash_attn_cross_entropy = switch, flash_attn_rms_norm = switch,
  flash_attn_fuse_qkv = switch, flash_attn_fuse_mlp = switch, unsloth_cross_entropy_loss = switch,
  -- layout
  fsdp = { kind = "list or string" }, fsdp_config = map, fsdp_version = { kind = "integer or string" },
  fsdp_final_state_dict_type = text, deepspeed = { kind = "string or table" },
  tensor_parallel_size = positive, context_parallel_size = positive, sequence_parallel_degree = positive,
  tensor_parallel_degree = positive, dp_shard_size = positive, dp_replicate_size = positive,
  heads_k_stride = positive, ring_attn_func = { kind = "string", allowed = { "varlen_llama3", "batch_ring" } },
  qlora_sharded_model_loading = switch, cpu_ram_efficient_loading = switch, experimental_skip_move_to_device = switch,
  ddp = switch, ddp_timeout = positive, ddp_bucket_cap_mb = positive, ddp_broadcast_buffers = switch,
  ddp_find_unused_parameters = switch, low_cpu_mem_usage = switch,
  -- running and saving
  output_dir = text, save_steps = { kind = "number", above = 0 }, saves_per_epoch = { kind = "integer", above = 0 },
  save_strategy = { kind = "string", allowed = { "no", "steps", "epoch", "best" } }, save_total_limit = positive,
  save_safetensors = switch, eval_steps = { kind = "number", above = 0 }, evals_per_epoch = { kind = "integer", at_least = 0 },
  eval_strategy = { kind = "string", allowed = { "no", "steps", "epoch" } }, logging_steps = positive,
  do_eval = switch, resume_from_checkpoint = { kind = "string or boolean" }, auto_resume_from_checkpoints = switch,
  seed = { kind = "integer", at_least = 0 }, strict = switch, debug = switch, device = text, local_rank = { kind = "integer" },
}

--- Of fsdp_config, without the fsdp_ prefix.
keys.fsdp = {
  version = { kind = "integer or string" }, fsdp_version = { kind = "integer or string" },
  state_dict_type = { kind = "string", allowed = { "FULL_STATE_DICT", "SHARDED_STATE_DICT", "LOCAL_STATE_DICT" } },
  final_state_dict_type = { kind = "string", allowed = { "FULL_STATE_DICT", "SHARDED_STATE_DICT", "LOCAL_STATE_DICT" } },
  auto_wrap_policy = { kind = "string", allowed = { "TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP" } },
  transformer_layer_cls_to_wrap = { kind = "string or list" }, min_num_params = { kind = "integer", at_least = 1 },
  reshard_after_forward = switch, offload_params = switch, cpu_offload_pin_memory = switch,
  cpu_ram_efficient_loading = switch, activation_checkpointing = switch, sync_module_states = switch,
  use_orig_params = switch, mixed_precision_policy = text, sharding_strategy = { kind = "string or integer" },
  backward_prefetch = text, backward_prefetch_policy = text, forward_prefetch = switch, limit_all_gathers = switch,
  xla = switch, xla_fsdp_v2 = switch, xla_fsdp_grad_ckpt = switch,
}

--- Of an entry of datasets.
keys.dataset = {
  path = text, type = { kind = "string or table" }, data_files = { kind = "string or list" }, ds_type = text, split = text,
  field = text, field_messages = text, chat_template = text, message_field_role = text, message_field_content = text,
  message_property_mappings = map, roles_to_train = list, train_on_eos = text, train_on_inputs = switch, shards = positive,
  name = text, roles = map, conversation = text,
}

return keys
