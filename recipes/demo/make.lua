--- Writes everything in this folder that is not trained: the tokenizer and the configuration of the model, the
--- pre-training text (corpus.jsonl), and the instructions (train.jsonl, test.jsonl, and shuffled.jsonl, the control
--- whose answers belong to other prompts).
---   ftengine run recipes/demo/make.lua         or, since it needs nothing of the engine:  luajit recipes/demo/make.lua
--- The same bytes come out on every machine.

local here = debug.getinfo(1, "S").source:match("^@(.*)make%.lua$") or ""
local random = dofile(here .. "random.lua")
local words = dofile(here .. "words.lua")
local stories = dofile(here .. "stories.lua")
local tasks = dofile(here .. "tasks.lua")
local bpe = dofile(here .. "bpe.lua")
local hf_files = dofile(here .. "hf_files.lua")

local num_documents, num_train, num_test, num_pairs = 40000, 8000, 256, 320
local special = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" }
local shape = {
  hidden = 128, layers = 3, heads = 4, kv_heads = 2, head_dim = 64, mlp = 576, vocab = 896, length = 512,
  initializer_range = "0.05",
}

local function open(name)
  return assert(io.open(here .. name, "wb"))
end

local function write_chat(file, prompt, answer)
  local turn = '{"role": "%s", "content": %s}'
  file:write(('{"messages": [%s, %s]}\n'):format(turn:format("user", hf_files.quote(prompt)),
    turn:format("assistant", hf_files.quote(answer))))
end

--- A prompt with the right answer and another prompt's.
local function write_pair(file, prompt, chosen, rejected)
  local turn = '[{"role": "%s", "content": %s}]'
  local function said(role, text) return turn:format(role, hf_files.quote(text)) end
  file:write(('{"prompt": %s, "chosen": %s, "rejected": %s}\n'):format(said("user", prompt), said("assistant", chosen),
    said("assistant", rejected)))
end

--- Writes the stories and counts their words for the tokenizer.
local function write_corpus()
  local file, generator, counts = open "corpus.jsonl", random.new(1), {}
  for _ = 1, num_documents do
    local text = stories.document(generator, words)
    file:write('{"text": ', hf_files.quote(text), "}\n")
    bpe.count_words(text:gsub("<|[%a_]+|>", "\n"), counts)
  end
  file:close()
  return counts
end

--- The test comes first: half of its prompts name only things that no training prompt names. A prompt is used once.
local function write_instructions()
  local used, test = {}, open "test.jsonl"
  local function fresh(generator, things)
    local prompt, answer
    repeat prompt, answer = tasks.sample(generator, things) until not used[prompt]
    used[prompt] = true
    return prompt, answer
  end
  local generator = random.new(2)
  for i = 1, num_test do
    write_chat(test, fresh(generator, i % 2 == 0 and words.held_out_things or words.training_things))
  end
  test:close()
  local train, prompts, answers, right = open "train.jsonl", {}, {}, {}
  generator = random.new(3)
  for i = 1, num_train do
    prompts[i], answers[i] = fresh(generator, words.training_things)
    right[i] = answers[i]
    write_chat(train, prompts[i], answers[i])
  end
  train:close()
  local control = open "shuffled.jsonl"
  random.new(4):shuffle(answers)
  for i = 1, num_train do write_chat(control, prompts[i], answers[i]) end
  control:close()
  local preferences = open "pairs.jsonl"
  for i = 1, num_pairs do write_pair(preferences, prompts[i], right[i], answers[i]) end
  preferences:close()
end

local trained = bpe.train(write_corpus(), shape.vocab, #special)
assert(#trained.vocab + #special == shape.vocab, "the text has too few words for this vocabulary")
shape.pad, shape.eos = #trained.vocab, #trained.vocab + 2
hf_files.write_tokenizer(here .. "model/tokenizer.json", trained, special, bpe.pattern)
hf_files.write_tokenizer_config(here .. "model/tokenizer_config.json", shape.length)
hf_files.write_config(here .. "model/config.json", shape)
hf_files.write_generation_config(here .. "model/generation_config.json", shape)
write_instructions()
