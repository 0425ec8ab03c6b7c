--- Rows a step, evaluation and checkpoints in a YAML configuration.
return function(rule)
  rule("dialect.batch_size_changes_nothing", {
    severity = "warning", keys = { "batch_size", "gradient_accumulation_steps" },
    sentence = "rows a step are micro_batch_size × gradient_accumulation_steps × ranks",
    reason = "batch_size is overruled there without a word", source = "Axolotl, batch_size",
    help = "set gradient_accumulation_steps",
  }, function(c)
    return c.batch_size == nil, "set gradient_accumulation_steps; it is not read", "batch_size",
      "changes nothing: micro_batch_size and gradient_accumulation_steps say the rows a step"
  end)

  rule("dialect.evaluation_needs_data", {
    keys = { "evals_per_epoch", "eval_steps", "val_set_size" }, sentence = "evaluation has something to evaluate",
    reason = "no row is held out", source = "Axolotl, check_evals_per_epoch_val_set_size", help = "set val_set_size: 0.05",
  }, function(c)
    local asked = (c.evals_per_epoch or 0) > 0 and "evals_per_epoch" or c.eval_steps and "eval_steps"
      or (c.eval_strategy and c.eval_strategy ~= "no") and "eval_strategy"
    local has = (c.val_set_size or 0) > 0 or (c.test_datasets and c.test_datasets[1])
    return not asked or has, "set val_set_size: 0.05, or test_datasets", asked,
      "is set, but there is no validation data: val_set_size is 0"
  end)

  rule("dialect.evaluation_steps_or_epochs", {
    keys = { "eval_steps", "evals_per_epoch" }, sentence = "evaluations are counted in steps or by the epoch",
    reason = "one of them would be ignored",
    source = "Axolotl, check_evals", help = "remove one of them",
  }, function(c)
    return not (c.eval_steps and (c.evals_per_epoch or 0) > 0), "remove one of them", "evals_per_epoch",
      "eval_steps and evals_per_epoch are mutually exclusive, please use only one."
  end)

  rule("dialect.saves_steps_or_epochs", {
    keys = { "save_steps", "saves_per_epoch" }, sentence = "checkpoints are counted in steps or by the epoch",
    reason = "one of them would be ignored",
    source = "Axolotl, check_saves", help = "remove one of them",
  }, function(c)
    return not (c.save_steps and c.saves_per_epoch), "remove one of them", "saves_per_epoch",
      "save_steps and saves_per_epoch are mutually exclusive, please use only one."
  end)

  rule("dialect.steps_have_their_strategy", {
    keys = { "save_strategy", "save_steps" }, sentence = "save_steps goes with save_strategy: steps",
    reason = "one of them would be ignored",
    source = "Axolotl, check_save_strategy_steps", help = "remove one of them",
  }, function(c)
    return not (c.save_strategy and c.save_strategy ~= "steps" and c.save_steps), "remove save_strategy", "save_strategy",
      ("is %s, but save_steps is set as well"):format(tostring(c.save_strategy))
  end)

  rule("dialect.eval_packing_goes_with_packing", {
    severity = "warning", keys = { "eval_sample_packing", "sample_packing" },
    sentence = "evaluation is packed where training is",
    reason = "a small validation set may fill less than a row", source = "Axolotl, check_eval_packing",
    help = "set eval_sample_packing: false",
  }, function(c)
    return not (c.eval_sample_packing and not c.sample_packing), "set eval_sample_packing: false", "eval_sample_packing",
      "is true, but sample_packing is not"
  end)
end
