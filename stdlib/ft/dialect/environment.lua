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
  { name = "PARALLELISM_CONFIG_TP_SIZE", no_effect = "tensor_parallel_size says it" },
  { name = "PARALLELISM_CONFIG_CP_SIZE", no_effect = "context_parallel_size says it" },
  { name = "PARALLELISM_CONFIG_DP_SHARD_SIZE", no_effect = "dp_shard_size says it" },
  { name = "PARALLELISM_CONFIG_DP_REPLICATE_SIZE", no_effect = "dp_replicate_size says it" },
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

--- ACCELERATE_USE_DEEPSPEED, which says that there is a configuration, but not which.
local function deepspeed(write)
  if not environment.boolean("ACCELERATE_USE_DEEPSPEED") then return nil end
  return { name = "ACCELERATE_USE_DEEPSPEED", text = "names no configuration: write " .. write }
end

--- What the variables say of a recipe's layout.
function environment.of_recipe(given, called)
  local said = environment.says(given, "2", called)
  said[#said + 1] = deepspeed "parallel = \"zero2\" (or another profile)"
  return said
end

--- What the variables say: { { name, text, key, value }, … }; key and value of those that fill something. Nothing without
--- ACCELERATE_USE_FSDP.
--- @param given function (key) -> whether the user says it, or the reason why nobody can
--- @param called function (key) -> its name in the text
function environment.says(given, version, called)
  local out = {}
  if not environment.boolean("ACCELERATE_USE_FSDP") then return out end
  for _, variable in ipairs(environment.variables) do
    if text_of(variable.name) then
      if variable.no_effect then
        out[#out + 1] = { name = variable.name, text = "has no effect here: " .. variable.no_effect }
      elseif variable.version and version ~= variable.version then
        out[#out + 1] = { name = variable.name, text = "is read with FSDP_VERSION=2 alone" }
      else
        local value = read(variable)
        local before = given(variable.key)
        if type(before) == "string" then
          out[#out + 1] = { name = variable.name, text = "has no effect here: " .. before }
        elseif before then
          out[#out + 1] = { name = variable.name, text = "is overruled by " .. called(variable.key) }
        else
          out[#out + 1] = {
            name = variable.name, key = variable.key, value = value,
            text = ("fills %s = %s"):format(called(variable.key), tostring(value)),
          }
        end
      end
    end
  end
  return out
end

--- Fills a configuration of the dialect: fsdp_config and fsdp_version, where it does not say them. What is said stays in
--- reader.environment.
function environment.fill(reader)
  local written, said = reader.written, {}
  reader.environment = said
  if written.deepspeed == nil then said[1] = deepspeed "deepspeed: zero2.json (or another)" end
  if written.deepspeed ~= nil or not environment.boolean("ACCELERATE_USE_FSDP") then return end
  local fsdp = type(written.fsdp_config) == "table" and written.fsdp_config or {}
  local function given(key) return fsdp[key] ~= nil or fsdp["fsdp_" .. key] ~= nil end
  local version = written.fsdp_version or fsdp.fsdp_version or fsdp.version
  if version == nil and text_of("FSDP_VERSION") then
    version = text_of("FSDP_VERSION")
    written.fsdp_version = version
    native.place(written, "fsdp_version", "FSDP_VERSION (environment)", 0)
    said[#said + 1] = { name = "FSDP_VERSION", text = "fills fsdp_version = " .. version }
  end
  if type(written.fsdp_config) ~= "table" then
    written.fsdp_config = fsdp
    native.place(written, "fsdp_config", "ACCELERATE_USE_FSDP (environment)", 0)
  end
  reader.file_has_fsdp = true
  for _, one in ipairs(environment.says(given, tostring(version or "1"), function(key) return "fsdp_config." .. key end)) do
    if one.key then
      fsdp[one.key] = one.value
      native.place(fsdp, one.key, one.name .. " (environment)", 0)
    end
    said[#said + 1] = one
  end
end

--- Lines of the start-up table: "FSDP_OFFLOAD_PARAMS fills parallel.offload_params = true".
function environment.lines(said)
  local lines = {}
  for i, one in ipairs(said) do lines[i] = one.name .. " " .. one.text end
  return lines
end

return environment
