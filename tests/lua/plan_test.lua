local ft = require "ft"
local test = require "ft.test"
local native = require "ft.native"

local recipe = [[
local ft = require "ft"
local opt = ft.options { lr = { "number", default = 1e-3, above = 0 }, parallel = { "profile", default = "single" } }
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "llama", hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1,
    num_attention_heads = 2, vocab_size = 64, max_position_embeddings = 64 } },
  data = { train = ft.tokenized { "rows.jsonl", seq_len = 32 } },
  parallel = opt.parallel,
  optimizer = ft.adamw { lr = opt.lr },
  batch = { total = 4 },%s
}
%s
plan:start()
]]

local function check(t, more, after, ...)
  local file = t.write("recipe.lua", recipe:format(more or "", after or ""))
  local output, code = t.program("check", file, ...)
  return output:gsub(t.folder, "DIR"), code
end

test.case("a constructor fills in defaults and keeps what is given", function(t)
  local lora = ft.lora { r = 4 }
  t.equal(lora.r, 4)
  t.equal(lora.alpha, 32)
  t.equal(lora.target_modules, "all-linear")
  t.equal(lora.kind, "lora")
end)

test.case("faults of a constructor wait for the plan, and all come together by line", function(t)
  local output, code = check(t, [[

  epochs = -1, adapter = ft.lora { dropuot = 0.1 },
  activation_checkpointing = "yes",]])
  t.equal(code, 1)
  local lora = output:find("ft.lora: unknown key 'dropuot'", 1, true)
  local epochs = output:find("epochs: got -1, want above 0", 1, true)
  local checkpointing = output:find("activation_checkpointing: got string 'yes', want integer or boolean", 1, true)
  t.truthy(lora and epochs and checkpointing and lora < checkpointing and epochs < checkpointing, output)
  t.contains(output, "DIR/recipe.lua:10: ft.lora: unknown key 'dropuot'")
  t.contains(output, "did you mean 'dropout'?")
end)

test.case("a plan that holds is reported, and starts nothing", function(t)
  local output, code = check(t)
  t.equal(code, 0)
  t.contains(output, "ok: ")
end)

test.case("a flag sets an option, and a message blames it", function(t)
  local output, code = check(t, nil, nil, "--lr", "0")
  t.equal(code, 1)
  t.equal(output, "--lr: got 0, want above 0\n")
end)

test.case("an unknown flag leaves with 2 and names the nearest", function(t)
  local output, code = check(t, nil, nil, "--rl", "0")
  t.equal(code, 2)
  t.contains(output, "unknown flag '--rl'")
  t.contains(output, "did you mean '--lr'?")
end)

test.case("--set reaches into a profile, and its value is blamed", function(t)
  local output, code = check(t, nil, nil, "--set", "parallel.prefetch=7")
  t.equal(code, 1)
  t.contains(output, "--set parallel.prefetch: parallel.prefetch: got string '7', want boolean")
end)

test.case("--set reads the value of a key's older name as that key's", function(t)
  local output, code = check(t, nil, nil, "--nproc", "2", "--set", "parallel.sequence_parallel_degree=2")
  t.truthy(code == 0, output)
  t.contains(output, "{ shard = 1, context = 2 }")
end)

test.case("a config file fills options; its unknown keys are blamed by line", function(t)
  local config = t.write("c.yaml", "lr: 0.5\nlrr: 1\n")
  local output, code = check(t, nil, nil, "--config", config)
  t.equal(code, 1)
  t.contains(output, "DIR/c.yaml:2: unknown key 'lrr'")
  t.contains(output, "did you mean 'lr'?")
end)

test.case("a profile's own lines are blamed", function(t)
  local profile = t.write("p.yaml", "fsdp_version: 2\ncpu_offload_pin_memory: false\n")
  local output, code = check(t, nil, nil, "--parallel", profile)
  t.equal(code, 1)
  t.contains(output, "DIR/p.yaml:2: parallel.cpu_offload_pin_memory: false needs parallel.offload_params = true")
  t.contains(output, "rule: fsdp2.pin_memory_needs_offload")
end)

test.case("a key that has been renamed is read with a warning", function(t)
  local profile = t.write("p.yaml", "fsdp_version: 2\nfsdp_offload_params: true\n")
  local output, code = check(t, nil, nil, "--parallel", profile)
  t.equal(code, 0)
  t.contains(output, "parallel.fsdp_offload_params: renamed in FSDP2; read as parallel.offload_params (warning)")
end)

test.case("a rule of one's own is blamed by its sentence and line", function(t)
  local output, code = check(t, nil, 'plan:rule("rows are few", function(p) return p.batch.total < 4, "lower batch.total" end)')
  t.equal(code, 1)
  t.contains(output, "DIR/recipe.lua:11: plan:rule: rows are few")
  t.contains(output, "help: lower batch.total")
end)

