-- Optimizers, parameter groups and schedules as recipes state them: whole runs of a model of a config alone.
local ft = require "ft"
local native = require "ft.native"
local schedule = require "ft.schedule"
local test = require "ft.test"

local recipe = [[
local ft = require "ft"
local opt = ft.options { out = { "output", default = "FOLDER/run" } }
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "llama", hidden_size = 24, intermediate_size = 40, num_hidden_layers = 2,
    num_attention_heads = 2, vocab_size = 96, max_position_embeddings = 64 } },
  data = { train = ft.tokenized { "FOLDER/rows.jsonl", seq_len = 32, pack = false } },
  parallel = "fsdp2",
  optimizer = OPTIMIZER,
  batch = { total = 4, micro = 1 },
  max_steps = 6,
  save = { dir = opt.out, every = 3, keep = 9 },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:update()
  run:log { step = step, loss = run:sum(loss), lr = run.lr }
end
run:finish()
]]

local function write(t, optimizer)
  local rows = {}
  for i = 1, 12 do
    local ids = {}
    for k = 1, 20 do ids[k] = (i * 7 + k * k * 3) % 96 end
    local text = table.concat(ids, ", ")
    rows[i] = ('{"input_ids": [%s], "labels": [%s]}\n'):format(text, text)
  end
  t.write("rows.jsonl", table.concat(rows))
  return t.write("recipe.lua", (recipe:gsub("OPTIMIZER", (optimizer:gsub("%%", "%%%%"))):gsub("FOLDER", t.folder)))
end

--- metrics.jsonl by step
local function metrics(t, run)
  local rows = {}
  for line in t.read(run .. "/metrics.jsonl"):gmatch("[^\n]+") do
    local row = native.parse_json(line)
    if row.step then rows[row.step] = row end
  end
  return rows
end

local function train(t, file, out, ...)
  local output, code = t.program("run", file, "--out", out, ...)
  t.truthy(code == 0, output)
  return metrics(t, out)
end

local function check(t, optimizer)
  local output, code = t.program("check", write(t, optimizer))
  return output:gsub(t.folder, "DIR"), code
end

for _, optimizer in ipairs {
  "ft.adafactor { lr = 1e-2, beta1 = 0.9 }", "ft.muon { lr = 1e-2, bits = 8 }", "ft.lion { lr = 1e-3 }",
} do
  test.case(optimizer .. " trains, on two ranks as on one, and goes on from the middle to the bit", function(t)
    local file = write(t, optimizer)
    local one, two = train(t, file, t.folder .. "/one"), train(t, file, t.folder .. "/two", "--nproc", "2")
    t.truthy(one[6].loss < one[1].loss - 0.01, "the loss did not fall")
    for step = 1, 6 do t.near(two[step].loss, one[step].loss, 2e-5) end
    local again = train(t, file, t.folder .. "/two", "--nproc", "2", "--resume", t.folder .. "/two/checkpoint-3")
    for step = 4, 6 do t.equal(again[step].loss, two[step].loss) end
    -- What two ranks saved, one takes up.
    again = train(t, file, t.folder .. "/two", "--resume", t.folder .. "/two/checkpoint-3")
    for step = 4, 6 do t.near(again[step].loss, two[step].loss, 2e-5) end
  end)
end

test.case("a function of the recipe is the schedule, on every rank and after a resume", function(t)
  local file = write(t, "ft.adamw { lr = 1e-2, schedule = function(step, total) return (total - step) / total / 2 end }")
  local rows = train(t, file, t.folder .. "/out", "--nproc", "2")
  for step = 1, 6 do t.near(rows[step].lr, 1e-2 * (7 - step) / 12, 1e-12) end
  local again = train(t, file, t.folder .. "/out", "--resume", t.folder .. "/out/checkpoint-3")
  for step = 4, 6 do t.near(again[step].lr, 1e-2 * (7 - step) / 12, 1e-12) end
end)

test.case("schedules by name reach the run", function(t)
  local rows = train(t, write(t, "ft.sgd { lr = 1, schedule = ft.wsd { warmup = 2, decay = 2, decay_type = 'linear' } }"),
    t.folder .. "/out")
  local want = { 0, 0.5, 1, 1, 1, 0.5 }
  for step = 1, 6 do t.near(rows[step].lr, want[step], 1e-12) end
end)

test.case("a function that gives no finite factor is refused with its line and step", function(t)
  for source, message in pairs {
    ["1 / (2 - step) - 1"] = "want a finite number of 0 or more",
    ["'a lot'"] = "got string, want a number",
    ["step.x"] = "attempt to index",
  } do
    local output, code = check(t, ("ft.adamw { schedule = ft.schedule(function(step) return %s end) }"):format(source))
    t.equal(code, 1)
    t.contains(output, "recipe.lua:8")
    t.contains(output, "optimizer.schedule")
    t.contains(output, message)
  end
  t.raises(function() ft.schedule(3) end, "got number, want a function")
  local block = ft.schedule(function(step, total) return total - step end)
  t.equal(schedule.factors(block, 3), { 3, 2, 1 })
end)

test.case("groups are checked before anything is loaded", function(t)
  local output, code = check(t, "ft.adamw { groups = { { pattern = 'q_porj', lr = 1e-3 } } }")
  t.equal(code, 1)
  t.contains(output, "optimizer.groups[1].pattern: got 'q_porj', which is found in no trained parameter's name")
  t.contains(output, "did you mean 'q_proj'?")
  output, code = check(t, "ft.adamw { groups = { { pattern = 'norm', weight_decay = 0.1 }, { pattern = 'embed', lr = 1 } } }")
  t.truthy(code == 0, output)
end)

test.case("options that do not go together are refused", function(t)
  for optimizer, message in pairs {
    ["ft.sgd { nesterov = true }"] = "true needs momentum above 0",
    ["ft.muon { adamw_betas = { 0.9 } }"] = "optimizer.adamw_betas: want two numbers",
    ["ft.adafactor { relative_step = true }"] = "ft.adafactor.relative_step",
    ["ft.adafactor { eps = { 1 } }"] = "optimizer.eps",
    ["ft.lion { betas = { 0.9, 1 } }"] = "optimizer.betas",
    ["ft.muon { adjust_lr_fn = 'orignal' }"] = "did you mean 'original'?",
    ["ft.adamw { schedule = ft.wsd { warmup = 3, decay = 4 } }"] = "warmup and decay together are longer than the run",
    ["ft.adamw { schedule = ft.cosine { cycles = 0 } }"] = "ft.cosine.cycles",
  } do
    local output, code = check(t, optimizer)
    t.truthy(code == 1, optimizer .. "\n" .. output)
    t.contains(output, message)
  end
end)
