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
  if v.bf16 == "auto" then return "auto", "bf16" end
  if v.bf16 or v.bfloat16 then return "bf16", v.bf16 and "bf16" or "bfloat16" end
  return v.bf16 == false and v.fp16 == false and "fp32" or "auto", v.bf16 == false and "bf16" or nil
end

local function adapter(r, plan)
  local v = r.values
  if not v.adapter or v.adapter == "" then return end
  local block = plan:block("adapter", "lora", "adapter")
  block:set("r", v.lora_r or 8, "lora_r")
  block:set("alpha", v.lora_alpha or 16, "lora_alpha")
  block:set("dropout", v.lora_dropout or 0, "lora_dropout")
  if v.peft_use_rslora then block:set("use_rslora", true, "peft_use_rslora") end
  if v.lora_model_dir then block:set("from", v.lora_model_dir, "lora_model_dir") end
  local targets = v.lora_target_modules
  if v.lora_target_linear or targets == nil or targets == "all-linear" then
    if not v.lora_model_dir then
      block:set("target_modules", "all-linear", v.lora_target_linear and "lora_target_linear" or "lora_target_modules")
    end
  else
    block:set("target_modules", targets, "lora_target_modules")
  end
  if v.lora_model_dir then for _, key in ipairs { "r", "alpha", "use_rslora" } do
    if v["lora_" .. key] == nil and key ~= "use_rslora" then block:drop(key) end
  end end
  if v.peft_use_dora then r:unsupported("peft_use_dora", "would have trained magnitudes beside the directions (DoRA)") end
  if v.lora_modules_to_save and #v.lora_modules_to_save > 0 then
    r:unsupported("lora_modules_to_save", "would have trained those modules whole beside the adapters")
  end
  if v.lora_fan_in_fan_out then r:unsupported("lora_fan_in_fan_out", "would have read linears as [in, out]") end
end

return function(r, plan)
  local v = r.values
  local model = plan:block("model", "hf", "base_model")
  model:set("dir", directory(r), "base_model")
  local quantized = v.load_in_4bit
  if quantized then model:set("quantize", "nf4", "load_in_4bit") end
  if v.load_in_8bit then
    r:unsupported("load_in_8bit", "would have loaded weights in LLM.int8",
      "write load_in_4bit: true and adapter: qlora: NF4 takes half of that")
  end
  local dtype, key = compute(r)
  model:set("compute", dtype, key)
  adapter(r, plan)
  local tokens = r.written.special_tokens
  if type(tokens) == "table" then
    local config = model.values.dir and native.exists(model.values.dir .. "/tokenizer_config.json")
      and native.read_json(model.values.dir .. "/tokenizer_config.json") or {}
    for name, token in pairs(tokens) do
      local known = config[name]
      known = type(known) == "table" and known.content or known
      if name == "pad_token" then
        r.notes[#r.notes + 1] = { key = "special_tokens.pad_token",
          text = "is accepted: padding has no weight, whatever its id" }
      elseif known ~= token then
        r:unsupported("special_tokens", ("%s: '%s' would have changed the tokenizer, whose own is %s"):format(name,
          tostring(token),
          known and "'" .. tostring(known) .. "'" or "none"), "write it into the model's tokenizer_config.json")
      end
    end
  end
end
