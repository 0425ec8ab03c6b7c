-- What tools/bench/load measures: a model laid out over the ranks and read in, without a step.
local ft = require "ft"

local opt = ft.options {
  model    = { "path" },
  data     = { "path" },
  out      = { "output" },
  quantize = { "string", default = "nf4", allowed = { "nf4", "none" } },
}

ft.plan {
  model     = ft.hf { opt.model, quantize = opt.quantize },
  adapter   = ft.lora { r = 16, alpha = 32 },
  data      = { train = ft.tokenized { opt.data, seq_len = 16, pack = false } },
  optimizer = ft.adamw { lr = 1e-4 },
  batch     = { total = 8, micro = 1 },
  max_steps = 1,
  save      = { dir = opt.out },
}:start()
