-- DPO: an adapter learns from pairs which of two answers is the better one; the base without it is the reference.
--   ftengine run recipes/dpo.lua --model DIR --data pairs.jsonl --nproc 2        rows: prompt, chosen, rejected
local ft = require "ft"

local opt = ft.options {
  model     = { "path",    default = "recipes/demo/model", help = "Hugging Face model directory" },
  data      = { "path",    default = "recipes/demo/pairs.jsonl", help = "pairs to learn from: texts or messages" },
  out       = { "output",  default = "runs/dpo", help = "run directory; without it a fresh numbered one" },
  from      = { "path",    help = "a PEFT adapter to go on from; the base stays the reference" },
  quantize  = { "string",  default = "none", help = "nf4: the base in four bits" },
  rank      = { "integer", default = 16, above = 0, help = "LoRA's r; alpha is twice that" },
  beta      = { "number",  default = 0.1, above = 0, help = "how dearly each step away from the reference is paid" },
  smoothing = { "number",  default = 0, at_least = 0, below = 0.5, help = "share of pairs taken to be the wrong way round" },
  lr        = { "number",  default = 1e-3, above = 0, unless = "data", help = "with --data 5e-6" },
  epochs    = { "number",  default = 2, above = 0, unless = "data", help = "with --data 1" },
  val       = { "number",  default = 0, at_least = 0, below = 1, help = "share of the pairs held out, and measured at times" },
  seq_len   = { "integer", default = 128, above = 1, unless = "data", help = "tokens of prompt and answer; with --data 512" },
  rows      = { "integer", default = 16, above = 0, help = "pairs a step over all ranks" },
  micro     = { "integer", default = 4, above = 0, help = "pairs a rank computes at once" },
  parallel  = { "profile", default = "fsdp2", help = "a name of configs/profiles, or a YAML file" },
}
opt.lr, opt.epochs, opt.seq_len = opt.lr or 5e-6, opt.epochs or 1, opt.seq_len or 512

local plan = ft.plan {
  model     = ft.hf { opt.model, quantize = opt.quantize },
  adapter   = opt.from and ft.lora { from = opt.from } or ft.lora { r = opt.rank, alpha = 2 * opt.rank },
  data      = { train = ft.preference { opt.data, seq_len = opt.seq_len, split = "train" },
                val   = opt.val > 0 and ft.preference { opt.data, seq_len = opt.seq_len, split = opt.val } or nil },
  parallel  = opt.parallel,
  activation_checkpointing = true,
  optimizer = ft.adamw { lr = opt.lr, schedule = ft.linear { warmup = 0.1 } },
  batch     = { total = opt.rows, micro = opt.micro },
  epochs    = opt.epochs,
  save      = { dir = opt.out, every = 200, keep = 2 },
}

local run = plan:start()
for step, window in run:steps() do
  local references, pairs_here = {}, 0       -- what the base makes of both answers, before the adapter learns
  for batch in window:each() do
    references[#references + 1] = run:log_probs(batch, { adapter = false })
    pairs_here = pairs_here + #references[#references] / 2
  end
  local pairs_all = run:sum(pairs_here)      -- the loss is the mean over the pairs of all ranks
  local sums, loss, i = { chosen = 0, rejected = 0, margins = 0, accuracies = 0 }, 0, 0
  for batch in window:each() do
    i = i + 1
    loss = loss + run:backward_sequences(batch, pairs_all, function(policy)
      local value, gradients, measured = ft.dpo.loss(policy, references[i], { beta = opt.beta, label_smoothing = opt.smoothing })
      for name, sum in pairs(sums) do sums[name] = sum + measured[name] end
      return value, gradients
    end)
  end
  local norm = run:clip(1.0)
  run:update()
  local row = { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
  for _, name in ipairs { "chosen", "rejected", "margins", "accuracies" } do
    row["rewards/" .. name] = run:sum(sums[name]) / pairs_all
  end
  if opt.val > 0 and (step % 200 == 0 or step == run.total_steps) then
    local found = ft.dpo.evaluate(run, "val", { beta = opt.beta, label_smoothing = opt.smoothing })
    for name, value in pairs(found) do row[name] = value end
  end
  run:log(row)
end
run:finish()
