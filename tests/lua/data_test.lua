local test = require "ft.test"
local data = require "ft.data"
local native = require "ft.native"
local tokenizer = native.tokenizer("recipes/demo/model")

local config = { vocab_size = 1024 }

--- A data set's rows as { text of all tokens, text of what is learned }.
local function texts(split)
  split.seq_len, split.too_long = split.seq_len or 0, split.too_long or "truncate"
  local rows, file = data.read(split, config, tokenizer, { seed = 1 })
  local out, i, row = {}, 1, rows:row(1)
  while row do
    local learned = {}
    for k, id in ipairs(row.ids) do if row.labels[k] >= 0 then learned[#learned + 1] = id end end
    out[i] = { tokenizer:decode(row.ids, false), tokenizer:decode(learned, false) }
    i = i + 1
    row = rows:row(i)
  end
  return out, file, rows
end

test.case("segments are learned where their labels say so, and nothing is added", function(t)
  local path = t.write("s.jsonl", '{"segments": [{"label": false, "text": "ask: a"}, {"label": true, "text": " b"}]}\n')
  local row = texts({ kind = "segments", path = path })[1]
  t.equal(row[1], "ask: a b")
  t.equal(row[2], " b")
end)

test.case("chats may have names of their own, in every format", function(t)
  local path = t.write("c.jsonl", '{"dialog": [{"who": "me", "says": "a"}, {"who": "bot", "says": "b"}]}\n')
  for _, format in ipairs { "template", "chatml" } do
    local row = texts({
      kind = "chat", path = path, format = format, field_messages = "dialog", message_field_role = "who",
      message_field_content = "says", roles = { user = { "me" }, assistant = { "bot" } },
    })[1]
    t.equal(row[2], "b<|im_end|>")
    t.contains(row[1], "user\na<|im_end|>")
  end
end)

test.case("instructions are read from CSV, with a prompt of one's own", function(t)
  local path = t.write("q.csv", "question,answer,topic\n\"a, b\",c,x\n")
  local row = texts({ kind = "alpaca", path = path, format = "[{topic}] {instruction}? ", mask_prompts = true })[1]
  t.equal(row[1], "[x] a, b? c<|im_end|>")
  t.equal(row[2], " c<|im_end|>")
end)

test.case("a list of files is read in order, weights and all", function(t)
  local a, b = t.write("a.txt", "one\n\ntwo\n"), t.write("b.jsonl", '{"text": "three"}\n')
  local split = { kind = "completion", field = "text", path = { a, { path = b, weight = 2 } } }
  local rows = texts(split)
  t.equal(#rows, 4)
  t.equal(rows[2][1], "two<|im_end|>")
  t.equal(rows[4][1], "three<|im_end|>")
  t.equal(data.path_text(split), a .. ", " .. b .. " x 2")
end)

test.case("tokens are kept once for all that they depend on", function(t)
  local path = t.write("k.jsonl", '{"text": "one"}\n{"text": "two"}\n')
  local cache = path .. ".cache"
  local function read(options)
    local split = { kind = "completion", field = "text", path = path, cache = cache }
    for key, value in pairs(options or {}) do split[key] = value end
    return texts(split)
  end
  local rows, file = read()
  t.equal(file, nil) -- nothing was ever kept
  local kept, first = read { streaming = true }
  t.equal(kept[2][1], rows[2][1])
  t.equal(kept[2][2], rows[2][2])
  t.contains(first, cache)
  t.equal(select(2, read()), first) -- from now on every run uses them
  t.equal(select(2, read { pack = true, shuffle = false }), first)
  t.truthy(select(2, read { seq_len = 8, streaming = true }) ~= first)
  t.equal(select(2, read { seq_len = 9 }), nil)
  t.write("k.jsonl", '{"text": "one"}\n{"text": "TWO"}\n')
  t.equal(select(2, read()), nil)
  t.equal(read { streaming = true }[2][1], "TWO<|im_end|>")
  os.execute("rm -rf '" .. cache .. "'")
end)

test.case("preprocess fills the cache that a run then maps", function(t)
  local path = t.write("p.jsonl", ('{"input_ids": [1, 2, 3, 4, 5, 6]}\n'):rep(20))
  local cache, out = path .. ".cache", path .. ".run"
  local recipe = t.write("p.lua", ([[
    local ft = require "ft"
    local plan = ft.plan {
      model = ft.scratch { ft.config { model_type = "llama", vocab_size = 64, hidden_size = 32, intermediate_size = 64,
                                       num_hidden_layers = 1, num_attention_heads = 4 } },
      data = { train = ft.tokenized { %q, seq_len = 16, cache = %q } },
      parallel = "single", optimizer = ft.adamw { lr = 1e-3 }, batch = { total = 2 }, max_steps = 1, save = { dir = %q },
    }
    local run = plan:start()
    for step, window in run:steps() do
      local tokens = run:sum(window:tokens())
      for batch in window:each() do run:backward(batch, tokens) end
      run:update()
      print("trained", step, tokens)
    end
    ]]):format(path, cache, out))
  local function call(command)
    local pipe = io.popen(("'%s' %s '%s' 2>&1"):format(native.host().program, command, recipe))
    local said = pipe:read("*a")
    pipe:close()
    return said
  end
  local before = call("run")
  t.contains(before, "trained\t1")
  t.truthy(not before:find("mapped from", 1, true))
  local made = call("preprocess")
  t.contains(made, "mapped from " .. cache)
  t.contains(made, "20 documents in 10 rows of 16")
  t.truthy(not made:find("trained\t1", 1, true))
  local after = call("run")
  t.contains(after, "mapped from " .. cache)
  t.contains(after, "trained\t1")
  os.execute(("rm -rf '%s' '%s'*"):format(cache, out))
end)
