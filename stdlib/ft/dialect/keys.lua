--- The keys of the YAML dialect that are read here: kinds, limits and a line of documentation each, from which come the
--- checks, the flags, --help and docs/api/axolotl.md. What changes nothing here is documented by accepted.lua.
local keys = {}

local function option(kind, help, more)
  local out = more or {}
  out.kind, out.help = kind, help
  return out
end

local function switch(help) return option("boolean", help) end
local function text(help) return option("string", help) end
local function list(help) return option("list", help) end
local function map(help) return option("table", help) end
local function positive(help) return option("integer", help, { above = 0 }) end
local function above(help) return option("number", help, { above = 0 }) end
local function at_least(kind, least, help) return option(kind, help, { at_least = least }) end
local function share(help) return option("number", help, { at_least = 0, below = 1 }) end
local function one_of(help, allowed) return option("string", help, { allowed = allowed }) end

--- Key -> { kind =, help =, above =, … } as ft.options takes it.
keys.known = {
  -- model
  base_model = text "a Hugging Face directory, or a hub name that the local cache holds (model)",
  base_model_config = text(), tokenizer_config = text(), model_type = text(), tokenizer_type = text(), type_of_model = text(),
  cls_model_config = text(), tokenizer_use_fast = switch(), tokenizer_legacy = switch(),
  tokenizer_save_jinja_files = switch(),
  trust_remote_code = switch(), bnb_config_kwargs = map(), is_falcon_derived_model = switch(),
  is_llama_derived_model = switch(), is_mistral_derived_model = switch(), is_qwen_derived_model = switch(),
  revision_of_model = text "branch, tag or commit of a hub name, by default main",
  load_in_4bit = switch "keep the base's linears in NF4 (model.quantize = \"nf4\")",
  load_in_8bit = switch "LLM.int8: refused, NF4 takes half of it",
  quantize_moe_experts = switch(),
  special_tokens = map "tokens by role; new ones join the vocabulary (model.special_tokens)",
  tokens = list "tokens that join the vocabulary (model.added_tokens)",
  added_tokens_overrides = map "reserved tokens called otherwise: { 128002: \"<think>\" } (model.renamed_tokens)",
  resize_token_embeddings_to_32x = switch "rows of embedding and head are a multiple of 32 (model.vocab_multiple = 32)",
  mean_resizing_embeddings = switch "false: new rows begin normal, not as the mean of the old ones (model.new_rows)",
  embeddings_skip_upcast = switch(),
  -- adapter
  adapter = text "lora or qlora; without it every parameter is trained (adapter)",
  lora_r = positive "rank, by default 8 (adapter.r)", lora_alpha = above "scale, by default 16 (adapter.alpha)",
  lora_dropout = share "share of inputs set to zero (adapter.dropout)",
  lora_target_modules = option("string or list", "names of linears, or all-linear (adapter.target_modules)"),
  lora_target_linear = switch "every linear (adapter.target_modules = \"all-linear\")",
  lora_model_dir = text "an adapter to go on from (adapter.from)",
  lora_modules_to_save = list "modules that are trained whole beside the adapters (adapter.modules_to_save)",
  lora_fan_in_fan_out = switch "linears stored as [in, out]: refused, every model here stores them as [out, in]",
  peft_use_rslora = switch "scale by alpha / sqrt(r) (adapter.use_rslora)",
  peft_use_dora = switch "train a magnitude beside each direction (adapter.use_dora)",
  peft_ensure_weight_tying = switch "what is trained of a tied embedding is the head's, too (adapter.ensure_weight_tying)",
  peft_layers_to_transform = option("integer or list", "layers that get adapters (adapter.layers_to_transform)"),
  peft_layers_pattern = option("string or list", "the list of layers that these count in (adapter.layers_pattern)"),
  lora_rank_pattern = map "ranks of their own: { PATTERN: RANK } (adapter.rank_pattern)",
  lora_alpha_pattern = map "alphas of their own: { PATTERN: ALPHA } (adapter.alpha_pattern)",
  peft_init_lora_weights = option("boolean or string", "true: Kaiming and zeros; loftq (adapter.init_lora_weights)"),
  peft = map "loftq_config: { loftq_bits: 4 } begins LoRA by LoftQ (adapter.init_lora_weights)",
  peft_autocast_adapter_dtype = switch "true: adapters are fp32, as always here",
  unfrozen_parameters = list "patterns of the parameters that full fine-tuning trains (unfrozen_parameters)",
  loraplus_lr_ratio = above "rate of lora_B over that of lora_A (optimizer.groups)",
  loraplus_lr_embedding = above "rate of an embedding's adapter beside loraplus_lr_ratio, by default 1e-6 (optimizer.groups)",
  lora_mlp_kernel = switch(), lora_qkv_kernel = switch(), lora_o_kernel = switch(), lora_embedding_kernel = switch(),
  merge_lora = switch "merging is a command of its own: ftengine merge", merge_method = text(),
  -- data
  datasets = list "what is learned: [{ path, type, … }] (data.train)",
  test_datasets = list "what is measured: [{ path, type, … }] (data.val)",
  pretraining_dataset = option("string or list", "plain text to learn (data.train = ft.completion)"),
  sequence_len = at_least("integer", 2, "tokens a row (data.train.seq_len)"),
  sample_packing = switch "several samples in a row (data.train.pack)",
  eval_sample_packing = switch "the same of validation data (data.val.pack)",
  pad_to_sequence_len = switch(),
  train_on_inputs = switch "learn prompts, too (data.train.mask_prompts = false)",
  roles_to_train = list "whose turns are learned (data.train.roles_to_train)",
  train_on_eos = text "turn: the end of each learned turn is learned; nothing else is offered",
  train_on_eot = text "as train_on_eos", eot_tokens = list(),
  chat_template = text "tokenizer_default, chatml or llama3 (data.train.format)",
  chat_template_jinja = text "a template of one's own (data.train.chat_template)",
  chat_template_kwargs = map "what the template may read beside the row (data.train.template_variables)",
  default_system_message = text "system message of conversations that have none (data.train.system)",
  val_set_size = at_least("number", 0, "share of the training data that is held out (data.val.split)"),
  dataset_prepared_path = text "folder of the tokens that ftengine preprocess keeps, and runs use (data.train.cache)",
  streaming = switch "tokens stay on the disk, in dataset_prepared_path (data.train.streaming)",
  pretrain_multipack_attn = switch "true: attention stays inside each document, as always here",
  streaming_multipack_buffer_size = positive(), pretrain_multipack_buffer_size = positive(),
  excess_length_strategy = one_of("what becomes of samples that are too long (data.train.too_long)",
    { "drop", "truncate", "raise" }),
  shuffle_merged_datasets = switch(), shuffle_before_merging_datasets = switch(), group_by_length = switch(),
  dataset_processes = positive(), dataset_num_proc = positive(), skip_prepare_dataset = switch(),
  dataset_keep_in_memory = switch(), num_dataset_shards_to_save = positive(), preprocess_iterable = switch(),
  remove_unused_columns = switch(), sample_packing_mp_start_method = text(), total_supervised_tokens = option "integer",
  dataloader_drop_last = switch "leave out rows that do not fill an epoch's last step (data.train.remainder = \"drop\")",
  eval_sequence_len = at_least("integer", 2, "tokens a row of validation data (data.val.seq_len)"),
  pad_to_multiple_of = positive(), sample_packing_eff_est = option "number", sample_packing_group_size = positive(),
  sample_packing_bin_size = positive(), total_num_tokens = option "integer", dataloader_num_workers = option "integer",
  dataloader_pin_memory = switch(), dataloader_prefetch_factor = option "integer",
  -- learning from pairs of answers
  rl = text "dpo: from pairs of answers (ft.preference, ft.dpo); the others are refused by name",
  rl_beta = above "of dpo, by default 0.1: how dearly each step away from the reference is paid (ft.dpo)",
  dpo_beta = above "another name of rl_beta",
  dpo_label_smoothing = option("number", "share of pairs taken to be the wrong way round (ft.dpo)",
    { at_least = 0, below = 0.5 }),
  dpo_loss_type = list "sigmoid: DPO's own loss", dpo_use_liger_kernel = switch(), dpo_padding_free = switch(),
  precompute_ref_log_probs = switch(),
  -- rows a step, and how long
  micro_batch_size = positive "rows in one forward of a rank, by default 1 (batch.micro)",
  gradient_accumulation_steps = positive "micro batches of a rank in a step, by default 1 (batch.accumulation)",
  batch_size = positive "changes nothing: a warning says what to write", eval_batch_size = positive(),
  num_epochs = above "passes over the data (epochs)", max_steps = option("integer", "stop after so many steps (max_steps)"),
  -- optimizer
  optimizer = text "adamw_torch_fused by default; adamw_torch_8bit, muon, lion_32bit, sgd, adafactor (optimizer)",
  lr_scheduler = text "cosine by default; linear, constant, … (optimizer.schedule)",
  lr_scheduler_kwargs = map "min_lr_rate, num_cycles, num_decay_steps (optimizer.schedule)",
  learning_rate = option("number or string", "peak rate (optimizer.lr)"),
  weight_decay = at_least("number", 0, "by default 0 (optimizer.weight_decay)"),
  adam_beta1 = share "by default 0.9 (optimizer.betas)", adam_beta2 = share "by default 0.999 (optimizer.betas)",
  adam_epsilon = above "by default 1e-8 (optimizer.eps)",
  max_grad_norm = at_least("number", 0, "norm that gradients are clipped to, by default 1; 0: not (run:clip)"),
  warmup_steps = at_least("number", 0, "steps of warm-up, or below 1 the share of the run (schedule.warmup)"),
  warmup_ratio = option("number", "share of the run that warms up, by default 0.03 (schedule.warmup)",
    { at_least = 0, at_most = 1 }),
  lr_groups = list "rates of their own: [{ name, modules, lr }] (optimizer.groups)",
  cosine_min_lr_ratio = option("number", "where the cosine ends (schedule.min_lr_ratio)", { at_least = 0, at_most = 1 }),
  optim_args = option("string or table", "more arguments of the optimizer: write the keys above"),
  -- precision and memory
  bf16 = option("boolean or string", "compute in bf16; auto: in what this machine is fast in (model.compute)",
    { allowed = { true, false, "auto", "full" } }),
  fp16 = switch "compute in fp16, with a scaled loss (model.compute)", bfloat16 = switch "another name of bf16",
  float16 = switch "another name of fp16", float32 = switch "compute in fp32 (model.compute)",
  tf32 = option("boolean or string", nil, { allowed = { true, false, "auto" } }),
  gradient_checkpointing = option("boolean or string", "run layers again in the backward (activation_checkpointing)"),
  gradient_checkpointing_kwargs = map(),
  activation_offloading = option("boolean or string",
    "with gradient_checkpointing: layers' inputs on the host (activation_offload)",
    { allowed = { true, false, "legacy", "hidden_states", "disk" } }),
  flash_attention = switch(), sdp_attention = switch(), xformers_attention = switch(), flex_attention = switch(),
  eager_attention = switch(), attn_implementation = text(), sage_attention = switch(), flash_optimum = switch(),
  large_head_attention = option "boolean or string", flash_attn_d512 = switch(), sdpa_varlen = option "boolean or string",
  gemma4_hybrid_attn_impl = switch(), flex_attn_compile_kwargs = map(), fused_attn_kernel = switch(), use_kernels = switch(),
  experts_implementation = text(), use_scattermoe = switch(), use_sonicmoe = switch(), moe_kernels = option "boolean or string",
  moe_grouped_backend = text(), chunked_cross_entropy_num_chunks = positive(), unsloth_lora_mlp = switch(),
  unsloth_lora_qkv = switch(), unsloth_lora_o = switch(), unsloth_rms_norm = switch(), unsloth_rope = switch(),
  gc_steps = option "integer", gc_collect_steps = option "integer", torch_empty_cache_steps = option "integer",
  s2_attention = switch "shifted sparse attention: not there",
  torch_compile = option "boolean or string", torch_compile_backend = text(), torch_compile_mode = text(),
  torch_compile_options = map(), plugins = list "those of Liger and cut cross entropy, whose work is always done here",
  liger_rope = switch(), liger_rms_norm = switch(), liger_layer_norm = switch(), liger_glu_activation = switch(),
  liger_swiglu = switch(), liger_cross_entropy = switch(),
  liger_fused_linear_cross_entropy = switch(), liger_rms_norm_gated = switch(), liger_use_token_scaling = switch(),
  cut_cross_entropy = switch(), chunked_cross_entropy = switch(), flash_attn_cross_entropy = switch(),
  flash_attn_rms_norm = switch(), flash_attn_fuse_qkv = switch(), flash_attn_fuse_mlp = switch(),
  unsloth_cross_entropy_loss = switch(),
  -- layout
  fsdp = option("list or string", "the older spelling: [full_shard, auto_wrap, offload]"),
  fsdp_config = map "what is split over the ranks, and how (parallel); its keys are listed below",
  fsdp_version = option("integer or string", "2; 1, and none, are read as 2 with a warning"),
  fsdp_final_state_dict_type = text "how the run ends: see fsdp_config.state_dict_type",
  deepspeed = option("string or table", "a JSON file, a built-in name such as zero2.json, or the mapping (parallel)"),
  tensor_parallel_size = positive "ranks that share each matrix (parallel.tensor_parallel_size)",
  tensor_parallel_degree = positive "another name of tensor_parallel_size",
  context_parallel_size = positive "ranks that share each row (parallel.context_parallel_size)",
  sequence_parallel_degree = positive "another name of context_parallel_size",
  dp_shard_size = positive "ranks that parameters are split over (parallel.dp_shard_size)",
  dp_replicate_size = positive "copies of the split model (parallel.dp_replicate_size)",
  heads_k_stride = positive(), ring_attn_func = one_of(nil, { "varlen_llama3", "batch_ring" }),
  qlora_sharded_model_loading = switch(), cpu_ram_efficient_loading = switch(), experimental_skip_move_to_device = switch(),
  low_cpu_mem_usage = switch(), ddp = switch(), ddp_bucket_cap_mb = positive(), ddp_broadcast_buffers = switch(),
  ddp_find_unused_parameters = switch(), ddp_timeout = positive "seconds that ranks wait for one (parallel.timeout)",
  -- running and saving
  output_dir = text "the run's directory, by default ./model-out (save.out)",
  save_steps = above "steps between checkpoints, or below 1 the share of all steps (save.every)",
  saves_per_epoch = positive "checkpoints an epoch (save.per_epoch)",
  save_strategy = one_of("no: at the end alone; epoch: after each; best: at evaluations, and the best stays",
    { "no", "steps", "epoch", "best" }),
  metric_for_best_model = text "eval_loss: the least one is the best",
  save_only_model = switch "checkpoints without the optimizer's state (save.save_only_model)",
  save_total_limit = positive "newest checkpoints that stay, by default 4 (save.keep)", save_safetensors = switch(),
  eval_steps = above "steps between evaluations, or below 1 the share of all steps", evals_per_epoch = at_least("integer",
  0, "evaluations an epoch"),
  eval_strategy = one_of("epoch: after each", { "no", "steps", "epoch" }),
  evaluation_strategy = one_of("another name of eval_strategy", { "no", "steps", "epoch" }), do_eval = switch(),
  logging_steps = positive "steps between rows of metrics, by default 1",
  resume_from_checkpoint = option("string or boolean", "a checkpoint or run to go on from (--resume)"),
  auto_resume_from_checkpoints = switch "go on from the newest checkpoint of output_dir (--resume auto)",
  loss_watchdog_threshold = above "the run ends when the loss stays above it for loss_watchdog_patience steps",
  loss_watchdog_patience = positive "by default 3",
  seed = at_least("integer", 0, "by default 42 (seed)"), strict = switch(), debug = switch(),
  ignore_warnings = list "ids of warnings that are not said, as ftengine rules lists them (plan:without); a key of this engine's",
  device = text(),
  local_rank = option "integer", world_size = option "integer",
}

