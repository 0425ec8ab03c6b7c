--- Where a run goes, how often it is saved, evaluated and logged, and what it goes on from.
local pairs_of = require "ft.dialect.pairs"

--- Checkpoints at evaluations, of which the one with the least validation loss stays.
local function save_the_best(r, save)
  local v = r.values
  if v.eval_steps then
    save:set("every", v.eval_steps, "eval_steps")
  else
    save:set("per_epoch", v.evals_per_epoch and v.evals_per_epoch > 0 and v.evals_per_epoch or 1, "save_strategy")
  end
  local metric = v.metric_for_best_model
  if metric and metric ~= "eval_loss" and metric ~= "loss" then
    r:unsupported("metric_for_best_model", ("'%s' would have chosen the checkpoint that stays"):format(metric),
      "eval_loss chooses it")
  end
end

local function distance(r, save)
  local v = r.values
  local strategy = v.save_strategy
  if strategy == "best" then
    save_the_best(r, save)
  elseif v.save_steps then
    save:set("every", v.save_steps, "save_steps")
  elseif v.saves_per_epoch then
    save:set("per_epoch", v.saves_per_epoch, "saves_per_epoch")
  elseif strategy ~= "no" then
    save:set("per_epoch", 1, "save_strategy")
  end
end

--- Layers that run again, and where their inputs wait for that. Every way of offloading keeps these inputs on the host.
local function checkpointing(r, plan, fsdp)
  local v = r.values
  local again, offload, key = v.gradient_checkpointing, v.activation_offloading, "activation_offloading"
  if again == "offload" or again == "offload_disk" then
    local says = again == "offload" and "activation_offloading: true" or "activation_offloading: disk"
    r:warn("gradient_checkpointing", ("%s is called %s; read as that"):format(again, says),
      ("write gradient_checkpointing: true and %s"):format(says), "dialect.renamed")
    offload, key = again == "offload" or "disk", "gradient_checkpointing"
  end
  local here = again ~= nil and again ~= false and "gradient_checkpointing"
    or fsdp.activation_checkpointing and "fsdp_config.activation_checkpointing"
  if here then plan:set("activation_checkpointing", true, here) end
  if offload == "disk" then
    r:unsupported(key, "disk would have kept activations in files", "write activation_offloading: true: memory of the host")
  elseif offload then
    plan:set("activation_offload", true, key)
  end
end

return function(r, plan)
  local v = r.values
  local save = plan:block("save", nil, "output_dir")
  local fsdp = v.fsdp_config or {}
  save:set("dir", v.output_dir or "./model-out", "output_dir")
  distance(r, save)
  save:set("keep", v.save_total_limit or 4, "save_total_limit")
  if fsdp.state_dict_type then save:set("state_dict_type", fsdp.state_dict_type, "fsdp_config.state_dict_type") end
  local final = fsdp.final_state_dict_type or v.fsdp_final_state_dict_type or fsdp.state_dict_type
  save:set("final", final == "SHARDED_STATE_DICT" and "sharded" or "huggingface", "fsdp_config.state_dict_type")
  if v.save_only_model then save:set("save_only_model", true, "save_only_model") end
  if v.resume_from_checkpoint and v.resume_from_checkpoint ~= "" then
    plan.resume = v.resume_from_checkpoint == true and "auto" or v.resume_from_checkpoint
  elseif v.auto_resume_from_checkpoints then
    plan.resume = "auto"
  end
  plan.keys["save.resume"] = v.resume_from_checkpoint and "resume_from_checkpoint" or "auto_resume_from_checkpoints"
  local loop = plan.loop
  loop.log = v.logging_steps or 1
  loop.dpo = pairs_of.loss(r)
  if v.loss_watchdog_threshold then
    loop.watchdog = { threshold = v.loss_watchdog_threshold, patience = v.loss_watchdog_patience or 3 }
  end
  if v.eval_steps then
    loop.evaluate = v.eval_steps
  elseif v.evals_per_epoch and v.evals_per_epoch > 0 then
    loop.evaluations = v.evals_per_epoch
  elseif (v.eval_strategy or v.evaluation_strategy) == "epoch" then
    loop.evaluations = 1
  end
  checkpointing(r, plan, fsdp)
  for _, plugin in ipairs(v.plugins or {}) do
    local name = tostring(plugin):lower()
    if not (name:find("liger", 1, true) or name:find("cut_cross_entropy", 1, true)
      or name:find("kernels.kernelsplugin", 1, true)) then
      r:unsupported("plugins", ("'%s' would have changed how models are built or trained"):format(tostring(plugin)))
    end
  end
  if v.s2_attention then
    r:unsupported("s2_attention", "would have attended to shifted parts of each row", "write context_parallel_size for long rows")
  end
end
