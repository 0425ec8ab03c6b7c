--- Files, shares of them, and how long a row may be.
local path_text = require("ft.data").path_text

local names = { "train", "val", "test" }

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
end
