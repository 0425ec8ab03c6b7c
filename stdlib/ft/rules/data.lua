--- Files, shares of them, and how long a row may be.
local path_text = require("ft.data").path_text

local names = { "train", "val", "test" }

--- Whether a block, or one inside it, is attention that the engine computes.
local function attends(block)
  if type(block) ~= "table" then return false end
  if block.type == "attention" then return true end
  for _, inner in pairs(block) do
    if attends(inner) then return true end
  end
  return false
end

--- The first layer whose forward is Lua and holds no such attention; by name.
local function alone(layers)
  for _, layer in ipairs(layers) do
    if layer.type == "lua" and not attends(layer.entries) then return layer.module end
  end
  return nil
end

return function(rule)
  rule("data.seq_len_fits_the_model", {
    keys = { "data.train.seq_len", "model.config.max_position_embeddings" },
    sentence = "rows are no longer than the positions that the model knows",
    reason = "positions beyond them were never learned",
    source = "config.json, max_position_embeddings",
    help = "lower seq_len",
  }, function(p)
    local config = p.model.config or {}
    local rope = config.rope_parameters or config.rope_scaling or {}
    if (rope.rope_type or rope.type) == "dynamic" then return true end -- made to go beyond it
    local most = config.max_position_embeddings
    for _, name in ipairs(names) do
      local split = p.data[name]
      if split and most and split.seq_len > most then
        return false, ("write seq_len = %d or less"):format(most), "data." .. name .. ".seq_len",
          ("got %d, want at most the model's max_position_embeddings = %d"):format(split.seq_len, most)
      end
    end
    return true
  end)

  rule("data.train_has_no_share_held_for_itself", {
    keys = { "data.train.split" },
    sentence = "the training split is no share",
    reason = "a share is what is held out of training",
    source = "docs/recipes.md",
    help = "write split = \"train\"",
  }, function(p)
    return type(p.data.train.split) ~= "number", "write split = \"train\": what the other splits leave over",
      "data.train.split", "a share is what is held out"
  end)

  rule("data.one_share_of_a_file", {
    keys = { "data.val.split", "data.test.split" },
    sentence = "val and test are not both shares of one file",
    reason = "both would be drawn from the same rows",
    source = "docs/recipes.md",
    help = "give test a file of its own",
  }, function(p)
    local val, test = p.data.val, p.data.test
    return not (val and test and path_text(val) == path_text(test)
      and type(val.split) == "number" and type(test.split) == "number"),
      "give test a file of its own", "data.test.split", "val and test would be drawn from the same rows"
  end)

  rule("data.order_is_of_train_alone", {
    keys = { "data.val.shuffle", "data.val.remainder" },
    sentence = "only training data is shuffled or cut",
    reason = "what is measured is read in order, every row once",
    source = "docs/recipes.md",
    help = "remove the key",
  }, function(p)
    for _, name in ipairs { "val", "test" } do
      local split = p.data[name]
      if split and (not split.shuffle or split.remainder ~= "pad") then
        local key = split.shuffle and "remainder" or "shuffle"
        return false, "remove it", ("data.%s.%s"):format(name, key), "what is measured is read in order, every row once"
      end
    end
    return true
  end)

  rule("data.split_is_a_share_or_train", {
    keys = { "data.train.split", "data.val.split" },
    sentence = "a split is a share or \"train\"",
    reason = "there are no other names of splits",
    source = "docs/recipes.md",
    help = "write split = \"train\", or a share such as 0.05",
  }, function(p)
    for _, name in ipairs(names) do
      local split = p.data[name] and p.data[name].split
      if type(split) == "string" and split ~= "train" then
        return false, "write split = \"train\", or a share such as 0.05", "data." .. name .. ".split",
          ("got '%s'"):format(split)
      end
    end
    return true
  end)

  rule("data.what_is_measured_is_not_trained_on", {
    severity = "warning",
    keys = { "data.train.split", "data.val.path" },
    sentence = "rows that are measured are not trained on",
    reason = "a loss on rows that were learned says nothing of others",
    source = "docs/recipes.md",
    help = "write split = \"train\" in data.train, and a share in the other",
  }, function(p)
    for _, name in ipairs { "val", "test" } do
      local split = p.data[name]
      local share = split and type(split.split) == "number"
      local same = split and path_text(split) == path_text(p.data.train) and type(split.split) ~= "string"
      if same and not (share and p.data.train.split == "train") then
        return false, share and "write split = \"train\" in data.train"
          or "write split = 0.05 here, and split = \"train\" in data.train", ("data.%s.path"):format(name),
          "its rows are those of data.train"
      end
    end
    return true
  end)

  rule("data.limit_is_rows_or_a_share", {
    keys = { "data.train.limit" },
    sentence = "a limit is a whole number of samples, or a share of them",
    reason = "a number below 1 is a share, a larger one counts samples",
    source = "docs/data.md",
    help = "write a whole number, or a share such as 0.2",
  }, function(p)
    for _, name in ipairs(names) do
      local limit = p.data[name] and p.data[name].limit
      if limit and limit > 1 and limit ~= math.floor(limit) then
        return false, ("write limit = %d, or a share such as 0.2"):format(math.floor(limit)), "data." .. name .. ".limit",
          ("got %g, want a whole number of samples, or a share below 1"):format(limit)
      end
    end
    return true
  end)

  rule("data.packing_needs_attention_that_keeps_documents_apart", {
    severity = "warning", keys = { "data.train.pack", "model" },
    sentence = "rows are packed where attention stays inside each document",
    reason = "nn.attention does; what a forward in Lua computes itself may look across samples of one row",
    source = "docs/models.md",
    help = "hold an nn.attention in the module, or write pack = false",
  }, function(p)
    local module
    for _, name in ipairs(names) do
      if p.data[name] and p.data[name].pack then module = alone(p.model.description.layers) end
    end
    return not module, "hold an nn.attention in it, keep samples apart by ctx:positions(), or write pack = false",
      "data.train.pack", ("rows hold several samples, and the forward of %s is Lua without nn.attention"):format(tostring(module))
  end)

  rule("data.pairs_are_whole", {
    keys = { "data.train", "parallel.mesh" },
    sentence = "pairs of answers go without tensor and context axes",
    reason = "log-probabilities of sequences are summed where whole rows and the whole vocabulary are",
    source = "engine/train/sequence_scores.h",
    help = "split by parallel.mesh.shard",
  }, function(p)
    local mesh = p.parallel.mesh
    local axis = mesh.tensor > 1 and "tensor" or mesh.context > 1 and "context"
    return not (p.data.train.kind == "preference" and axis), "split by parallel.mesh.shard", "parallel.mesh",
      ("%s = %d, but log-probabilities of sequences that ranks share are not done"):format(axis or "", mesh[axis] or 1)
  end)
end