local state_dicts = { "FULL_STATE_DICT", "SHARDED_STATE_DICT", "LOCAL_STATE_DICT" }

--- Of fsdp_config, without the fsdp_ prefix.
keys.fsdp = {
  version = option("integer or string", "as fsdp_version"), fsdp_version = option("integer or string", "as at the top"),
  state_dict_type = one_of("how checkpoints are written; the end is one model but for SHARDED_STATE_DICT (save)",
  state_dicts),
  final_state_dict_type = one_of("what the run ends with (save.final)", state_dicts),
  auto_wrap_policy = one_of("what is gathered together (parallel.auto_wrap_policy)",
    { "TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP" }),
  transformer_layer_cls_to_wrap = option("string or list",
  "the model's layer class (parallel.transformer_layer_cls_to_wrap)"),
  min_num_params = at_least("integer", 1, "of SIZE_BASED_WRAP (parallel.min_num_params)"),
  reshard_after_forward = switch "release parameters after forward (parallel.reshard_after_forward)",
  offload_params = switch "what a rank owns lives on the host (parallel.offload_params)",
  cpu_offload_pin_memory = switch "false: pageable, so that the system may swap it out (parallel.cpu_offload_pin_memory)",
  cpu_ram_efficient_loading = switch "always so: each rank reads its own bytes",
  activation_checkpointing = switch "run layers again in the backward (activation_checkpointing)",
  sync_module_states = switch "dropped", use_orig_params = switch "dropped", mixed_precision_policy = text "dropped",
  sharding_strategy = option("string or integer", "of FSDP1: FULL_SHARD, SHARD_GRAD_OP, HYBRID_SHARD, NO_SHARD"),
  backward_prefetch = text "dropped", backward_prefetch_policy = text "dropped", forward_prefetch = switch "dropped",
  limit_all_gathers = switch "dropped", xla = switch "dropped", xla_fsdp_v2 = switch "dropped",
  xla_fsdp_grad_ckpt = switch "dropped",
}

