--- LoRA: what it is put on.
return function(rule)
  rule("adapter.target_modules_not_empty", {
    keys = { "adapter.target_modules" },
    sentence = "target_modules names at least one module",
    reason = "an adapter on nothing trains nothing",
    source = "PEFT, LoraConfig.target_modules",
    help = "write \"all-linear\", or name modules",
  }, function(p)
    local targets = p.adapter and p.adapter.target_modules
    return not targets or #targets > 0, "write \"all-linear\", or name modules: { \"q_proj\", \"v_proj\" }",
      "adapter.target_modules", "is empty: nothing would be trained"
  end)
end
