-- ftengine verify: a recipe that trains alike on every layout, and one that only seems to.
local test = require "ft.test"

local recipe = [[
local ft = require "ft"
local opt = ft.options { parallel = { "profile", default = "single" } }
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "llama", hidden_size = 32, intermediate_size = 64, num_hidden_layers = 4,
    num_attention_heads = 4, num_key_value_heads = 2, vocab_size = 128, max_position_embeddings = 64,
    rms_norm_eps = 1e-6, tie_word_embeddings = true } },
  data = { train = ft.tokenized { "FOLDER/rows.jsonl", seq_len = 32, pack = false } },
  parallel = opt.parallel,
  optimizer = ft.adamw { lr = 1e-2 },
  batch = { total = 64, micro = 2 },
  epochs = 100,
}
plan:rule("never holds", function() return false, "of the size that is trained, not of the tiny one" end)
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = TOKENS, 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm }
end
run:finish()
]]

local function verify(t, tokens)
  local rows = {}
  for i = 1, 16 do
    local ids = {}
    for j = 1, 6 + i do ids[j] = tostring((i * 37 + j * j * 11) % 128) end
    rows[i] = ('{"input_ids": [%s]}\n'):format(table.concat(ids, ", "))
  end
  t.write("rows.jsonl", table.concat(rows))
  local file = t.write("recipe.lua", (recipe:gsub("FOLDER", t.folder):gsub("TOKENS", tokens)))
  return t.program("verify", file, "--nproc", "2")
end

test.case("a recipe that trains alike on every layout says so", function(t)
  local output, code = verify(t, "run:sum(window:tokens())")
  t.truthy(code == 0, output)
  for _, layout in ipairs { "ddp", "zero1", "zero2", "fsdp2", "fsdp2, no reshard", "tp", "cp, ring", "cp, ulysses" } do
    t.truthy(output:find("\n" .. layout .. " +2  %S+ +%S+ +ok\n"), layout .. ":\n" .. output)
  end
  t.contains(output, "not tried: --nproc 4")
end)

test.case("a recipe that divides by one rank's tokens is found out", function(t)
  local output, code = verify(t, "window:tokens()")
  t.equal(code, 1)
  t.truthy(output:find("\nddp +2  %S+ +%S+ +DIFFERS\n"), output)
  t.contains(output, "not as one process trains")
end)
