--- ftengine generate DIR --prompt TEXT: answers a prompt, greedily or (with a temperature) sampled.
local data = require "ft.data"
local flags = require "ft.commands.flags"
local native = require "ft.native"
local open = require "ft.commands.open"

local declared = {
  positional = { "DIR" }, prompt = "string", system = "string", format = "string", max_new_tokens = "number",
  temperature = "number", top_k = "number", top_p = "number", seed = "number", raw = "switch",
  compute = { "auto", "fp32", "bf16", "fp16" }, model = "string", adapter = "string",
}

--- The prompt as the model was taught to read it; as it stands with --raw, or without a chat format.
local function prompt_ids(opened, given)
  local tokenizer = opened.tokenizer
  local has_chat = tokenizer:token_id("<|im_end|>") or tokenizer:token_id("<|eot_id|>")
    or native.chat_template(tokenizer:folder())
  if given.raw or not (has_chat or given.format) then return tokenizer:encode(given.prompt, true) end
  local format = data.format({ format = given.format }, tokenizer)
  local messages = { { role = "user", content = given.prompt } }
  if format.template then
    if given.system then table.insert(messages, 1, { role = "system", content = given.system }) end
    return tokenizer:encode(format.template:render { messages = messages, add_generation_prompt = true }, false)
  end
  local text = format.prompt(messages, { system = given.system })
  return tokenizer:encode(text, false), tokenizer:token_id(format.end_of_turn)
end

return function(...)
  local given = flags.read({ ... }, declared)
  if not given.prompt then flags.wrong("generate wants --prompt TEXT") end
  local opened = open(given.dir, given)
  local tokenizer = opened.tokenizer
  if not tokenizer then
    native.raise { kind = "config", where = given.dir, message = "has no tokenizer.json, which a prompt needs" }
  end
  local ids, end_of_turn = prompt_ids(opened, given)
  local stop = tokenizer:stop_ids()
  stop[#stop + 1] = end_of_turn
  local answer = opened.model:generate({ ids }, {
    max_new_tokens = given.max_new_tokens or 256, temperature = given.temperature or 0, top_k = given.top_k or 0,
    top_p = given.top_p or 1, seed = given.seed or 0, stop = stop,
  })[1]
  print(tokenizer:decode(answer, true))
end
