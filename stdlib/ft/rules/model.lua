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

  rule("model.new_tokens_are_trained", {
    keys = { "model.added_tokens", "model.special_tokens", "adapter.modules_to_save", "adapter.target_modules" },
    sentence = "the rows of new tokens are trained",
    reason = "a row that begins as the mean of others says nothing of its token, and stays so where it is frozen",
    source = "PEFT, docs: train tokens alongside LoRA", severity = "warning",
    help = "name embed_tokens and lm_head in modules_to_save",
  }, function(p)
    if not p.model.new_tokens or #p.model.new_tokens == 0 then return true end
    local facts = native.model_facts {
      kind = "plan", model = p.model, adapter = p.adapter, parallel = p.parallel, unfrozen_parameters = p.unfrozen_parameters,
    }
    local learns, frozen, ends = {}, {}, {}
    for _, name in ipairs(facts.trained) do learns[name] = true end
    for _, path in ipairs(facts.adapted) do learns[path .. ".weight"] = true end
    for i, table_name in ipairs(require("ft.vocabulary").tables(p.model.description)) do
      if not learns[table_name] and not (i == 2 and p.model.description.head.tied) then
        frozen[#frozen + 1] = table_name
        ends[#ends + 1] = ('"%s"'):format(table_name:match("([^.]+)%.weight$"))
      end
    end
    local called = p.facts.yaml and "lora_modules_to_save" or "modules_to_save"
    local first = p.model.new_tokens[1].content
    return #frozen == 0, p.adapter and ("write %s = { %s }"):format(called, table.concat(ends, ", ")) ..
        (p.model.description.head.tied and " and ensure_weight_tying = true" or "") or "match it in unfrozen_parameters",
      p.adapter and "adapter" or "unfrozen_parameters", ("rows of %d new token%s, such as %s, are frozen in %s"):format(
        #p.model.new_tokens, #p.model.new_tokens == 1 and "" or "s", first, table.concat(frozen, " and "))
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
