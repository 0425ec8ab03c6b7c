--- What is refused, or said, while a YAML configuration is read: stated here for `ftengine rules`, applied by ft.dialect.
return function(rule)
  rule("dialect.unknown_key", {
    keys = { "*" }, sentence = "every key means something",
    reason = "a misspelt key would change nothing, without a word", source = "docs/axolotl.md",
    help = "take the key that is meant, or remove it",
  })
  rule("dialect.unsupported", {
    keys = { "*" }, sentence = "every key of the dialect is one that this engine acts on",
    reason = "a run without it would be another run; the message says what it would have done",
    source = "docs/axolotl.md", help = "remove it, or run with --allow-unsupported, which leaves it out",
  })
  rule("dialect.unknown_value", {
    keys = { "fsdp_config.sharding_strategy", "deepspeed" }, sentence = "names of strategies and stages are known ones",
    reason = "there are no others", source = "PyTorch, ShardingStrategy; DeepSpeed, zero_optimization.stage",
    help = "take one from the list",
  })
  rule("dialect.given_twice", {
    keys = { "fsdp_config" }, sentence = "a key and its fsdp_ spelling do not disagree",
    reason = "one of them would be ignored", source = "Axolotl, fsdp_config", help = "keep the one without the prefix",
  })
  rule("dialect.ignored_warning", {
    keys = { "ignore_warnings" }, sentence = "ignore_warnings names rules that warn",
    reason = "an error stays one, and a misspelt id would switch nothing off", source = "ftengine rules",
    help = "take an id that ftengine rules marks as a warning",
  })
  rule("dialect.missing", {
    keys = { "base_model", "datasets", "learning_rate" }, sentence = "a model, data and a learning rate are given",
    reason = "there is no default that would be right", source = "docs/axolotl.md", help = "add the key",
  })
  rule("dialect.number", {
    keys = { "learning_rate" }, sentence = "learning_rate is a number above 0", reason = "it may be written as text",
    source = "Axolotl, learning_rate", help = "learning_rate: 2e-4",
  })
  rule("dialect.lr_groups", {
    keys = { "lr_groups" }, sentence = "an entry of lr_groups has modules and a rate", reason = "a group is both",
    source = "Axolotl, lr_groups", help = "lr_groups: [{ name: NAME, modules: [q_proj], lr: 1e-4 }]",
  })
  rule("dialect.datasets", {
    keys = { "datasets", "test_datasets" }, sentence = "an entry of datasets says path and type",
    reason = "anything else names no file", source = "Axolotl, datasets", help = "datasets: [{ path: FILE.jsonl, type: … }]",
  })
  rule("dialect.no_such_model", {
    keys = { "base_model" }, sentence = "the base model is a folder, or a hub name that the local cache holds",
    reason = "nothing is fetched unasked", source = "docs/axolotl.md", help = "download it first: hf download NAME",
  })
  rule("dialect.no_such_data", {
    keys = { "datasets", "test_datasets" }, sentence = "a data set is a file, or a hub name that the local cache holds",
    reason = "nothing is fetched unasked", source = "docs/axolotl.md",
    help = "download it first: hf download --repo-type dataset NAME",
  })
  rule("dialect.no_such_file", {
    keys = { "deepspeed" }, sentence = "deepspeed names a JSON file, or one that is built in",
    reason = "there is nothing to read", source = "docs/axolotl.md", help = "ftengine fetch deepspeed_configs writes them",
  })
  rule("dialect.deepspeed_disagrees", {
    keys = { "deepspeed", "micro_batch_size", "gradient_accumulation_steps", "max_grad_norm", "bf16", "fp16" },
    sentence = "DeepSpeed's JSON says what the configuration says, or \"auto\"", reason = "one of them would be ignored",
    source = "transformers, HfTrainerDeepSpeedConfig", help = "write \"auto\" in the JSON",
  })
  rule("dialect.logger", {
    severity = "warning", keys = { "wandb_project", "mlflow_tracking_uri" }, sentence = "metrics go to metrics.jsonl",
    reason = "no service is called while training", source = "docs/axolotl.md", help = "read metrics.jsonl of the run",
  })
  rule("dialect.renamed", {
    severity = "warning", keys = { "tensor_parallel_degree", "sequence_parallel_degree", "gradient_checkpointing" },
    sentence = "older names of keys are read as the present ones", reason = "the older ones will go",
    source = "Axolotl, ND parallelism and check_gradient_checkpointing_w_offload", help = "write the present name",
  })
  rule("dialect.own_template", {
    severity = "warning", keys = { "chat_template", "datasets" },
    sentence = "the template that a model ships needs no name",
    reason = "the one of that name elsewhere may differ from it by a word", source = "Axolotl, chat_template",
    help = "leave chat_template out, or give a file: chat_template_jinja",
  })
  rule("dialect.fsdp_prefix", {
    severity = "warning", keys = { "fsdp_config" }, sentence = "keys of fsdp_config have no fsdp_ prefix",
    reason = "it is the older spelling", source = "Axolotl, check_fsdp_config_kwargs_prefix", help = "remove the prefix",
  })
  rule("dialect.fsdp_list", {
    severity = "warning", keys = { "fsdp" }, sentence = "FSDP is configured by fsdp_config",
    reason = "the list is the older spelling", source = "Axolotl, fsdp", help = "use fsdp_config",
  })
  rule("dialect.sharding_strategy", {
    severity = "warning", keys = { "fsdp_config.sharding_strategy" },
    sentence = "what is kept after forward is said by reshard_after_forward",
    reason = "FSDP2 has no strategies; elsewhere the key is dropped without a word",
    source = "Accelerate, FSDP1 to FSDP2", help = "write reshard_after_forward",
  })
  rule("dialect.dropped", {
    severity = "warning", keys = { "fsdp_config" }, sentence = "keys of FSDP1 that mean nothing any more are left out",
    reason = "FSDP2 does it by itself", source = "Accelerate, FSDP1 to FSDP2", help = "remove it",
  })
end
