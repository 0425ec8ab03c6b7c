--- Which ids begin, end and pad a text: a model says it up to three times, and not always the same. The tokenizer's are
--- taken, since training reads and writes texts by it, and written into config.json and generation_config.json of the
--- run and of what is merged, as transformers' Trainer aligns them.
local native = require "ft.native"

local special_tokens = {}

local reasons = {
  bos = "training begins texts with it", eos = "training ends texts with it", pad = "training fills rows with it",
}

local function listed(value)
  if type(value) == "number" then return { value } end
  if type(value) == "table" then return value end
  return {}
end

local function has(ids, id)
  for _, one in ipairs(ids) do
    if one == id then return true end
  end
  return false
end

local function shown(ids, tokenizer)
  local out = {}
  for i, id in ipairs(ids) do out[i] = ("%d (%s)"):format(id, tokenizer:decode({ id }, false)) end
  return table.concat(out, ", ")
end

--- One of bos, eos, pad. @param stated { { file =, ids = }, … }: config.json's and generation_config.json's
--- @return sentence or nil
local function compare(name, own, stated, tokenizer)
  local said, differ = {}, false
  for _, source in ipairs(stated) do
    if #source.ids > 0 then said[#said + 1] = source.file .. " says " .. shown(source.ids, tokenizer) end
    differ = differ or (own and #source.ids > 0 and not has(source.ids, own))
  end
  if own and differ then
    return ("special tokens: %s is %s to the tokenizer, and %s: the tokenizer's is taken and written, since %s"):format(
      name, shown({ own }, tokenizer), table.concat(said, ", "), reasons[name])
  end
  local common = #said < 2
  for _, id in ipairs(stated[1].ids) do common = common or has(stated[2].ids, id) end
  if not own and not common then
    return ("special tokens: %s: %s, and the tokenizer names none: both stay as they are"):format(name,
      table.concat(said, ", "))
  end
end

--- Compares what the tokenizer, config.json and generation_config.json say, and has the plan say what the tokenizer does:
--- model.config's ids, and model.generation_ids where generation_config.json is to have others. What a file does not
--- say stays unsaid, but for tokens that the plan names itself (model.special_tokens). A generation_config.json that
--- names other ends than the tokenizer's keeps them behind it: each of them ends an answer.
--- @param model the plan's   @return a list of sentences, one a token that is not the same everywhere
function special_tokens.settle(model, tokenizer)
  local path = tokenizer:folder() .. "/generation_config.json"
  if native.exists(path) ~= "file" and model.dir then path = model.dir .. "/generation_config.json" end
  local generation = native.exists(path) == "file" and native.read_json(path) or nil
  local out, ids = {}, {}
  for _, name in ipairs { "bos", "eos", "pad" } do
    local key, own = name .. "_token_id", tokenizer[name .. "_id"](tokenizer)
    local in_config, in_generation = listed(model.config[key]), listed(generation and generation[key])
    out[#out + 1] = compare(name, own,
      { { file = "config.json", ids = in_config }, { file = "generation_config.json", ids = in_generation } }, tokenizer)
    local named = model.special_tokens and model.special_tokens[name .. "_token"] ~= nil
    local function lacks(stated) return own and not has(stated, own) and (#stated > 0 or named) end
    if lacks(in_config) then model.config[key] = own end
    if generation and lacks(in_generation) then
      ids[key] = own
      if name == "eos" and #in_generation > 0 then
        ids[key] = { own }
        for _, id in ipairs(in_generation) do table.insert(ids[key], id) end
      end
    end
  end
  if next(ids) then model.generation_ids = ids end
  return out
end

return special_tokens
