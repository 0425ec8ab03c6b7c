--- The base model, its quantization, its adapter and the precision of its arithmetic.
local native = require "ft.native"
local hub = require "ft.dialect.hub"

--- The model's directory: as it is written, or a hub name that the local cache holds.
local function directory(r)
  local name = r.values.base_model
  if not name then
    r:refuse("base_model", "is missing", "base_model: a Hugging Face directory, or a hub name that the cache holds",
      "dialect.missing")
    return nil
  end
  local revision = r.values.revision_of_model
  if native.exists(name) == "directory" then
    if revision then
      r:refuse("revision_of_model", "is of a hub name, and base_model is a folder", "remove it", "dialect.no_such_model")
    end
    return name
  end
  local found = hub.find(name, "models", revision)
  if found then return found end
  local like_a_hub_name = name:match("^[%w._-]+/[%w._-]+$")
  r:refuse("base_model", ("no directory '%s'%s"):format(name,
    like_a_hub_name and ", and the Hugging Face cache has none of that name" or ""),
    like_a_hub_name and "download it first: " .. hub.command(name, "models", revision)
      or "give the folder of a Hugging Face model",
    "dialect.no_such_model")
  return nil
end

local function compute(r)
  local v = r.values
  if v.fp16 or v.float16 then return "fp16", v.fp16 and "fp16" or "float16" end
  if v.float32 then return "fp32", "float32" end
  if v.bf16 == "auto" then return "auto", "bf16" end
  if v.bf16 or v.bfloat16 then return "bf16", v.bf16 and "bf16" or "bfloat16" end
  return v.bf16 == false and v.fp16 == false and "fp32" or "auto", v.bf16 == false and "bf16" or nil
end

--- Keys of the adapter that say what a key of ft.lora says.
local same_in_lora = {
  { "peft_use_rslora", "use_rslora" }, { "peft_use_dora", "use_dora" }, { "lora_modules_to_save", "modules_to_save" },
  { "peft_ensure_weight_tying", "ensure_weight_tying" }, { "peft_layers_to_transform", "layers_to_transform" },
  { "peft_layers_pattern", "layers_pattern" }, { "lora_rank_pattern", "rank_pattern" },
  { "lora_alpha_pattern", "alpha_pattern" },
}

--- Whether a value asks for something: no empty list, and not false.
local function asks(value)
  if type(value) == "table" then return next(value) ~= nil end
  return value ~= nil and value ~= false and value ~= ""
end

--- What PEFT can do to an adapter, and this engine does not.
local function not_of_lora(r)
  local v = r.values
  if v.lora_fan_in_fan_out then
    r:unsupported("lora_fan_in_fan_out", "would have read linears as [in, out], as GPT-2 stores them",
      "remove it: every model that is read here stores them as [out, in]")
  end
  local init = v.peft_init_lora_weights
  if init ~= nil and init ~= true and init ~= "loftq" then
    r:unsupported("peft_init_lora_weights", ("%s would have begun LoRA otherwise than by Kaiming and zeros, or by LoftQ")
      :format(tostring(init)))
  end
  if v.peft_autocast_adapter_dtype == false then
    r:unsupported("peft_autocast_adapter_dtype", "false would have kept adapters in the base's dtype",
      "remove it: masters are fp32 here")
  end
end

--- How LoRA begins: `peft_init_lora_weights: loftq`, or as the peer had it before, `peft: { loftq_config: { loftq_bits: 4 } }`.
local function begin(r, block)
  local v = r.values
  if v.peft_init_lora_weights == "loftq" then block:set("init_lora_weights", "loftq", "peft_init_lora_weights") end
  for key, value in pairs(asks(v.peft) and v.peft or {}) do
    local config = key == "loftq_config" and type(value) == "table" and value or {}
    for name in pairs(config) do
      if name ~= "loftq_bits" and name ~= "loftq_iter" then config = {} end
    end
    if config.loftq_bits == 4 and (config.loftq_iter or 1) == 1 then
      block:set("init_lora_weights", "loftq", "peft")
    elseif asks(value) then
      r:unsupported("peft", ("%s would have begun LoRA otherwise than by LoftQ with four bits, once"):format(key),
        "write peft: { loftq_config: { loftq_bits: 4 } }")
    end
  end
