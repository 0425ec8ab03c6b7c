-- What tools/bench/overlap measures: full fine-tuning with updates on the host, without clipping.
local ft = require "ft"

local opt = ft.options {
  data    = { "path",    required = true, help = "rows of input_ids" },
  out     = { "output",  required = true },
  overlap = { "string",  required = true },
  bits    = { "integer", default = 32 },
  layers  = { "integer", default = 8, above = 0 },
  tokens  = { "integer", default = 128, above = 1, help = "of a row; a step has one" },
  steps   = { "integer", default = 12, above = 0 },
}

local plan = ft.plan {
  model     = ft.scratch { ft.config { model_type = "qwen3", hidden_size = 512, intermediate_size = 1536,
    num_hidden_layers = opt.layers, num_attention_heads = 8, num_key_value_heads = 4, head_dim = 64, vocab_size = 16384,
    max_position_embeddings = 4096, rms_norm_eps = 1e-6, tie_word_embeddings = true } },
  data      = { train = ft.tokenized { opt.data, seq_len = opt.tokens, pack = false } },
  parallel  = ft.fsdp2 { offload_params = true, cpu_offload_pin_memory = false },
  optimizer = ft.adamw { lr = 1e-4, bits = opt.bits, overlap = opt.overlap, schedule = ft.constant {} },
  batch     = { total = 1, micro = 1 },
  max_steps = opt.steps,
  save      = { dir = opt.out },
}

local run = plan:start()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:update()
  run:log { step = step, loss = run:sum(loss), lr = run.lr }
end
