-- Full fine-tuning on FSDP2: every weight is trained; masters, gradients and optimizer state are split over all ranks.
--   ftengine run recipes/full.lua --model DIR --data chats.jsonl --nproc 2
local ft = require "ft"

local opt = ft.options {
  model    = { "path",    default = "recipes/demo/model", help = "Hugging Face model directory" },
  data     = { "path",    default = "recipes/demo/train.jsonl", help = "conversations to learn: .jsonl or .json" },
  test     = { "path",    default = "recipes/demo/test.jsonl", unless = "data", help = "unseen prompts with answers" },
  out      = { "output",  default = "runs/full", help = "run directory; without it a fresh numbered one" },
  lr       = { "number",  default = 1e-3, above = 0, unless = "data", help = "with --data 1e-5" },
  epochs   = { "number",  default = 2, above = 0, unless = "data", help = "with --data 1" },
  seq_len  = { "integer", default = 128, above = 1, unless = "data", help = "tokens a row; with --data 512" },
  rows     = { "integer", default = 16, above = 0, help = "rows a step over all ranks" },
  micro    = { "integer", default = 4, above = 0, help = "rows a rank computes at once" },
  parallel = { "profile", default = "fsdp2", help = "a name of configs/profiles, or a YAML file" },
}

-- A model of a million parameters learns from short rows at a rate that would wreck one of billions.
opt.lr, opt.epochs, opt.seq_len = opt.lr or 1e-5, opt.epochs or 1, opt.seq_len or 512

local plan = ft.plan {
  model     = ft.hf { opt.model, compute = "auto" },
  data      = { train = ft.chat { opt.data, seq_len = opt.seq_len, pack = true, split = "train" },
                val   = ft.chat { opt.data, seq_len = opt.seq_len, split = 0.05 },
                test  = opt.test and ft.chat { opt.test, seq_len = opt.seq_len, pack = false } },
  parallel  = opt.parallel,
  activation_checkpointing = true,
  optimizer = ft.adamw { lr = opt.lr, weight_decay = 0.01, schedule = ft.cosine { warmup = 0.03 } },
  batch     = { total = opt.rows, micro = opt.micro },
  epochs    = opt.epochs,
  save      = { dir = opt.out, every = 200, keep = 2 },
}

local run = plan:start()
local function answers()                     -- share of unseen prompts that are answered to the letter
  return opt.test and run:evaluate("test", { generate = true }).exact_match or nil
end
run:log { exact_match = answers() }
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())    -- of all ranks: packed rows hold unequal numbers of labels
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  local row = { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
  if step % 200 == 0 or step == run.total_steps then row.val_loss = run:evaluate("val").loss end
  run:log(row)
end
run:log { exact_match = answers() }
run:finish()                                 -- last save; then: ftengine merge runs/full
