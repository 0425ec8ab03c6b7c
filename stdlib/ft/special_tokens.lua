--- Which ids end and pad a text: a model says it up to three times, and not always the same.
local native = require "ft.native"

local special_tokens = {}

local function listed(value)
  if type(value) == "number" then return { value } end
  if type(value) == "table" then return value end
  return {}
end

local function shown(ids, tokenizer)
  local out = {}
  for i, id in ipairs(ids) do out[i] = ("%d (%s)"):format(id, tokenizer:decode({ id }, false)) end
  return table.concat(out, ", ")
end

--- special_tokens.differences(config, tokenizer) -> list of sentences, one a token that is not the same everywhere.
--- @param config the model's config.json. Beside the tokenizer a generation_config.json is read, where there is one.
function special_tokens.differences(config, tokenizer)
  local path = tokenizer:folder() .. "/generation_config.json"
  local generation = native.exists(path) and native.read_json(path) or {}
  local out = {}
  for _, name in ipairs { "bos", "eos", "pad" } do
    local own = tokenizer[name .. "_id"](tokenizer)
    local said, differ = {}, false
    for _, source in ipairs { { "config.json", config }, { "generation_config.json", generation } } do
      local ids = listed(source[2][name .. "_token_id"])
      if own and #ids > 0 then
        local has = false
        for _, id in ipairs(ids) do has = has or id == own end
        differ = differ or not has
        said[#said + 1] = source[1] .. " " .. shown(ids, tokenizer)
      end
    end
    if differ then
      out[#out + 1] = ("special tokens: %s is %s to the tokenizer, which training follows; %s"):format(name,
        shown({ own }, tokenizer), table.concat(said, "; "))
    end
  end
  return out
end

return special_tokens
