local ft = require "ft"
ft.plan {
  model = ft.hf { "/nowhere/model" },
  data = { train = ft.chat { "x.jsonl" } },
  optimizer = ft.adamw {},
}
