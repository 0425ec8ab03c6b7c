--- What is gathered, used and released together.

--- The class of a model's layers: the recipe's own (nn.module), or as transformers calls it.
local function layer_class(model)
  local first = model.description.layers[1]
  if first and first.module then return first.module end
  local architecture = model.config.architectures and model.config.architectures[1]
  local family = architecture and architecture:match("^(%w+)ForCausalLM$")
  family = family and family:gsub("^FSDP", "") -- a prefix that saving under FSDP leaves there
  if not family then family = model.config.model_type:gsub("^%l", string.upper) end
  return family .. "DecoderLayer"
end

return function(rule)
  rule("wrapping.the_class_is_the_models", {
    keys = { "parallel.transformer_layer_cls_to_wrap" },
    sentence = "the class to wrap is one of the model's",
    reason = "a class that is not there would wrap nothing",
    source = "transformers, _no_split_modules",
    help = "name the model's own layer class",
  }, function(p)
    local wanted = p.parallel.transformer_layer_cls_to_wrap
    if not wanted then return true end
    local class = layer_class(p.model)
    for _, name in ipairs(type(wanted) == "table" and wanted or { wanted }) do
      if name ~= class then
        return false, ("write transformer_layer_cls_to_wrap: %s, or leave it away"):format(class),
          "parallel.transformer_layer_cls_to_wrap", ("got '%s', but the layers of this model are %s"):format(name, class)
      end
    end
    return true
  end)

  rule("wrapping.the_class_needs_its_policy", {
    keys = { "parallel.transformer_layer_cls_to_wrap", "parallel.auto_wrap_policy" },
    sentence = "a class to wrap goes with TRANSFORMER_BASED_WRAP",
    reason = "the other policies do not look at classes",
    source = "PyTorch, FSDP wrapping",
    help = "remove one of them",
  }, function(p)
    local policy = p.parallel.auto_wrap_policy
    return not p.parallel.transformer_layer_cls_to_wrap or policy == "TRANSFORMER_BASED_WRAP",
      "remove transformer_layer_cls_to_wrap, or write auto_wrap_policy: TRANSFORMER_BASED_WRAP",
      "parallel.transformer_layer_cls_to_wrap", ("has no meaning with auto_wrap_policy: %s"):format(policy)
  end)
end
