--- Environment variables of the references: they say what neither a profile nor a configuration says.
local native = require "ft.native"

local environment = {}

local flags = {
  ["true"] = true, ["1"] = true, yes = true, on = true, ["false"] = false, ["0"] = false, no = false, off = false,
}

--- What each fills in fsdp_config; `no_effect`: it says what holds here anyway, or what there is none of.
environment.variables = {
  { name = "FSDP_OFFLOAD_PARAMS", key = "offload_params", kind = "boolean" },
  { name = "FSDP_CPU_OFFLOAD_PIN_MEMORY", key = "cpu_offload_pin_memory", kind = "boolean", version = "2" },
  { name = "FSDP_CPU_RAM_EFFICIENT_LOADING", key = "cpu_ram_efficient_loading", kind = "boolean" },
  { name = "FSDP_STATE_DICT_TYPE", key = "state_dict_type", kind = "string" },
  { name = "FSDP_RESHARD_AFTER_FORWARD", key = "reshard_after_forward", kind = "boolean" },
  { name = "FSDP_AUTO_WRAP_POLICY", key = "auto_wrap_policy", kind = "string" },
  { name = "FSDP_TRANSFORMER_CLS_TO_WRAP", key = "transformer_layer_cls_to_wrap", kind = "string" },
  { name = "FSDP_MIN_NUM_PARAMS", key = "min_num_params", kind = "integer" },
  { name = "FSDP_ACTIVATION_CHECKPOINTING", key = "activation_checkpointing", kind = "boolean" },
  { name = "FSDP_SYNC_MODULE_STATES", no_effect = "every rank reads its own weights" },
  { name = "FSDP_USE_ORIG_PARAMS", no_effect = "parameters keep their names" },
  { name = "FSDP_FORWARD_PREFETCH", no_effect = "the next unit is always gathered ahead" },
  { name = "FSDP_BACKWARD_PREFETCH", no_effect = "the next unit is always gathered ahead" },
  { name = "ACCELERATE_MIXED_PRECISION", no_effect = "bf16 and fp16 of the configuration say it" },
  { name = "ACCELERATE_DYNAMO_BACKEND", no_effect = "nothing is compiled" },
}

--- The variable's text, trimmed; nil when it is not set or empty.
local function text_of(name)
  local text = os.getenv(name)
  text = text and text:match("^%s*(.-)%s*$")
  return text ~= "" and text or nil
end

--- A boolean variable, read strictly.
function environment.boolean(name)
  local text = text_of(name)
  if not text then return nil end
  local value = flags[text:lower()]
  if value == nil then
    native.raise { kind = "config", where = name .. " (environment)", message = ("got '%s', want true or false"):format(text),
      help = "1, 0, yes, no, on and off will do, too" }
  end
  return value
end

local function read(variable)
  if variable.kind == "boolean" then return environment.boolean(variable.name) end
  local text = text_of(variable.name)
  if text and variable.kind == "integer" then return tonumber(text) or text end
  return text
end

--- What the variables say of a block of FSDP that has `given(key)`: { { name, key, value, note }, … }. Nothing without
--- ACCELERATE_USE_FSDP.
function environment.says(given, version)
  local out = {}
  if not environment.boolean("ACCELERATE_USE_FSDP") then return out end
  for _, variable in ipairs(environment.variables) do
    if text_of(variable.name) then
      if variable.no_effect then
        out[#out + 1] = { name = variable.name, note = "has no effect here: " .. variable.no_effect }
      elseif variable.version and version ~= variable.version then
        out[#out + 1] = { name = variable.name, note = "is read with FSDP_VERSION=2 alone" }
      else
        local value = read(variable)
        if value ~= nil and not given(variable.key) then
          out[#out + 1] = { name = variable.name, key = variable.key, value = value }
        end
      end
    end
  end
  return out
end

--- Fills a configuration of the dialect: fsdp_config and fsdp_version, where it does not say them.
function environment.fill(reader)
  local written = reader.written
  if environment.boolean("ACCELERATE_USE_DEEPSPEED") and written.deepspeed == nil then
    reader.notes[#reader.notes + 1] = { key = "ACCELERATE_USE_DEEPSPEED", text =
      "names no configuration: write deepspeed: zero2.json (or another) into the file" }
  end
  if written.deepspeed ~= nil or not environment.boolean("ACCELERATE_USE_FSDP") then return end
  local fsdp = type(written.fsdp_config) == "table" and written.fsdp_config or {}
  local function given(key) return fsdp[key] ~= nil or fsdp["fsdp_" .. key] ~= nil end
  local version = written.fsdp_version or fsdp.fsdp_version or fsdp.version
  if version == nil and text_of("FSDP_VERSION") then
    version = text_of("FSDP_VERSION")
    written.fsdp_version = version
    native.place(written, "fsdp_version", "FSDP_VERSION (environment)", 0)
    reader.notes[#reader.notes + 1] = { key = "FSDP_VERSION", text = "fills fsdp_version = " .. version }
  end
  if written.fsdp_config == nil then
    written.fsdp_config = fsdp
    native.place(written, "fsdp_config", "ACCELERATE_USE_FSDP (environment)", 0)
  end
  reader.file_has_fsdp = true
  for _, said in ipairs(environment.says(given, tostring(version or "1"))) do
    if said.key then
      fsdp[said.key] = said.value
      native.place(fsdp, said.key, said.name .. " (environment)", 0)
    end
    reader.notes[#reader.notes + 1] = { key = said.name, text = said.note
      or ("fills fsdp_config.%s = %s"):format(said.key, tostring(said.value)) }
  end
end

return environment
