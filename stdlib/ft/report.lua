--- What `ftengine check` and `ftengine plan` print.
local native = require "ft.native"

local report = {}

local function grouped(n)
  local text = ("%d"):format(n)
  local with_commas = text:reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (with_commas:gsub("^,", ""))
end

local function line(name, ...)
  print(("  %-12s %s"):format(name, table.concat({ ... }, "")))
end

local function yes(flag, text) return flag and (", " .. text) or "" end

local stages = { "optimizer state split", "optimizer state and gradients split", "everything split" }

--- What a layout splits, and what it keeps after forward.
local function split_text(parallel)
  local after = parallel.reshard_after_forward
  local kept = parallel.zero_stage == 3
    and (after == true and ", resharded after forward" or after and (", resharded over %d after forward"):format(after)) or ""
  return (stages[parallel.zero_stage] or "nothing split") .. kept
end

local function adapter_line(plan, model)
  local adapter = plan.adapter
  if not adapter then
    line("trains", "every parameter: ", grouped(model.trainable))
    return
  end
  local kinds, counts = {}, {}
  for _, name in ipairs(model.adapted) do
    local kind = name:match("[^.]+$")
    if not counts[kind] then kinds[#kinds + 1] = kind end
    counts[kind] = (counts[kind] or 0) + 1
  end
  line("adapter", ("LoRA r = %d, alpha = %g, dropout = %g on %d linears: %s"):format(adapter.r, adapter.alpha,
    adapter.dropout, #model.adapted, table.concat(kinds, ", ")))
  line("trains", ("%s of %s parameters (%.4f%%)"):format(grouped(model.trainable), grouped(model.all),
    100 * model.trainable / model.all))
end

local function data_lines(plan)
  for _, name in ipairs { "train", "val", "test" } do
    local split = plan.data[name]
    if split then
      line(name, require("ft.data").path_text(split), (" (%s%s, seq_len %d%s)"):format(split.kind,
        type(split.split) == "number" and (", " .. split.split)
        or "", split.seq_len, yes(split.pack, "packed")))
    end
  end
end

--- Names the environment variables of other tools that said something, or tried to, above the start-up table.
function report.environment(plan_object)
  for _, said in ipairs(require("ft.dialect.environment").lines(plan_object.environment)) do print("environment  " .. said) end
  io.stdout:flush() -- the table is written past Lua's buffer
end

--- Prints what the plan comes to. Returns a run of no steps.
function report.check(plan_object)
  local plan = plan_object.plan
  if plan_object.host.json then
    require("ft.faults").normalized = plan_object:resolved()
    return require("ft.run").empty()
  end
  local model = native.model_facts(plan)
  local parallel, optimizer, batch = plan.parallel, plan.optimizer, plan.batch
  print(plan_object.host.recipe)
  line("model", plan.model.dir or "from a config", (" (%s, %d layers, %s parameters)"):format(plan.model.config.model_type,
    model.layers, grouped(model.all)), yes(plan.model.quantize == "nf4", "base in NF4"))
  adapter_line(plan, model)
  data_lines(plan)
  local shape = parallel.mesh
  local grid = shape.shard < parallel.nproc and (" = " .. require("ft.mesh").literal(shape)) or ""
  line("layout", ("%s on %d rank%s%s"):format(parallel.profile or "fsdp2", parallel.nproc, parallel.nproc == 1 and ""
    or "s", grid), ", ", split_text(parallel), yes(parallel.offload_params, "offloaded"),
    yes(parallel.offload_params and not parallel.cpu_offload_pin_memory, "pageable"),
    yes(plan.activation_checkpointing, "activation checkpointing"))
  line("optimizer", optimizer.kind, yes(optimizer.bits == 8, "8-bit state"),
    (", lr %g %s"):format(optimizer.lr, optimizer.schedule.kind))
  local data_ranks = shape.replicate * shape.shard
  line("step", ("%d rows: %d ranks x %d micro x %d accumulated"):format(batch.total, data_ranks, batch.micro,
    batch.total / (data_ranks * batch.micro)))
  for _, said in ipairs(require("ft.dialect.environment").lines(plan_object.environment)) do line("environment", said) end
  for _, name in ipairs(plan_object.waiting) do line("needs data", name) end
  print(("ok: %d rules hold%s"):format(plan_object.passed, #plan_object.waiting > 0 and
    (", %d wait for the data (applied by plan and run)"):format(#plan_object.waiting) or ""))
  return require("ft.run").empty()
end

--- Reads the data as well, where there is a tokenizer to read it by, applies the rules that wait for it, and says what
--- the run takes.
function report.plan(plan_object)
  local plan = plan_object.plan
  local readable = plan.model.tokenizer or plan.data.train.kind == "tokenized"
  local data = readable and require("ft.data").load(plan) or nil
  if data then require("ft.judge").apply(plan_object, data) end
  local run = report.check(plan_object)
  if data then
    local train = data.train:facts(plan.data.train.seq_len, plan.data.train.pack)
    line("data", data.train:report())
    line("packing", train.packing)
  else
    line("data", "not read, since the model has no tokenizer: rows are taken to be seq_len long, and every token learned")
  end
  local memory, nothing = require "ft.memory", run.evaluate
  memory.report(plan_object, data)
  local said = {}
  run.evaluate = function(self, split, options) -- what the recipe asks for outside its loop
    if not said[split] then memory.answers(plan_object, data, split, options) end
    said[split] = said[split] or (options and options.generate)
    return nothing(self, split, options)
  end
  return run
end

return report
