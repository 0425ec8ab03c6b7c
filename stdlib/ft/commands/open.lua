--- What `generate` and `eval` open: a Hugging Face directory, a run directory (its newest checkpoint) or a checkpoint.
local native = require "ft.native"
local tokenizer_file = require "ft.tokenizer_file"

local function refuse(dir, message, help)
  native.raise { kind = "config", where = dir, message = message, help = help }
end

--- @param given flags: compute ("auto", "fp32", "bf16" or "fp16"; nil: as the run computed), model (where a run's base
--- lies now), adapter (a folder that PEFT wrote, to put on a Hugging Face directory)
--- @return { model = LoadedModel, tokenizer = Tokenizer or nil, plan = resolved plan }
return function(dir, given)
  if native.exists(dir) ~= "directory" then
    refuse(dir, "no such directory", "give a model's directory, a run's, or a checkpoint's")
  end
  dir = native.absolute(dir):gsub("/$", "")
  local checkpoint, run = nil, dir
  if native.exists(dir .. "/manifest.json") then
    checkpoint, run = dir, dir:match("^(.*)/[^/]+$")
  elseif native.exists(dir .. "/plan.json") then
    checkpoint = native.newest_checkpoint(dir)
    if not checkpoint then refuse(dir, "the run has no checkpoint yet") end
  end
  local plan
  if checkpoint then
    if given.adapter then refuse(dir, "is a run's, and has its own adapter: --adapter goes with a model's directory") end
    plan = native.read_json(run .. "/plan.json")
    plan.parallel.offload_params, plan.activation_checkpointing = false, false
    plan.parallel.mesh = nil -- one process reads it
  else
    if not native.exists(dir .. "/config.json") then
      refuse(dir, "holds neither config.json, plan.json nor manifest.json",
        "give a model's directory, a run's, or a checkpoint's")
    end
    if given.model then refuse(dir, "is a model's directory: --model says where the base of a run lies") end
    local config = native.read_json(dir .. "/config.json")
    plan = {
      model = {
        kind = "hf", dir = dir, tokenizer = dir, quantize = "none", compute = "auto", config = config,
        description = require("ft.architecture")(config, native.null_keys(dir .. "/config.json")),
      },
      parallel = { reshard_after_forward = false, prefetch = false }, seed = 0,
    }
  end
  plan.model.compute = given.compute or plan.model.compute
  if given.model then plan.model.dir = native.absolute(given.model) end
  if given.adapter then
    plan.adapter = require("ft.adapter") { from = given.adapter }
    if plan.adapter.init_lora_weights == "loftq" then plan.model.quantize = "nf4" end -- it goes with that alone
  end
  local folder = checkpoint and tokenizer_file(run) and run or plan.model.tokenizer
  local tokenizer = folder and tokenizer_file(folder) and native.tokenizer(folder) or nil
  return { model = native.open_model(plan, checkpoint), tokenizer = tokenizer, plan = plan }
end
