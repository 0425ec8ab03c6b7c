local ft = require "ft"
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "llama", hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1,
    num_attention_heads = 2, vocab_size = 64, max_position_embeddings = 64 } },
  data = {
    train = ft.tokenized { "rows.jsonl", seq_len = 128, split = 0.5 },
    val = ft.tokenized { "rows.jsonl", split = "half", seq_len = 64 },
  },
  parallel = ft.fsdp2 { fsdp_version = 1, cpu_offload_pin_memory = false, nproc = 2 },
  optimizer = ft.adamw { betas = { 0.9 } },
  batch = { total = 3 },
}
plan:rule("the learning rate is round", function(p) return p.optimizer.lr == 1, "write lr = 1" end)
plan:start()
