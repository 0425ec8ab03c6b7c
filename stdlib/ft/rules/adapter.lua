--- LoRA: what it is put on.
local native = require "ft.native"
local tied = require "ft.tied"

--- Paths of all modules that may have an adapter: linears, and the embedding.
local function linears_of(p) return tied.modules(p, { target_modules = ".*", ensure_weight_tying = true }) end

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
    if type(targets) ~= "table" then
      local wrong = targets and select(2, tied.modules(p, { target_modules = targets, ensure_weight_tying = true }))
      return not wrong, wrong and wrong.help, "adapter.target_modules", wrong and wrong.message
    end
    local paths, ends, seen = linears_of(p), {}, {}
    for _, path in ipairs(paths) do
      local name = path:match("[^.]+$")
      if not seen[name] then ends[#ends + 1] = name end
      seen[name] = true
    end
    for _, name in ipairs(targets) do
      local found = false
      for _, path in ipairs(paths) do found = found or tied.matches(path, tostring(name)) end
      if not found then
        local near = native.nearest(tostring(name), ends)
        return false, near and ("did you mean '%s'?"):format(near) or "linears: " .. table.concat(ends, ", "),
          "adapter.target_modules", ("no linear of the model is called '%s'"):format(tostring(name))
      end
    end
    return true
  end)

  rule("adapter.tied_weights_stay_one", {
    keys = { "adapter.modules_to_save", "adapter.target_modules", "adapter.ensure_weight_tying" },
    sentence = "a tied embedding that is trained says ensure_weight_tying = true",
    reason = "the head shares its weight; PEFT trains a copy of one of them, and they part",
    source = "PEFT, LoraConfig.ensure_weight_tying", help = "write ensure_weight_tying = true",
  }, function(p)
    if not p.adapter or p.adapter.ensure_weight_tying or not p.model.description.head.tied then return true end
    local key = tied.adapts_embedding(p) and "target_modules" or tied.saved_by(p)
    local called = p.facts.yaml and "peft_ensure_weight_tying: true" or "ensure_weight_tying = true"
    return not key, ("write %s: both stay one weight, here and where PEFT loads the adapter"):format(called),
      "adapter." .. tostring(key), "the head shares the embedding's weight, and PEFT would part them"
  end)

  rule("adapter.tied_weights_are_saved_as_one", {
    severity = "warning", keys = { "adapter.modules_to_save", "adapter.ensure_weight_tying" },
    sentence = "modules_to_save that name a tied embedding say ensure_weight_tying = true",
    reason = "PEFT without it trains a copy and leaves the head behind; here both stay one weight",
    source = "PEFT, LoraConfig.ensure_weight_tying", help = "write ensure_weight_tying = true",
  }, function(p)
    local called = p.facts.yaml and "peft_ensure_weight_tying: true" or "ensure_weight_tying = true"
    return not p.facts.tied, "write " .. called, "adapter.modules_to_save",
      "names the embedding, whose weight the head shares: read with " .. called .. ", both stay one weight"
  end)

  rule("adapter.dora_looks_at_whole_rows", {
    keys = { "adapter.use_dora", "parallel.mesh.tensor" },
    sentence = "DoRA goes without a tensor axis",
    reason = "a magnitude is that of a whole row of a matrix, of which ranks of a tensor axis have slices",
    source = "arXiv 2402.09353; engine/layers/linear.cpp", help = "split by parallel.mesh.shard, or leave use_dora out",
  }, function(p)
    return not (p.adapter and p.adapter.use_dora) or p.parallel.mesh.tensor == 1,
      p.facts.yaml and "split by dp_shard_size, or leave it out" or "split by parallel.mesh.shard, or leave it out",
      "adapter.use_dora", ("looks at whole rows of a matrix, which %d ranks of the tensor axis share out"):format(
        p.parallel.mesh.tensor)
  end)

  rule("adapter.embeddings_are_whole", {
    keys = { "adapter.target_modules", "parallel.mesh.tensor" },
    sentence = "an embedding has an adapter where no tensor axis shares its rows out",
    reason = "each rank has some rows of the vocabulary, and lora_embedding_A has a column for each of them",
    source = "engine/layers/embedding_lora.cpp",
    help = "leave the embedding out of target_modules, or split by parallel.mesh.shard",
  }, function(p)
    if p.parallel.mesh.tensor == 1 or not tied.adapts_embedding(p) then return true end
    return false, ("leave %s out, or split by %s"):format(p.model.description.embedding.name:match("[^.]+$"),
      p.facts.yaml and "dp_shard_size" or "parallel.mesh.shard"), "adapter.target_modules",
      "the rows of the embedding, which the tensor axis shares out, have no adapters"
  end)

  rule("adapter.loftq_needs_nf4", {
    keys = { "adapter.init_lora_weights", "model.quantize" },
    sentence = "LoRA begins by LoftQ where the base is quantized",
    reason = "LoftQ begins with what quantizing takes away from a weight, and here nothing is taken away",
    source = "arXiv 2310.08659; peft.utils.loftq_utils", help = "write quantize = \"nf4\", or leave init_lora_weights out",
  }, function(p)
    return not (p.adapter and p.adapter.init_lora_weights == "loftq") or p.model.quantize == "nf4",
      p.facts.yaml and "write adapter: qlora and load_in_4bit: true, or leave it out"
        or "write quantize = \"nf4\" in the model, or leave it out", "adapter.init_lora_weights",
      "begins with what quantizing takes away, and the base is not quantized"
  end)

  rule("adapter.loftq_is_not_the_reference", {
    keys = { "adapter.init_lora_weights", "data" },
    sentence = "LoRA does not begin by LoftQ where preferences are learned",
    reason = "DPO's reference is the model without its adapter, and by LoftQ the run would not begin there",
    source = "stdlib/ft/dpo.lua", help = "leave init_lora_weights out",
  }, function(p)
    local train = p.data and p.data.train
    return not (p.adapter and p.adapter.init_lora_weights == "loftq" and type(train) == "table"
      and train.kind == "preference"), "leave it out", "adapter.init_lora_weights",
      "begins elsewhere than at the model without its adapter, which DPO compares with"
  end)

  rule("adapter.dora_is_of_linears", {
    keys = { "adapter.use_dora", "adapter.target_modules" },
    sentence = "DoRA is put on linears",
    reason = "magnitudes of an embedding's rows are not done here",
    source = "engine/layers/embedding_lora.cpp", help = "leave the embedding out of target_modules, or leave use_dora out",
  }, function(p)
    return not (p.adapter and p.adapter.use_dora and tied.adapts_embedding(p)),
      "leave the embedding out of target_modules, or train it whole by modules_to_save", "adapter.use_dora",
      "is not done on embeddings"
  end)

  rule("adapter.or_unfrozen_parameters", {
    keys = { "unfrozen_parameters", "adapter" },
    sentence = "unfrozen_parameters is of full fine-tuning",
    reason = "with an adapter the base is frozen whole, and the patterns would change nothing",
    source = "docs/recipes.md", help = "name whole modules by modules_to_save, or remove the adapter",
  }, function(p)
    return not (p.adapter and p.unfrozen_parameters and #p.unfrozen_parameters > 0),
      ("name whole modules by %s, or remove the adapter"):format(p.facts.yaml and "lora_modules_to_save" or "modules_to_save"),
      "unfrozen_parameters", "is of full fine-tuning, and there is an adapter"
  end)
end
