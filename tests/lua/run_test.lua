-- Whole runs of the built program: a model from a config alone, then the main recipe on it, on two ranks.
local native = require "ft.native"
local test = require "ft.test"

local pretrain = [[
local ft = require "ft"
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "qwen3", hidden_size = 64, intermediate_size = 128, num_hidden_layers = 2,
    num_attention_heads = 4, num_key_value_heads = 2, head_dim = 16, vocab_size = 1024, max_position_embeddings = 512,
    rms_norm_eps = 1e-6, tie_word_embeddings = true }, tokenizer = "recipes/demo/model" },
  data = { train = ft.completion { "FOLDER/text.jsonl", seq_len = 64 } },
  parallel = "single",
  optimizer = ft.adamw { lr = 1e-3 },
  batch = { total = 2, micro = 2 },
  max_steps = 1,
  save = { dir = "FOLDER/base", final = "huggingface" },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:update()
  run:log { step = step, loss = run:sum(loss) }
end
run:finish()
]]

local function write_data(t)
  local text, chats = {}, {}
  for i = 1, 40 do
    text[i] = ('{"text": "The fox saw %d hens by the river and went home."}\n'):format(i)
    chats[i] = ('{"messages": [{"role": "user", "content": "Count to %d"}, {"role": "assistant", "content": "%d"}]}\n')
      :format(i, i)
  end
  t.write("text.jsonl", table.concat(text))
  return t.write("chats.jsonl", table.concat(chats))
end

--- The run's merged directory.
local function base_model(t)
  local output, code = t.program("run", t.write("pretrain.lua", (pretrain:gsub("FOLDER", t.folder))))
  t.equal(code, 0)
  for _, name in ipairs(native.list_folder(t.folder .. "/base-1")) do
    local path = t.folder .. "/base-1/" .. name
    if native.exists(path .. "/model.safetensors") then return path end
  end
  if native.exists(t.folder .. "/base-1/model.safetensors") then return t.folder .. "/base-1" end
  error("no merged model:\n" .. output)
end

test.case("the main recipe trains on two ranks, and its checkpoint is merged, evaluated and generates", function(t)
  local data = write_data(t)
  local model = base_model(t)
  local out = t.folder .. "/out"
  local output, code = t.program("run", "recipes/qlora_fsdp2.lua", "--model", model, "--data", data, "--out", out, "--rank", "1",
    "--epochs", "40", "--seq_len", "64")
  t.equal(code, 0)
  t.contains(output, "trainable params: ")
  t.contains(output, "ftengine merge ")
  local rows = t.read(out .. "/metrics.jsonl")
  t.contains(rows, '"grad_norm"')

  local merged = t.folder .. "/merged"
  output, code = t.program("merge", out, "-o", merged)
  t.truthy(code == 0, output)
  t.truthy(native.exists(merged .. "/model.safetensors"))
  output, code = t.program("generate", merged, "--prompt", "Count to 3", "--max-new-tokens", "4")
  t.truthy(code == 0, output)
  local from_run, from_merged
  output, code = t.program("eval", out, data, "--json")
  t.truthy(code == 0, output)
  from_run = native.parse_json(output)
  output, code = t.program("eval", merged, data, "--json", "--seq-len", "64")
  t.truthy(code == 0, output)
  from_merged = native.parse_json(output)
  t.equal(from_run.tokens, from_merged.tokens)
  t.near(from_run.loss, from_merged.loss, 0.05) -- the run's base went through NF4, the merged one did not
end)

test.case("bad data ends every rank with one message and code 1", function(t)
  write_data(t)
  local model = base_model(t)
  local bad = t.write("bad.jsonl", '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    .. '{"messages": [\n')
  local output, code = t.program("run", "recipes/qlora_fsdp2.lua", "--model", model, "--data", bad, "--out", t.folder .. "/x")
  t.equal(code, 1)
  t.contains(output, bad .. ":2")
  local _, times = output:gsub("bad.jsonl:2", "")
  t.equal(times, 1)
end)

test.case("a directory that holds a run is not overwritten", function(t)
  write_data(t)
  base_model(t)
  local recipe = t.write("again.lua", (pretrain:gsub("FOLDER", t.folder)
    :gsub('dir = "[^"]*"', 'out = "' .. t.folder .. '/base-1"')))
  local output, code = t.program("run", recipe)
  t.equal(code, 1)
  t.contains(output, "base-1")
end)
