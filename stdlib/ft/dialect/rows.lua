--- What a row of a data set is: an entry's type, its names of fields, and what is learned of it, as the data set of the
--- plan that says the same.
local native = require "ft.native"
local pairs_of = require "ft.dialect.pairs"
local templates = require "ft.dialect.templates"
local sorted_keys = require "ft.sorted_keys"

local rows = {}

--- type -> constructor. What has no counterpart is refused by name.
local kinds = {
  chat_template = "chat", sharegpt = "chat", alpaca = "alpaca", completion = "completion", pretokenized = "tokenized",
  input_output = "segments",
}

--- The format of conversations: the template that the model ships, or one by name.
local function format_of(r, key, name)
  if name == nil or name == "" or name:match("^tokenizer_default") then return "auto" end
  if name == "chatml" or name == "llama3" then return name end
  if name == "jinja" then return "auto" end -- a rule says that its template is missing
  if templates.is_own(r, name) then
    templates.take_own(r, key, name)
    return "auto"
  end
  r:unsupported(key, ("'%s' would have been the template of conversations"):format(name),
    "leave it out: the template that the model ships is used; or write chatml or llama3")
  return "auto"
end

local function template(r, form, entry, key)
  local v = r.values
  local name, whose = entry.chat_template or v.chat_template, entry.chat_template and key or "chat_template"
  local jinja = entry.chat_template_jinja or v.chat_template_jinja
  if jinja then
    local says = entry.chat_template_jinja and key or "chat_template_jinja"
    if native.exists(jinja) == "file" then
      form:set("chat_template", jinja, says)
    else
      r:unsupported(says, "the text of a template would have been conversations' template",
        "write it into a file, and give the file's path")
    end
    name = nil
  end
  form:set("format", format_of(r, whose, name), whose)
end

--- Fields of rows and messages that are not called as they are read here.
local function message_fields(r, form, entry, key)
  local fields = { role = entry.message_field_role, content = entry.message_field_content }
  for property, field in pairs(entry.message_property_mappings or {}) do fields[property] = field end
  for _, property in ipairs(sorted_keys(fields)) do
    local field = fields[property]
    if type(field) ~= "string" then
      r:refuse(key, ("message_property_mappings: %s: got %s, want a field's name"):format(property, type(field)),
        "message_property_mappings: { role: from, content: value }", "dialect.datasets")
    elseif property == "role" or property == "content" then
      if field ~= property then form:set("message_field_" .. property, field, key) end
    elseif field ~= property then
      r:unsupported(key, ("message_property_mappings: %s: '%s' would have named a message's field"):format(property, field),
        ("call it %s in the file"):format(property))
    end
  end
  if entry.field_messages ~= "messages" then form:set("field_messages", entry.field_messages, key) end
  if entry.field_tools ~= "tools" then form:set("field_tools", entry.field_tools, key) end
  if entry.message_field_training ~= "train" then form:set("message_field_training", entry.message_field_training, key) end
end

--- What rows call roles: { user: [human], assistant: gpt }.
local function roles_of(r, form, entry, key)
  if not entry.roles then return end
  local roles = {}
  for _, role in ipairs(sorted_keys(entry.roles)) do
    local theirs = entry.roles[role]
    theirs = type(theirs) == "table" and theirs or { theirs }
    for _, name in ipairs(theirs) do
      if type(name) ~= "string" then
        r:refuse(key, ("roles: %s: got %s, want names"):format(role, type(name)), "roles: { user: [human], assistant: [gpt] }",
          "dialect.datasets")
        return
      end
    end
    roles[role] = theirs
  end
  if next(roles) then form:set("roles", roles, key) end
end

--- What of a conversation is learned.
local function learned(r, form, entry, key)
  local v = r.values
  local roles, inputs = entry.roles_to_train or v.roles_to_train, entry.train_on_inputs
  if inputs == nil then inputs = v.train_on_inputs end
  if inputs then
    form:set("mask_prompts", false, "train_on_inputs")
  elseif roles and #roles > 0 then
    local names = {}
    for i, role in ipairs(roles) do names[i] = role == "gpt" and "assistant" or role == "human" and "user" or role end
    form:set("roles_to_train", names, entry.roles_to_train and key or "roles_to_train")
  end
  for _, name in ipairs { "train_on_eos", "train_on_eot" } do
    local ends = entry[name] or v[name]
    if ends and ends ~= "turn" then
      r:unsupported(entry[name] and key or name,
        ("%s: '%s' would have chosen which ends of turns are learned"):format(name, ends),
        "the end of each learned turn is learned")
    end
  end
