--- Writes the small files of a Hugging Face model directory: tokenizer.json, tokenizer_config.json, config.json,
--- generation_config.json. JSON is written here, key by key, so that the bytes never change.

local hf_files = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

--- A JSON string; the text is UTF-8 without other control characters.
function hf_files.quote(text)
  return '"' .. text:gsub('["\\\n\r\t]', escapes) .. '"'
end

local quote = hf_files.quote

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
end

local chat_template = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
  .. "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

--- @param trained table what bpe.train returned
--- @param special table list of the special tokens, whose ids follow the vocabulary
function hf_files.write_tokenizer(path, trained, special, pattern)
  local added, vocab, merges = {}, {}, {}
  for i, token in ipairs(special) do
    added[i] = ('    { "id": %d, "content": %s, "single_word": false, "lstrip": false, "rstrip": false, '
      .. '"normalized": false, "special": true }'):format(#trained.vocab + i - 1, quote(token))
  end
  for i, token in ipairs(trained.vocab) do vocab[i] = ("      %s: %d"):format(quote(token), i - 1) end
  for i, pair in ipairs(trained.merges) do merges[i] = ("      [%s, %s]"):format(quote(pair[1]), quote(pair[2])) end
  local byte_level = '{ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false }'
  write(path, table.concat {
    '{\n  "version": "1.0",\n  "truncation": null,\n  "padding": null,\n  "added_tokens": [\n',
    table.concat(added, ",\n"), '\n  ],\n  "normalizer": { "type": "NFC" },\n',
    '  "pre_tokenizer": {\n    "type": "Sequence",\n    "pretokenizers": [\n',
    '      { "type": "Split", "pattern": { "Regex": ', quote(pattern),
    ' }, "behavior": "Isolated", "invert": false },\n',
    "      ", byte_level, '\n    ]\n  },\n  "post_processor": ', byte_level, ',\n  "decoder": ', byte_level, ",\n",
    '  "model": {\n    "type": "BPE",\n    "dropout": null,\n    "unk_token": null,\n',
    '    "continuing_subword_prefix": "",\n    "end_of_word_suffix": "",\n    "fuse_unk": false,\n',
    '    "byte_fallback": false,\n    "ignore_merges": false,\n    "vocab": {\n',
    table.concat(vocab, ",\n"), '\n    },\n    "merges": [\n', table.concat(merges, ",\n"), "\n    ]\n  }\n}\n",
  })
end

--- @param length integer the longest text the model is meant for, in tokens
function hf_files.write_tokenizer_config(path, length)
  write(path, table.concat {
    '{\n  "add_prefix_space": false,\n  "bos_token": null,\n  "chat_template": ', quote(chat_template),
    ',\n  "clean_up_tokenization_spaces": false,\n  "eos_token": "<|im_end|>",\n  "errors": "replace",\n',
    '  "model_max_length": ', tostring(length), ',\n  "pad_token": "<|endoftext|>",\n',
    '  "split_special_tokens": false,\n  "tokenizer_class": "Qwen2Tokenizer",\n  "unk_token": null\n}\n',
  })
end

--- @param shape table hidden, layers, heads, kv_heads, head_dim, mlp, vocab, length, eos, pad
function hf_files.write_config(path, shape)
  write(path, ([[{
  "architectures": ["Qwen3ForCausalLM"],
  "attention_bias": false,
  "attention_dropout": 0.0,
  "bos_token_id": null,
  "dtype": "bfloat16",
  "eos_token_id": %d,
  "head_dim": %d,
  "hidden_act": "silu",
  "hidden_size": %d,
  "initializer_range": %s,
  "intermediate_size": %d,
  "layer_types": [%s],
  "max_position_embeddings": %d,
  "max_window_layers": %d,
  "model_type": "qwen3",
  "num_attention_heads": %d,
  "num_hidden_layers": %d,
  "num_key_value_heads": %d,
  "pad_token_id": %d,
  "rms_norm_eps": 1e-06,
  "rope_parameters": { "rope_theta": 10000.0, "rope_type": "default" },
  "sliding_window": null,
  "tie_word_embeddings": true,
  "use_cache": true,
  "use_sliding_window": false,
  "vocab_size": %d
}
]]):format(shape.eos, shape.head_dim, shape.hidden, shape.initializer_range, shape.mlp,
    ('"full_attention"'):rep(shape.layers, ", "), shape.length, shape.layers, shape.heads, shape.layers, shape.kv_heads,
    shape.pad, shape.vocab))
end

function hf_files.write_generation_config(path, shape)
  write(path, ('{\n  "do_sample": false,\n  "eos_token_id": [%d, %d],\n  "pad_token_id": %d\n}\n'):format(
    shape.eos, shape.pad, shape.pad))
end

return hf_files
