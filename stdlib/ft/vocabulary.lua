--- What a plan adds to its model's vocabulary: tokens of the tokenizer, in a copy of its folder, and rows of the tables
--- (embedding, and a head of its own) that the model's files do not have.
local native = require "ft.native"

local vocabulary = {}

--- What of ft.hf changes the tokenizer.
local kinds = { "added_tokens", "special_tokens", "renamed_tokens" }

local function edits_of(model)
  local edits, asks = {}, false
  for _, key in ipairs(kinds) do
    local value = model[key]
    if type(value) == "table" and next(value) ~= nil then
      edits[key], asks = value, true
    end
  end
  return asks and edits or nil
end

--- Makes the tokenizer that the plan asks for, and says how many rows the model then has: config.vocab_size, and
--- model.grown where these are more than the files hold. Before the model is described.
--- @param model the plan's   @param seed of rows that are drawn
function vocabulary.settle(model, seed)
  local edits = edits_of(model)
  if not edits and not model.vocab_multiple then return end
  if edits and not model.tokenizer then
    native.raise {
      kind = "config", path = "model", where = model.dir, message = "has no tokenizer that tokens could be added to",
      help = "add tokenizer = DIR to the model",
    }
  end
  if edits then
    model.tokenizer = native.edited_tokenizer(model.tokenizer, edits, require("ft.token_cache").root() .. "/tokenizers")
    model.new_tokens = native.read_json(model.tokenizer .. "/edits.json").new
  end
  local rows = model.config.vocab_size
  if type(rows) ~= "number" then return end -- whoever describes the model says so
  local wanted = model.tokenizer and math.max(rows, native.tokenizer(model.tokenizer):vocab_size()) or rows
  local multiple = model.vocab_multiple or 1
  wanted = math.ceil(wanted / multiple) * multiple
  if wanted == rows then return end
  model.config.vocab_size = wanted
  model.grown = { rows = wanted, stored = rows, begin = model.new_rows or "mean",
                  scale = model.config.initializer_range or 0.02, seed = seed }
end

--- Names of the tables that have a row for each token.
function vocabulary.tables(description)
  local head = description.head.output
  return { description.embedding.name .. ".weight", (head and head.name or "lm_head") .. ".weight" }
end

--- Says which tables grow, once the model is described.
function vocabulary.name_tables(model)
  if model.grown then model.grown.tensors = vocabulary.tables(model.description) end
end

--- What is printed of it. @return a list of sentences
function vocabulary.sentences(model)
  local out, names = {}, {}
  for i, token in ipairs(model.new_tokens or {}) do
    if i <= 8 then names[i] = ("%s (%d)"):format(token.content, token.id) end
  end
  if #names > 0 then
    local more = #model.new_tokens > #names and (" and %d more"):format(#model.new_tokens - #names) or ""
    out[1] = ("vocabulary: %d new token%s: %s%s"):format(#model.new_tokens, #names == 1 and "" or "s",
      table.concat(names, ", "), more)
  end
  local grown = model.grown
  if grown then
    out[#out + 1] = ("vocabulary: %s from %d rows to %d; new rows begin %s"):format(
      model.description.head.tied and "the embedding, which is the head, grows" or "embedding and head grow", grown.stored,
      grown.rows, grown.begin == "mean" and "as the mean of the old ones"
        or ("normal, with a standard deviation of %g"):format(grown.scale))
  end
  return out
end

return vocabulary
