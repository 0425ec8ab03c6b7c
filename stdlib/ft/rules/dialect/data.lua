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
    keys = { "eval_steps", "eval_strategy", "val_set_size" }, sentence = "evaluation has something to evaluate",
    reason = "no row is held out", source = "Axolotl, check_evals_per_epoch_val_set_size", help = "set val_set_size: 0.05",
  }, function(c)
    local strategy = c.eval_strategy or c.evaluation_strategy
    local asked = c.eval_steps and "eval_steps"
      or (strategy and strategy ~= "no") and (c.eval_strategy and "eval_strategy" or "evaluation_strategy")
    local has = (c.val_set_size or 0) > 0 or (c.test_datasets and c.test_datasets[1])
    return not asked or has, "set val_set_size: 0.05, or test_datasets", asked,
      "is set, but there is no validation data: val_set_size is 0"
  end)

  rule("dialect.evaluations_of_nothing", {
    severity = "warning", keys = { "evals_per_epoch", "val_set_size" },
    sentence = "evals_per_epoch has something to evaluate",
    reason = "elsewhere it changes nothing there, without a word", source = "Axolotl, check_evals",
    help = "set val_set_size: 0.05, or remove it",
  }, function(c)
    local has = (c.val_set_size or 0) > 0 or (c.test_datasets and c.test_datasets[1])
    return (c.evals_per_epoch or 0) == 0 or has, "set val_set_size: 0.05, or test_datasets; or remove it", "evals_per_epoch",
      "changes nothing: there is no validation data, val_set_size is 0"
  end)

  rule("dialect.evaluations_have_their_strategy", {
    keys = { "eval_strategy", "eval_steps", "evals_per_epoch" },
    sentence = "eval_steps and evals_per_epoch go with eval_strategy: steps", reason = "one of them would be ignored",
    source = "Axolotl, check_evals", help = "set eval_strategy: steps, or remove it",
  }, function(c)
    local key = c.eval_strategy and "eval_strategy" or "evaluation_strategy"
    if not c[key] or c[key] == "steps" then return true end
    if c.eval_steps then
      return false, "set eval_strategy: steps, or remove eval_steps", key, ("is %s, but eval_steps is set as well"):format(c[key])
    end
    return (c.evals_per_epoch or 0) == 0, "set eval_strategy: steps, or remove it", key,
      ("is %s: it must be empty or `steps` when used with evals_per_epoch"):format(c[key])
  end)

  rule("dialect.one_validation_set", {
    keys = { "test_datasets", "val_set_size" }, sentence = "validation data is held out, or has files of its own",
    reason = "one of them would be ignored", source = "Axolotl, check_val_w_test_datasets", help = "set val_set_size: 0",
  }, function(c)
    return not (c.test_datasets and c.test_datasets[1] and (c.val_set_size or 0) > 0),
      "set val_set_size: 0, or remove test_datasets", "val_set_size",
      "non-zero val_set_size should not be used with test_datasets configuration"
  end)

  rule("dialect.accumulation_or_batch_size", {
    keys = { "gradient_accumulation_steps", "batch_size" },
    sentence = "rows a step are said by gradient_accumulation_steps, and not by batch_size as well",
    reason = "one of them would be ignored", source = "Axolotl, check_gas_bsz", help = "remove batch_size",
  }, function(c)
    return not (c.batch_size and c.gradient_accumulation_steps), "remove batch_size", "batch_size",
      "please set only one of gradient_accumulation_steps or batch_size"
  end)

  rule("dialect.jinja_has_its_template", {
    keys = { "chat_template", "chat_template_jinja" }, sentence = "chat_template: jinja has a chat_template_jinja",
    reason = "there is no template otherwise", source = "Axolotl, check_chat_template_config",
    help = "set chat_template_jinja: FILE",
  }, function(c)
    local given = c.chat_template_jinja ~= nil and c.chat_template_jinja ~= ""
    return c.chat_template ~= "jinja" or given, "set chat_template_jinja: FILE, or remove chat_template", "chat_template",
      "chat_template_jinja is required when chat_template is set to jinja"
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
