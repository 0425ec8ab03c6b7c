--- A data set as training sees it, for reading: every token beside its label. `ftengine tokenize DIR --debug`.
local data = require "ft.data"
local native = require "ft.native"

local kinds = { messages = "chat", sharegpt = "chat", alpaca = "alpaca", completion = "completion", tokens = "tokenized",
  segments = "segments" }
local escapes = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"', ["\\"] = "\\\\" }

--- A text as one line between quotes.
local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return escapes[c] or ("\\x%02x"):format(c:byte()) end) .. '"'
end

local function split_of(path, given)
  local reader = native.row_source { path = path }
  if not reader:next() then native.raise { kind = "format", where = path, message = "holds no rows" } end
  local roles
  if given.roles then
    roles = {}
    for role in given.roles:gmatch("[^,]+") do roles[#roles + 1] = role end
  end
  return {
    kind = kinds[reader:form()], path = path, seq_len = given.seq_len or 0, too_long = "truncate", format = given.format,
    limit = given.limit, mask_prompts = true, roles_to_train = roles, train_turns = given.last and "last" or "all",
    field = given.field or "text",
  }
end

local function show(path, given, tokenizer)
  local rows = data.read(split_of(path, given), { vocab_size = tokenizer:vocab_size() }, tokenizer)
  local i, row = 1, rows:row(1)
  while row do
    local trained = 0
    for k = 2, #row.labels do trained = trained + (row.labels[k] >= 0 and 1 or 0) end
    print(("row %d (line %d): %d tokens, %d trained"):format(i, row.line, #row.ids, trained))
    for k, id in ipairs(row.ids) do
      print(("  %7d %7d  %s"):format(id, row.labels[k], quoted(tokenizer:decode({ id }, false))))
    end
    i = i + 1
    row = rows:row(i)
  end
  print(rows:report())
end

--- @param given data (a file; nil: standard input), format, roles ("assistant,tool"), last, seq_len, limit, field
return function(given, tokenizer)
  if given.data then return show(given.data, given, tokenizer) end
  local path = os.tmpname() -- data sets are read from files
  local file = assert(io.open(path, "wb"))
  file:write(io.read("*a"))
  file:close()
  local done, problem = pcall(show, path, given, tokenizer)
  os.remove(path)
  if not done then error(problem, 0) end
end
