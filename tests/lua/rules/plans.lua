--- Recipes and configurations to try rules on: a plan that holds, but for the entries that a case gives.
local plans = {}

local shape = [[{ model_type = "llama", hidden_size = 64, intermediate_size = 128, num_hidden_layers = 1,
    num_attention_heads = 4, num_key_value_heads = 2, vocab_size = 64, max_position_embeddings = 64 }]]

local entries = {
  { "model", ("ft.scratch { ft.config %s }"):format(shape) },
  { "adapter" },
  { "data", "{ train = ft.tokenized { \"rows.jsonl\", seq_len = 32 } }" },
  { "parallel", "ft.fsdp2 {}" },
  { "optimizer", "ft.adamw { lr = 1e-3 }" },
  { "batch", "{ total = 4 }" },
  { "max_steps" },
  { "activation_checkpointing" },
  { "save" },
}

--- @param case { KEY = "text of the plan's entry", before =, after = "statements around the plan" }
function plans.recipe(case)
  local lines = { "local ft = require \"ft\"" }
  if case.before then lines[#lines + 1] = case.before end
  lines[#lines + 1] = "local plan = ft.plan {"
  for _, entry in ipairs(entries) do
    local text = case[entry[1]] or entry[2]
    if text then lines[#lines + 1] = ("  %s = %s,"):format(entry[1], (text:gsub("SHAPE", shape))) end
  end
  lines[#lines + 1] = "}"
  if case.after then lines[#lines + 1] = case.after end
  lines[#lines + 1] = "plan:start()\n"
  return table.concat(lines, "\n")
end

local base = {
  { "base_model", "recipes/demo/model" },
  { "datasets", "[{ path: recipes/demo/train.jsonl, type: chat_template }]" },
  { "sequence_len", "64" },
  { "learning_rate", "2e-4" },
}

--- @param yaml the lines of a configuration; what they do not say is filled in
function plans.config(yaml)
  local lines = {}
  for _, entry in ipairs(base) do
    if not ("\n" .. yaml):find("\n" .. entry[1] .. ":", 1, true) then lines[#lines + 1] = entry[1] .. ": " .. entry[2] end
  end
  return table.concat(lines, "\n") .. "\n" .. yaml .. "\n"
end

return plans
