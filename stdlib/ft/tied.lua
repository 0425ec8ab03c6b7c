--- A head that shares the embedding's weight, where an adapter trains that weight: PEFT would part the two, which here
--- stay one weight (ensure_weight_tying).
local native = require "ft.native"

local tied = {}

--- PEFT's rule for a name in a list: the whole path, or its end behind a dot.
function tied.matches(path, name) return path == name or path:sub(-#name - 1) == "." .. name end

--- Paths of the modules that an adapter is put on; none, and what is wrong, where its patterns are.
function tied.modules(plan, adapter)
  local model = {}
  for key, value in pairs(plan.model) do model[key] = value end
  local asked = { kind = "plan", model = model, adapter = adapter, parallel = plan.parallel }
  local done, facts = pcall(native.model_facts, asked)
  if done then return facts.adapted end
  if type(facts) == "table" and tostring(facts.path):find("^adapter%.") then return {}, facts end
  error(facts, 0)
end

--- Whether the embedding gets an adapter.
function tied.adapts_embedding(plan)
  local targets = plan.adapter and plan.adapter.target_modules
  if not targets or targets == "all-linear" or #targets == 0 then return false end
  local adapter, embedding = {}, plan.model.description.embedding.name
  for key, value in pairs(plan.adapter) do adapter[key] = value end
  adapter.ensure_weight_tying, adapter.use_dora, adapter.lora_bias, adapter.modules_to_save = true, false, false, nil
  for _, path in ipairs(tied.modules(plan, adapter)) do
    if path == embedding then return true end
  end
  return false
end

--- The key that has the embedding of a tied model trained whole; nil where none does.
function tied.saved_by(plan)
  if not plan.adapter or not plan.model.description.head.tied then return nil end
  for _, name in ipairs(plan.adapter.modules_to_save or {}) do
    if tied.matches(plan.model.description.embedding.name, tostring(name)) then return "modules_to_save" end
  end
  return nil
end

--- Reads modules_to_save of a tied embedding as one weight, where nobody says otherwise. @return whether it did
function tied.settle(plan)
  local adapter = plan.adapter
  if not tied.saved_by(plan) or adapter.ensure_weight_tying or adapter.from then return false end
  if native.entry_origin(adapter, "ensure_weight_tying") ~= "" then return false end -- false, and said so
  adapter.ensure_weight_tying = true
  return true
end

return tied
