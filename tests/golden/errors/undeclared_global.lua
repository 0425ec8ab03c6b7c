local ft = require "ft"
local plan = ft.plan { model = model }
