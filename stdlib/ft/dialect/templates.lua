--- Chat templates by the dialect's names: those that are the model's own, which its folder ships.
local native = require "ft.native"

local templates = {}

--- name -> the architectures whose models ship it.
local families = {
  llama3 = { "llama" }, qwen_25 = { "qwen2" }, qwen3 = { "qwen3", "qwen3_moe" }, gemma = { "gemma2" }, gemma3 = { "gemma3_text" },
  phi_3 = { "phi3" }, phi_35 = { "phi3" }, cohere = { "cohere" }, mistral_v1 = { "mistral", "mixtral" },
  mistral_v2v3 = { "mistral", "mixtral" }, mistral_v3_tekken = { "mistral", "mixtral" }, mistral_v7_tekken = { "mistral" },
}

--- Whether a model's folder holds a template.
local function ships(dir)
  if native.exists(dir .. "/chat_template.jinja") == "file" then return true end
  local config = dir .. "/tokenizer_config.json"
  return native.exists(config) == "file" and native.read_json(config).chat_template ~= nil
end

--- Whether a name is that of the template which the model ships.
function templates.is_own(r, name)
  local config = r.model_dir and r.model_dir .. "/config.json"
  if not families[name] or native.exists(config or "") ~= "file" or not ships(r.model_dir) then return false end
  local type = native.read_json(config).model_type
  for _, family in ipairs(families[name]) do if family == type then return true end end
  return false
end

--- Reads a name as the model's own template, with a word.
function templates.take_own(r, key, name)
  r:warn(key, ("%s is read as the template that the model ships"):format(name), "leave it out", "dialect.own_template")
end

return templates
