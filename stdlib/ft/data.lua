--- From data files to token rows: rows are read and tokenized natively, conversations by the model's template or a format
--- written in Lua (ft.chat.*). Every rank reads the same files, so that all agree on rows and packing.
local native = require "ft.native"
local token_cache = require "ft.token_cache"

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

--- The files of a split as one text, for messages and to compare.
function data.path_text(split)
  if type(split.path) ~= "table" then return tostring(split.path) end
  local names = {}
  for i, one in ipairs(split.path) do
    local weight = type(one) == "table" and one.weight
    local part = type(one) == "table" and one.part
    names[i] = tostring(type(one) == "table" and one.path or one) .. (part and " (" .. part .. ")" or "")
      .. (weight and (" x %g"):format(weight) or "")
  end
  return table.concat(names, ", ")
end

--- Which rows of its files belong to a split: { share =, held =, seed = }.
local function choice_of(plan, name)
  local split = plan.data[name]
  local share, held = split.split, true
  if share == "train" then
    held, share = false, nil
    for _, other in ipairs { "val", "test" } do
      local described = plan.data[other]
      if described and data.path_text(described) == data.path_text(split) and type(described.split) == "number" then
        share = (share or 0) + described.split
      end
    end
  end
  if type(share) ~= "number" then return { seed = plan.seed } end
  return { share = share, held = held, seed = plan.seed }
end

--- Pairs of answers, which are two documents each.
local function add_pairs(rows, request)
  local left_out = 0
  while request.source:next() do
    if not rows:add_pair(request.source, request.tokenizer, request.template, request.split) then left_out = left_out + 1 end
  end
  if left_out > 0 and native.ranks().rank == 0 then
    io.stderr:write(("note: %s: %d pairs are left out: no token of one answer is within seq_len\n"):format(
      data.path_text(request.split), left_out))
  end
end

--- Samples to take from the start: a share of them is counted.
local function limit_of(split)
  if not split.limit or split.limit >= 1 then return split.limit end
  local source, count = native.row_source { path = split.path, sample_by = split.sample_by }, 0
  while source:next() do count = count + 1 end
  return math.max(1, math.floor(count * split.limit + 0.5))
end

--- What is to be read, and how.
local function request_of(split, config, tokenizer, choice)
  local preference = split.kind == "preference"
  if split.kind ~= "tokenized" and not preference and not tokenizer then
    native.raise { kind = "config", where = data.path_text(split), message = "is text, and the model has no tokenizer.json" }
  end
  if preference and split.streaming then
    native.raise { kind = "config", path = "data.streaming", message = "pairs are kept in memory", help = "remove streaming" }
  end
  local format = split.kind == "chat" and find_format(split, tokenizer) or {}
  local template = format.template or (preference and tokenizer and find_template(split, tokenizer)) or nil
  return {
    split = split, choice = choice, tokenizer = tokenizer, vocab_size = config.vocab_size or 0,
    template = template,
    format = format.segments and function(messages) return format.segments(messages, split) end or nil,
    source = native.row_source({
      path = split.path, share = choice.share, held = choice.held, seed = choice.seed, limit = limit_of(split),
      sample_by = split.sample_by,
    }, split, template),
  }
end

--- Reads a data set, or maps the tokens that were kept of it. @param choice share, held, seed; nil: all rows
--- @return TokenRows, and the file that they are mapped from
function data.read(split, config, tokenizer, choice)
  local request = request_of(split, config, tokenizer, choice or {})
  local preference = split.kind == "preference"
  local function make(file)
    local rows = native.token_rows {
      seq_len = split.seq_len, vocab_size = request.vocab_size, too_long = split.too_long, together = preference and 2 or 1,
    }
    if preference then
      add_pairs(rows, request)
    else
      native.read_rows(rows, request.source, split, {
        tokenizer = tokenizer, template = request.template, format = request.format, cache = file,
      })
    end
    return rows
  end
  local file = not preference and choice and token_cache.file(request, split.streaming == true) or nil
  local rows
  if file and (split.streaming or native.exists(file)) then
    rows = token_cache.open(file, make)
  else
    rows, file = make(), nil
  end
  rows:check_trainable(data.path_text(split))
  return rows, file
end

--- Reads every split of a plan. @return token rows by split, and the tokenizer (nil when all data is tokenized)
function data.load(plan)
  local tokenizer = plan.model.tokenizer and native.tokenizer(plan.model.tokenizer) or nil
  local sentences = tokenizer and require("ft.special_tokens").settle(plan.model, tokenizer)
  if tokenizer and native.ranks().rank == 0 then
    for _, sentence in ipairs(require("ft.vocabulary").sentences(plan.model)) do print(sentence) end
    for _, sentence in ipairs(sentences) do io.stderr:write("note: ", sentence, "\n") end
  end
  local splits = {}
  for _, name in ipairs { "train", "val", "test" } do
    if plan.data[name] then
      local rows, file = data.read(plan.data[name], plan.model.config, tokenizer, choice_of(plan, name))
      splits[name] = rows
      if native.ranks().rank == 0 then
        print(("%-12s %s%s"):format(name, rows:report(), file and (", mapped from " .. file) or ""))
        io.write("  tokens a sample\n", rows:lengths())
        io.flush()
      end
    end
  end
  return splits, tokenizer
end

return data
