-- QLoRA on FSDP2: NF4 base weights sharded over every rank, LoRA trained on top.
--   ftengine run recipes/qlora_fsdp2.lua --model DIR --data chats.jsonl --nproc 2
local ft = require "ft"

local opt = ft.options {                     -- what the command line, --config FILE and --set may fill; nothing else
  model    = { "path",    default = "recipes/demo/model", help = "Hugging Face model directory" },
  data     = { "path",    default = "recipes/demo/train.jsonl", help = "conversations to learn: .jsonl or .json" },
  test     = { "path",    default = "recipes/demo/test.jsonl", unless = "data", help = "unseen prompts with answers" },
  out      = { "output",  default = "runs/qlora_fsdp2", help = "run directory; without it a fresh numbered one" },
  rank     = { "integer", default = 16, above = 0, help = "LoRA's r; alpha is twice that" },
  lr       = { "number",  default = 4e-3, above = 0, unless = "data", help = "with --data 2e-4" },
  epochs   = { "number",  default = 2, above = 0, unless = "data", help = "with --data 1" },
  seq_len  = { "integer", default = 128, above = 1, unless = "data", help = "tokens a row; with --data 512" },
  rows     = { "integer", default = 16, above = 0, help = "rows a step over all ranks" },
  micro    = { "integer", default = 4, above = 0, help = "rows a rank computes at once" },
  parallel = { "profile", default = "fsdp2_swap", help = "a name of configs/profiles, or a YAML file" },
}

-- A model of a million parameters learns from short rows at a rate that would wreck one of billions.
opt.lr, opt.epochs, opt.seq_len = opt.lr or 2e-4, opt.epochs or 1, opt.seq_len or 512

local plan = ft.plan {                       -- describes and checks; loads nothing
  model    = ft.hf { opt.model, quantize = "nf4", double_quant = true, compute = "auto" },
  adapter  = ft.lora { r = opt.rank, alpha = 2 * opt.rank, dropout = 0.05, target_modules = "all-linear" },
  data     = { train = ft.chat { opt.data, seq_len = opt.seq_len, pack = true, split = "train" },
               val   = ft.chat { opt.data, seq_len = opt.seq_len, split = 0.05 },
               test  = opt.test and ft.chat { opt.test, seq_len = opt.seq_len, pack = false } },
  parallel = opt.parallel,                   -- fsdp_version 2, offload_params, cpu_offload_pin_memory, …
  activation_checkpointing = true,
  optimizer = ft.adamw { lr = opt.lr, bits = 8, schedule = ft.cosine { warmup = 0.03 } },
  batch    = { total = opt.rows, micro = opt.micro },    -- accumulation follows from the layout
  epochs   = opt.epochs,
  save     = { dir = opt.out, every = 200, keep = 2, state_dict_type = "SHARDED_STATE_DICT" },
}

plan:rule("adapters must see more tokens than they have weights", function(p)   -- one's own, beside stdlib/ft/rules
  return p.tokens > p.trainable, ("raise epochs or lower rank: %d tokens, %d weights"):format(p.tokens, p.trainable)
end)

local run = plan:start()                     -- every rank: build on meta, shard, stream its own byte ranges in
local function answers()                     -- share of unseen prompts that are answered to the letter
  return opt.test and run:evaluate("test", { generate = true }).exact_match or nil
end
run:log { exact_match = answers() }
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())    -- the loss is divided by the window's tokens over all ranks,
  local loss = 0                             -- since packed batches hold unequal numbers of labels
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
  if step % 200 == 0 then run:log { step = step, val_loss = run:evaluate("val").loss } end
end
run:log { exact_match = answers() }
run:finish()                                 -- last save; then: ftengine merge runs/qlora_fsdp2
