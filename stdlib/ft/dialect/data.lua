--- Data sets: what is learned, what is held out, from which files.
local native = require "ft.native"
local hub = require "ft.dialect.hub"
local rows = require "ft.dialect.rows"

local rows_of_text, rows_of_columns = { json = true, jsonl = true }, { parquet = true, arrow = true, feather = true }
local splits = { train = true, validation = true, test = true }
local description = {
  ["dataset_info.json"] = true, ["dataset_infos.json"] = true, ["dataset_dict.json"] = true, ["state.json"] = true,
}

local function ending(name) return name:match("%.(%w+)$") end
local function as_list(value) return type(value) == "table" and value or { value } end

--- Whether a folder, or one in it, holds Parquet or Arrow files.
local function has_columns(folder, deeper)
  for _, name in ipairs(native.list_folder(folder)) do
    local path = folder .. "/" .. name
    if rows_of_columns[ending(name)] then return true end
    if deeper and native.exists(path) == "directory" and has_columns(path, false) then return true end
  end
  return false
end

--- What a folder is read from: data_files in it, its JSON, or the Parquet and Arrow files of a split.
local function sources_in(r, key, entry, folder)
  local found = {}
  for i, name in ipairs(as_list(entry.data_files)) do
    found[i] = native.exists(name) == "file" and name or folder .. "/" .. name
  end
  if found[1] then return found end
  for _, name in ipairs(native.list_folder(folder)) do
    if rows_of_text[ending(name)] and not description[name] then return { folder .. "/" .. name } end
  end
  if has_columns(folder, true) then
    entry.of_folder = splits[entry.split] and entry.split or "train"
    return { { path = folder, part = entry.of_folder } }
  end
  r:refuse(key, ("'%s' holds no .jsonl, .json, .parquet or .arrow file"):format(folder), "name one: data_files: train.jsonl",
    "dialect.no_such_data")
  return nil
end

--- The data set's files: the path itself, data_files in it, or in the cache.
local function sources_of(r, key, entry)
  local path = entry.path
  if not path then
    r:refuse(key, "an entry has no path", "path: FILE.jsonl", "dialect.missing")
    return nil
  end
  local kind, there = ending(path), native.exists(path)
  if there == "file" or (there == nil and (rows_of_text[kind] or rows_of_columns[kind])) then return { path } end
  local folder = there == "directory" and path or hub.find(path, "datasets", entry.revision)
  if folder then return sources_in(r, key, entry, folder) end
  if (rows_of_text[path] or rows_of_columns[path]) and entry.data_files then return as_list(entry.data_files) end
  r:refuse(key, ("no file '%s', and the Hugging Face cache has none of that name"):format(path),
    "download it first: " .. hub.command(path, "datasets", entry.revision), "dialect.no_such_data")
  return nil
end

--- Parts of a data set: the first rows of the only one.
local function first_rows(r, block, key, entries)
  for i, entry in ipairs(entries) do
    local here = ("%s[%d]"):format(key, i)
    local lines = entry.split
    local count, percent = (lines or ""):match("^train%[:(%d+)(%%?)%]$")
    count = tonumber(count)
    if count and #entries == 1 and count > 0 and (percent == "" or count <= 100) then
      if percent == "" then block:set("limit", count, key) elseif count < 100 then block:set("limit", count / 100, key) end
    elseif lines and lines ~= (entry.of_folder or "train") then
      r:unsupported(here, ("split: '%s' would have taken a part of a data set"):format(lines),
        "write it as a file of its own; train[:N] and train[:N%] take the first rows of a data set that is the only one")
    end
    if entry.name then
      r:unsupported(here, "name would have taken a part of a hub's data set", "name its file: data_files: FILE.jsonl")
    end
    if entry.shards then
      r:unsupported(here, "shards would have taken one part in that many", "split: train[:N] takes the first N rows")
    end
    if entry.skip then r:unsupported(here, "skip would have left the first rows out", "write the others into a file") end
  end
end

