-- A decoder of one's own, whose forward is Lua, trained from scratch on two ranks and merged into one directory.
--   ftengine run recipes/custom_model.lua
-- docs/models.md explains it. `--native` states the same decoder from native blocks: the losses are the same.
local ft = require "ft"
local nn = ft.nn

local opt = ft.options {
  tokenizer = { "path",    default = "recipes/demo/model", help = "directory with its tokenizer.json" },
  data      = { "path",    default = "recipes/demo/train.jsonl", help = "rows of messages" },
  out       = { "output",  default = "runs/custom_model" },
  dim       = { "integer", default = 128, above = 0 },
  layers    = { "integer", default = 3, above = 0 },
  seq_len   = { "integer", default = 256, at_least = 2 },
  rows      = { "integer", default = 8, above = 0, help = "rows a step over all ranks" },
  steps     = { "integer", default = 200, above = 0 },
  lr        = { "number",  default = 4e-3, above = 0 },
  native    = { "boolean", default = false, help = "state the layers without Lua" },
  parallel  = { "profile", default = "fsdp2" },
}

local Block = nn.module("Block", function(m, c)        -- runs once a layer, on no device
  m.norm1 = nn.rmsnorm { c.hidden_size }               -- the order of assignment is the order of the children,
  m.attn  = nn.attention { c.hidden_size, heads = c.num_attention_heads, kv_heads = c.num_key_value_heads }
  m.norm2 = nn.rmsnorm { c.hidden_size }               -- and their names are those of the weights on disk
  m.mlp   = nn.swiglu { c.hidden_size, hidden = c.intermediate_size }
  function m:forward(x, ctx)                           -- x [B, T, D] -> [B, T, D]
    x = x + self.attn(self.norm1(x, ctx), ctx)
    return x + self.mlp(self.norm2(x, ctx), ctx)
  end
end)

local function native_block(c)                         -- the same, stated from blocks alone
  local norm1, norm2 = nn.rmsnorm { c.hidden_size }, nn.rmsnorm { c.hidden_size }
  local attn = nn.attention { c.hidden_size, heads = c.num_attention_heads, kv_heads = c.num_key_value_heads }
  local mlp = nn.swiglu { c.hidden_size, hidden = c.intermediate_size }
  norm1.name, attn.name, norm2.name, mlp.name = "norm1", "attn", "norm2", "mlp"
  return nn.chain { nn.residual { norm1, attn }, nn.residual { norm2, mlp } }
end

nn.declare("custom_decoder", function(c)               -- what this model_type means while this recipe runs
  local layers = {}
  for i = 1, c.num_hidden_layers do layers[i] = opt.native and native_block(c) or Block(c) end
  return nn.decoder { embedding = nn.embedding { c.vocab_size, c.hidden_size }, layers = layers,
                      head = { norm = nn.rmsnorm { c.hidden_size }, tied = true } }
end)

local plan = ft.plan {
  model     = ft.scratch { ft.config { model_type = "custom_decoder", vocab_size = 896, hidden_size = opt.dim,
                                       intermediate_size = 4 * opt.dim, num_hidden_layers = opt.layers,
                                       num_attention_heads = 4, num_key_value_heads = 2 },
                           tokenizer = opt.tokenizer, compute = "fp32" },
  data      = { train = ft.chat { opt.data, seq_len = opt.seq_len, pack = true, split = "train" },
                val   = ft.chat { opt.data, seq_len = opt.seq_len, pack = true, split = 0.05 } },
  parallel  = opt.parallel,
  optimizer = ft.adamw { lr = opt.lr, weight_decay = 0.01, schedule = ft.cosine { warmup = 0.03 } },
  batch     = { total = opt.rows, micro = 4 },
  max_steps = opt.steps,
  save      = { dir = opt.out, final = "huggingface" },
}

local run = plan:start()
for step, window in run:steps() do
  local tokens = run:sum(window:tokens())              -- of all ranks: packed rows hold unequal numbers of labels
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()                                         -- its row of metrics tells lua_seconds, the step's time in Lua
  run:log { step = step, loss = run:sum(loss), grad_norm = norm, lr = run.lr }
end
run:log { val_loss = run:evaluate("val").loss }
run:finish()
