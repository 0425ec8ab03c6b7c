--- LoRA: what it is put on.
local native = require "ft.native"

--- Paths of all modules that may have an adapter: linears, and the embedding.
local function linears_of(p)
  local model = {}
  for key, value in pairs(p.model) do model[key] = value end
  local adapter = { target_modules = ".*", ensure_weight_tying = true }
  return native.model_facts({ kind = "plan", model = model, adapter = adapter, parallel = p.parallel }).adapted
end

--- PEFT's rule for a name in a list: the whole path, or its end behind a dot.
local function matches(path, name) return path == name or path:sub(-#name - 1) == "." .. name end

return function(rule)
  rule("adapter.target_modules_not_empty", {
    keys = { "adapter.target_modules" },
    sentence = "target_modules names at least one module",
    reason = "an adapter on nothing trains nothing",
    source = "PEFT, LoraConfig.target_modules",
    help = "write \"all-linear\", or name modules",
  }, function(p)
    local targets = p.adapter and p.adapter.target_modules
    return not targets or #targets > 0, "write \"all-linear\", or name modules: { \"q_proj\", \"v_proj\" }",
      "adapter.target_modules", "is empty: nothing would be trained"
  end)

  rule("adapter.target_modules_match", {
    keys = { "adapter.target_modules" },
    sentence = "every name in target_modules is that of a linear, or of the embedding",
    reason = "a misspelt name among right ones trains less than was meant, without a word",
    source = "PEFT, LoraConfig.target_modules",
    help = "take a name from the list",
  }, function(p)
    local targets = p.adapter and p.adapter.target_modules
    if type(targets) ~= "table" then return true end
    local paths, ends, seen = linears_of(p), {}, {}
    for _, path in ipairs(paths) do
      local name = path:match("[^.]+$")
      if not seen[name] then ends[#ends + 1] = name end
      seen[name] = true
    end
    for _, name in ipairs(targets) do
      local found = false
      for _, path in ipairs(paths) do found = found or matches(path, tostring(name)) end
      if not found then
        local near = native.nearest(tostring(name), ends)
        return false, near and ("did you mean '%s'?"):format(near) or "linears: " .. table.concat(ends, ", "),
          "adapter.target_modules", ("no linear of the model is called '%s'"):format(tostring(name))
      end
    end
    return true
  end)
end
