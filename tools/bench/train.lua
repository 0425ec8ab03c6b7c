-- The engine's side of tools/bench/train: a plain training loop, measured. Each rank writes DIR/rank-N.json.
--   ftengine run tools/bench/train.lua --mode qlora --model DIR --data rows.jsonl --out DIR [--nproc 2]
local ffi = require "ffi"
local ft = require "ft"

local opt = ft.options {
  mode     = { "string",  required = true, allowed = { "full", "lora", "qlora" } },
  model    = { "path",    required = true, help = "Hugging Face model directory" },
  data     = { "path",    required = true, help = "rows of input_ids" },
  out      = { "output",  required = true },
  seq_len  = { "integer", default = 512, above = 1 },
  steps    = { "integer", default = 6, above = 0 },
  rows     = { "integer", default = 1, above = 0, help = "rows a step, one a rank" },
  compute  = { "string",  default = "auto", allowed = { "auto", "fp32", "bf16" } },
  parallel = { "profile", default = "single" },
}

ffi.cdef [[
  struct ft_bench_time { long seconds, nanoseconds; };
  int clock_gettime(int clock, struct ft_bench_time* time);
]]
local CLOCK_BOOTTIME = 7
local stamp = ffi.new("struct ft_bench_time")

local function now()
  ffi.C.clock_gettime(CLOCK_BOOTTIME, stamp)
  return tonumber(stamp.seconds) + tonumber(stamp.nanoseconds) * 1e-9
end

--- VmHWM, MiB.
local function peak_mib()
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^VmHWM:%s*(%d+)")
    if kib then return tonumber(kib) / 1024 end
  end
end

local plan = ft.plan {
  model     = ft.hf { opt.model, quantize = opt.mode == "qlora" and "nf4" or "none", compute = opt.compute },
  adapter   = opt.mode ~= "full" and ft.lora { r = 16, alpha = 32, dropout = 0, target_modules = "all-linear" } or nil,
  data      = { train = ft.tokenized { opt.data, seq_len = opt.seq_len, pack = false, shuffle = false } },
  parallel  = opt.parallel,
  optimizer = ft.adamw { lr = 1e-4, weight_decay = 0, schedule = ft.constant {} },
  batch     = { total = opt.rows, micro = 1 },
  max_steps = opt.steps,
  save      = { dir = opt.out },
}

local run = plan:start()
local losses, seconds, first = {}, {}, nil
local begin = now()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  loss = run:sum(loss)
  run:log { step = step, loss = loss, grad_norm = norm, lr = run.lr }
  local stop = now()
  losses[step], seconds[step], first = loss, stop - begin, first or stop
  begin = stop
end

if not first then return end -- `ftengine plan` takes no step
local file = assert(io.open(("%s/rank-%d.json"):format(run.directory, run.rank), "w"))
file:write(('{"losses": [%s], "seconds": [%s], "first_step_end": %.4f, "peak_mib": %.1f}\n'):format(
  table.concat(losses, ", "), table.concat(seconds, ", "), first, peak_mib()))
file:close()
