--- From data files to token rows: rows are read natively, conversations are formatted in Lua (ft.chat.*), tokens are made
--- natively. Every rank reads the same files, so that all agree on rows and packing.
local native = require "ft.native"

local data = {}

--- The model's own chat template, or one that the plan names; nil where there is none.
local function find_template(split, tokenizer)
  local path = split.chat_template or tokenizer:folder()
  local chat = native.chat_template(path, split.template_name)
  if chat and chat:fault() then
    native.raise {
      kind = "format", where = chat:file(), message = "the chat template cannot be read: " .. chat:fault(),
      help = "write format = \"chatml\" or \"llama3\", or name another with chat_template",
    }
  end
  return chat
end

--- @param split format, chat_template, template_name of a chat data set
--- @return { template = ChatTemplate }, or a module of ft.chat with segments(messages, options) and prompt(messages)
local function find_format(split, tokenizer)
  local name = split.format or "auto"
  if name == "auto" or name == "template" then
    local chat = find_template(split, tokenizer)
    if chat then return { template = chat } end
    if name == "template" or split.chat_template then
      native.raise {
        kind = "config", where = tokenizer:folder(), path = "data.format", message = "the model has no chat template",
        help = "it would lie in chat_template.jinja or tokenizer_config.json; chat_template names a file of one's own",
      }
    end
  else
    return require("ft.chat." .. name)
  end
  for _, candidate in ipairs { "chatml", "llama3" } do
    local format = require("ft.chat." .. candidate)
    if tokenizer:token_id(format.end_of_turn) then return format end
  end
  native.raise {
    kind = "config", path = "data.format", message = "the tokenizer has neither <|im_end|> nor <|eot_id|>: no format fits",
    help = "write format = \"chatml\" or \"llama3\" if the model shall learn one of them as plain text",
  }
end

data.format = find_format

--- Which rows of a file belong to a split: nil for all, else a function of the row's number.
local function chooser(plan, name)
  local split = plan.data[name]
  local share, keep_held = split.split, true
  if share == "train" then
    keep_held, share = false, nil
    for _, other in ipairs { "val", "test" } do
      local described = plan.data[other]
      if described and described.path == split.path and type(described.split) == "number" then
        share = (share or 0) + described.split
      end
    end
  end
  if type(share) ~= "number" then return nil end
  local held = native.held_out(native.count_rows(split.path), share, plan.seed)
  return function(number) return held[number] == keep_held end
end

--- Reads one file. @param belongs which rows, by number; nil for all. @return TokenRows
function data.read(split, config, tokenizer, belongs)
  if split.kind ~= "tokenized" and not tokenizer then
    native.raise { kind = "config", where = split.path, message = "is text, and the model has no tokenizer.json" }
  end
  local rows = native.token_rows {
    seq_len = split.seq_len, vocab_size = config.vocab_size or 0, too_long = split.too_long,
  }
  local format = split.kind == "chat" and find_format(split, tokenizer)
  local how = { kind = split.kind, field = split.field, mask_prompts = split.mask_prompts }
  local reader, number, taken = native.row_reader(split.path), 0, 0
  while taken ~= split.limit and reader:next() do
    number = number + 1
    if not belongs or belongs(number) then
      taken = taken + 1
      if format and format.template then
        rows:add_chat(tokenizer, format.template, reader, split)
      elseif format then
        rows:add_segments(tokenizer, format.segments(reader:messages(), split), false, reader)
      else
        rows:add_row(reader, how, tokenizer)
      end
    end
  end
  rows:check_trainable(split.path)
  return rows
end

--- Reads every split of a plan. @return token rows by split, and the tokenizer (nil when all data is tokenized)
function data.load(plan)
  local tokenizer = plan.model.tokenizer and native.tokenizer(plan.model.tokenizer) or nil
  if tokenizer and native.ranks().rank == 0 then
    for _, sentence in ipairs(require("ft.special_tokens").differences(plan.model.config, tokenizer)) do
      io.stderr:write("note: ", sentence, "\n")
    end
  end
  local splits = {}
  for _, name in ipairs { "train", "val", "test" } do
    if plan.data[name] then splits[name] = data.read(plan.data[name], plan.model.config, tokenizer, chooser(plan, name)) end
  end
  return splits, tokenizer
end

return data