--- Of an entry of datasets.
keys.dataset = {
  path = text "a .jsonl, .parquet or .arrow file, a folder, or a hub name that the local cache holds",
  type = option("string or table",
    "chat_template, alpaca, completion, input_output, or a prompt of one's own; none: input_ids and labels"),
  data_files = option("string or list", "files in the folder"), ds_type = text "json, parquet, arrow: names end so",
  name = text "of the hub's subset",
  split = text "train, or train[:N] or train[:N%] for the first rows; of a folder's Parquet or Arrow files also test",
  shards = positive "one part of so many: refused",
  revision = text "branch, tag or commit of a hub name", trust_remote_code = switch "changes nothing: such code is never run",
  preprocess_shards = positive "changes nothing: rows are tokenized on all cores",
  field = text "the key of the text", field_messages = text "the key of the messages",
  field_tools = text "the key of the tools", message_field_training = text "the key of a message's own choice",
  chat_template_jinja = text "as at the top", train_on_eot = text "as at the top",
  chat_template = text "as at the top", message_field_role = text "the key of the role",
  message_field_content = text "the key of the content",
  message_property_mappings = map "keys of a message: { role: from, content: value }",
  roles_to_train = list "as at the top", train_on_eos = text "as at the top", train_on_inputs = switch "as at the top",
  roles = map "what rows call roles: { user: [human], assistant: [gpt] }",
  field_chosen = text "with rl: dpo, the key of the better answer", field_rejected = text "with rl: dpo, the key of the other",
  conversation = text "the older name of a template",
}

