--- The model, and what goes with it.
local native = require "ft.native"

return function(rule)
  rule("model.nf4_needs_an_adapter", {
    keys = { "model.quantize", "adapter" },
    sentence = "an NF4 base has an adapter",
    reason = "quantized weights are frozen: there is no full fine-tuning of them",
    source = "QLoRA, arXiv 2305.14314",
    help = "add an adapter, or remove quantize",
  }, function(p)
    return p.model.quantize ~= "nf4" or p.adapter ~= nil,
      "add adapter = ft.lora { … }, or remove quantize", "model.quantize",
      "NF4 weights are frozen: without an adapter nothing of the decoder would be trained"
  end)

  rule("model.scratch_takes_no_adapter", {
    keys = { "model", "adapter" },
    sentence = "a model of random weights is trained whole",
    reason = "an adapter on random frozen weights learns next to nothing",
    source = "docs/recipes.md",
    help = "remove the adapter",
  }, function(p)
    return p.model.kind ~= "scratch" or p.adapter == nil or p.model.quantize == "nf4",
      "remove the adapter", "adapter", "a model of random weights is trained whole"
  end)

  rule("model.needs_a_tokenizer_for_text", {
    keys = { "model.tokenizer", "data" },
    sentence = "text needs a tokenizer",
    reason = "rows of text become ids by it",
    source = "docs/recipes.md",
    help = "add tokenizer = DIR to the model",
  }, function(p)
    if p.model.tokenizer or native.host().command == "plan" then return true end -- a plan reads no text then
    for _, split in pairs(p.data) do
      if type(split) == "table" and split.kind ~= "tokenized" and split.kind ~= "preference" then
        return false, "add tokenizer = DIR to the model", "model", "text is to be trained on, but there is no tokenizer.json"
      end
    end
    return true
  end)

  rule("model.is_built_as_the_plan_says", {
    keys = { "unfrozen_parameters", "adapter", "optimizer.groups" },
    sentence = "what a plan names of its model is there",
    reason = "a name or pattern that finds nothing would change nothing, without a word",
    source = "engine/layers/model.cpp, built without memory",
    help = "take a name from the model",
  }, function(p)
    return p.trainable ~= nil -- the engine names the key, and what is wrong with it
  end)
end