test.case("a rule that needs data says so in check", function(t)
  local output, code = check(t, nil, 'plan:rule("enough tokens", function(p) return p.tokens > 1 end)')
  t.equal(code, 0)
  t.contains(output, "needs data   enough tokens")
end)

test.case("rows that ranks cannot share evenly are refused with numbers", function(t)
  local output, code = check(t, nil, nil, "--nproc", "3")
  t.equal(code, 1)
  t.contains(output, "batch.total: got 4, want a multiple of batch.micro * ranks = 1 * 3")
end)

test.case("axes that do not make the ranks are refused with a mesh that would", function(t)
  local profile = t.write("mesh.yaml", "fsdp_version: 2\nmesh: { shard: 2, tensor: 2 }\n")
  local output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "6")
  t.equal(code, 1)
  t.contains(output, "DIR/mesh.yaml:2: parallel.mesh: { shard = 2, tensor = 2 } makes 4 ranks, but there are 6")
  t.contains(output, "help: write mesh = { shard = 3, tensor = 2 } for 6 ranks, or start 4 (--nproc)")
  output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "4")
  t.truthy(code == 0, output)
  t.contains(output, "mesh.yaml on 4 ranks = { shard = 2, tensor = 2 }")
  t.contains(output, "4 rows: 2 ranks x 1 micro x 2 accumulated")
end)

test.case("what matrices cannot be shared for is refused, with the sizes that fit", function(t)
  local profile = t.write("tp.yaml", "tensor_parallel_size: 3\n")
  local output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "3")
  t.equal(code, 1)
  t.contains(output, "DIR/tp.yaml:1: parallel.tensor_parallel_size: got 3, but model.layers.0.self_attn has 2 heads with")
  t.contains(output, "model.embed_tokens has 64 rows of the vocabulary, which it does not divide")
  t.contains(output, "help: these fit this model: 2; parallel.mesh.shard splits any shape")
  profile = t.write("tp.yaml", "mesh: { tensor: 2 }\n")
  output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "2")
  t.truthy(code == 0, output)
  local root = t.here .. "/../.."
  output, code = t.program("check", root .. "/recipes/qlora_fsdp2.lua", "--model", root .. "/recipes/demo/model",
    "--parallel", profile, "--nproc", "2")
  t.equal(code, 1)
  t.contains(output:gsub("%s+", " "), "got 2, but the NF4 weight model.layers.0.mlp.down_proj [128, 576] would be cut within")
  for _, optimizer in ipairs { "muon", "adafactor" } do
    local file = t.write(optimizer .. ".lua", (recipe:format("", ""):gsub("ft.adamw", "ft." .. optimizer)))
    output, code = t.program("check", file, "--parallel", profile, "--nproc", "2")
    t.equal(code, 1)
    t.contains(output, optimizer .. " looks at whole matrices, which tensor parallelism shares out")
  end
end)

test.case("an axis has the names that other tools give it, and what is left goes to the shard axis", function(t)
  local profile = t.write("p.yaml", "dp_replicate_size: 2\n")
  local output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "4")
  t.truthy(code == 0, output)
  t.contains(output, "on 4 ranks = { replicate = 2, shard = 2 }")
  profile = t.write("p.yaml", "mesh: { tensor: 4 }\ntensor_parallel_size: 2\n")
  output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "4")
  t.equal(code, 1)
  t.contains(output, "DIR/p.yaml:2: parallel.tensor_parallel_size: got 2, but mesh.tensor is 4")
  profile = t.write("p.yaml", "sequence_parallel_degree: 2\n")
  output = check(t, nil, nil, "--parallel", profile, "--nproc", "4")
  t.contains(output, "is called context_parallel_size here")
end)

test.case("ranks that share a row are refused where it is too short, or heads cannot be shared out", function(t)
  local profile = t.write("p.yaml", "context_parallel_size: 20\n")
  local output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "20")
  t.equal(code, 1)
  t.contains(output, "DIR/p.yaml:1: parallel.context_parallel_size: got 20, but a row of data.train has 32 tokens")
  t.contains(output, "write context_parallel_size = 16 or less, or raise seq_len")
  profile = t.write("p.yaml", "sequence_parallel_degree: 4\ncontext_method: ulysses\n")
  output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "4")
  t.equal(code, 1)
  t.contains(output, "parallel.context_parallel_size: got 4, but ulysses shares out 2 heads and 2 key-value heads")
  t.contains(output, 'write context_parallel_size = 2, or context_method = "ring", which takes any')
  output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "4", "--set", "parallel.context_method=ring")
  t.truthy(code == 0, output)
  t.contains(output, "is called context_parallel_size here; read as parallel.context_parallel_size (warning)")
  t.contains(output, "4 rows: 1 ranks x 1 micro x 4 accumulated")
