--- Which turns of a conversation are learned, for the formats written in Lua. The model's own template (format =
--- "template") decides the same natively.
local native = require "ft.native"

local turns = {}

--- What a format written in Lua cannot write down, and must not lose.
local written_by_templates_alone = { "tool_calls", "reasoning_content", "thinking", "reasoning" }

local function own_choice(message)
  if message.train ~= nil and message.train ~= native.null then return message.train == true end
  if message.weight ~= nil and message.weight ~= native.null then return message.weight == 1 end
  return nil
end

--- turns.chosen(messages, { roles_to_train =, train_turns =, mask_prompts = }) -> list of booleans
function turns.chosen(messages, options)
  local roles = {}
  for _, role in ipairs(options.roles_to_train or { "assistant" }) do roles[role] = true end
  local out, last = {}, 0
  for i, message in ipairs(messages) do
    for _, key in ipairs(written_by_templates_alone) do
      if message[key] ~= nil and message[key] ~= native.null then
        native.raise {
          kind = "format", path = "messages[" .. i .. "]." .. key, message = "this format has no place for it",
          help = "train with the model's own template: format = \"template\"",
        }
      end
    end
    local own = own_choice(message)
    out[i] = own == nil and roles[message.role] == true or own == true
    if roles[message.role] then last = i end
  end
  for i in ipairs(messages) do
    if options.train_turns == "last" then out[i] = out[i] and i == last end
    if options.mask_prompts == false then out[i] = true end
  end
  return out
end

return turns
