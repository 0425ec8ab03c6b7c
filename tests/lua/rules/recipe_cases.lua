--- Every rule on plans: a recipe that it refuses, and one beside it that passes. Entries are those of plans.recipe.
local function tokenized(more) return ("ft.tokenized { \"rows.jsonl\", seq_len = 32%s }"):format(more or "") end

local heads3 = [[ft.scratch { ft.config { model_type = "llama", hidden_size = 96, intermediate_size = 128,
    num_hidden_layers = 1, num_attention_heads = 3, vocab_size = 64, max_position_embeddings = 64 } }]]
local odd_vocabulary = [[ft.scratch { ft.config { model_type = "llama", hidden_size = 64, intermediate_size = 128,
    num_hidden_layers = 1, num_attention_heads = 4, vocab_size = 65, max_position_embeddings = 64 } }]]
local small_blocks = [[ft.scratch { ft.config { model_type = "llama", hidden_size = 32, intermediate_size = 64,
    num_hidden_layers = 1, num_attention_heads = 2, vocab_size = 64, max_position_embeddings = 64 }, quantize = "nf4" }]]
local tied_blocks = small_blocks:gsub("vocab_size", "tie_word_embeddings = true, vocab_size")
local wide_blocks = small_blocks:gsub("hidden_size = 32", "hidden_size = 128"):gsub("intermediate_size = 64",
  "intermediate_size = 128")
local joined = [[ft.scratch { ft.config { model_type = "phi3", hidden_size = 64, intermediate_size = 128,
    num_hidden_layers = 1, num_attention_heads = 4, vocab_size = 64, max_position_embeddings = 64 } }]]
local capped = [[ft.scratch { ft.config { model_type = "gemma2", hidden_size = 64, intermediate_size = 128, head_dim = 16,
    num_hidden_layers = 1, num_attention_heads = 4, num_key_value_heads = 2, vocab_size = 64,
    max_position_embeddings = 64, attn_logit_softcapping = 50.0, final_logit_softcapping = 30.0 } }]]
local own_layer = [[
local nn = ft.nn
local Block = nn.module("Block", function(m, c)
  m.norm = nn.rmsnorm { c.hidden_size }
  function m:forward(x) return self.norm(x) end
end)
nn.declare("own", function(c)
  return nn.decoder { embedding = nn.embedding { c.vocab_size, c.hidden_size }, layers = { Block(c) },
                      head = { norm = nn.rmsnorm { c.hidden_size }, tied = true } }
end)]]
local own_model = "ft.scratch { ft.config { model_type = \"own\", vocab_size = 64, hidden_size = 32 } }"
local turing, ampere = { name = "Tesla T4", sm = 75 }, { name = "NVIDIA A100-SXM4-80GB", sm = 80 }
local function computing(dtype) return ("ft.scratch { ft.config SHAPE, compute = \"%s\" }"):format(dtype) end
local with_new_token = ("ft.hf { %q, added_tokens = { \"<new>\" } }"):format(
  require("ft.native").absolute("recipes/demo/model"))
local pairs_of = "{ train = ft.preference { \"pairs.jsonl\", seq_len = 32 } }"
local both_splits = "{ train = %s, val = %s }"
local shared = both_splits:format(tokenized ", split = \"train\"", tokenized ", split = 0.5")