--- Files of one form, in order, and the form; nil where something was refused.
local function files_of(r, key, entries)
  local form, paths, read = nil, {}, 0
  for i, entry in ipairs(entries) do
    local here = ("%s[%d]"):format(key, i)
    local one, sources = rows.form(r, here, entry), sources_of(r, here, entry)
    form = form or one
    local differs = one and rows.difference(form, one)
    if differs then
      r:unsupported(here, ("would have been mixed with entry 1, whose %s is another"):format(differs),
        "data sets that are mixed have one form of rows: bring them to one, such as messages")
    elseif one and sources then
      read = read + 1
      for _, source in ipairs(sources) do paths[#paths + 1] = source end
    end
  end
  if read < #entries then return nil end -- what was wrong has been said
  return (paths[2] or type(paths[1]) == "table") and paths or paths[1], form
end

--- One split from its entries.
local function split(r, plan, name, key, entries)
  local v = r.values
  local path, form = files_of(r, key, entries)
  if not path then return end
  local block = plan:block("data." .. name, form.kind, key)
  block:set("path", path, key)
  local own_length = name ~= "train" and v.eval_sequence_len
  plan.keys["data." .. name .. ".seq_len"] = "sequence_len" -- which is to blame where it is not given, too
  block:set("seq_len", own_length or v.sequence_len, own_length and "eval_sequence_len" or "sequence_len")
  local pack = v.sample_packing or false
  if name ~= "train" and v.eval_sample_packing ~= nil then pack = v.eval_sample_packing end
  block:set("pack", pack, name ~= "train" and v.eval_sample_packing ~= nil and "eval_sample_packing" or "sample_packing")
  for option, value in pairs(form.values) do block:set(option, value, form.keys[option]) end
  local long = v.excess_length_strategy or (form.kind == "completion" and "truncate") or "drop"
  block:set("too_long", long == "raise" and "error" or long, "excess_length_strategy")
  if v.streaming then block:set("streaming", true, "streaming") end
  if v.dataloader_drop_last and name == "train" then block:set("remainder", "drop", "dataloader_drop_last") end
  if v.dataset_prepared_path ~= "" then block:set("cache", v.dataset_prepared_path, "dataset_prepared_path") end
  first_rows(r, block, key, entries)
  if v.pretrain_multipack_attn == false and name == "train" then
    r:unsupported("pretrain_multipack_attn", "false would have let documents of a row see one another",
      "remove it: attention stays inside each document")
  end
  return block
end

--- An entry of pretraining_dataset is plain text, whatever it calls itself.
local function plain_text(entry)
  return { path = entry.path, type = "completion", field = entry.field or entry.text_column, split = entry.split,
    data_files = entry.data_files, revision = entry.revision, name = entry.name, skip = entry.skip ~= 0 and entry.skip or nil }
end

--- The entries of a key: pretraining_dataset's may be paths.
local function entries_of(key, list)
  local entries = {}
  for i, entry in ipairs(list) do
    if type(entry) == "string" then entry = { path = entry } end
    entries[i] = key == "pretraining_dataset" and plain_text(entry) or entry
  end
  return entries
end

return function(r, plan)
  local v = r.values
  local key = v.pretraining_dataset and "pretraining_dataset" or "datasets"
  local list = v.pretraining_dataset or v.datasets
  if type(list) == "string" then list = { { path = list } } end
  if not list or not list[1] then
    if list and r.written[key][1] then return end -- its entry has been refused
    r:refuse("datasets", "is missing", "datasets: [{ path: FILE.jsonl, type: chat_template }]", "dialect.missing")
    return
  end
  local entries, tests = entries_of(key, list), v.test_datasets
  local train = split(r, plan, "train", key, entries)
  if tests and tests[1] then
    split(r, plan, "val", "test_datasets", tests)
  elseif v.val_set_size and v.val_set_size > 0 and train then
    if v.val_set_size >= 1 then
      r:unsupported("val_set_size", ("%g rows would have been held out"):format(v.val_set_size), "write a share such as 0.05")
    else
      local val = split(r, plan, "val", key, entries)
      if val then
        val:set("split", v.val_set_size, "val_set_size")
        train:set("split", "train", "val_set_size")
      end
    end
  end
end
