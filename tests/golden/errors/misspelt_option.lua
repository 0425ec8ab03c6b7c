local ft = require "ft"
local opt = ft.options { lr = { "number", default = 1 } }
print(opt.rl)