end

local function chat(r, form, entry, key)
  if entry.conversation then
    r:unsupported(key, ("conversation: '%s' would have been conversations' template"):format(entry.conversation),
      "write chat_template")
  end
  template(r, form, entry, key)
  message_fields(r, form, entry, key)
  roles_of(r, form, entry, key)
  learned(r, form, entry, key)
  local variables = r.values.chat_template_kwargs
  if variables and next(variables) then form:set("template_variables", variables, "chat_template_kwargs") end
  form:set("system", r.values.default_system_message, "default_system_message")
end

--- A prompt of one's own. The peer sets system_format before it where a row has a system text.
local function prompt(r, form, own, key)
  if not own.format then
    r:refuse(key, "type: has no format", "format: \"Q: {instruction}\\nA: \"", "dialect.datasets")
    return
  end
  local before = ""
  if own.field_system or own.system_prompt then before = own.system_format or "{system}" end
  if own.field_system and before ~= "{system}" then
    r:unsupported(key, "system_format would have framed the system text of rows that have one alone",
      "leave system_format out, and frame the text in the file; or give all rows one system_prompt, without field_system")
    before = "{system}"
  end
  form:set("format", before .. own.format, key)
  if own.no_input_format then form:set("no_input_format", before .. own.no_input_format, key) end
  for _, name in ipairs { "field_instruction", "field_input", "field_output", "field_system" } do
    form:set(name, own[name], key)
  end
  if not own.field_system then form:set("system_prompt", own.system_prompt, key) end
end

local function kind_of(r, key, entry)
  if type(entry.type) == "table" then return "alpaca" end
  if entry.type == nil then return "tokenized" end
  local name, style = entry.type:match("^([^:]+):?(.*)$")
  local kind = name and kinds[name]
  if not kind or (kind == "alpaca" and style ~= "" and style ~= "instruct") then
    r:unsupported(key, ("type: '%s' would have been the format of rows"):format(entry.type),
      "chat_template, alpaca, completion, input_output, a mapping with a format, and no type (input_ids and labels) are read")
    return nil
  end
  return kind
end

local Form = {}
Form.__index = Form

function Form:set(name, value, key)
  if value ~= nil then self.values[name], self.keys[name] = value, key end
end

--- @return { kind =, values = { option = value }, keys = { option = the configuration's key } }; nil where it was refused
function rows.form(r, key, entry)
  if r.values.rl == "dpo" then
    local form = setmetatable({ kind = "preference", values = {}, keys = {} }, Form)
    local fields = { template = template, message_fields = message_fields, roles = roles_of }
    return pairs_of.form(r, form, entry, key, fields) and form or nil
  end
  local kind = kind_of(r, key, entry)
  if not kind then return nil end
  local form = setmetatable({ kind = kind, values = {}, keys = {} }, Form)
  local inputs = entry.train_on_inputs
  if inputs == nil then inputs = r.values.train_on_inputs end
  if kind == "chat" then chat(r, form, entry, key) end
  if kind == "completion" then form:set("field", entry.field, key) end
  if kind == "alpaca" and inputs then form:set("mask_prompts", false, "train_on_inputs") end
  if kind == "segments" and inputs then
    r:unsupported("train_on_inputs", "would have learned segments of label false, too", "give them the label true in the file")
  end
  if type(entry.type) == "table" then prompt(r, form, entry.type, key) end
  return form
end

--- The first option that two forms say differently; "type" for the kind; nil where they are one.
function rows.difference(a, b)
  if a.kind ~= b.kind then return "type" end
  local all = {}
  for _, form in ipairs { a, b } do for name in pairs(form.values) do all[name] = true end end
  for _, name in ipairs(sorted_keys(all)) do
    if native.to_json { a.values[name] } ~= native.to_json { b.values[name] } then return name end
  end
  return nil
end

return rows
