--- Sharing each layer's matrices over ranks: what of the model has to divide. The engine checks the same as it builds
--- the layers (engine/layers/tensor_axis.h); here it is known before anything starts.
local most_ranks = 64
local nf4_block = 64

--- Calls visit(block, path) for a block and all blocks in it.
local function walk(block, path, visit)
  local name = block.name and block.name ~= "" and block.name or nil
  local here = path == "" and (name or "") or name and path .. "." .. name or path
  visit(block, here)
  for _, key in ipairs { "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down" } do
    if type(block[key]) == "table" then walk(block[key], here, visit) end
  end
  for _, inner in ipairs(block.blocks or {}) do walk(inner, here, visit) end
end

--- What must divide: { what, path, fits(ranks) }, by kind.
local function demands_of(p)
  local description, found = p.model.description, { heads = {}, matrices = {}, nf4 = {}, native = {}, cuts = {} }
  local function add(kind, path, what, fits) table.insert(found[kind], { path = path, what = what, fits = fits }) end
  local function even(path, size, what)
    add("matrices", path, ("%d %s"):format(size, what), function(ranks) return size % ranks == 0 end)
  end
  --- A weight [rows, columns] in NF4: no rank's share may end within a block.
  local function blocks(path, linear, by_columns, parts_of)
    if p.model.quantize ~= "nf4" then return end
    local rows, columns = linear.out, linear["in"]
    add("nf4", path .. "." .. linear.name, ("[%d, %d]"):format(rows, columns), function(ranks)
      local parts = parts_of(ranks)
      local together = by_columns and columns / parts or rows / parts * columns
      return parts == 1 or together % nf4_block == 0
    end)
  end
  local function all(ranks) return ranks end
  even(description.embedding.name, description.embedding.vocab, "rows of the vocabulary")
  if description.head.output then
    even(description.head.output.name, description.head.output.out, "rows of the vocabulary")
  end
  for _, layer in ipairs(description.layers) do
    walk(layer, "", function(block, path)
      local function never() return false end
      if block.type == "lua" then add("native", path, "its forward is Lua", never) end
      if block.qkv or block.gate_up then
        add("cuts", path .. "." .. (block.qkv or block.gate_up).name, "it holds several projections", never)
      end
      if block.q_norm and block.q_norm.dim ~= block.head_dim then
        add("cuts", path .. "." .. block.q_norm.name, "it is over the features of all heads", never)
      end
      if block.type == "attention" then
        local heads, kv_heads = block.heads, block.kv_heads
        add("heads", path, ("%d heads with %d key-value heads"):format(heads, kv_heads), function(ranks)
          return heads % ranks == 0 and (kv_heads % ranks == 0 or ranks % kv_heads == 0)
        end)
        local function of_kv(ranks) return math.min(ranks, kv_heads) end
        if block.q then
          blocks(path, block.q, false, all)
          blocks(path, block.k, false, of_kv)
          blocks(path, block.v, false, of_kv)
        end
        blocks(path, block.o, true, all)
      elseif block.type == "swiglu" then
        even(path, block.down["in"], "hidden features")
        if block.gate then
          blocks(path, block.gate, false, all)
          blocks(path, block.up, false, all)
        end
        blocks(path, block.down, true, all)
      end
    end)
  end
  return found
end

--- The numbers of ranks that fit all of the model, for the help.
local function help_of(demands)
  local sizes = {}
  for ranks = 2, most_ranks do
    local fits = true
    for _, kind in pairs(demands) do
      for _, demand in ipairs(kind) do fits = fits and demand.fits(ranks) end
    end
    if fits then sizes[#sizes + 1] = tostring(ranks) end
  end
  local shard = "parallel.mesh.shard splits any shape"
  if #sizes == 0 then return "no number of ranks fits this model; " .. shard end
  return "these fit this model: " .. table.concat(sizes, ", ") .. "; " .. shard
end

--- What each kind of demand asks, and why.
local reasons = {
  heads = { "the tensor axis divides the attention heads", "every rank computes whole heads" },
  matrices = { "the tensor axis divides hidden features and the vocabulary", "every rank holds as many rows or columns" },
  nf4 = { "no rank's part of an NF4 weight ends within a block", "64 elements share a scale" },
  native = { "layers that are shared are native", "a forward in Lua computes whole matrices" },
  cuts = { "what ranks share can be cut into equal parts", "a matrix of several projections is not cut by heads or features" },
}

local function key_of(p)
  return p.parallel.tensor_parallel_size and "parallel.tensor_parallel_size" or "parallel.mesh.tensor"
end

return function(rule)
  local function all_fit(name, kind, sentence)
    rule("tensor." .. name, {
      keys = { "parallel.tensor_parallel_size", "parallel.mesh.tensor" },
      sentence = reasons[kind][1], reason = reasons[kind][2],
      source = "Megatron-LM, arXiv 1909.08053; engine/layers/tensor_axis.h",
      help = "take a number of ranks that fits, or split by parallel.mesh.shard",
    }, function(p)
      local ranks = p.parallel.mesh.tensor
      if ranks == 1 then return true end
      local demands = demands_of(p)
      for _, demand in ipairs(demands[kind]) do
        if not demand.fits(ranks) then
          return false, help_of(demands), key_of(p), sentence:format(ranks, demand.path, demand.what)
        end
      end
      return true
    end)
  end

  all_fit("heads_are_shared_evenly", "heads", "got %d, but %s has %s, which it does not divide")
  all_fit("matrices_are_shared_evenly", "matrices", "got %d, but %s has %s, which it does not divide")
  all_fit("nf4_blocks_stay_whole", "nf4",
    "got %d, but the NF4 weight %s %s would be cut within blocks of 64 elements")
  all_fit("blocks_are_native", "native", "got %d, but %s cannot be shared: %s")
  all_fit("parts_can_be_cut", "cuts", "got %d, but %s cannot be shared: %s")

  rule("tensor.optimizer_goes_by_element", {
    keys = { "optimizer.kind", "parallel.mesh.tensor" },
    sentence = "matrices that ranks share have an optimizer that goes by element",
    reason = "muon and adafactor look at whole matrices",
    source = "engine/optim",
    help = "use adamw, lion or sgd",
  }, function(p)
    local kind = p.optimizer.kind
    return p.parallel.mesh.tensor == 1 or (kind ~= "muon" and kind ~= "adafactor"),
      "use adamw, lion or sgd, or split by parallel.mesh.shard", "optimizer.kind",
      ("%s looks at whole matrices, which tensor parallelism shares out"):format(tostring(kind))
  end)
end
