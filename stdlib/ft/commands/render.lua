--- ftengine render DIR < ROWS.jsonl: each conversation as the model's chat template writes it, {"text": …} a line.
--- A row: messages, and tools, documents, add_generation_prompt, now, and whatever else the template reads.
local flags = require "ft.commands.flags"
local native = require "ft.native"

local declared = { positional = { "DIR" }, keep_going = "switch", threads = "number", template = "string" }
local rows_at_once = 1024 -- read, rendered on all threads and written: bounds the memory

return function(...)
  local given = flags.read({ ... }, declared)
  local threads = given.threads or 1
  if threads < 1 or threads ~= math.floor(threads) then flags.wrong("--threads: want a whole number from 1") end
  local chat = native.chat_template(given.dir, given.template)
  if not chat then
    native.raise {
      kind = "config", where = given.dir, message = "has no chat template",
      help = "a model has it in chat_template.jinja, or in chat_template of tokenizer_config.json",
    }
  end
  local options = { keep_going = given.keep_going or false, threads = threads, first_line = 1 }
  local lines = {}
  local function flush()
    for _, row in ipairs(chat:rows(lines, options)) do io.write(row, "\n") end
    options.first_line = options.first_line + #lines
    lines = {}
  end
  for line in io.lines() do
    lines[#lines + 1] = line
    if #lines == rows_at_once then flush() end
  end
  if #lines > 0 then flush() end
end
