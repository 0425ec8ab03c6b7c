local test = require "ft.test"
local chatml = require "ft.chat.chatml"
local llama3 = require "ft.chat.llama3"

local talk = {
  { role = "user", content = "Hi" }, { role = "assistant", content = " Hello " }, { role = "user", content = "Bye" },
  { role = "assistant", content = "Bye!" },
}

local function texts(segments, wanted)
  local out = ""
  for _, segment in ipairs(segments) do
    if wanted == nil or segment.train == wanted then out = out .. segment.text end
  end
  return out
end

test.case("chatml writes turns as Qwen does", function(t)
  t.equal(texts(chatml.segments(talk, {})), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n Hello <|im_end|>\n"
    .. "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nBye!<|im_end|>\n")
end)

test.case("chatml learns the assistant's content and the end of its turn alone", function(t)
  t.equal(texts(chatml.segments(talk, {}), true), " Hello <|im_end|>Bye!<|im_end|>")
end)

test.case("chatml learns every piece without masks", function(t)
  t.equal(texts(chatml.segments(talk, { mask_prompts = false }), false), "")
end)

test.case("a system message is added only where there is none", function(t)
  t.contains(texts(chatml.segments(talk, { system = "Be brief." })), "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")
  local own = { { role = "system", content = "Mine." }, talk[1] }
  t.truthy(not texts(chatml.segments(own, { system = "Be brief." })):find("brief", 1, true))
end)

test.case("a prompt ends where the assistant begins", function(t)
  t.equal(chatml.prompt({ talk[1] }), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
end)

test.case("llama3 writes headers, trims, and begins once", function(t)
  t.equal(texts(llama3.segments({ talk[1], talk[2] }, {})),
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    .. "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>")
  t.equal(texts(llama3.segments(talk, {}), true), "Hello<|eot_id|>Bye!<|eot_id|>")
end)

-- The model's own template, which the demo model has.
local data = require "ft.data"
local native = require "ft.native"
local tokenizer = native.tokenizer("recipes/demo/model")

local tools_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
  .. "<call>{{ c | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
  .. "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

--- What of a data file is learned, as one text a row.
local function learned(t, rows, options)
  local split = { kind = "chat", path = t.write("rows.jsonl", rows), seq_len = 0, too_long = "truncate" }
  for key, value in pairs(options or {}) do split[key] = value end
  local made, out = data.read(split, { vocab_size = 1024 }, tokenizer), {}
  local i, row = 1, made:row(1)
  while row do
    local ids = {}
    for k, id in ipairs(row.ids) do if row.labels[k] >= 0 then ids[#ids + 1] = id end end
    out[i] = tokenizer:decode(ids, false)
    i = i + 1
    row = made:row(i)
  end
  return out
end

local row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, '
  .. '{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}\n'

test.case("a chat is written by the model's own template, and by a named one", function(t)
  t.truthy(data.format({}, tokenizer).template)
  t.truthy(not data.format({ format = "chatml" }, tokenizer).template)
  t.equal(learned(t, row)[1], "b<|im_end|>d<|im_end|>")
  t.equal(learned(t, row, { format = "chatml" })[1], "b<|im_end|>d<|im_end|>")
  local calls = '{"messages": [{"role": "user", "content": "a"}, '
    .. '{"role": "assistant", "content": null, "tool_calls": [{"f": 1}]}]}'
  t.equal(learned(t, calls, { chat_template = t.write("t.jinja", tools_template) })[1],
    '<call>{"f": 1}</call><|im_end|>')
end)

test.case("roles, the last turn and the messages themselves say what is learned, in every format", function(t)
  for _, format in ipairs { "template", "chatml" } do
    t.equal(learned(t, row, { format = format, train_turns = "last" })[1], "d<|im_end|>")
    t.equal(learned(t, row, { format = format, roles_to_train = { "user" } })[1], "a<|im_end|>c<|im_end|>")
    local own = row:gsub('"content": "b"', '"content": "b", "train": false'):gsub('"content": "c"', '"content": "c", "weight": 1')
    t.equal(learned(t, own, { format = format })[1], "c<|im_end|>d<|im_end|>")
  end
end)

test.case("what a format would lose is refused", function(t)
  local calls = '{"messages": [{"role": "user", "content": "a"}, '
    .. '{"role": "assistant", "content": "b", "tool_calls": [{"f": 1}]}]}'
  for _, format in ipairs { "template", "chatml" } do
    local done, problem = pcall(learned, t, calls, { format = format })
    t.truthy(not done)
    t.contains(tostring(problem), "tool_calls")
  end
end)

test.case("render writes each row as the template does, or says why not", function(t)
  local rows = t.write("in.jsonl", row .. '{"messages": [{"role": "user"}]}\n')
  local pipe = io.popen(("'%s' render recipes/demo/model --keep-going < '%s'"):format(native.host().program, rows))
  local output = pipe:read("*a")
  pipe:close()
  t.contains(output, '{"text": "<|im_start|>user\\na<|im_end|>\\n')
  t.contains(output, '"error": "UndefinedError"')
end)

test.case("special tokens that a model states in two ways are told, and settled as the tokenizer has them", function(t)
  local settle, eos = require("ft.special_tokens").settle, tokenizer:eos_id()
  local agreed = { config = { eos_token_id = { 3, eos }, pad_token_id = 893 } }
  t.equal(settle(agreed, tokenizer), {})
  t.equal(agreed.config.eos_token_id, { 3, eos }) -- one of several will do
  t.equal(agreed.generation_ids, nil)
  local other = { config = { eos_token_id = 3 } }
  t.contains(settle(other, tokenizer)[1], "eos is " .. eos .. " (<|im_end|>) to the tokenizer, and config.json says 3 (")
  t.equal(other.config.eos_token_id, eos)
  t.equal(other.config.pad_token_id, nil) -- what a file does not say stays unsaid
end)

--- The tokenizer, as if its files lay in another folder.
local function in_folder(folder)
  return setmetatable({}, { __index = function(_, name)
    return function(_, ...)
      if name == "folder" then return folder end
      return tokenizer[name](tokenizer, ...)
    end
  end })
end

test.case("special tokens that the tokenizer does not name stay as they are", function(t)
  local path = t.write("generation_config.json", '{"bos_token_id": 5, "eos_token_id": 895}')
  local elsewhere = in_folder(path:match("^(.*)/"))
  local model = { config = { bos_token_id = 4 } }
  t.contains(require("ft.special_tokens").settle(model, elsewhere)[1], "and the tokenizer names none: both stay as they are")
  t.equal(model.config.bos_token_id, 4)
  t.equal(model.generation_ids, nil)
end)

test.case("a plan that names a special token says it in both files", function(t)
  local path = t.write("generation_config.json", '{"eos_token_id": 7}')
  local elsewhere = in_folder(path:match("^(.*)/"))
  local model = { config = {}, special_tokens = { eos_token = "<|im_end|>" } }
  t.equal(#require("ft.special_tokens").settle(model, elsewhere), 1)
  t.equal(model.config.eos_token_id, tokenizer:eos_id())
  t.equal(model.generation_ids.eos_token_id, { tokenizer:eos_id(), 7 })
end)
