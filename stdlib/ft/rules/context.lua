--- Rows whose tokens lie on several ranks.

--- Sizes from 2 to `most` for which fits(size) holds, as text; nil where there is none.
local function sizes_that_fit(most, fits)
  local sizes = {}
  for size = 2, most do
    if fits(size) then sizes[#sizes + 1] = tostring(size) end
  end
  return sizes[1] and table.concat(sizes, ", ")
end

--- The first attention block that caps its scores.
local function capped(block)
  if block.type == "attention" and (block.softcap or 0) > 0 then return block end
  for _, inner in ipairs(block.blocks or {}) do
    local found = capped(inner)
    if found then return found end
  end
end

return function(rule)
  rule("context.rows_are_long_enough", {
    keys = { "parallel.context_parallel_size", "data.train.seq_len" },
    sentence = "each rank of the context axis gets two chunks of every row",
    reason = "a row is cut into 2 c chunks so that the work of causal attention is even",
    source = "Ring attention, zigzag split; engine/data/sequence_split.h",
    help = "lower context_parallel_size, or raise seq_len",
  }, function(p)
    local ranks = p.parallel.mesh.context
    if ranks == 1 then return true end
    for _, name in ipairs { "train", "val", "test" } do
      local split = p.data[name]
      if split and split.seq_len < 2 * ranks then
        local most = math.floor(split.seq_len / 2)
        return false, ("write context_parallel_size = %d%s, or raise seq_len"):format(math.max(1, most),
          most > 1 and " or less" or ""), "parallel.context_parallel_size",
          ("got %d, but a row of data.%s has %d tokens, and each rank holds two chunks of it"):format(ranks, name,
            split.seq_len)
      end
    end
    return true
  end)

  rule("context.ulysses_shares_heads_out", {
    keys = { "parallel.context_parallel_size", "parallel.context_method" },
    sentence = "ulysses gets as many heads on every rank",
    reason = "the all-to-all turns parts of all heads into whole rows of some heads",
    source = "DeepSpeed-Ulysses",
    help = "take a size that divides the heads, or context_method = \"ring\"",
  }, function(p)
    local ranks, config = p.parallel.mesh.context, p.model.config or {}
    local all = config.num_attention_heads
    if ranks == 1 or p.parallel.context_method ~= "ulysses" or not all then return true end
    local tensor = p.parallel.mesh.tensor
    local heads = math.floor(all / tensor)
    local kv_heads = math.max(1, math.floor((config.num_key_value_heads or all) / tensor))
    local function fits(size) return heads % size == 0 and (kv_heads % size == 0 or size % kv_heads == 0) end
    local sizes = sizes_that_fit(heads, fits)
    return fits(ranks),
      (sizes and ("write context_parallel_size = %s, or "):format(sizes:gsub(", (%d+)$", " or %1")) or "write ")
        .. "context_method = \"ring\", which takes any", "parallel.context_parallel_size",
      ("got %d, but ulysses shares out %d heads and %d key-value heads%s"):format(ranks, heads, kv_heads,
        tensor > 1 and " of a tensor rank" or "")
  end)

  rule("context.a_ring_caps_no_scores", {
    keys = { "parallel.context_parallel_size", "parallel.context_method" },
    sentence = "a model that caps its attention scores splits rows by ulysses",
    reason = "a ring merges parts by the sums of scores that are not capped",
    source = "engine/layers/attention.h",
    help = "write context_method = \"ulysses\"",
  }, function(p)
    if p.parallel.mesh.context == 1 or p.parallel.context_method == "ulysses" then return true end
    for _, layer in ipairs(p.model.description.layers) do
      local block = capped(layer)
      if block then
        return false, "write context_method = \"ulysses\"", "parallel.context_parallel_size",
          ("got %d ranks in a ring, but %s caps its scores"):format(p.parallel.mesh.context, layer.name)
      end
    end
    return true
  end)
end
