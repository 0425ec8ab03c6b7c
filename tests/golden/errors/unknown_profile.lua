local ft = require "ft"
ft.plan { parallel = "fsdp2_ofload" }
