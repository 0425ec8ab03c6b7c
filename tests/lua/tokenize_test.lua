-- What `ftengine tokenize` prints, and what --debug shows of a data set.
local native = require "ft.native"
local test = require "ft.test"

local function output(t, arguments, rows)
  local path = t.write("rows.jsonl", rows)
  local pipe = io.popen(("'%s' tokenize %s < '%s' 2>&1"):format(native.host().program, arguments, path))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local talk = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}, '
  .. '{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}\n'
  .. '{"messages": [{"role": "user", "content": "q", "train": true}, {"role": "assistant", "content": null, '
  .. '"reasoning_content": "hm", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}, '
  .. '{"role": "tool", "content": "3"}, {"role": "assistant", "content": "3"}]}\n'
--- Prints what is called for in reasoning and in calls, and ends every turn alike.
local template = [[
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or '' }}
{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}]]

--- The tokens of each row that are learned, joined.
local function learned(text)
  local rows = {}
  for line in text:gmatch("[^\n]+") do
    local id, label, token = line:match("^ +(%d+) +(%-?%d+)  \"(.*)\"$")
    if line:match("^row %d") then
      rows[#rows + 1] = ""
    elseif id and label ~= "-100" then
      assert(id == label, line)
      rows[#rows] = rows[#rows] .. token:gsub("\\n", "\n"):gsub('\\"', '"')
    end
  end
  return rows
end

test.case("ids, and texts of ids, one row a line", function(t)
  t.equal(output(t, "recipes/demo/model --decode", '{"text": "Hello <|im_end|>"}\n"Hello"\n{"ids": [621, 895]}\n'),
    '{"ids": [621, 220, 895], "text": "Hello <|im_end|>"}\n{"ids": [621], "text": "Hello"}\n'
    .. '{"ids": [621, 895], "text": "Hello<|im_end|>"}\n')
  t.contains(output(t, "recipes/demo/model", '"a"\n{"txt": 1}\n'), "stdin:2")
end)

test.case("special tokens are those of the file, or left out", function(t)
  local folder = "tests/golden/text_kinds/llama2"
  t.equal(output(t, folder, '""\n'), '{"ids": [1]}\n')
  t.equal(output(t, folder .. " --no-special --threads 2", '""\n'), '{"ids": []}\n')
end)

test.case("a pair of texts stands where the template has it", function(t)
  local folder = "tests/golden/text_kinds/llama2" -- <s> $A <s> $B
  t.equal(output(t, folder, '{"text": "", "pair": "<|end|>"}\n'), '{"ids": [1, 1, 556]}\n')
  t.equal(output(t, folder .. " --no-special", '{"text": "<|end|>", "pair": "<|end|>"}\n'), '{"ids": [556, 556]}\n')
  t.contains(output(t, folder, '{"text": "a", "pair": null}\n'), "want a second text")
end)

test.case("a SentencePiece model is read where there is no tokenizer.json", function(t)
  t.equal(output(t, "tests/golden/sentencepiece/llama", '""\n'), '{"ids": [1]}\n')
  t.equal(output(t, "tests/golden/sentencepiece/llama --no-special --decode", '{"ids": [1, 436, 438]}\n'),
    '{"ids": [1, 436, 438], "text": "<s> a"}\n')
end)

test.case("--debug shows the tokens that are learned: turns, roles, reasoning, calls", function(t)
  local folder = t.write("tokenizer.json", io.open("recipes/demo/model/tokenizer.json"):read("*a")):match("(.*)/")
  t.write("chat_template.jinja", template)
  local call = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
  local shown = output(t, folder .. " --debug", talk)
  t.equal(learned(shown), { "d<|im_end|>", "q<|im_end|><think>hm</think>" .. call .. "<|im_end|>3<|im_end|>" })
  t.contains(shown, "row 2 (line 2): ")
  t.equal(learned(output(t, folder .. " --debug --last", talk)), { "d<|im_end|>", "3<|im_end|>" })
  t.equal(learned(output(t, folder .. " --debug --roles tool", talk)), { "q<|im_end|>3<|im_end|>" }) -- nothing of the first
end)
