-- LuaJIT, with nothing global beyond its own library: `require "ft"` returns a table.
std = "luajit"
max_line_length = 130
-- A method that has no use for its object, and an argument named by an interface, are not faults.
self = false
unused_args = false
ignore = { "581" } -- not (x <= y): what a comparison with NaN gives is meant
exclude_files = { "build/", "runs/", "tests/golden/errors/" } -- what users get wrong