end)

test.case("a number of ranks to reshard over divides those that there are", function(t)
  local profile = t.write("p.yaml", "reshard_after_forward: 3\n")
  local output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "4")
  t.equal(code, 1)
  t.contains(output, "DIR/p.yaml:1: parallel.reshard_after_forward: got 3, want true, false or a number that divides the 4")
  t.contains(output, "help: numbers that do: 1, 2, 4")
  profile = t.write("p.yaml", "reshard_after_forward: 2\n")
  output, code = check(t, nil, nil, "--parallel", profile, "--nproc", "4")
  t.truthy(code == 0, output)
  t.contains(output, "everything split, resharded over 2 after forward")
end)

test.case("the class of layers to wrap is the model's", function(t)
  local profile = t.write("p.yaml", "transformer_layer_cls_to_wrap: Qwen3DecoderLayer\n")
  local output, code = check(t, nil, nil, "--parallel", profile)
  t.equal(code, 1)
  t.contains(output, "DIR/p.yaml:1: parallel.transformer_layer_cls_to_wrap: got 'Qwen3DecoderLayer', but the layers of this "
    .. "model are LlamaDecoderLayer")
  t.contains(output, "help: write transformer_layer_cls_to_wrap: LlamaDecoderLayer, or leave it away")
  profile = t.write("p.yaml", "fsdp_transformer_layer_cls_to_wrap: [LlamaDecoderLayer]\n")
  output, code = check(t, nil, nil, "--parallel", profile)
  t.truthy(code == 0, output)
  profile = t.write("p.yaml", "auto_wrap_policy: NO_WRAP\ntransformer_layer_cls_to_wrap: LlamaDecoderLayer\n")
  output, code = check(t, nil, nil, "--parallel", profile)
  t.equal(code, 1)
  t.contains(output, "DIR/p.yaml:2: parallel.transformer_layer_cls_to_wrap: has no meaning with auto_wrap_policy: NO_WRAP")
end)

test.case("rows longer than the model's positions are refused", function(t)
  local file = t.write("recipe.lua", (recipe:format("", "")):gsub("seq_len = 32", "seq_len = 65"))
  local output, code = t.program("check", file)
  t.equal(code, 1)
  t.contains(output, "data.train.seq_len: got 65, want at most the model's max_position_embeddings = 64")
end)

test.case("what is measured is read in rows as long as what is trained on", function(t)
  local text = recipe:format("", ""):gsub("data = {", 'data = { val = ft.tokenized { "rows.jsonl" },')
  local output, code = t.program("check", t.write("recipe.lua", text))
  t.equal(code, 0) -- 2048, the default of training data, would not fit the model
  t.contains(output, "(tokenized, seq_len 32, packed)\n  val")
end)

test.case("mixed tables, functions and lists with holes are refused by their path", function(t)
  t.raises(function() ft.lora { target_modules = { "q_proj", x = 1 } } end,
    "ft.lora.target_modules: mixes named and unnamed values")
  t.raises(function() ft.lora { r = print } end, "ft.lora.r: got function, want plain data")
  t.raises(function() ft.lora { target_modules = { "a", nil, "b" } } end, "ft.lora.target_modules")
end)

test.case("misspelt members of ft and of the options are named", function(t)
  t.raises(function() return ft.lroa end, "did you mean 'ft.lora'?")
end)

test.case("an error is a table with its parts", function(t)
  local raised = t.raises(function() native.read_json("/nowhere/config.json") end)
  t.equal(raised.kind, "io")
  t.contains(raised.where .. raised.message, "/nowhere/config.json")
end)

test.case("every built-in option has a sentence of documentation", function(t)
  for _, name in ipairs(native.schema_names()) do
    local schema = native.schema(name)
    t.truthy(#schema.doc > 10, name)
    for _, option in ipairs(schema.options) do t.truthy(#option.doc > 10, name .. "." .. option.key) end
  end
end)

test.case("every profile passes its schema and the rules, and says when to choose it, what it requires and costs", function(t)
  local folder, seen = t.here .. "/../../configs/profiles", 0
  for _, file in ipairs(native.list_folder(folder)) do
    local profile = file:match("([%w_]+)%.yaml$")
    local output, code = check(t, nil, nil, "--parallel", profile)
    t.truthy(code == 0, output)
    local header = t.read(folder .. "/" .. profile .. ".yaml"):match("^#.-\n[^#]")
    for _, word in ipairs { "Choose it", "Requires:", "Costs:" } do t.contains(header, word) end
    seen = seen + 1
  end
  t.truthy(seen >= 16)
end)
