--- The YAML dialect from the command line: training, flags, environment variables, the hub's cache, files that are built in.
local native = require "ft.native"
local test = require "ft.test"

local rows = "datasets: [{ path: recipes/demo/train.jsonl, type: chat_template, split: \"train[:8]\" }]\n"
local base = "base_model: recipes/demo/model\n" .. rows .. "sequence_len: 64\nlearning_rate: 2e-4\n"

local function config(t, more) return t.write("config.yml", base .. (more or "")) end

test.case("the block of the swap request is trained, offloaded and pageable", function(t)
  local output, code = t.program("run", "tests/configs/valid/now_viable.yml", "--nproc", "2", "--output-dir", t.folder .. "/out")
  t.truthy(code == 0, output)
  t.contains(output, "note: qlora_sharded_model_loading is accepted")
  t.contains(output, "of it offloaded to the host")
  t.truthy(output:match "of it page%-locked +0 B", output)
  t.contains(output, "Loading & Quantizing Model Shards")
  local plan = native.read_json(t.folder .. "/out/plan.json")
  t.equal(plan.parallel.offload_params, true)
  t.equal(plan.parallel.cpu_offload_pin_memory, false)
  t.equal(plan.model.quantize, "nf4")
  t.equal(native.exists(t.folder .. "/out/checkpoint-2/manifest.json"), "file")
  t.equal(native.exists(t.folder .. "/out/merged-2/model.safetensors"), "file")
end)

