--- ftengine render DIR < ROWS.jsonl: each conversation as the model's chat template writes it, {"text": …} a line.
--- A row: messages, and tools, documents, add_generation_prompt, now, and whatever else the template reads.
local answer_lines = require "ft.commands.answer_lines"
local flags = require "ft.commands.flags"
local native = require "ft.native"

local declared = { positional = { "DIR" }, keep_going = "switch", threads = "number", template = "string" }

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
  answer_lines(1024, function(lines, first_line)
    return chat:rows(lines, { keep_going = given.keep_going or false, threads = threads, first_line = first_line })
  end)
end
