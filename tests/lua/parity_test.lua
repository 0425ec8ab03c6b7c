--- ftengine parity: a model against values that transformers stored (tests/golden/parity.py), and what it says of one that
--- differs.
local native = require "ft.native"
local test = require "ft.test"

local folder = "/../golden/parity/"

--- The model with its config changed, beside the same weights.
local function changed(t, keys)
  native.make_folder(t.folder .. "/model")
  local config = native.read_json(t.here .. folder .. "model/config.json")
  for key, value in pairs(keys) do config[key] = value end
  t.write("model/config.json", native.to_json(config))
  t.write("model/model.safetensors", t.read(t.here .. folder .. "model/model.safetensors"))
  return t.folder .. "/model"
end

local function parity(t, model, ...)
  return t.program("parity", model, "--reference", t.here .. folder .. "values.safetensors", ...)
end

test.case("a model that computes as its reference passes", function(t)
  local output, code = parity(t, t.here .. folder .. "model")
  t.truthy(code == 0, output)
  t.contains(output, "gradients  24 compared")
  local json = native.parse_json((parity(t, t.here .. folder .. "model", "--json")))
  t.equal(json.ok, true)
  t.near(json.loss, json.want_loss, 1e-5)
  t.truthy(json.logits < 1e-4 and #json.gradients == 24 and #json.missing == 0)
end)

test.case("one that does not is refused with the gradients that are furthest off", function(t)
  local output, code = parity(t, changed(t, { rms_norm_eps = 1e-2 }))
  t.equal(code, 1)
  t.contains(output, "differs from the reference: loss: ")
  t.contains(output, "; logits: ")
  t.contains(output, "; gradient of model.layers.")
  t.contains(output, " in norm, want at most 1e-04")
end)

test.case("values that are not there, or of another model, are named", function(t)
  local model = t.here .. folder .. "model"
  local output, code = t.program("parity", model, "--reference", model .. "/model.safetensors")
  t.equal(code, 1)
  t.contains(output, "tokens: is missing")
  output, code = t.program("parity", model)
  t.equal(code, 2)
  t.contains(output, "parity wants --reference values.safetensors")
end)

test.case("docs/models.md shows the script that stored them", function(t)
  local script = t.read(t.here .. folder .. "values.py")
  t.contains(t.read(t.here .. "/../../docs/models.md"), "```python\n" .. script .. "```\n")
end)
