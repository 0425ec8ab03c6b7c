local ft = require "ft"
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "llama", hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1,
    num_attention_heads = 2, vocab_size = 64, max_position_embeddings = 64 } },
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 32 } }, parallel = ft.null, optimizer = ft.adamw { lr = 1e-3 },
}
plan:start()