test.case("the recipe that convert writes trains with the losses of the configuration", function(t)
  local file = config(t, "max_steps: 3\nadapter: lora\nval_set_size: 0.25\nevals_per_epoch: 2\nsave_strategy: \"no\"\n"
    .. "logging_steps: 1\noutput_dir: " .. t.folder .. "/yaml\n")
  local output, code = t.program("convert", file, "-o", t.folder .. "/recipe.lua")
  t.truthy(code == 0, output)
  t.write("recipe.lua", (t.read(t.folder .. "/recipe.lua"):gsub("/yaml\"", "/lua\"")))
  local metrics = {}
  for name, path in pairs { yaml = file, lua = t.folder .. "/recipe.lua" } do
    output, code = t.program("run", path)
    t.truthy(code == 0, output)
    metrics[name] = {}
    for line in t.read(t.folder .. "/" .. name .. "/metrics.jsonl"):gmatch "[^\n]+" do
      local row = native.parse_json(line)
      table.insert(metrics[name], { row.step, row.loss, row.grad_norm, row.lr, row.val_loss })
    end
  end
  t.equal(#metrics.yaml, 3)
  t.equal(metrics.yaml, metrics.lua)
end)

test.case("convert writes the two blocks of the migration guide into one another", function(t)
  local output, code = t.program("convert", "tests/configs/deprecated/fsdp1_to_migrate.yml", "-o", t.folder .. "/new.yml")
  t.truthy(code == 0, output)
  local new = t.read(t.folder .. "/new.yml"):gsub("^#[^\n]*\n", "")
  t.equal(new, (t.read "tests/configs/valid/fsdp2_migrated.yml":gsub("^#[^\n]*\n", "")))
  output, code = t.program("convert", config(t), "-o", t.folder .. "/new.txt")
  t.equal(code, 2)
  t.contains(output, "convert wants -o FILE: recipe.lua, or new.yml")
  output, code = t.program("convert", "tests/configs/wrong/two_warmups.yml", "-o", t.folder .. "/not.lua")
  t.equal(code, 1)
  t.contains(output, "mutually exclusive")
  t.equal(native.exists(t.folder .. "/not.lua"), nil)
end)

test.case("check --json names rule, key, place and help, and gives the normalized plan", function(t)
  local answer = t.check("tests/configs/wrong/unpinned_without_offload.yml", "--nproc", "2")
  t.equal(answer.ok, false)
  t.equal(answer.normalized, nil)
  t.equal(answer.errors, { {
    rule = "dialect.unpin_needs_offload", key = "fsdp_config.cpu_offload_pin_memory",
    where = "tests/configs/wrong/unpinned_without_offload.yml:16",
    message = "disabling cpu_offload_pin_memory requires enabling offload_params",
    help = "set offload_params: true, or remove cpu_offload_pin_memory",
  } })
  answer = t.check "tests/configs/deprecated/batch_size.yml"
  t.equal(answer.ok, true)
  t.equal(answer.normalized.batch.total, 1)
  t.equal(t.refused(answer, "dialect.batch_size_changes_nothing").key, "batch_size")
  answer = t.check(t.write("broken.lua", "local ft = require \"ft\"\nlocal plan = ft.plan {\n"))
  t.contains(answer.errors[1].message, "expected")
end)

test.case("every key is a flag, nested ones with a dot, and a message blames the flag", function(t)
  local file = config(t, "fsdp_version: 2\nfsdp_config:\n  reshard_after_forward: true\n")
  local answer = t.check(file, "--micro-batch-size", "2", "--fsdp-config.offload-params", "--no-sample-packing",
    "--fsdp-config.cpu-offload-pin-memory=false", "--set", "weight_decay=0.5", "--nproc", "2")
  t.truthy(answer.ok, native.to_json(answer))
  local plan = answer.normalized
  t.equal({ plan.batch.micro, plan.batch.total, plan.optimizer.weight_decay }, { 2, 4, 0.5 })
  t.equal({ plan.parallel.offload_params, plan.parallel.cpu_offload_pin_memory }, { true, false })
  answer = t.check(file, "--sequence-len", "4096")
  t.equal({ answer.errors[1].where, answer.errors[1].key }, { "--sequence-len", nil })
  answer = t.check(file, "--fsdp-config.cpu-offload-pin-memory", "False")
  t.contains(answer.errors[1].message, "got string 'False', want boolean")
  local output, code = t.program("check", file, "--micro-batchsize", "2")
  t.equal(code, 2)
  t.contains(output, "did you mean '--micro-batch-size'?")
  answer = t.check(file, "--no-fsdp-config.reshard-after-forward", "--deepspeed", "zero1.json")
  t.refused(answer, "dialect.fsdp_or_deepspeed")
end)

test.case("environment variables say what neither profile nor configuration says, and are named", function(t)
  local set = { ACCELERATE_USE_FSDP = "true", FSDP_VERSION = "2", FSDP_OFFLOAD_PARAMS = " TRUE ",
    FSDP_CPU_OFFLOAD_PIN_MEMORY = "no", FSDP_SYNC_MODULE_STATES = "true" }
  local output, code = t.program(set, "check", config(t))
  t.truthy(code == 0, output)
  for _, line in ipairs { "offloaded, pageable", "environment  FSDP_VERSION fills fsdp_version = 2",
    "environment  FSDP_OFFLOAD_PARAMS fills fsdp_config.offload_params = true",
    "environment  FSDP_SYNC_MODULE_STATES has no effect here: every rank reads its own weights" } do t.contains(output, line) end
  output = t.program(set, "check", config(t, "fsdp_version: 2\nfsdp_config: { offload_params: false }\n"))
  t.contains(output, "disabling cpu_offload_pin_memory requires enabling offload_params")
  t.contains(output, "FSDP_CPU_OFFLOAD_PIN_MEMORY (environment)")
  set.FSDP_CPU_OFFLOAD_PIN_MEMORY = nil
  output = t.program(set, "check", config(t, "fsdp_version: 2\nfsdp_config: { offload_params: false }\n"))
  t.contains(output, "FSDP_OFFLOAD_PARAMS is overruled by fsdp_config.offload_params")
  set.FSDP_VERSION, set.FSDP_CPU_OFFLOAD_PIN_MEMORY = "1", "false"
  output = t.program(set, "check", config(t))
  t.contains(output, "FSDP_CPU_OFFLOAD_PIN_MEMORY is read with FSDP_VERSION=2 alone")
  set.FSDP_OFFLOAD_PARAMS = "maybe"
  output, code = t.program(set, "check", config(t))
  t.equal(code, 1)
  t.contains(output, "FSDP_OFFLOAD_PARAMS (environment): got 'maybe', want true or false")
end)

test.case("values come from the default, the environment, the profile, the recipe and --set, the later the stronger", function(t)
  local recipe = [[
local ft = require "ft"
local plan = ft.plan {
  model = ft.hf { "recipes/demo/model" }, data = { train = ft.chat { "recipes/demo/train.jsonl", seq_len = 64 } },
  parallel = PROFILE, optimizer = ft.adamw { lr = 1e-3 },
}
plan:start()
]]
  local set = { ACCELERATE_USE_FSDP = "1", FSDP_OFFLOAD_PARAMS = "true", FSDP_RESHARD_AFTER_FORWARD = "false" }
  local function offloaded(profile, environment, ...)
    local file = t.write("recipe.lua", (recipe:gsub("PROFILE", profile)))
    local words = { "check", file, ... }
    local output, code = t.program(environment, unpack(words))
    t.truthy(code == 0, output)
    return output:find("offloaded", 1, true) ~= nil, output
  end
  local silent = ("%q"):format(t.write("silent.yaml", "fsdp_version: 2\n"))
  local profile = ("%q"):format(t.write("p.yaml", "fsdp_version: 2\noffload_params: false\n"))
  t.equal(offloaded(silent, {}), false)
  t.equal(offloaded(silent, set), true)
  t.equal(offloaded(profile, set), false)
  local _, output = offloaded(profile, set)
  t.contains(output, "environment  FSDP_OFFLOAD_PARAMS is overruled by parallel.offload_params")
  t.contains(output, "environment  FSDP_RESHARD_AFTER_FORWARD fills parallel.reshard_after_forward = false")
  _, output = offloaded(profile, { ACCELERATE_USE_DEEPSPEED = "yes" })
  t.contains(output, "environment  ACCELERATE_USE_DEEPSPEED names no configuration: write parallel = \"zero2\"")
  local file = t.write("recipe.lua", (recipe:gsub("PROFILE", "opt.parallel"):gsub("local plan",
    "local opt = ft.options { parallel = { \"profile\", default = " .. profile .. " } }\nlocal plan")))
  t.equal(t.check(file).normalized.parallel.offload_params, false)
  t.equal(t.check(file, "--set", "parallel.offload_params=true").normalized.parallel.offload_params, true)
  local wrong = t.check(file, "--set", "parallel.ofload_params=true")
  t.contains(wrong.errors[1].where .. wrong.errors[1].help, "--set parallel.ofload_params")
end)

test.case("a hub name is found in the local cache, or the message says what downloads it", function(t)
  native.make_folder(t.folder .. "/hub/models--me--demo/refs")
  native.make_folder(t.folder .. "/hub/models--me--demo/snapshots/abc")
  t.write("hub/models--me--demo/refs/main", "abc")
  for _, name in ipairs { "config.json", "tokenizer.json", "tokenizer_config.json" } do
    t.write("hub/models--me--demo/snapshots/abc/" .. name, t.read("recipes/demo/model/" .. name))
  end
  local file = t.write("hub.yml", (base:gsub("recipes/demo/model", "me/demo")))
  local output, code = t.program({ HF_HUB_CACHE = t.folder .. "/hub" }, "check", file)
  t.truthy(code == 0, output)
  t.contains(output, "models--me--demo/snapshots/abc")
  output, code = t.program({ HF_HOME = t.folder }, "check", file)
  t.truthy(code == 0, output)
  output, code = t.program({ HF_HUB_CACHE = t.folder .. "/nothing" }, "check", file)
  t.equal(code, 1)
  t.contains(output, "help: download it first: hf download me/demo")
end)

--- The part of a valid configuration's plan that `want` names.
local function says(t, name, block, want)
  local plan = t.check("tests/configs/valid/" .. name .. ".yml").normalized
  local outer, inner = block:match "^(%w*)%.?(%w*)$"
  local part = inner ~= "" and plan[outer][inner] or plan[outer] or plan
  for key, value in pairs(want) do t.equal({ name, key, part[key] }, { name, key, value }) end
end

test.case("keys of adapters, rows and memory arrive in the plan", function(t)
  says(t, "dora", "adapter", {
    use_dora = true, use_rslora = true, layers_to_transform = { 0, 1 }, layers_pattern = "layers",
    rank_pattern = { ["layers.0.mlp.up_proj"] = 16 }, alpha_pattern = { ["layers.0.mlp.up_proj"] = 32 },
  })
  says(t, "loftq", "adapter", { init_lora_weights = "loftq" })
  says(t, "init_loftq", "adapter", { init_lora_weights = "loftq" })
  says(t, "lora", "adapter", { init_lora_weights = true })
  says(t, "modules_to_save", "adapter", { modules_to_save = { "embed_tokens" }, ensure_weight_tying = true })
  says(t, "unfrozen", "", { unfrozen_parameters = { "^model.embed_tokens.weight$", "model.layers.[01].mlp" } })
  says(t, "activation_offloading", "", { activation_checkpointing = true, activation_offload = true })
  says(t, "loraplus_embedding", "optimizer", {
    groups = { { pattern = "lora_B", lr = 16 * 2e-4 }, { pattern = "lora_embedding_", lr = 1e-5 } },
  })
  says(t, "several_datasets", "data.train", {
    path = { "recipes/demo/train.jsonl", "recipes/demo/test.jsonl" }, split = "train",
  })
  says(t, "input_output", "data.train", { kind = "segments" })
  says(t, "fields", "data.train", {
    kind = "chat", field_messages = "dialog", message_field_role = "speaker", message_field_content = "says",
    message_field_training = "learn", field_tools = "functions", roles = { user = { "me", "human" }, assistant = { "bot" } },
  })
  says(t, "own_prompt", "data.train", {
    kind = "alpaca", system_prompt = "Answer in German.", format = "[{system}]\nF: {instruction} ({input})\nA:",
    no_input_format = "[{system}]\nF: {instruction}\nA: ", field_instruction = "frage", field_input = "worum",
    field_output = "antwort",
  })
  says(t, "streaming", "data.train", { streaming = true, cache = "last_run_prepared" })
  says(t, "pretraining_list", "data.train", { kind = "completion", field = "text" })
  says(t, "template_variables", "data.train", { template_variables = { enable_thinking = false } })
end)

test.case("LoftQ in other bits, or more than once, is refused", function(t)
  for _, other in ipairs { "loftq_bits: 8", "loftq_bits: 4, loftq_iter: 2", "loftq_bits: 4, other: 1" } do
    local answer = t.check(config(t, "adapter: qlora\nload_in_4bit: true\npeft: { loftq_config: { " .. other .. " } }\n"))
    t.equal(#answer.errors, 1)
    t.contains(answer.errors[1].message, "otherwise than by LoftQ with four bits, once")
  end
  local answer = t.check(config(t, "adapter: lora\npeft_init_lora_weights: loftq\n"))
  t.equal(answer.errors[1].help, "write adapter: qlora and load_in_4bit: true, or leave it out")
end)

test.case("what is not supported is left out where that is allowed", function(t)
  local file = config(t, "neftune_noise_alpha: 5\nhub_model_id: me/mine\n")
  local answer = t.check(file)
  t.equal(#answer.errors, 2)
  answer = t.check(file, "--allow-unsupported")
  t.truthy(answer.ok, native.to_json(answer))
  t.equal(#answer.warnings, 2)
  answer = t.check(config(t, "neftune_nose_alpha: 5\n"), "--allow-unsupported")
  t.equal(answer.errors[1].help, "did you mean 'neftune_noise_alpha'?")
end)

test.case("rules, profiles and DeepSpeed's files are inside the program", function(t)
  local output, code = t.program "rules"
  t.equal(code, 0)
  t.contains(output, "dialect.unpin_needs_offload")
  output = t.program("rules", "dialect.unpin_needs_offload")
  t.contains(output, "source    Axolotl")
  output, code = t.program("rules", "dialect.unpin_needs_ofload")
  t.equal(code, 1)
  t.contains(output, "did you mean 'dialect.unpin_needs_offload'?")
  output = t.program "profiles"
  t.contains(output, "fsdp2_swap")
  output = t.program("profiles", "fsdp2_swap")
  t.equal(output, t.read "configs/profiles/fsdp2_swap.yaml")
  output, code = t.program("fetch", "deepspeed_configs", "--dest", t.folder .. "/deep/er")
  t.truthy(code == 0, output)
  t.equal(t.read(t.folder .. "/deep/er/zero3_bf16.json"), t.read "configs/deepspeed_configs/zero3_bf16.json")
  t.equal(#native.list_folder(t.folder .. "/deep/er"), 8)
end)

test.case("commands of other engines are named by what does it here", function(t)
  for word, piece in pairs { train = "ftengine run", ["merge-lora"] = "ftengine merge", evaluate = "ftengine eval",
    ["merge-sharded-fsdp-weights"] = "ftengine merge", inference = "ftengine generate" } do
    local output, code = t.program(word, "config.yml")
    t.equal(code, 2)
    t.contains(output, piece)
  end
end)

test.case("a recipe's own rule has an id and a severity, and a warning is switched off by it", function(t)
  local recipe = [[
local ft = require "ft"
local plan = ft.plan {
  model = ft.hf { "recipes/demo/model" }, data = { train = ft.chat { "recipes/demo/train.jsonl", seq_len = 64 } },
  optimizer = ft.adamw { lr = 1e-3 }, parallel = "single",
}
plan:rule("mine.rows", { severity = "SEVERITY", sentence = "a step has 8 rows" }, function(p)
  return p.batch.total >= 8, "write batch = { total = 8 }", "batch.total", "got " .. p.batch.total
end)
OFF
plan:start()
]]
  local function check(severity, off)
    return t.check(t.write("recipe.lua", (recipe:gsub("SEVERITY", severity):gsub("OFF", off))))
  end
  t.equal(t.refused(check("error", ""), "mine.rows").message, "got 1")
  local answer = check("warning", "")
  t.truthy(answer.ok)
  t.refused(answer, "mine.rows")
  answer = check("warning", "plan:without(\"mine.rows\")")
  t.equal({ answer.ok, #answer.warnings }, { true, 0 })
  answer = check("error", "plan:without(\"mine.rows\")")
  t.contains(answer.errors[1].message, "'mine.rows' is an error, and stays one")
end)
