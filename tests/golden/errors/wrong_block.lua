local ft = require "ft"
ft.plan {
  model = ft.scratch { ft.config { model_type = "llama" } },
  data = { train = ft.lora { r = 4 } },
  optimizer = { lr = 1 },
}
