--- Data sets: what is learned, what is held out, how rows are made.
local native = require "ft.native"
local hub = require "ft.dialect.hub"

--- type -> constructor. What has no counterpart is refused by name.
local kinds = {
  chat_template = "chat", sharegpt = "chat", alpaca = "alpaca", completion = "completion", pretokenized = "tokenized",
  ["alpaca_chat.load_qa"] = nil,
}
local chat_fields = { messages = true, conversations = true }

--- A map's keys, sorted.
local function sorted_keys(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function first(value) return type(value) == "table" and value[1] or value end

--- The data set's file: the path itself, data_files in it, or in the cache.
local function file_of(r, key, entry)
  local path = entry.path
  if not path then
    r:refuse(key, "an entry has no path", "path: FILE.jsonl", "dialect.missing")
    return nil
  end
  local ending = path:match("%.jsonl?$")
  if native.exists(path) == "file" or (ending and native.exists(path) == nil) then return path end
  local folder = native.exists(path) == "directory" and path or hub.find(path, "datasets")
  if folder then
    local name = first(entry.data_files)
    if name then return native.exists(name) == "file" and name or folder .. "/" .. name end
    for _, found in ipairs(native.list_folder(folder)) do
      if found:match("%.jsonl?$") then return folder .. "/" .. found end
    end
    r:refuse(key, ("'%s' holds no .jsonl or .json file"):format(folder), "name one: data_files: train.jsonl",
      "dialect.no_such_data")
    return nil
  end
  if (path == "json" or path == "jsonl") and entry.data_files then return first(entry.data_files) end
  r:refuse(key, ("no file '%s', and the Hugging Face cache has none of that name"):format(path),
    "download it first: " .. hub.command(path, "datasets"), "dialect.no_such_data")
  return nil
end

--- The format of conversations: the template that the model ships, or one by name.
local function format_of(r, key, name)
  if name == nil or name == "" or name:match("^tokenizer_default") then return "auto" end
  if name == "chatml" or name == "llama3" then return name end
  r:unsupported(key, ("'%s' would have been the template of conversations"):format(name),
    "leave it out: the template that the model ships is used; or write chatml or llama3")
  return "auto"
end

--- Fields of a message that are not called as they are read here.
local function message_fields(r, key, entry)
  local fields = { role = entry.message_field_role, content = entry.message_field_content }
  local mapping = r.written[key] and r.written[key][1] and r.written[key][1].message_property_mappings
  for property, field in pairs(type(mapping) == "table" and mapping or {}) do fields[property] = field end
  local plain = { role = { role = true, from = true }, content = { content = true, value = true } }
  for _, property in ipairs(sorted_keys(fields)) do
    if not (plain[property] and plain[property][fields[property]]) then
      r:unsupported(key, ("%s: '%s' would have named a message's field"):format(property, tostring(fields[property])),
        "call it role and content, or from and value, in the file")
    end
  end
end

local function chat(r, block, entry, key)
  local v = r.values
  local template = entry.chat_template or v.chat_template
  if v.chat_template_jinja then
    if native.exists(v.chat_template_jinja) == "file" then
      block:set("chat_template", v.chat_template_jinja, "chat_template_jinja")
    else
      r:unsupported("chat_template_jinja", "the text of a template would have been conversations' template",
        "write it into a file, and give the file's path")
    end
    template = nil
  end
  if entry.conversation then
    r:unsupported(key, ("conversation: '%s' would have been conversations' template"):format(entry.conversation),
      "write chat_template")
  end
  block:set("format", format_of(r, entry.chat_template and key or "chat_template", template),
    entry.chat_template and key or "chat_template")
  if entry.field_messages and not chat_fields[entry.field_messages] then
    r:unsupported(key, ("field_messages: '%s' would have named the list of messages"):format(entry.field_messages),
      "call it messages (role, content) or conversations (from, value) in the file")
  end
  message_fields(r, key, entry)
  local roles = entry.roles_to_train or v.roles_to_train
  local inputs = entry.train_on_inputs
  if inputs == nil then inputs = v.train_on_inputs end
  if inputs then
    block:set("mask_prompts", false, "train_on_inputs")
  elseif roles and #roles > 0 then
    local names = {}
    for i, role in ipairs(roles) do names[i] = role == "gpt" and "assistant" or role == "human" and "user" or role end
    block:set("roles_to_train", names, entry.roles_to_train and key or "roles_to_train")
  end
  local eos = entry.train_on_eos or v.train_on_eos
  if eos and eos ~= "turn" then
    r:unsupported(entry.train_on_eos and key or "train_on_eos",
      ("'%s' would have chosen which ends of turns are learned"):format(eos),
      "the end of each learned turn is learned")
  end
  if v.default_system_message then block:set("system", v.default_system_message, "default_system_message") end
end

local function kind_of(r, key, entry)
  if type(entry.type) == "table" then
    r:unsupported(key, "a type of one's own would have mapped fields into a prompt",
      "write rows of messages, and type: chat_template")
    return nil
  end
  local name = entry.type
  if name == nil then return entry.ds_type and "tokenized" or "tokenized" end
  local kind = kinds[name:match("^[^:]+")]
  if not kind then
    r:unsupported(key, ("type: '%s' would have been the format of rows"):format(name),
      "chat_template, alpaca, completion and no type at all (input_ids and labels) are read")
  end
  return kind
end

--- One split from one entry.
local function split(r, plan, name, key, entry, first_lines)
  local kind = kind_of(r, key, entry)
  local path = file_of(r, key, entry)
  if not kind or not path then return end
  local v = r.values
  local block = plan:block("data." .. name, kind, key)
  block:set("path", path, key)
  if v.sequence_len then block:set("seq_len", v.sequence_len, "sequence_len") end
  local pack = v.sample_packing or false
  if name ~= "train" and v.eval_sample_packing ~= nil then pack = v.eval_sample_packing end
  block:set("pack", pack, name ~= "train" and v.eval_sample_packing ~= nil and "eval_sample_packing" or "sample_packing")
  if kind == "chat" then chat(r, block, entry, key) end
  if kind == "completion" and entry.field then block:set("field", entry.field, key) end
  if kind == "alpaca" and (entry.train_on_inputs or v.train_on_inputs) then block:set("mask_prompts", false,
    "train_on_inputs") end
  local long = v.excess_length_strategy or (kind == "completion" and "truncate") or "drop"
  block:set("too_long", long == "raise" and "error" or long, "excess_length_strategy")
  local share = first_lines and first_lines:match("^train%[:(%d+)%]$")
  if share then
    block:set("limit", tonumber(share), key)
  elseif first_lines and first_lines ~= "train" then
    r:unsupported(key, ("split: '%s' would have taken a part of a data set"):format(first_lines),
      "write it as a file of its own; train[:N] takes the first N rows")
  end
  return block
end

local function only_one(r, key, list)
  if #list > 1 then
    r:unsupported(key, ("%d data sets would have been mixed; the first alone is read"):format(#list),
      "write them into one .jsonl file")
  end
  return list[1]
end

return function(r, plan)
  local v = r.values
  local key = v.pretraining_dataset and "pretraining_dataset" or "datasets"
  local list = v.pretraining_dataset or v.datasets
  if type(list) == "string" then list = { { path = list, type = "completion" } } end
  if not list or not list[1] then
    if list and r.written[key][1] then return end -- its entry has been refused
    r:refuse("datasets", "is missing", "datasets: [{ path: FILE.jsonl, type: chat_template }]", "dialect.missing")
    return
  end
  local entry = only_one(r, key, list)
  if type(entry) == "string" then entry = { path = entry } end
  if type(entry) ~= "table" then
    r:refuse(key, ("entry 1: got %s, want { path, type }"):format(type(entry)), nil, "dialect.datasets")
    return
  end
  if key == "pretraining_dataset" and entry.type ~= "completion" then
    entry = { path = entry.path, type = "completion", field = entry.field or r.written[key].text_column, split = entry.split }
  end
  for _, inert in ipairs { "name", "roles" } do
    if entry[inert] and entry.type == "chat_template" or entry[inert] and inert == "name" then
      r:unsupported(key, inert == "name" and "name would have taken a part of a hub's data set"
        or "roles would have given roles other names", inert == "name" and "name its file: data_files: FILE.jsonl"
        or "call them system, user and assistant in the file")
    end
  end
  if entry.shards then r:unsupported(key, "shards would have taken one part in that many",
    "split: train[:N] takes the first N rows") end
  local train = split(r, plan, "train", key, entry, entry.split)
  local tests = v.test_datasets
  if tests and tests[1] then
    split(r, plan, "val", "test_datasets", only_one(r, "test_datasets", tests), nil)
  elseif v.val_set_size and v.val_set_size > 0 and train then
    if v.val_set_size >= 1 then
      r:unsupported("val_set_size", ("%g rows would have been held out"):format(v.val_set_size), "write a share such as 0.05")
    else
      local val = split(r, plan, "val", key, entry, entry.split)
      if val then
        val:set("split", v.val_set_size, "val_set_size")
        train:set("split", "train", "val_set_size")
      end
    end
  end
end
