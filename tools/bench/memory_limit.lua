-- What tools/bench/memory_limit measures: a few steps of QLoRA with hardly anything beside the frozen weights, or of full
-- fine-tuning.
local ft = require "ft"

local opt = ft.options {
  mode     = { "string",  default = "qlora", allowed = { "qlora", "full" } },
  model    = { "path",    required = true, help = "Hugging Face model directory" },
  data     = { "path",    required = true, help = "rows of input_ids" },
  out      = { "output",  required = true },
  steps    = { "integer", default = 3, above = 0 },
  parallel = { "profile", required = true },
}

local qlora = opt.mode == "qlora"
local plan = ft.plan {
  model     = ft.hf { opt.model, quantize = qlora and "nf4" or "none" },
  adapter   = qlora and ft.lora { r = 2, alpha = 4, dropout = 0, target_modules = "all-linear" } or nil,
  data      = { train = ft.tokenized { opt.data, seq_len = 64, pack = false, shuffle = false } },
  parallel  = opt.parallel,
  activation_checkpointing = true,
  optimizer = ft.adamw { lr = 1e-3, bits = qlora and 8 or 32, weight_decay = 0, schedule = ft.constant {} },
  batch     = { total = 4, micro = 4 },
  max_steps = opt.steps,
  save      = { dir = opt.out },
}

local run = plan:start()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
end
