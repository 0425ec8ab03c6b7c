--- Modules whose forward is Lua: recipes/custom_model.lua as it stands, and what goes wrong in one's own.
local native = require "ft.native"
local nn = require "ft.nn"
local test = require "ft.test"

local function metrics(t, run)
  local rows = {}
  for line in t.read(run .. "/metrics.jsonl"):gmatch "[^\n]+" do rows[#rows + 1] = native.parse_json(line) end
  return rows
end

test.case("recipes/custom_model.lua has the losses of native blocks, and spends under 2% of a step in Lua", function(t)
  local recipe = t.here .. "/../../recipes/custom_model.lua"
  local runs = {}
  for _, kind in ipairs { "lua", "native" } do
    local run = t.folder .. "/" .. kind
    local flag = kind == "native" and "--native" or "--no-native"
    local output, code = t.program("run", recipe, "--nproc", "2", "--steps", "4", "--dim", "64", "--out", run, flag)
    t.truthy(code == 0, output)
    runs[kind] = metrics(t, run)
  end
  local in_lua, seconds = 0, 0
  for i = 1, 4 do
    local row = runs.lua[i]
    t.equal(row.loss, runs.native[i].loss)
    t.equal(row.grad_norm, runs.native[i].grad_norm)
    t.truthy(row.lua_seconds > 0, "lua_seconds is measured")
    t.equal(runs.native[i].lua_seconds, nil)
    in_lua, seconds = in_lua + row.lua_seconds, seconds + row.seconds
  end
  t.equal(runs.lua[4].val_loss, runs.native[4].val_loss)
  t.truthy(runs.lua[4].loss < runs.lua[1].loss, "the model learns")
  t.truthy(in_lua < 0.02 * seconds, ("got %.4f of %.4f s in Lua"):format(in_lua, seconds))

  local merged = t.folder .. "/lua/merged-4"
  t.equal(native.read_json(merged .. "/config.json").model_type, "custom_decoder")
  local weights = t.read(merged .. "/model.safetensors")
  for _, name in ipairs { "embed", "layers.0.norm1", "layers.2.attn.q", "layers.2.mlp.down", "norm" } do
    t.contains(weights, '"' .. name .. '.weight"')
  end
  t.equal(weights, t.read(t.folder .. "/native/merged-4/model.safetensors"))
  local output, code = t.program("generate", merged, "--prompt", "x")
  t.equal(code, 1)
  t.contains(output, "model.config.model_type: got 'custom_decoder', which has no description")
  output, code = t.program("generate", t.folder .. "/lua", "--prompt", "x")
  t.equal(code, 1)
  t.contains(output, "layers.0: its forward is the Lua module 'Block', which only its recipe states")
end)

local frame = [[
local ft = require "ft"
local nn, named = ft.nn, function(name, block) block.name = name return block end
local Block = nn.module("Block", function(m, c)
%s
end)
nn.declare("own", function(c)
  return nn.decoder { embedding = nn.embedding { c.vocab_size, c.hidden_size }, layers = %s,
                      head = { norm = nn.rmsnorm { c.hidden_size }, tied = true } }
end)
local plan = ft.plan {
  model     = ft.scratch { ft.config { model_type = "own", vocab_size = 64, hidden_size = 32, intermediate_size = 64,
                                       num_hidden_layers = 2, num_attention_heads = 4 }, compute = "fp32" },
  data      = { train = ft.tokenized { "%s/rows.jsonl", seq_len = 32 } },
  parallel  = "single",
  activation_checkpointing = %s,
  optimizer = ft.sgd { lr = 0.1 },
  batch     = { total = 4, micro = 2 },
  max_steps = 3,
  save      = { dir = "%s/run", final = "huggingface" },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm, bytes = collectgarbage "count" }
end
run:finish()
]]

--- Runs the recipe with this body of Block's constructor, in two layers or in these. @return output, exit code, metrics
local function run_block(t, body, checkpointing, layers)
  local lines = {}
  for i = 1, 12 do
    local ids = {}
    for j = 1, 8 + i do ids[j] = (i * 7 + j * 5) % 64 end
    lines[i] = '{"input_ids": [' .. table.concat(ids, ", ") .. "]}\n"
  end
  t.write("rows.jsonl", table.concat(lines))
  layers = layers or "{ Block(c), Block(c) }"
  local recipe = t.write("own.lua", frame:format(body, layers, t.folder, tostring(checkpointing or false), t.folder))
  os.execute("rm -rf '" .. t.folder .. "'/run*")
  local output, code = t.program("run", recipe)
  return output, code, code == 0 and metrics(t, t.folder .. "/run-1") or nil
end

local with_parameter = [[
  m.norm = nn.rmsnorm { c.hidden_size }
  m.up = nn.linear { c.hidden_size, 2 * c.hidden_size }
  m.down = nn.linear { 2 * c.hidden_size, c.hidden_size }
  m.gain = nn.parameter { shape = { c.hidden_size }, init = "ones" }
  m.half = 0.5
  function m:forward(x, ctx)
    local h = ft.aten.gelu(self.up(self.norm(x, ctx), ctx), { approximate = "tanh" })
    return x + self.down(h, ctx) * self.gain * self.half
  end]]

test.case("parameters and ATen ops of a module's own train, with and without checkpointing alike", function(t)
  local output, code, plain = run_block(t, with_parameter)
  t.truthy(code == 0, output)
  t.truthy(plain[3].loss < plain[1].loss, "the model learns")
  t.contains(t.read(t.folder .. "/run-1/merged-3/model.safetensors"), '"layers.1.gain"')
  local _, _, again = run_block(t, with_parameter, true)
  for i = 1, 3 do
    t.equal(again[i].loss, plain[i].loss)
    t.equal(again[i].grad_norm, plain[i].grad_norm)
  end
end)

test.case("a forward's faults are told with their line, and with the module", function(t)
  for body, wanted in pairs {
    ["  function m:forward(x) return x:sum() end"] =
      "layers.0 (Block): forward returned [] fp32, want [2, 64, 32] fp32, as it was given",
    ["  function m:forward(x) return x:to { dtype = 'fp64' } end"] = "layers.0 (Block): forward returned [2, 64, 32] fp64, want",
    ["  function m:forward() end"] = "layers.0 (Block): forward returned nothing, want a tensor",
    ["  function m:forward(x) return x + self.missing end"] = "own.lua:4",
    ["  function m:forward(x) error 'by hand' end"] = "own.lua:4: by hand",
    ["  m.norm = nn.rmsnorm { c.hidden_size }\n  function m:forward(x) local y = self.norm(x) return y end"] =
      "own.lua:5: a module is called with (x, ctx): the context is missing",
    ["  function m:forward(x, ctx) if m.kept then return m.kept + x end m.kept = x return x end"] =
      "a tensor of a forward is used after the forward has ended",
    ["  m.norm = nn.rmsnorm { c.hidden_size }"] = "nn.module Block.forward: is missing",
    ["  m.a = nn.rmsnorm { c.hidden_size } m.a = nn.rmsnorm { 3 }"] = "nn.module Block.a: is assigned twice",
    ["  m.a = { nn.rmsnorm { 3 } }"] = "nn.module Block.a: got a list of blocks",
    ["  m.a = nn.parameter { shape = { 3 }, init = 'noise' } function m:forward(x) return x end"] =
      "layers.0.a: got init 'noise', want zeros, ones or normal",
  } do
    local output, code = run_block(t, body)
    t.equal(code, 1)
    t.contains(output, wanted)
  end
end)

test.case("a module among native blocks is called by the name that it is given", function(t)
  local layers = [[{ nn.chain { name = "model.layers.0", nn.residual { named("norm", Block(c)),
    nn.linear { name = "fc", ["in"] = c.hidden_size, out = c.hidden_size } } } }]]
  local output, code = run_block(t, [[
    m.weight = nn.parameter { shape = { c.hidden_size }, init = "ones" }
    m.bias = nn.parameter { shape = { c.hidden_size } }
    function m:forward(x) return x * self.weight + self.bias end]], false, layers)
  t.truthy(code == 0, output)
  local weights = t.read(t.folder .. "/run-1/merged-3/model.safetensors")
  for _, name in ipairs { "norm.weight", "norm.bias", "fc.weight" } do
    t.contains(weights, '"model.layers.0.' .. name .. '"')
  end
end)

test.case("sizes without names spell what names spell", function(t)
  local rope = { theta = 10000.0 }
  local function linear(name, from, to)
    return { type = "linear", name = name, ["in"] = from, out = to, bias = false, init_std = 0.02 }
  end
  t.equal(nn.attention { 32, heads = 4, kv_heads = 2 }, {
    type = "attention", heads = 4, kv_heads = 2, head_dim = 8, rope = rope, window = 0, q = linear("q", 32, 32),
    k = linear("k", 32, 16), v = linear("v", 32, 16), o = linear("o", 32, 32),
  })
  t.equal(nn.swiglu { 32, hidden = 48 }, {
    type = "swiglu", gate = linear("gate", 32, 48), up = linear("up", 32, 48), down = linear("down", 48, 32),
  })
  t.raises(function() nn.rmsnorm { dim = 3 } end, "nn.rmsnorm: key 'name' is missing")
  t.raises(function() nn.swiglu { 3, hiden = 4 } end, "nn.swiglu: key 'hidden' is missing")
  t.raises(function() nn.attention { 32, heads = 4, dropout = 1 } end, "nn.attention: unknown key 'dropout'")
end)
