--- Optimizers and schedules.
return function(rule)
  rule("optimizer.betas_are_two_decays", function(p)
    local betas = p.optimizer.betas
    if not betas then return true end
    local fits = #betas == 2
    for _, beta in ipairs(betas) do fits = fits and type(beta) == "number" and beta >= 0 and beta < 1 end
    return fits, "write betas = { 0.9, 0.999 }", "optimizer.betas", "want two numbers from 0 to below 1"
  end)

  rule("optimizer.warmup_is_shorter_than_the_run", function(p)
    local warmup = p.optimizer.schedule.warmup
    return warmup < 1 or not p.max_steps or warmup < p.max_steps, "lower warmup, or write a share such as 0.03",
      "optimizer.schedule.warmup", ("got %s steps, but the run has %s"):format(warmup, tostring(p.max_steps))
  end)
end
