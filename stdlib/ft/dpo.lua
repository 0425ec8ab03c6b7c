--- Direct preference optimization (Rafailov et al., 2023): the loss over sequences' log-probabilities, with its gradient.
local dpo = {}

--- log(1 + exp(x)), without overflow.
local function softplus(x) return math.max(x, 0) + math.log(1 + math.exp(-math.abs(x))) end

local kinds = { "chosen", "rejected", "margins", "accuracies" }

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end

--- dpo.loss(policy, reference, { beta = 0.1, label_smoothing = 0 }) -> loss, gradients, measures: sums over pairs.
--- @param policy,reference log-probabilities of sequences, chosen and rejected by turns, as run:log_probs returns them
--- @param options beta: how far the policy may go from the reference; label_smoothing: share of pairs that are taken to be
---   the wrong way round (Mitchell, 2023), below 0.5
--- @return the loss, its gradient by each of policy, and { pairs, chosen, rejected, margins, accuracies }
function dpo.loss(policy, reference, options)
  local beta, smoothing = options.beta or 0.1, options.label_smoothing or 0
  local loss, gradients = 0, {}
  local sums = { pairs = #policy / 2, chosen = 0, rejected = 0, margins = 0, accuracies = 0 }
  for i = 1, #policy, 2 do
    local chosen = beta * (policy[i] - reference[i])
    local rejected = beta * (policy[i + 1] - reference[i + 1])
    local margin = chosen - rejected
    loss = loss + (1 - smoothing) * softplus(-margin) + smoothing * softplus(margin)
    local slope = smoothing * sigmoid(margin) - (1 - smoothing) * sigmoid(-margin)
    gradients[i], gradients[i + 1] = beta * slope, -beta * slope
    sums.chosen, sums.rejected = sums.chosen + chosen, sums.rejected + rejected
    sums.margins = sums.margins + margin
    sums.accuracies = sums.accuracies + (margin > 0 and 1 or 0)
  end
  return loss, gradients, sums
end

--- Adds up what dpo.loss measured.
local function add(sums, measured)
  for name, value in pairs(measured) do sums[name] = (sums[name] or 0) + value end
end

--- Puts the means over all ranks' pairs into a row. Collective.
local function means(run, sums, count, row, prefix)
  for _, name in ipairs(kinds) do row[prefix .. name] = run:sum(sums[name] or 0) / math.max(1, count) end
  return row
end

--- One step's backward by DPO: the base without its adapter is the reference. What follows is run:clip and run:update.
--- Collective.
--- @param options beta, label_smoothing, as of dpo.loss
--- @return { loss =, ["rewards/chosen"] =, … }: means over the pairs of all ranks
function dpo.step(run, window, options)
  local references, pairs_here = {}, 0
  for batch in window:each() do
    references[#references + 1] = run:log_probs(batch, { adapter = false })
    pairs_here = pairs_here + #references[#references] / 2
  end
  local pairs_all = run:sum(pairs_here)
  local sums, loss, i = {}, 0, 0
  for batch in window:each() do
    i = i + 1
    loss = loss + run:backward_sequences(batch, pairs_all, function(policy)
      local value, gradients, measured = dpo.loss(policy, references[i], options)
      add(sums, measured)
      return value, gradients
    end)
  end
  return means(run, sums, pairs_all, { loss = run:sum(loss) }, "rewards/")
end

--- The loss over a split's pairs, and what goes with it: for a row of metrics. Of "val" it decides which checkpoint is the best.
--- Collective.
--- @param options beta, label_smoothing, as of dpo.loss
--- @return { val_loss =, ["val_rewards/chosen"] =, … }: means over the pairs of all ranks
function dpo.evaluate(run, split, options)
  local sums = {}
  local loss = run:measure(split, function(batch)
    local reference = run:log_probs(batch, { adapter = false })
    local value, _, measured = dpo.loss(run:log_probs(batch), reference, options)
    add(sums, measured)
    return value, measured.pairs
  end)
  return means(run, sums, run:sum(sums.pairs or 0), { [split .. "_loss"] = loss }, split .. "_rewards/")
end

return dpo
