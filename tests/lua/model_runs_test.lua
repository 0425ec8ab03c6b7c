--- Every architecture end to end, as a user takes it: built from a config alone, then QLoRA for two steps on two ranks, merged
--- into a directory whose config and tensors are called as transformers calls them (the names of the gradients in
--- tests/golden/models), measured and asked. What the models compute is tests/engine/layers/parity_test.cpp's affair.
local native = require "ft.native"
local test = require "ft.test"

local has_gguf_name = { llama = true, mistral = true, qwen2 = true, qwen3 = true, gemma2 = true, gemma3_text = true }
local rows_of_data, vocabulary = 8, 432 -- of the tokenizer in tests/golden/text/qwen

local recipe = [[
local ft = require "ft"
local plan = ft.plan {
  model = MODEL,
  ADAPTER
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 24, pack = true } },
  parallel = ft.fsdp2 {},
  activation_checkpointing = true,
  optimizer = ft.adamw { lr = 1e-2 },
  batch = { total = 4, micro = 2 },
  epochs = 1,
  save = { dir = "OUT" },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm }
end
run:finish()
]]

local function write_rows(t)
  local rows = {}
  for i = 1, rows_of_data do
    local ids = {}
    for j = 1, 24 do ids[j] = tostring((i * 37 + j * j * 11) % vocabulary) end
    rows[i] = ('{"input_ids": [%s]}\n'):format(table.concat(ids, ", "))
  end
  t.write("rows.jsonl", table.concat(rows))
end

--- Runs the program with this test's folder before file names; raises with what it printed where it fails.
local function ran(t, ...)
  local output, code = t.program(...)
  if code ~= 0 then error(("ftengine %s: exit code %d\n%s"):format((...), code, output), 2) end
  return output
end

local function train(t, name, model, adapter, ranks)
  local text = recipe:gsub("MODEL", model):gsub("ADAPTER", adapter):gsub("OUT", t.folder .. "/" .. name)
  local file = t.write(name .. ".lua", (text:gsub("rows%.jsonl", t.folder .. "/rows.jsonl")))
  ran(t, "plan", file, "--nproc", ranks)
  return ran(t, "run", file, "--nproc", ranks)
end

--- Names of the tensors of a directory with one file of weights, sorted.
local function tensors(folder, weights)
  local file = assert(io.open(folder .. "/" .. (weights or "model.safetensors"), "rb"))
  local size, scale = 0, 1
  for byte in file:read(8):gmatch "." do size, scale = size + byte:byte() * scale, scale * 256 end
  local names = {}
  for name in pairs(native.parse_json(file:read(size))) do
    if name ~= "__metadata__" then names[#names + 1] = name end
  end
  file:close()
  table.sort(names)
  return names
end

local function loss(t, folder)
  local output = ran(t, "eval", folder, t.folder .. "/rows.jsonl", "--json", "--compute", "fp32")
  return native.parse_json(output:match "{.*}").loss
end

for _, name in ipairs {
  "granite_untied", "olmo2_tied", "smollm3_tied", "phi3_untied", "cohere_untied", "gemma2_tied", "gemma3_untied",
  "mixtral_untied", "qwen3_moe_untied", "qwen2_untied", "mistral_tied",
} do
  test.case(name .. " is trained, merged, measured and asked", function(t)
    local golden = native.read_json(t.here .. "/../golden/models/" .. name .. ".json")
    local config = golden.config
    config.vocab_size = vocabulary
    native.make_folder(t.folder .. "/parts")
    t.write("parts/config.json", native.to_json(config))
    local tokenizer = assert(io.open(t.here .. "/../golden/text/qwen/tokenizer.json", "rb"))
    t.write("parts/tokenizer.json", tokenizer:read "*a")
    tokenizer:close()
    write_rows(t)

    local parts = t.folder .. "/parts"
    train(t, "base", ("ft.scratch { %q, tokenizer = %q }"):format(parts .. "/config.json", parts), "", "1")
    ran(t, "merge", t.folder .. "/base-1", "-o", t.folder .. "/model")
    local names = {}
    for tensor in pairs(golden.full.grads) do names[#names + 1] = tensor end
    table.sort(names)
    t.equal(tensors(t.folder .. "/model"), names)

    train(t, "tuned", ("ft.hf { %q, quantize = \"nf4\", compute = \"fp32\" }"):format(t.folder .. "/model"),
      "adapter = ft.lora { r = 4, target_modules = \"all-linear\" },", "2")
    ran(t, "merge", t.folder .. "/tuned-1", "-o", t.folder .. "/merged", "--base", "dequantized", "--dtype", "fp32")
    t.equal(tensors(t.folder .. "/merged"), names)
    ran(t, "merge", t.folder .. "/tuned-1", "-o", t.folder .. "/adapter", "--adapter-only")
    local adapted = {} -- as peft calls what it trains of this architecture
    for tensor in pairs(golden.lora.grads) do adapted[#adapted + 1] = "base_model.model." .. tensor end
    table.sort(adapted)
    t.equal(tensors(t.folder .. "/adapter", "adapter_model.safetensors"), adapted)
    local written = native.read_json(t.folder .. "/merged/config.json")
    for key, value in pairs(config) do t.equal(written[key], value) end
    if config.attn_logit_softcapping then -- transformers takes no integer here
      t.contains(t.read(t.folder .. "/merged/config.json"), '"attn_logit_softcapping": 3.0')
    end
    t.near(loss(t, t.folder .. "/merged"), loss(t, t.folder .. "/tuned-1"), 5e-5)
    t.truthy(math.abs(loss(t, t.folder .. "/tuned-1") - loss(t, t.folder .. "/model")) > 1e-3)
    local one = ran(t, "generate", t.folder .. "/merged", "--prompt", "red river", "--max-new-tokens", "3")
    t.equal(one, ran(t, "generate", t.folder .. "/merged", "--prompt", "red river", "--max-new-tokens", "3"))

    if has_gguf_name[config.model_type] then return end -- tests/engine/merge writes theirs
    local said, code = t.program("merge", t.folder .. "/tuned-1", "-o", t.folder .. "/gguf", "--format", "gguf")
    t.equal(code, 1)
    t.contains(said, ("got '%s', want gemma2, gemma3_text, llama, mistral, qwen2 or qwen3 for GGUF"):format(config.model_type))
  end)
end
