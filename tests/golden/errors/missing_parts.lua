local ft = require "ft"
ft.plan { model = ft.hf { quantize = "nf4" }, data = {} }
