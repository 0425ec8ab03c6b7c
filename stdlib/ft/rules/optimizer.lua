--- Optimizers and schedules.
local schedule = require "ft.schedule"

--- Steps to try a function on where the plan does not say how many there will be.
local usual_steps = 1000

return function(rule)
  for _, key in ipairs { "betas", "adamw_betas" } do
    rule("optimizer." .. key .. "_are_two_decays", {
      keys = { "optimizer." .. key },
      sentence = key .. " are two numbers from 0 to below 1",
      reason = "each is what is left of an average after a step",
      source = "arXiv 1711.05101",
      help = ("write %s = { 0.9, 0.999 }"):format(key),
    }, function(p)
      local betas = p.optimizer[key]
      if not betas then return true end
      local fits = #betas == 2
      for _, beta in ipairs(betas) do fits = fits and type(beta) == "number" and beta >= 0 and beta < 1 end
      return fits, ("write %s = { 0.9, 0.999 }"):format(key), "optimizer." .. key,
        "want two numbers from 0 to below 1"
    end)
  end

  rule("optimizer.adafactor_eps_are_two_numbers", {
    keys = { "optimizer.eps" },
    sentence = "Adafactor's eps are two numbers",
    reason = "one is added to squares, one bounds the scale",
    source = "arXiv 1804.04235",
    help = "write eps = { 1e-30, 1e-3 }",
  }, function(p)
    local eps = p.optimizer.eps
    if p.optimizer.kind ~= "adafactor" then return true end
    local fits = #eps == 2
    for _, one in ipairs(eps) do fits = fits and type(one) == "number" and one >= 0 end
    return fits, "write eps = { 1e-30, 1e-3 }", "optimizer.eps", "want two numbers of 0 or more"
  end)

  rule("optimizer.nesterov_needs_momentum", {
    keys = { "optimizer.nesterov", "optimizer.momentum" },
    sentence = "nesterov needs momentum",
    reason = "it looks ahead along the momentum",
    source = "torch.optim.SGD",
    help = "set momentum = 0.9",
  }, function(p)
    local fits = p.optimizer.kind ~= "sgd" or not p.optimizer.nesterov or p.optimizer.momentum > 0
    return fits, "set momentum = 0.9, or leave nesterov out", "optimizer.nesterov",
      "true needs momentum above 0"
  end)

  rule("optimizer.overlap_judges_nothing", {
    keys = { "optimizer.overlap", "non_finite", "model.compute" },
    sentence = "updates that begin in the backward are not judged first",
    reason = "the gradients' norm is known when the backward has ended; by then a step cannot be skipped",
    source = "docs/parallelism.md, the update beside the rest",
    help = "set overlap = \"forward\"",
  }, function(p)
    if p.optimizer.overlap ~= "backward" then return true end
    local help = "set overlap = \"forward\""
    if p.non_finite == "skip" then
      return false, help .. ", or non_finite = \"stop\"", "optimizer.overlap",
        "'backward' with non_finite = 'skip', which judges a step before its update"
    end
    return p.model.compute ~= "fp16", help, "optimizer.overlap",
      "'backward' with fp16, whose gradients are judged before the update"
  end)

  rule("optimizer.warmup_is_shorter_than_the_run", {
    keys = { "optimizer.schedule.warmup", "max_steps" },
    sentence = "warm-up ends before the run does",
    reason = "the peak would never be reached",
    source = "transformers, get_cosine_schedule_with_warmup",
    help = "lower warmup",
  }, function(p)
    local warmup = p.optimizer.schedule.warmup
    return not warmup or warmup < 1 or not p.max_steps or warmup < p.max_steps,
      "lower warmup, or write a share such as 0.03", "optimizer.schedule.warmup",
      ("got %s steps, but the run has %s"):format(warmup, tostring(p.max_steps))
  end)

  rule("optimizer.decay_fits_into_the_run", {
    keys = { "optimizer.schedule.decay" },
    sentence = "warm-up and decay fit into the run",
    reason = "warm-up, stable steps and decay make up the run",
    source = "transformers, warmup_stable_decay",
    help = "lower decay or warmup",
  }, function(p)
    local block, steps = p.optimizer.schedule, p.max_steps
    if block.kind ~= "wsd" then return true end
    local function count(given) return given < 1 and given * (steps or 1) or given / (steps and 1 or math.huge) end
    local taken = count(block.warmup) + count(block.decay)
    return taken <= (steps or 1), "warm-up, stable steps and decay make up the run: lower decay or warmup",
      "optimizer.schedule.decay", "warmup and decay together are longer than the run"
  end)

  rule("optimizer.schedule_gives_finite_factors", {
    keys = { "optimizer.schedule" },
    sentence = "a schedule of one's own gives finite factors",
    reason = "the learning rate is lr times the factor",
    source = "docs/recipes.md",
    help = "return a number of 0 or more",
  }, function(p)
    local block = p.optimizer.schedule
    if block.kind ~= "schedule" then return true end
    local total = p.max_steps or usual_steps
    local factors, step, wrong = schedule.factors(block, total)
    return factors ~= nil, "return a number of 0 or more, times lr, for every step from 0 to total - 1",
      "optimizer.schedule", ("the function of %s, at step %s of %d: %s"):format(block.at, tostring(step), total,
        tostring(wrong))
  end)

  rule("optimizer.groups_name_what_is_trained", {
    keys = { "optimizer.groups", "adapter" },
    sentence = "a group of the adapter's matrices goes with an adapter",
    reason = "LoRA+ gives lora_B a rate of its own; without an adapter there is none",
    source = "arXiv 2402.12354",
    help = "add adapter = ft.lora { … }, or remove the group",
  }, function(p)
    for _, group in ipairs(p.optimizer.groups or {}) do
      local pattern = type(group) == "table" and tostring(group.pattern or "") or ""
      if not p.adapter and pattern:find("lora_", 1, true) then
        return false, "add adapter = ft.lora { … }, or remove the group", "optimizer.groups",
          ("'%s' is of an adapter, and there is none"):format(pattern)
      end
    end
    return true
  end)
end
