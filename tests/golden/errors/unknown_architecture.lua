local ft = require "ft"
ft.plan {
  model = ft.scratch { ft.config { model_type = "mamba" } },
  data = { train = ft.tokenized { "rows.jsonl" } },
  optimizer = ft.sgd {},
}
