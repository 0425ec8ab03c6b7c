--- Keys of the dialect that are accepted and change nothing here: the word why. `quiet` ones say nothing new to anyone.
local logged = "is not used: every step is a line of metrics.jsonl in the run directory"
local fused = "is accepted: kernels are always fused here, nothing is compiled"
local attention = "is accepted: attention is always the fused one that keeps documents apart"
local loading = "is accepted: it is the only way of loading here, each rank reads its own bytes"
local workers = "is accepted: rows are read and tokenized before the first step"

local accepted = { notes = {}, patterns = {} }

local notes = accepted.notes
for _, key in ipairs { "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_compile_options", "liger_rope",
  "liger_rms_norm", "liger_layer_norm", "liger_glu_activation", "liger_swiglu", "liger_cross_entropy",
  "liger_fused_linear_cross_entropy", "liger_rms_norm_gated", "liger_use_token_scaling", "cut_cross_entropy",
  "chunked_cross_entropy", "flash_attn_cross_entropy", "flash_attn_rms_norm", "flash_attn_fuse_qkv", "flash_attn_fuse_mlp",
  "unsloth_cross_entropy_loss", "unsloth_lora_mlp", "unsloth_lora_qkv", "unsloth_lora_o", "unsloth_rms_norm",
  "unsloth_rope", "fused_attn_kernel", "use_kernels", "experts_implementation", "flex_attn_compile_kwargs",
  "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel" } do
  notes[key] = fused
end
for _, key in ipairs { "flash_attention", "sdp_attention", "xformers_attention", "flex_attention", "eager_attention",
  "attn_implementation", "sage_attention", "flash_optimum", "large_head_attention", "flash_attn_d512", "sdpa_varlen",
  "gemma4_hybrid_attn_impl" } do notes[key] = attention end
for _, key in ipairs { "qlora_sharded_model_loading", "cpu_ram_efficient_loading", "low_cpu_mem_usage",
  "experimental_skip_move_to_device" } do notes[key] = loading end
for _, key in ipairs { "dataset_processes", "dataset_num_proc", "dataloader_num_workers", "dataloader_pin_memory",
  "dataloader_prefetch_factor", "dataset_keep_in_memory", "shuffle_merged_datasets",
  "shuffle_before_merging_datasets", "skip_prepare_dataset", "num_dataset_shards_to_save",
  "preprocess_iterable" } do notes[key] = workers end
for _, key in ipairs { "sample_packing_eff_est", "sample_packing_group_size", "sample_packing_bin_size",
  "total_num_tokens", "total_supervised_tokens", "sample_packing_mp_start_method",
  "streaming_multipack_buffer_size", "pretrain_multipack_buffer_size" } do
  notes[key] = "is accepted: the packing looks at all rows at once"
end
for _, key in ipairs { "ddp", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_find_unused_parameters" } do
  notes[key] = "is accepted: several ranks without fsdp_config or deepspeed are DDP, and gradients are summed once a step"
end
notes.model_type = "is accepted: the architecture is that of the model's config.json"
notes.tokenizer_type = "is accepted: the tokenizer is the model's tokenizer.json"
notes.tokenizer_use_fast = notes.tokenizer_type
notes.base_model_config, notes.tokenizer_config = notes.model_type, notes.tokenizer_type
notes.tokenizer_legacy, notes.tokenizer_save_jinja_files = notes.tokenizer_type,
  "is accepted: a model keeps its template's file"
for _, key in ipairs { "type_of_model", "cls_model_config", "is_falcon_derived_model", "is_llama_derived_model",
  "is_mistral_derived_model", "is_qwen_derived_model" } do notes[key] = notes.model_type end
for _, key in ipairs { "gc_steps", "gc_collect_steps", "torch_empty_cache_steps" } do
  notes[key] = "is accepted: memory is given back as soon as nothing uses it"
end
notes.dpo_use_liger_kernel = fused
for _, key in ipairs { "use_scattermoe", "use_sonicmoe", "moe_kernels", "moe_grouped_backend" } do
  notes[key] = "is accepted: products of experts are always grouped here"
end
notes.eot_tokens = "is accepted: the token that the template ends a turn with is learned with the turn"
notes.dpo_padding_free = "is accepted: padding is never computed with"
notes.precompute_ref_log_probs = "is accepted: the reference is the base without its adapter, computed beside each step"
notes.remove_unused_columns = "is accepted: of a row only the named fields are read"
notes.merge_method = "is accepted: ftengine merge always reads shard by shard"
notes.chunked_cross_entropy_num_chunks = "is accepted: the loss is always computed over chunks of tokens"
notes.trust_remote_code = "is accepted: a model's own code is never run"
notes.gradient_checkpointing_kwargs = "is accepted: layers are always run again without reentering"
notes.tf32 = "is accepted, and changes nothing: GPUs multiply fp32 in full here, and bf16 and NF4 runs have no such products"
notes.save_safetensors = "is accepted: every checkpoint is safetensors"
notes.pad_to_sequence_len = "is accepted: rows are padded where the layout asks for it; the loss is the same"
notes.pad_to_multiple_of = notes.pad_to_sequence_len
notes.strict = "is accepted: unknown keys are always refused"
notes.debug = "is accepted: --trace prints frames with an error"
notes.device, notes.local_rank = "is accepted: ranks find their device", "is accepted: the launcher says it"
notes.world_size = notes.local_rank
notes.heads_k_stride = "is accepted: the ring sends all heads at once"
notes.ring_attn_func = "is accepted: the ring keeps documents apart with packing and without it"
notes.eval_batch_size = "is accepted: evaluation computes micro_batch_size rows at once; the loss is the same"
notes.embeddings_skip_upcast = "is accepted: frozen embeddings keep the file's dtype, and trained ones have fp32 masters"
notes.bnb_config_kwargs = "is accepted: NF4 with double quantization is what is stored"
notes.quantize_moe_experts = "is accepted: load_in_4bit keeps experts in NF4 like every other linear"
notes.do_eval = "is accepted: val_set_size and evals_per_epoch say when"
notes.group_by_length = "is accepted: packed rows are of one length"

--- Keys of loggers that are not here.
for _, prefix in ipairs { "wandb", "mlflow", "comet", "trackio", "swanlab", "use_wandb", "use_mlflow", "hf_mlflow",
  "use_comet", "use_trackio", "use_swanlab",
  "use_tensorboard", "use_otel", "otel", "tensorboard", "include_tokens_per_second", "include_tkps", "report_to" } do
  accepted.patterns[#accepted.patterns + 1] = { prefix = prefix, note = logged }
end

--- The note of a key, or nil. What is false or off needs no word.
function accepted.note(key)
  if notes[key] then return notes[key] end
  for _, entry in ipairs(accepted.patterns) do
    if key:sub(1, #entry.prefix) == entry.prefix then return entry.note, true end
  end
  return nil
end

return accepted
