--- What stdlib/ft/models, or a file ft/models/<model_type>.lua beside the recipe, makes of a config.json.
local native = require "ft.native"

--- @param config a model's config.json
--- @param nulls keys that are null in it, as native.null_keys gives them: to transformers that is not the same as absent
--- @return the tree of native blocks that the engine builds
return function(config, nulls)
  local kind = config.model_type
  if type(kind) ~= "string" or not kind:match("^[%w_]+$") then
    native.raise {
      kind = "config", path = "model.config.model_type",
      message = kind == nil and "is missing" or ("got '%s', want a name such as \"qwen3\""):format(tostring(kind)),
      help = "a config.json of transformers names its architecture there",
    }
  end
  local found, architecture = pcall(require, "ft.models." .. kind)
  if not found then
    if type(architecture) == "table" or not tostring(architecture):match("module 'ft%.models%.[^']*' not found") then
      error(architecture, 0)
    end
    native.raise {
      kind = "config", path = "model.config.model_type", message = ("got '%s', which has no description"):format(kind),
      help = "state it in ft/models/" .. kind .. ".lua beside the recipe; docs/models.md shows how",
    }
  end
  return architecture(config, nulls or {})
end
