-- Every profile, as a user runs it: on one rank where it states no axis, and on its own number of ranks; all train alike.
local native = require "ft.native"
local test = require "ft.test"

local recipe = [[
local ft = require "ft"
local opt = ft.options { parallel = { "profile", default = "single" }, out = { "output", default = "run" } }
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "qwen3", hidden_size = 32, intermediate_size = 64, num_hidden_layers = 2,
    num_attention_heads = 4, num_key_value_heads = 2, head_dim = 8, vocab_size = 128, max_position_embeddings = 64,
    rms_norm_eps = 1e-6, tie_word_embeddings = true }, compute = "fp32" },
  data = { train = ft.tokenized { "FOLDER/rows.jsonl", seq_len = 32, pack = false } },
  parallel = opt.parallel,
  optimizer = ft.adamw { lr = 1e-2 },
  batch = { total = 8, micro = 1 },
  max_steps = 2,
  save = { dir = opt.out },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm }
end
run:finish()
]]

local function write_recipe(t)
  local rows = {}
  for i = 1, 16 do
    local ids = {}
    for j = 1, 8 + i do ids[j] = tostring((i * 37 + j * j * 11) % 128) end
    rows[i] = ('{"input_ids": [%s]}\n'):format(table.concat(ids, ", "))
  end
  t.write("rows.jsonl", table.concat(rows))
  return t.write("recipe.lua", (recipe:gsub("FOLDER", t.folder)))
end

local function losses(t, folder)
  local found = {}
  for line in t.read(folder .. "/metrics.jsonl"):gmatch "[^\n]+" do
    local row = native.parse_json(line)
    found[#found + 1] = { row.loss, row.grad_norm }
  end
  return found
end

local function train(t, file, profile, ...)
  local out = t.folder .. "/" .. profile .. "-on-" .. (select(2, ...) or "its-own")
  local output, code = t.program("run", file, "--parallel", profile, "--out", out, ...)
  t.truthy(code == 0, profile .. ":\n" .. output)
  return losses(t, out)
end

local function compare(t, profile, got, want, bound)
  t.equal(#got, 2)
  for step, row in ipairs(got) do
    for i, value in ipairs(row) do
      t.truthy(math.abs(value - want[step][i]) <= bound * want[step][i], ("%s, step %d: %.9g, one rank alone %.9g"):format(
        profile, step, value, want[step][i]))
    end
  end
end

test.case("every profile trains as one process does", function(t)
  local file = write_recipe(t)
  local one = train(t, file, "single")
  t.truthy(one[2][1] < one[1][1])
  for _, name in ipairs(native.list_folder(t.here .. "/../../configs/profiles")) do
    local profile = name:match("([%w_]+)%.yaml$")
    local text = t.read(t.here .. "/../../configs/profiles/" .. name)
    local axes = text:match("_size: 2") or text:match("mesh:")
    local rounds = text:match("param_dtype: bf16")
    if not axes then compare(t, profile, train(t, file, profile, "--nproc", "1"), one, rounds and 2e-2 or 0) end
    if profile ~= "single" then compare(t, profile, train(t, file, profile), one, rounds and 2e-2 or 1e-5) end
  end
end)
