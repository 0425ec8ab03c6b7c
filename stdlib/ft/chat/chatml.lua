--- ChatML: <|im_start|>role\ncontent<|im_end|>\n, as Qwen writes it. The loss sees the assistant's content and the end of
--- its turn; the newline after it belongs to the next turn.
local turns = require "ft.chat.turns"

local chatml = { end_of_turn = "<|im_end|>" }

local function opening(role) return "<|im_start|>" .. role .. "\n" end

local function with_system(messages, system)
  if not system or (messages[1] and messages[1].role == "system") then return messages end
  local out = { { role = "system", content = system } }
  for _, message in ipairs(messages) do out[#out + 1] = message end
  return out
end

--- The conversation as pieces { text =, train = }.
--- @param options mask_prompts (false: every turn is learned), system (for conversations without one), and what
--- ft.chat.turns reads
function chatml.segments(messages, options)
  local segments = {}
  local learn_all = options.mask_prompts == false
  messages = with_system(messages, options.system)
  local chosen = turns.chosen(messages, options)
  for i, message in ipairs(messages) do
    local train = chosen[i]
    segments[#segments + 1] = { text = opening(message.role), train = learn_all }
    segments[#segments + 1] = { text = message.content .. chatml.end_of_turn, train = train }
    segments[#segments + 1] = { text = "\n", train = learn_all }
  end
  return segments
end

--- The text that asks for the assistant's next turn.
function chatml.prompt(messages, options)
  local text = ""
  for _, segment in ipairs(chatml.segments(messages, options or {})) do text = text .. segment.text end
  return text .. opening("assistant")
end

return chatml