--- Of an entry of pretraining_dataset; a path alone will do, too.
keys.pretraining = {
  path = keys.dataset.path, data_files = keys.dataset.data_files, name = keys.dataset.name, split = keys.dataset.split,
  revision = keys.dataset.revision, trust_remote_code = keys.dataset.trust_remote_code,
  ds_type = keys.dataset.ds_type, type = text "pretrain or completion: text, whatever it says",
  text_column = text "the key of the text", field = text "the same",
  skip = at_least("integer", 0, "0; rows to leave out: refused"),
}

--- Of an entry of datasets, and refused: what each would have done.
keys.dataset_refused = {
  message_field_training_detail = "would have chosen parts of messages", input_format = "would have been a template's",
  drop_system_message = "would have left system messages out", input_transform = "would have changed rows by a function",
  field_human = "would have named turns of one pair a row; messages are read",
  field_model = "would have named turns of one pair a row; messages are read",
  shards_idx = "would have chosen one part of several", train_on_split = "would have named the rows' split; write split",
  logprobs_field = "would have learned from a teacher's probabilities",
  temperature = "would have learned from a teacher's probabilities",
  step_separator = "would have trained a process reward model",
  max_completion_length = "would have trained a process reward model",
  train_on_last_step_only = "would have trained a process reward model",
  split_thinking = "would have parted thoughts from answers", field_thinking = "would have parted thoughts from answers",
  template_thinking_key = "would have parted thoughts from answers",
}

--- Of a type of one's own: rows of an instruction, in a prompt that format writes.
keys.prompt = {
  format = text "the prompt: \"Q: {instruction}\\n{input}\\nA: \" (format)",
  no_input_format = text "the same for rows without input (no_input_format)",
  system_prompt = text "the system text of all rows, where field_system is not given (system_prompt)",
  system_format = text "what stands before the prompt, by default {system}",
  field_instruction = text "the key of the request", field_input = text "the key of what it is about",
  field_output = text "the key of the answer", field_system = text "the key of the system text",
}

--- Of a type of one's own with rl: dpo.
keys.pair = {
  field_prompt = text "the key of the prompt (field_prompt)", field_system = text "the key of the system text (field_system)",
  field_chosen = text "the key of the better answer (field_chosen)",
  field_rejected = text "the key of the other (field_rejected)",
  prompt_format = text "the prompt: \"{system}\\nQ: {prompt}\\nA: \" (prompt_format)",
  chosen_format = text "the better answer: \"{chosen}</s>\" (chosen_format)",
  rejected_format = text "the other: \"{rejected}</s>\" (rejected_format)",
}

return keys
