--- Rows of `rl: dpo`: a prompt and two answers, by the names that the dialect's types have for them.
local templates = require "ft.dialect.templates"

local pairs_of = {}

--- ChatML and Llama 3 as the types of these names write a prompt, and end an answer.
local written = {
  chatml = {
    system = "<|im_start|>system\n{system}<|im_end|>\n",
    prompt = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n", ends = "<|im_end|>",
  },
  llama3 = {
    system = "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
    prompt = "<|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
      .. "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ends = "<|eot_id|>",
  },
}

--- What each style of these types calls the prompt; "" where any of the usual names will do.
local prompts = { default = "", icr = "input", intel = "question", prompt_pairs = "prompt", ultra = "prompt", argilla_chat = "" }

local function by_format(form, format, style, key)
  form:set("prompt_format", (style == "argilla_chat" and "" or format.system) .. format.prompt, key)
  if style ~= "argilla_chat" then form:set("no_system_format", format.prompt, key) end
  form:set("chosen_format", "{chosen}" .. format.ends, key)
  form:set("rejected_format", "{rejected}" .. format.ends, key)
  if prompts[style] ~= "" then form:set("field_prompt", prompts[style], key) end
  if style == "argilla_chat" then form:set("prompt_within", true, key) end
end

--- A prompt and answers of one's own.
local function own(form, type, key)
  for _, name in ipairs { "field_prompt", "field_system", "field_chosen", "field_rejected", "prompt_format", "chosen_format",
    "rejected_format" } do
    if type[name] ~= "" then form:set(name, type[name], key) end
  end
end

--- Conversations by the model's template.
local function by_template(r, form, entry, style, key, fields)
  fields.template(r, form, entry, key)
  local named = form.values.format
  if named ~= "auto" and templates.is_own(r, named) then
    templates.take_own(r, form.keys.format, named)
  elseif named ~= "auto" then
    r:unsupported(form.keys.format, ("'%s' would have been the template of pairs"):format(tostring(named)),
      ("leave it out: the model's own is used; or write type: %s.default"):format(tostring(named)))
  end
  form.values.format = nil
  fields.message_fields(r, form, entry, key)
  fields.roles(r, form, entry, key)
  form.values.field_messages = nil
  for _, name in ipairs { "field_tools", "message_field_training" } do
    if form.values[name] then r:unsupported(key, name .. " would have named a field of conversations") end
    form.values[name] = nil
  end
  if style == "argilla_chat" then
    form:set("prompt_within", true, key)
  else
    form:set("field_prompt", entry.field_messages or "messages", key)
    form:set("as_messages", true, key)
  end
  form:set("system", r.values.default_system_message, "default_system_message")
end

--- Fills the form of an entry. @param fields what rows.lua reads of conversations: { template, message_fields, roles }
--- @return whether the type is read
function pairs_of.form(r, form, entry, key, fields)
  local type = entry.type
  if _G.type(type) == "table" then
    own(form, type, key)
  elseif type == nil or type == "passthrough.default" or type == "passthrough" then
    return true
  else
    local name, style = type:match("^([%w_]+)%.?([%w_]*)$")
    if style == "" then style = "default" end
    if name == "chat_template" and (style == "default" or style == "argilla_chat") then
      by_template(r, form, entry, style, key, fields)
    elseif written[name] and prompts[style] then
      by_format(form, written[name], style, key)
    else
      r:unsupported(key, ("type: '%s' would have been the format of pairs"):format(type),
        "chat_template.default, chat_template.argilla_chat, chatml.* and llama3.* (default, intel, icr, prompt_pairs, ultra, "
        .. "argilla_chat), a mapping with field_prompt, and no type (prompt, chosen, rejected) are read")
      return false
    end
  end
  form:set("field_chosen", entry.field_chosen, key)
  form:set("field_rejected", entry.field_rejected, key)
  return true
end

--- Says what of `rl` is not here, and gives the loss's settings: { beta, label_smoothing }; nil where nothing of it is asked.
function pairs_of.loss(r)
  local v = r.values
  if v.rl == nil or v.rl == "" then return nil end
  if v.rl ~= "dpo" then
    r:unsupported("rl", ("%s would have trained from preferences or rewards"):format(v.rl), "of these DPO is here: rl: dpo")
    return nil
  end
  local kind = v.dpo_loss_type
  if kind and (#kind ~= 1 or kind[1] ~= "sigmoid") then
    r:unsupported("dpo_loss_type", ("%s would have been the loss"):format(table.concat(kind, ", ")),
      "sigmoid is the one that is here")
  end
  return { beta = v.rl_beta or v.dpo_beta or 0.1, label_smoothing = v.dpo_label_smoothing or 0 }
end

return pairs_of