return {
  ["fsdp2.version_is_2"] = {
    refuses = { parallel = "ft.fsdp2 { fsdp_version = 1 }" }, passes = { parallel = "ft.fsdp2 { fsdp_version = 2 }" },
  },
  ["fsdp2.pin_memory_needs_offload"] = {
    refuses = { parallel = "ft.fsdp2 { cpu_offload_pin_memory = false }" },
    passes = { parallel = "ft.fsdp2 { cpu_offload_pin_memory = false, offload_params = true }" },
  },
  ["fsdp2.maps_whole_matrices"] = {
    refuses = { parallel = "ft.fsdp2 { frozen_weights = \"mmap\", tensor_parallel_size = 2 }", nproc = 2 },
    passes = { parallel = "ft.fsdp2 { frozen_weights = \"mmap\" }", nproc = 2 },
  },
  ["plan.offloads_what_checkpointing_keeps"] = {
    refuses = { activation_checkpointing = "false, activation_offload = true" },
    passes = { activation_checkpointing = "2, activation_offload = true" },
  },
  ["mesh.fits_the_ranks"] = {
    refuses = { parallel = "ft.fsdp2 { mesh = { shard = 2, replicate = 2 } }", nproc = 2 },
    passes = { parallel = "ft.fsdp2 { mesh = { shard = 2, replicate = 2 } }", nproc = 4 },
  },
  ["fsdp2.reshard_divides_the_split"] = {
    refuses = { parallel = "ft.fsdp2 { reshard_after_forward = 3 }", nproc = 4 },
    passes = { parallel = "ft.fsdp2 { reshard_after_forward = 2 }", nproc = 4 },
  },
  ["fsdp2.nproc_is_the_launchers"] = { refuses = { nproc = 2, launched = 4 }, passes = { nproc = 4, launched = 4 } },
  ["wrapping.the_class_is_the_models"] = {
    refuses = { parallel = "ft.fsdp2 { transformer_layer_cls_to_wrap = \"Qwen3DecoderLayer\" }" },
    passes = { -- whatever prefix saving under FSDP has left in its architecture's name
      model = heads3:gsub("model_type", "architectures = { \"FSDPLlamaForCausalLM\" }, model_type"),
      parallel = "ft.fsdp2 { transformer_layer_cls_to_wrap = { \"LlamaDecoderLayer\" } }",
    },
  },
  ["wrapping.the_class_needs_its_policy"] = {
    refuses = {
      parallel = "ft.fsdp2 { transformer_layer_cls_to_wrap = \"LlamaDecoderLayer\", auto_wrap_policy = \"NO_WRAP\" }",
    },
    passes = { parallel = "ft.fsdp2 { auto_wrap_policy = \"NO_WRAP\" }" },
  },
  ["context.rows_are_long_enough"] = {
    refuses = { parallel = "ft.fsdp2 { context_parallel_size = 20 }", nproc = 20 },
    passes = { parallel = "ft.fsdp2 { context_parallel_size = 16 }", nproc = 16 },
  },
  ["context.ulysses_shares_heads_out"] = {
    refuses = { parallel = "ft.fsdp2 { context_parallel_size = 8, context_method = \"ulysses\" }", nproc = 8 },
    passes = { parallel = "ft.fsdp2 { context_parallel_size = 2, context_method = \"ulysses\" }", nproc = 2 },
  },
  ["context.a_ring_caps_no_scores"] = {
    refuses = { model = capped, parallel = "ft.fsdp2 { context_parallel_size = 2 }", nproc = 2 },
    passes = { model = capped, parallel = "ft.fsdp2 { context_parallel_size = 2, context_method = \"ulysses\" }", nproc = 2 },
  },
  ["tensor.heads_are_shared_evenly"] = {
    refuses = { model = heads3, parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
    passes = { parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
  },
  ["tensor.matrices_are_shared_evenly"] = {
    refuses = { model = odd_vocabulary, parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
    passes = { model = odd_vocabulary, parallel = "ft.fsdp2 {}", nproc = 2 },
  },
  ["tensor.nf4_blocks_stay_whole"] = {
    refuses = { model = small_blocks, adapter = "ft.lora {}", parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
    passes = { model = wide_blocks, adapter = "ft.lora {}", parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
  },
  ["tensor.blocks_are_native"] = {
    refuses = { before = own_layer, model = own_model, parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
    passes = { before = own_layer, model = own_model, parallel = "ft.fsdp2 {}", nproc = 2 },
  },
  ["tensor.parts_can_be_cut"] = {
    refuses = { model = joined, parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
    passes = { model = joined, parallel = "ft.fsdp2 {}", nproc = 2 },
  },
  ["tensor.optimizer_goes_by_element"] = {
    refuses = { optimizer = "ft.muon { lr = 1e-3 }", parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
    passes = { optimizer = "ft.lion { lr = 1e-3 }", parallel = "ft.fsdp2 { tensor_parallel_size = 2 }", nproc = 2 },
  },
  ["batch.total_is_whole_micro_batches"] = { refuses = { batch = "{ total = 4 }", nproc = 3 }, passes = { nproc = 4 } },
  ["batch.two_fix_the_third"] = {
    refuses = { batch = "{ total = 8, micro = 1, accumulation = 2 }", nproc = 2 },
    passes = { batch = "{ total = 8, micro = 2, accumulation = 2 }", nproc = 2 },
  },
  ["model.nf4_needs_an_adapter"] = {
    refuses = { model = small_blocks }, passes = { model = small_blocks, adapter = "ft.lora {}" },
  },
  ["model.scratch_takes_no_adapter"] = { refuses = { adapter = "ft.lora {}" }, passes = {} },
  ["model.new_tokens_are_trained"] = {
    refuses = { model = with_new_token, adapter = "ft.lora { target_modules = { \"q_proj\" } }" },
    passes = {
      model = with_new_token, adapter = "ft.lora { modules_to_save = { \"embed_tokens\" }, ensure_weight_tying = true }",
    },
  },
  ["model.needs_a_tokenizer_for_text"] = {
    refuses = { data = "{ train = ft.chat { \"rows.jsonl\", seq_len = 32 } }" }, passes = {},
  },
  ["adapter.target_modules_not_empty"] = {
    refuses = { model = small_blocks, adapter = "ft.lora { target_modules = {} }" },
    passes = { model = small_blocks, adapter = "ft.lora { target_modules = { \"q_proj\" } }" },
  },
  ["adapter.target_modules_match"] = {
    refuses = { model = small_blocks, adapter = "ft.lora { target_modules = { \"q_proj\", \"vproj\" } }" },
    passes = { model = small_blocks, adapter = "ft.lora { target_modules = { \"self_attn.q_proj\", \"v_proj\" } }" },
  },
  ["adapter.tied_weights_stay_one"] = {
    refuses = {
      model = tied_blocks, adapter = "ft.lora { modules_to_save = { \"embed_tokens\" }, ensure_weight_tying = false }",
    },
    passes = {
      model = tied_blocks, adapter = "ft.lora { modules_to_save = { \"embed_tokens\" }, ensure_weight_tying = true }",
    },
  },
  ["adapter.tied_weights_are_saved_as_one"] = {
    refuses = { model = tied_blocks, adapter = "ft.lora { modules_to_save = { \"embed_tokens\" } }" },
    passes = {
      model = tied_blocks, adapter = "ft.lora { modules_to_save = { \"embed_tokens\" }, ensure_weight_tying = true }",
    },
  },
  ["adapter.dora_looks_at_whole_rows"] = {
    refuses = {
      model = wide_blocks, adapter = "ft.lora { use_dora = true }", nproc = 2,
      parallel = "ft.fsdp2 { mesh = { tensor = 2 } }",
    },
    passes = { model = wide_blocks, adapter = "ft.lora { use_dora = true }", nproc = 2 },
  },
  ["adapter.embeddings_are_whole"] = {
    refuses = {
      model = wide_blocks, adapter = "ft.lora { target_modules = { \"q_proj\", \"embed_tokens\" } }", nproc = 2,
      parallel = "ft.fsdp2 { mesh = { tensor = 2 } }",
    },
    passes = {
      model = wide_blocks, adapter = "ft.lora { target_modules = { \"q_proj\" } }", nproc = 2,
      parallel = "ft.fsdp2 { mesh = { tensor = 2 } }",
    },
  },
  ["adapter.loftq_needs_nf4"] = {
    refuses = { model = small_blocks:gsub(", quantize = \"nf4\"", ""), adapter = "ft.lora { init_lora_weights = \"loftq\" }" },
    passes = { model = small_blocks, adapter = "ft.lora { init_lora_weights = \"loftq\" }" },
  },
  ["adapter.loftq_is_not_the_reference"] = {
    refuses = {
      model = small_blocks, adapter = "ft.lora { init_lora_weights = \"loftq\" }",
      data = "{ train = ft.preference { \"rows.jsonl\", seq_len = 32 } }",
    },
    passes = { model = small_blocks, adapter = "ft.lora { init_lora_weights = \"loftq\" }" },
  },
  ["adapter.dora_is_of_linears"] = {
    refuses = { model = small_blocks, adapter = "ft.lora { target_modules = \".*(q_proj|embed_tokens)\", use_dora = true }" },
    passes = { model = small_blocks, adapter = "ft.lora { target_modules = \".*q_proj\", use_dora = true }" },
  },
  ["adapter.or_unfrozen_parameters"] = {
    refuses = {
      model = small_blocks, adapter = "ft.lora {}",
      activation_checkpointing = "false, unfrozen_parameters = { \"lm_head\" }",
    },
    passes = { activation_checkpointing = "false, unfrozen_parameters = { \"lm_head\" }" },
  },
  ["precision.parameters_in_the_compute_dtype"] = {
    refuses = { model = "ft.scratch { ft.config SHAPE, compute = \"fp16\" }", parallel = "ft.fsdp2 { param_dtype = \"bf16\" }" },
    passes = { model = "ft.scratch { ft.config SHAPE, compute = \"bf16\" }", parallel = "ft.fsdp2 { param_dtype = \"bf16\" }" },
  },
  ["data.seq_len_fits_the_model"] = {
    refuses = { data = "{ train = ft.tokenized { \"rows.jsonl\", seq_len = 65 } }" },
    passes = { data = "{ train = ft.tokenized { \"rows.jsonl\", seq_len = 64 } }" },
  },
  ["data.train_has_no_share_held_for_itself"] = {
    refuses = { data = "{ train = ft.tokenized { \"rows.jsonl\", seq_len = 32, split = 0.5 } }" }, passes = { data = shared },
  },
  ["data.one_share_of_a_file"] = {
    refuses = { data = shared:gsub(" }$", ", test = " .. tokenized ", split = 0.1" .. " }") },
    passes = { data = shared:gsub(" }$", ", test = ft.tokenized { \"others.jsonl\", seq_len = 32, split = 0.1 } }") },
  },
  ["data.order_is_of_train_alone"] = {
    refuses = { data = both_splits:format(tokenized(), "ft.tokenized { \"others.jsonl\", seq_len = 32, remainder = \"drop\" }") },
    passes = { data = both_splits:format(tokenized ", remainder = \"drop\"", "ft.tokenized { \"others.jsonl\", seq_len = 32 }") },
  },
  ["data.split_is_a_share_or_train"] = {
    refuses = { data = both_splits:format(tokenized(), "ft.tokenized { \"others.jsonl\", seq_len = 32, split = \"test\" }") },
    passes = { data = shared },
  },
  ["data.what_is_measured_is_not_trained_on"] = {
    refuses = { data = both_splits:format(tokenized(), tokenized ", split = 0.5") }, passes = { data = shared },
  },
  ["optimizer.betas_are_two_decays"] = {
    refuses = { optimizer = "ft.adamw { lr = 1e-3, betas = { 0.9, 1 } }" },
    passes = { optimizer = "ft.adamw { lr = 1e-3, betas = { 0.9, 0.95 } }" },
  },
  ["optimizer.adamw_betas_are_two_decays"] = {
    refuses = { optimizer = "ft.muon { lr = 1e-3, adamw_betas = { 0.9 } }" },
    passes = { optimizer = "ft.muon { lr = 1e-3, adamw_betas = { 0.9, 0.95 } }" },
  },
  ["optimizer.adafactor_eps_are_two_numbers"] = {
    refuses = { optimizer = "ft.adafactor { lr = 1e-3, eps = { 1e-30 } }" },
    passes = { optimizer = "ft.adafactor { lr = 1e-3, eps = { 1e-30, 1e-3 } }" },
  },
  ["optimizer.nesterov_needs_momentum"] = {
    refuses = { optimizer = "ft.sgd { lr = 1e-3, nesterov = true }" },
    passes = { optimizer = "ft.sgd { lr = 1e-3, nesterov = true, momentum = 0.9 }" },
  },
  ["optimizer.warmup_is_shorter_than_the_run"] = {
    refuses = { optimizer = "ft.adamw { lr = 1e-3, schedule = ft.cosine { warmup = 10 } }", max_steps = "10" },
    passes = { optimizer = "ft.adamw { lr = 1e-3, schedule = ft.cosine { warmup = 9 } }", max_steps = "10" },
  },
  ["optimizer.decay_fits_into_the_run"] = {
    refuses = { optimizer = "ft.adamw { lr = 1e-3, schedule = ft.wsd { warmup = 6, decay = 6 } }", max_steps = "10" },
    passes = { optimizer = "ft.adamw { lr = 1e-3, schedule = ft.wsd { warmup = 4, decay = 6 } }", max_steps = "10" },
  },
  ["optimizer.schedule_gives_finite_factors"] = {
    refuses = { optimizer = "ft.adamw { lr = 1e-3, schedule = function(step, total) return 1 / (step - 3) end }" },
    passes = { optimizer = "ft.adamw { lr = 1e-3, schedule = function(step, total) return 1 - step / total end }" },
  },
  ["optimizer.overlap_judges_nothing"] = {
    refuses = { optimizer = "ft.adamw { lr = 1e-3, overlap = \"backward\" }", max_steps = "1, non_finite = \"skip\"" },
    passes = { optimizer = "ft.adamw { lr = 1e-3, overlap = \"forward\" }", max_steps = "1, non_finite = \"skip\"" },
  },
  ["optimizer.groups_name_what_is_trained"] = {
    refuses = { optimizer = "ft.adamw { lr = 1e-3, groups = { { pattern = \"lora_B\", lr = 1e-2 } } }" },
    passes = {
      model = small_blocks, adapter = "ft.lora {}",
      optimizer = "ft.adamw { lr = 1e-3, groups = { { pattern = \"lora_B\", lr = 1e-2 } } }",
    },
  },
  ["checkpoints.one_distance"] = {
    refuses = { save = "{ every = 10, per_epoch = 2 }" }, passes = { save = "{ per_epoch = 2 }" },
  },
  ["model.is_built_as_the_plan_says"] = {
    refuses = { max_steps = "1, unfrozen_parameters = { \"model.lm_hed\" }" },
    passes = { max_steps = "1, unfrozen_parameters = { \"model.layers.0\" }" },
  },
  ["checkpoints.every_is_steps_or_a_share"] = {
    refuses = { save = "{ every = 2.5 }" }, passes = { save = "{ every = 0.25 }" },
  },
  ["data.limit_is_rows_or_a_share"] = {
    refuses = { data = "{ train = " .. tokenized ", limit = 2.5" .. " }" },
    passes = { data = "{ train = " .. tokenized ", limit = 0.5" .. " }" },
  },
  ["data.packing_needs_attention_that_keeps_documents_apart"] = {
    refuses = { before = own_layer, model = own_model },
    passes = { before = own_layer, model = own_model, data = "{ train = " .. tokenized ", pack = false" .. " }" },
  },
  ["data.pairs_are_whole"] = {
    refuses = { data = pairs_of, parallel = "ft.fsdp2 { context_parallel_size = 2 }", nproc = 2 },
    passes = { data = pairs_of, nproc = 2 },
  },
  ["precision.bf16_needs_newer_cards"] = {
    refuses = { model = computing "bf16", cards = { turing } }, passes = { model = computing "bf16", cards = { turing, ampere } },
  },
  ["precision.cards_run_the_kernels"] = {
    refuses = { parallel = "ft.fsdp2 { device = \"cuda\" }", cards = { turing } },
    passes = { parallel = "ft.fsdp2 { device = \"cuda\" }", cards = { ampere } },
  },
  ["precision.old_cards_are_passed_over"] = {
    refuses = { cards = { turing } }, passes = { parallel = "ft.fsdp2 { device = \"cpu\" }", cards = { turing } },
  },
  ["precision.fast_on_a_processor"] = {
    refuses = { model = computing "bf16", parallel = "ft.fsdp2 { device = \"cpu\" }", fast = "fp32" },
    passes = { model = computing "bf16", parallel = "ft.fsdp2 { device = \"cpu\" }", fast = "bf16" },
  },
  ["plan.pages_are_updated_on_the_host"] = {
    refuses = { parallel = "ft.fsdp2 { optimizer_state = \"paged\" }", cards = { ampere } },
    passes = { parallel = "ft.fsdp2 { optimizer_state = \"paged\", offload_params = true }", cards = { ampere } },
  },
  ["checkpoints.resume_is_a_run"] = { refuses = { resume = "FOLDER/nothing" }, passes = { resume = "FOLDER/run" } },
  ["checkpoints.resume_is_of_this_plan"] = {
    refuses = { resume = "FOLDER/run", optimizer = "ft.sgd { lr = 1e-3 }" }, passes = { resume = "FOLDER/run" },
  },
}
