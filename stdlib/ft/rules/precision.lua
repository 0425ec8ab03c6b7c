--- Dtypes that go together.
return function(rule)
  rule("precision.parameters_in_the_compute_dtype", {
    keys = { "parallel.param_dtype", "model.compute" },
    sentence = "parameters are gathered in fp32 or in the dtype that computes",
    reason = "bf16 parameters under fp16 arithmetic are rounded twice, and neither range holds",
    source = "PyTorch, MixedPrecisionPolicy.param_dtype",
    help = "write param_dtype = \"auto\"",
  }, function(p)
    return not (p.parallel.param_dtype == "bf16" and p.model.compute == "fp16"), "write param_dtype = \"auto\"",
      "parallel.param_dtype", "got 'bf16', but model.compute is 'fp16'"
  end)
end
