--- Dtypes that go together, and what the device has of them.
local device = require "ft.device"

local elsewhere = "take a newer GPU, or compute on the processor: FTENGINE_DEVICE=cpu"

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

  rule("precision.bf16_needs_newer_cards", {
    keys = { "model.compute", "parallel.device" },
    sentence = "bf16 is computed on GPUs of compute capability 8.0 and newer",
    reason = "older ones have no units for it, and the kernels here are not compiled for them",
    source = "CUDA programming guide, compute capabilities; tools/cmake/Cuda.cmake",
    help = "take a newer GPU, or compute on the processor",
  }, function(p)
    local old = p.device.old
    return not (old and p.model.compute == "bf16"), elsewhere, "model.compute",
      old and ("got 'bf16', but %s, and bf16 needs 8.0"):format(device.text(old))
  end)

  rule("precision.cards_run_the_kernels", {
    keys = { "parallel.device" },
    sentence = "where a GPU is asked for, it has compute capability 8.0 or newer",
    reason = "the kernels and flash attention are compiled for these",
    source = "tools/cmake/Cuda.cmake",
    help = "take a newer GPU, or compute on the processor",
  }, function(p)
    local old = p.device.asked == "cuda" and p.model.compute ~= "bf16" and p.device.old
    return not old, elsewhere, "parallel.device",
      old and ("%s, and the kernels want 8.0 or newer"):format(device.text(old))
  end)

  rule("precision.old_cards_are_passed_over", {
    severity = "warning", keys = { "parallel.device" },
    sentence = "a GPU that is too old is not taken without a word",
    reason = "ranks compute on the processor where nobody asked for the GPU",
    source = "engine/parallel/device_choice.h",
    help = "take a newer GPU, or write parallel.device = \"cpu\"",
  }, function(p)
    local old = p.device.asked == "auto" and p.model.compute ~= "bf16" and p.device.old
    return not old, "take a newer GPU, or write parallel.device = \"cpu\"", "parallel.device",
      old and ("%s, and the kernels want 8.0 or newer: ranks compute on the processor"):format(device.text(old))
  end)

  rule("precision.fast_on_a_processor", {
    severity = "warning", keys = { "model.compute", "parallel.device" },
    sentence = "a processor computes in a dtype that it is fast in",
    reason = "fp16 is converted there for every product, and bf16 too without AMX or AVX512-BF16",
    source = "docs/numerics.md",
    help = "write compute = \"auto\"",
  }, function(p)
    local compute, fast = p.model.compute, p.device.fast
    local slow = p.device.kind == "cpu" and (compute == "fp16" or (compute == "bf16" and fast ~= "bf16"))
    local help = p.facts.yaml and "write bf16: auto, and no fp16" or "write compute = \"auto\""
    return not slow, ("%s, which takes %s here"):format(help, fast), "model.compute",
      ("%s is computed on a processor, and slowly"):format(tostring(compute))
  end)

  rule("plan.pages_are_updated_on_the_host", {
    keys = { "parallel.optimizer_state", "parallel.offload_params" },
    sentence = "on GPUs a paged optimizer state goes with offload_params = true",
    reason = "paged state is updated on the host, so the parameters have to live there",
    source = "engine/train/sharded_model.cpp",
    help = "set offload_params = true",
  }, function(p)
    return p.device.kind ~= "cuda" or p.device.old or p.parallel.optimizer_state ~= "paged" or p.parallel.offload_params,
      "set offload_params = true", "parallel.optimizer_state",
      "paged state is updated on the host, and the parameters are on a GPU"
  end)
end
