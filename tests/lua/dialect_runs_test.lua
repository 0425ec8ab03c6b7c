--- What configurations of the YAML dialect train: pairs of answers, and distances that are shares of a run.
local native = require "ft.native"
local test = require "ft.test"

local base = "base_model: recipes/demo/model\nsequence_len: 64\nlearning_rate: 2e-4\n"
  .. "datasets: [{ path: recipes/demo/train.jsonl, type: chat_template, split: \"train[:8]\" }]\n"

local function config(t, more) return t.write("config.yml", base .. (more or "")) end

--- The rows of metrics of a run, but for what time and memory they tell.
local function metrics_of(t, directory)
  local rows = {}
  for line in t.read(directory .. "/metrics.jsonl"):gmatch "[^\n]+" do
    local row = native.parse_json(line)
    rows[#rows + 1] = { row.step, row.loss, row.grad_norm, row.lr, row["rewards/margins"], row["rewards/accuracies"],
      row.val_loss, row["val_rewards/accuracies"] }
  end
  return rows
end

test.case("rl: dpo trains from pairs, whatever type says them, and so does the recipe that convert writes", function(t)
  local pair = '{"prompt": [{"role": "user", "content": "%s"}], "chosen": [{"role": "assistant", "content": "%s"}], '
    .. '"rejected": [{"role": "assistant", "content": "%s"}]}\n'
  local intel = '{"system": "", "question": "%s", "chosen": "%s", "rejected": "%s"}\n'
  local texts = { messages = {}, intel = {} }
  for i, words in ipairs { { "What is first?", "It is tea", "None" }, { "What is last?", "It is salt", "All of them" },
    { "Which is red?", "The apple", "I do not know" }, { "Which is blue?", "The sky", "The sun" } } do
    texts.messages[i], texts.intel[i] = pair:format(unpack(words)), intel:format(unpack(words))
  end
  local metrics = {}
  for name, type in pairs { messages = "chat_template.default", intel = "chatml.intel" } do
    t.write(name .. ".jsonl", table.concat(texts[name]))
    local file = t.write(name .. ".yml", ("base_model: recipes/demo/model\nsequence_len: 96\nlearning_rate: 2e-3\nrl: dpo\n"
      .. "rl_beta: 0.3\nadapter: lora\nlora_r: 4\nmicro_batch_size: 2\nmax_steps: 3\nlogging_steps: 1\nseed: 1\n"
      .. "save_strategy: \"no\"\neval_steps: 2\ndatasets: &pairs [{ path: %s/%s.jsonl, type: %s, field_messages: prompt }]\n"
      .. "test_datasets: *pairs\noutput_dir: %s/%s\n"):format(t.folder, name, type, t.folder, name))
    local output, code = t.program("run", file)
    t.truthy(code == 0, output)
    metrics[name] = metrics_of(t, t.folder .. "/" .. name)
  end
  t.equal(#metrics.messages, 3)
  t.near(metrics.messages[1][2], math.log(2), 1e-6) -- the policy is the reference yet
  t.truthy(metrics.messages[3][5] > 0, "the chosen answers gain nothing")
  t.equal(metrics.messages[1][7], nil)
  t.truthy(metrics.messages[2][7] < math.log(2) and metrics.messages[3][7] < metrics.messages[2][7], "pairs are not measured")
  t.equal(metrics.messages[3][8], 1)
  local output, code = t.program("convert", t.folder .. "/messages.yml", "-o", t.folder .. "/recipe.lua")
  t.truthy(code == 0, output)
  t.write("recipe.lua", (t.read(t.folder .. "/recipe.lua"):gsub("/messages\"", "/lua\"")))
  output, code = t.program("run", t.folder .. "/recipe.lua")
  t.truthy(code == 0, output)
  t.equal(metrics_of(t, t.folder .. "/lua"), metrics.messages)
end)

test.case("a run ends where its loss stays above the watchdog's threshold, and is saved", function(t)
  local file = config(t, "max_steps: 9\nadapter: lora\nloss_watchdog_threshold: 0.01\nloss_watchdog_patience: 2\n"
    .. "fsdp_version: 2\nfsdp_config: { state_dict_type: SHARDED_STATE_DICT }\noutput_dir: " .. t.folder .. "/out\n")
  local output, code = t.program("run", file, "--nproc", "1")
  t.truthy(code == 0, output)
  t.contains(output, "the run ends at step 2: the loss was above 0.01 for 2 steps")
  t.equal(native.exists(t.folder .. "/out/checkpoint-2/manifest.json"), "file")
  t.equal(#metrics_of(t, t.folder .. "/out"), 2)
end)

test.case("a share of all steps is the distance of checkpoints and evaluations, and one of rows is what is read", function(t)
  local more = "max_steps: 5\nsave_steps: 0.4\neval_steps: 0.4\nval_set_size: 0.25\nsave_total_limit: 9\nadapter: lora\n"
    .. "fsdp_version: 2\nfsdp_config: { state_dict_type: SHARDED_STATE_DICT }\noutput_dir: " .. t.folder .. "/out\n"
  local output, code = t.program("run", config(t, more), "--nproc", "1")
  t.truthy(code == 0, output)
  for step = 1, 5 do -- every second one, and the end
    local there = native.exists(("%s/out/checkpoint-%d/manifest.json"):format(t.folder, step)) == "file"
    t.equal({ step, there }, { step, step == 2 or step == 4 or step == 5 })
  end
  local measured = {}
  for line in t.read(t.folder .. "/out/metrics.jsonl"):gmatch "[^\n]+" do
    local row = native.parse_json(line)
    if row.val_loss then measured[#measured + 1] = row.step end
  end
  t.equal(measured, { 2, 4, 5 })
  local text = base:gsub("train%[:8%]", "train[:25%%]") .. "max_steps: 1\nadapter: lora\nsave_strategy: \"no\"\n"
  local _, lines = t.read "recipes/demo/train.jsonl":gsub("\n", "")
  output, code = t.program("run", t.write("share.yml", text), "--output-dir", t.folder .. "/share")
  t.truthy(code == 0, output)
  t.contains(output:gsub(",", ""), ("%d "):format(math.floor(lines * 0.25 + 0.5)))
end)
