local ft = = require "ft"
