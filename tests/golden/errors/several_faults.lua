local ft = require "ft"
local plan = ft.plan {
  model = ft.scratch { ft.config { model_type = "llama", hidden_size = 16 }, compute = "fp8" },
  adapter = ft.lora { r = 0, dropuot = 0.1 },
  parallel = ft.fsdp2 { offlaod_params = true,
    cpu_offload_pin_memory = "no" },
  data = { train = ft.chat { "x.jsonl", seq_len = 1 } },
  optimizer = ft.adamw { lr = 1e-4, bits = 4 },
  batch = { total = 16, micor = 4 },
}
plan:start()
