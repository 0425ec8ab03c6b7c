--- Llama 3: <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>. The loss sees the assistant's content and
--- <|eot_id|>.
local turns = require "ft.chat.turns"

local llama3 = { end_of_turn = "<|eot_id|>" }

local function opening(role) return "<|start_header_id|>" .. role .. "<|end_header_id|>\n\n" end

local function trimmed(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

--- The conversation as pieces { text =, train = }; content is trimmed, as Meta's template does.
--- @param options mask_prompts (false: every turn is learned), system (for conversations without one), and what
--- ft.chat.turns reads
function llama3.segments(messages, options)
  local learn_all = options.mask_prompts == false
  local segments = { { text = "<|begin_of_text|>", train = learn_all } }
  local function add(role, content, train)
    segments[#segments + 1] = { text = opening(role), train = learn_all }
    segments[#segments + 1] = { text = trimmed(content) .. llama3.end_of_turn, train = train }
  end
  if options.system and not (messages[1] and messages[1].role == "system") then add("system", options.system, learn_all) end
  local chosen = turns.chosen(messages, options)
  for i, message in ipairs(messages) do add(message.role, message.content, chosen[i]) end
  return segments
end

--- The text that asks for the assistant's next turn.
function llama3.prompt(messages, options)
  local text = ""
  for _, segment in ipairs(llama3.segments(messages, options or {})) do text = text .. segment.text end
  return text .. opening("assistant")
end

return llama3