end

local function adapter(r, plan)
  local v = r.values
  if not v.adapter or v.adapter == "" then return end
  local block = plan:block("adapter", "lora", "adapter")
  block:set("r", v.lora_r or 8, "lora_r")
  block:set("alpha", v.lora_alpha or 16, "lora_alpha")
  block:set("dropout", v.lora_dropout or 0, "lora_dropout")
  for _, names in ipairs(same_in_lora) do
    if asks(v[names[1]]) then block:set(names[2], v[names[1]], names[1]) end
  end
  if v.lora_model_dir then block:set("from", v.lora_model_dir, "lora_model_dir") end
  local targets = v.lora_target_modules
  if v.lora_target_linear or targets == nil or targets == "all-linear" then
    if not v.lora_model_dir then
      block:set("target_modules", "all-linear", v.lora_target_linear and "lora_target_linear" or "lora_target_modules")
    end
  else
    block:set("target_modules", targets, "lora_target_modules")
  end
  for _, key in ipairs(v.lora_model_dir and { "r", "alpha" } or {}) do
    if v["lora_" .. key] == nil then block:drop(key) end
  end
  begin(r, block)
  not_of_lora(r)
end

--- Patterns of parameters; the peer's may end in a range of rows, which are trained alone there.
local function unfrozen(r, plan)
  local patterns = r.values.unfrozen_parameters
  if not asks(patterns) then return end
  for _, pattern in ipairs(patterns) do
    if tostring(pattern):match("%[%d*:%d*%]$") then
      r:unsupported("unfrozen_parameters", ("'%s' would have trained some rows of a parameter"):format(pattern),
        "leave the range out: parameters are trained whole")
      return
    end
  end
  plan:set("unfrozen_parameters", patterns, "unfrozen_parameters")
end

--- What of special_tokens the tokenizer says otherwise; nil where it says it all.
local function special_tokens(r, folder)
  local path = folder and folder .. "/tokenizer_config.json"
  local config, changed = path and native.exists(path) and native.read_json(path) or {}, nil
  for name, token in pairs(type(r.written.special_tokens) == "table" and r.written.special_tokens or {}) do
    local known = config[name]
    known = type(known) == "table" and known.content or known
    if known ~= token then
      changed = changed or {}
      changed[name] = token
    end
  end
  return changed
end

--- Tokens that the model's vocabulary gets, and how its tables grow with it.
local function vocabulary(r, model)
  local v = r.values
  model:set("special_tokens", special_tokens(r, model.values.dir), "special_tokens")
  if asks(v.tokens) then model:set("added_tokens", v.tokens, "tokens") end
  local renamed = r.written.added_tokens_overrides
  if type(renamed) == "table" and asks(renamed) then
    local by_id = {}
    for id, token in pairs(renamed) do by_id[tostring(id)] = token end
    model:set("renamed_tokens", by_id, "added_tokens_overrides")
  end
  if v.resize_token_embeddings_to_32x then model:set("vocab_multiple", 32, "resize_token_embeddings_to_32x") end
  if v.mean_resizing_embeddings == false then model:set("new_rows", "normal", "mean_resizing_embeddings") end
end

return function(r, plan)
  local v = r.values
  local model = plan:block("model", "hf", "base_model")
  model:set("dir", directory(r), "base_model")
  r.model_dir = model.values.dir
  local quantized = v.load_in_4bit
  if quantized then model:set("quantize", "nf4", "load_in_4bit") end
  if v.load_in_8bit then
    r:unsupported("load_in_8bit", "would have loaded weights in LLM.int8",
      "write load_in_4bit: true and adapter: qlora: NF4 takes half of that")
  end
  local dtype, key = compute(r)
  model:set("compute", dtype, key)
  adapter(r, plan)
  unfrozen(r, plan)
  vocabulary(r, model)
end
