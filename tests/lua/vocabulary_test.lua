-- Tokens that a plan or a configuration adds: what the plan then says, and what is refused.
local test = require "ft.test"
local native = require "ft.native"

local head = [[
base_model: recipes/demo/model
datasets: [{ path: recipes/demo/train.jsonl, type: chat_template }]
sequence_len: 64
learning_rate: 1e-4
]]

--- The plan that a configuration with these lines comes to.
local function plan_of(t, lines)
  return t.check(t.write("config.yml", head .. lines))
end

test.case("a configuration's tokens join the vocabulary, and its tables grow", function(t)
  local model = plan_of(t, [[
special_tokens: { pad_token: "<pad>", eos_token: "<|im_end|>" }
tokens: ["<think>"]
resize_token_embeddings_to_32x: true
mean_resizing_embeddings: false
embeddings_skip_upcast: true
]]).normalized.model
  t.equal(model.special_tokens, { pad_token = "<pad>" }) -- what the tokenizer says itself is no change
  t.equal(model.new_tokens, { { content = "<pad>", id = 896 }, { content = "<think>", id = 897 } })
  t.equal(model.config.vocab_size, 928)
  t.equal(model.grown.rows, 928)
  t.equal(model.grown.stored, 896)
  t.equal(model.grown.begin, "normal")
  t.equal(model.grown.tensors, { "model.embed_tokens.weight", "lm_head.weight" })
  t.equal(model.description.embedding.vocab, 928)
  t.equal(native.tokenizer(model.tokenizer):token_id("<think>"), 897)
  t.equal(native.tokenizer("recipes/demo/model"):token_id("<think>"), nil) -- the model's own stays as it is
end)

test.case("tokens join a SentencePiece model", function(t)
  local config = native.read_json("recipes/demo/model/config.json")
  config.vocab_size, config.eos_token_id, config.pad_token_id = 480, 2, nil
  local folder = t.write("config.json", native.to_json(config)):match("(.*)/")
  t.write("tokenizer.model", io.open("tests/golden/sentencepiece/llama/tokenizer.model", "rb"):read("*a"))
  local lines = head:gsub("base_model: [^\n]+", "base_model: " .. folder):gsub("type: chat_template", "type: completion")
  local answer = t.check(t.write("config.yml", lines .. 'tokens: ["<think>"]\nspecial_tokens: { pad_token: "<pad>" }\n'))
  local model = answer.normalized.model
  t.equal(model.new_tokens, { { content = "<pad>", id = 480 }, { content = "<think>", id = 481 } })
  t.equal(model.grown.rows, 482)
  t.equal(native.read_json(model.tokenizer .. "/tokenizer_config.json").added_tokens_decoder["481"].content, "<think>")
end)

test.case("a configuration without new tokens leaves the tokenizer where it is", function(t)
  local model = plan_of(t, 'special_tokens: { eos_token: "<|im_end|>" }\n').normalized.model
  t.equal(model.tokenizer, model.dir)
  t.equal(model.grown, nil)
  t.equal(model.config.vocab_size, 896)
end)

test.case("tokens that cannot be added are refused by their key", function(t)
  local answer = plan_of(t, 'added_tokens_overrides: { 3: "<think>" }\n')
  t.truthy(not answer.ok)
  t.contains(native.to_json(answer.errors), "has no added token of id 3")
end)
