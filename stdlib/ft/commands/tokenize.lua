--- ftengine tokenize DIR < ROWS.jsonl: the ids of each row's text, and its pair, {"ids": […]} a line; --decode adds their text.
--- --debug shows a data set as training sees it: every token beside its label.
local answer_lines = require "ft.commands.answer_lines"
local flags = require "ft.commands.flags"
local native = require "ft.native"

local declared = {
  positional = { "DIR" }, no_special = "switch", decode = "switch", threads = "number", debug = "switch", data = "string",
  format = { "auto", "template", "chatml", "llama3" }, seq_len = "number", limit = "number", roles = "string",
  last = "switch", field = "string",
}

return function(...)
  local given = flags.read({ ... }, declared)
  local threads = given.threads or 1
  if threads < 1 or threads ~= math.floor(threads) then flags.wrong("--threads: want a whole number from 1") end
  local tokenizer = native.tokenizer(given.dir)
  if given.debug then return require("ft.labels")(given, tokenizer) end
  answer_lines(4096, function(lines, first_line)
    return tokenizer:rows(lines, {
      special_tokens = not given.no_special, decode = given.decode or false, threads = threads, first_line = first_line,
    })
  end)
end
