-- Full training of a model that a config alone describes, from seeded random weights, on plain text.
--   ftengine run recipes/demo/make.lua && ftengine run recipes/pretrain.lua
--   ftengine run recipes/pretrain.lua --model DIR/config.json --tokenizer DIR --data text.jsonl --nproc 2
-- Its defaults make recipes/demo/model, the base of recipes/qlora_fsdp2.lua (recipes/demo/README.md).
local ft = require "ft"

local opt = ft.options {
  model     = { "path",    default = "recipes/demo/model/config.json", help = "config.json of the model to build" },
  tokenizer = { "path",    default = "recipes/demo/model", help = "directory with its tokenizer.json" },
  data      = { "path",    default = "recipes/demo/corpus.jsonl", help = "rows with a text" },
  out       = { "output",  default = "runs/pretrain" },
  seq_len   = { "integer", default = 256, at_least = 2 },
  rows      = { "integer", default = 4, above = 0, help = "rows a step over all ranks" },
  micro     = { "integer", default = 2, above = 0, help = "rows a rank computes at once" },
  lr        = { "number",  default = 4e-3, above = 0, help = "small models bear, and want, such high ones" },
  epochs    = { "number",  default = 1, above = 0 },
  compute   = { "string",  default = "fp32", allowed = { "auto", "fp32", "bf16" }, help = "a small model gains nothing by bf16" },
  parallel  = { "profile", default = "fsdp2_no_reshard" },
}

local plan = ft.plan {
  model     = ft.scratch { opt.model, tokenizer = opt.tokenizer, compute = opt.compute },
  data      = { train = ft.completion { opt.data, seq_len = opt.seq_len, pack = true, split = "train" },
                val   = ft.completion { opt.data, seq_len = opt.seq_len, pack = true, split = 0.01 } },
  parallel  = opt.parallel,
  optimizer = ft.adamw { lr = opt.lr, weight_decay = 0.01, schedule = ft.cosine { warmup = 0.03 } },
  batch     = { total = opt.rows, micro = opt.micro },
  epochs    = opt.epochs,
  save      = { dir = opt.out, final = "huggingface" },
}

local run = plan:start()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())    -- of all ranks: packed rows hold unequal numbers of labels
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  local row = { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
  if step % 250 == 0 or step == run.total_steps then row.val_loss = run:evaluate("val").loss end
  run:log(row)
end
run:finish()
