--- The model, and what goes with it.
return function(rule)
  rule("model.nf4_needs_an_adapter", function(p)
    return p.model.quantize ~= "nf4" or p.adapter ~= nil,
      "add adapter = ft.lora { … }, or remove quantize", "model.quantize",
      "NF4 weights are frozen: without an adapter nothing of the decoder would be trained"
  end)

  rule("model.scratch_takes_no_adapter", function(p)
    return p.model.kind ~= "scratch" or p.adapter == nil or p.model.quantize == "nf4",
      "remove the adapter", "adapter", "a model of random weights is trained whole"
  end)

  rule("model.needs_a_tokenizer_for_text", function(p)
    if p.model.tokenizer then return true end
    for _, split in pairs(p.data) do
      if type(split) == "table" and split.kind ~= "tokenized" then
        return false, "add tokenizer = DIR to the model", "model", "text is to be trained on, but there is no tokenizer.json"
      end
    end
    return true
  end)
end
