-- LoRA in one process: the base stays as it is on disk, small matrices beside its linears are trained.
--   ftengine run recipes/lora.lua --model DIR --data chats.jsonl
local ft = require "ft"

local opt = ft.options {
  model    = { "path",    default = "recipes/demo/model", help = "Hugging Face model directory" },
  data     = { "path",    default = "recipes/demo/train.jsonl", help = "conversations to learn: .jsonl or .json" },
  test     = { "path",    default = "recipes/demo/test.jsonl", unless = "data", help = "unseen prompts with answers" },
  out      = { "output",  default = "runs/lora", help = "run directory; without it a fresh numbered one" },
  rank     = { "integer", default = 16, above = 0, help = "LoRA's r; alpha is twice that" },
  targets  = { "list",    default = { "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj" } },
  lr       = { "number",  default = 4e-3, above = 0, unless = "data", help = "with --data 2e-4" },
  epochs   = { "number",  default = 2, above = 0, unless = "data", help = "with --data 1" },
  seq_len  = { "integer", default = 128, above = 1, unless = "data", help = "tokens a row; with --data 512" },
  rows     = { "integer", default = 16, above = 0, help = "rows a step over all ranks" },
  micro    = { "integer", default = 4, above = 0, help = "rows a rank computes at once" },
  parallel = { "profile", default = "single", help = "a name of configs/profiles, or a YAML file" },
}

-- A model of a million parameters learns from short rows at a rate that would wreck one of billions.
opt.lr, opt.epochs, opt.seq_len = opt.lr or 2e-4, opt.epochs or 1, opt.seq_len or 512

local plan = ft.plan {
  model     = ft.hf { opt.model, compute = "auto" },
  adapter   = ft.lora { r = opt.rank, alpha = 2 * opt.rank, dropout = 0.05, target_modules = opt.targets },
  data      = { train = ft.chat { opt.data, seq_len = opt.seq_len, pack = true, split = "train" },
                val   = ft.chat { opt.data, seq_len = opt.seq_len, split = 0.05 },
                test  = opt.test and ft.chat { opt.test, seq_len = opt.seq_len, pack = false } },
  parallel  = opt.parallel,
  optimizer = ft.adamw { lr = opt.lr, schedule = ft.cosine { warmup = 0.03 } },
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
run:finish()                                 -- last save; then: ftengine merge runs/lora
