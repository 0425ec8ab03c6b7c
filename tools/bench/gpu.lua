-- QLoRA on a decoder of Qwen3-8B's shape with random weights, packed rows of 2048 tokens: tokens/s and memory.
--   ftengine run tools/bench/gpu.lua --out DIR [--nproc 1] [--rows 8] [--micro 1] [--steps 12]
--   FTENGINE_DEVICE=cpu ftengine run tools/bench/gpu.lua --out DIR --layers 2 --width 64 --seq_len 128   (that it works)
local ft = require "ft"

local opt = ft.options {
  out      = { "output",  default = "runs/bench_gpu" },
  layers   = { "integer", default = 36, above = 0 },
  width    = { "integer", default = 4096, at_least = 64, help = "of the residual stream; the other sizes follow" },
  vocab    = { "integer", default = 151936, above = 255 },
  seq_len  = { "integer", default = 2048, at_least = 64 },
  rows     = { "integer", default = 8, above = 0, help = "rows a step over all ranks" },
  micro    = { "integer", default = 1, above = 0, help = "rows a rank computes at once" },
  steps    = { "integer", default = 12, at_least = 3 },
  compute  = { "string",  default = "auto", allowed = { "auto", "fp32", "bf16", "fp16" } },
  checkpointing = { "boolean", default = true },
  parallel = { "profile", default = "fsdp2" },
}

--- Documents of random tokens, a quarter of a row long on average. Every process writes the same, whole at once.
local function write_documents(path)
  local draft = os.tmpname()
  local file = assert(io.open(draft, "w"))
  local state = 1
  local function draw(below)
    state = (state * 16807) % 2147483647 -- Park and Miller's
    return state % below
  end
  for _ = 1, 4 * opt.rows * (opt.steps + 1) do
    local ids = {}
    for i = 1, 8 + draw(math.floor(opt.seq_len / 2) - 8) do ids[i] = draw(opt.vocab) end
    local row = table.concat(ids, ",")
    file:write(('{"input_ids":[%s],"labels":[%s]}\n'):format(row, row))
  end
  file:close()
  assert(os.rename(draft, path))
end

local documents = ("/tmp/ftengine-bench-%d-%d-%d.jsonl"):format(opt.seq_len, opt.rows, opt.steps)
write_documents(documents)
local plan = ft.plan {
  model = ft.scratch { ft.config {
    model_type = "qwen3", hidden_size = opt.width, intermediate_size = 3 * opt.width, num_hidden_layers = opt.layers,
    num_attention_heads = opt.width / 128 > 1 and opt.width / 128 or 2,
    num_key_value_heads = opt.width / 512 > 1 and opt.width / 512 or 1, head_dim = opt.width >= 256 and 128 or 32,
    vocab_size = opt.vocab, max_position_embeddings = 40960, tie_word_embeddings = false, rms_norm_eps = 1e-6,
    rope_theta = 1e6,
  }, quantize = "nf4", compute = opt.compute },
  adapter = ft.lora { r = 16, alpha = 32, dropout = 0, target_modules = "all-linear" },
  data = { train = ft.tokenized { documents, seq_len = opt.seq_len, pack = true } },
  parallel = opt.parallel,
  activation_checkpointing = opt.checkpointing,
  optimizer = ft.adamw { lr = 1e-4, bits = 8, schedule = ft.constant {} },
  batch = { total = opt.rows, micro = opt.micro },
  max_steps = opt.steps, epochs = 100,
  save = { dir = opt.out },
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
run:finish()

-- The first two steps compile kernels and fill caches.
if run.rank == 0 then
  local speeds, peak = {}, nil
  for line in io.lines(run.directory .. "/metrics.jsonl") do
    local function figure(key) return tonumber(line:match('"' .. key .. '": ?([-+%d.e]+)')) end
    if figure("step") > 2 then table.insert(speeds, figure("tokens") / figure("seconds")) end
    peak = figure("peak_device_memory") or figure("peak_memory")
  end
  table.sort(speeds)
  print(("median of %d steps: %.0f tokens/s; peak memory %.2f GB"):format(#speeds, speeds[math.ceil(#speeds / 2)],
    peak / 1e9))
end
