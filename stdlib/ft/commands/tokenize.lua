--- ftengine tokenize DIR < ROWS.jsonl: the ids of each row's text, {"ids": […]} a line; --decode adds their text.
--- --debug shows a data set as training sees it: every token beside its label.
local flags = require "ft.commands.flags"
local native = require "ft.native"

local declared = {
  positional = { "DIR" }, no_special = "switch", decode = "switch", threads = "number", debug = "switch", data = "string",
  format = { "auto", "template", "chatml", "llama3" }, seq_len = "number", limit = "number", roles = "string",
  last = "switch", field = "string",
}
local rows_at_once = 4096 -- read, tokenized on all threads and written: bounds the memory

return function(...)
  local given = flags.read({ ... }, declared)
  local threads = given.threads or 1
  if threads < 1 or threads ~= math.floor(threads) then flags.wrong("--threads: want a whole number from 1") end
  local tokenizer = native.tokenizer(given.dir)
  if given.debug then return require("ft.labels")(given, tokenizer) end
  local options = { special_tokens = not given.no_special, decode = given.decode or false, threads = threads, first_line = 1 }
  local lines = {}
  local function flush()
    for _, row in ipairs(tokenizer:rows(lines, options)) do io.write(row, "\n") end
    options.first_line = options.first_line + #lines
    lines = {}
  end
  for line in io.lines() do
    lines[#lines + 1] = line
    if #lines == rows_at_once then flush() end
  end
  if #lines > 0 then flush() end
end
