--- ft.plan { model =, data =, optimizer =, … }: describes a run and checks it; loads nothing.
---   plan:rule(sentence, function(p) return ok, help end)   adds a condition of one's own
---   plan:start()                                           every rank: builds, shards, streams its ranges in
--- In `ftengine check` and `ftengine plan`, start() reports and returns a run of no steps.
local native = require "ft.native"
local options = require "ft.options"

local Plan = {}
Plan.__index = Plan

local default_profile = "fsdp2"
local default_seq_len = 2048

--- A profile's name becomes the block it stands for, which says which lines it came from.
local function with_profile(given)
  local verifying = require("ft.verify").layout()
  local asked = type(given) == "table" and given.parallel
  if asked == native.null then asked = nil end
  if type(given) ~= "table" or (asked and type(asked) ~= "string" and not verifying) then return given end
  local copy = {}
  for key, value in pairs(given) do copy[key] = value end
  copy.parallel = native.profile(verifying or asked or default_profile)
  return copy
end

--- What is measured is read in rows as long as what is trained on, unless it says otherwise.
local function fill_seq_len(splits)
  splits.train.seq_len = splits.train.seq_len or default_seq_len
  for _, name in ipairs { "val", "test" } do
    if splits[name] then splits[name].seq_len = splits[name].seq_len or splits.train.seq_len end
  end
end

--- What a recipe has no place for in its layout.
local elsewhere = {
  state_dict_type = "checkpoints are sharded, and save.final says what a run ends with",
  cpu_ram_efficient_loading = "each rank reads its own bytes",
}

--- What the environment variables of other tools say of the layout, where neither recipe nor profile says it.
local function from_environment(plan)
  local function block_of(key) return key == "activation_checkpointing" and plan or plan.parallel end
  local function given(key) return elsewhere[key] or native.entry_origin(block_of(key), key) ~= "" end
  local function called(key) return (key == "activation_checkpointing" and "" or "parallel.") .. key end
  local said = require("ft.dialect.environment").of_recipe(given, called)
  for _, one in ipairs(said) do
    if one.key then
      block_of(one.key)[one.key] = one.value
      native.place(block_of(one.key), one.key, one.name .. " (environment)", 0)
    end
  end
  return said
end

--- Two of rows a step, rows a micro batch and accumulation fix the third; the rules judge what is left over.
local function fill_batch(plan)
  local batch, ranks = plan.batch, plan.parallel.mesh.replicate * plan.parallel.mesh.shard
  if batch.total and batch.accumulation and not batch.micro then
    batch.micro = math.max(1, math.floor(batch.total / (ranks * batch.accumulation)))
  end
  batch.micro = batch.micro or 1
  batch.total = batch.total or batch.micro * ranks * (batch.accumulation or 1)
end

--- A path that the user set by a flag or a config file is taken as it is; the recipe's own is a stem for numbered ones.
local function output_asked_for(plan)
  local file = native.origin(plan, "save.dir")
  return file:sub(1, 2) == "--" or file:match("%.ya?ml$") ~= nil
end

--- Ranks of the run: a launcher's, --nproc, one a GPU unless the plan wants a single one, or as many as the plan says.
local function ranks_of(parallel, asked_for, launched)
  if launched > 0 then return launched end
  local nodes = native.host().nnodes -- each starts as many
  if asked_for > 0 then return asked_for * nodes end
  local gpus = parallel.nproc ~= 1 and native.gpus(parallel.device) or 0
  return (gpus > 0 and gpus or parallel.nproc or 1) * nodes
end

--- Reads the model's config.json and what stdlib/ft/models makes of it. Headers of weights are not read.
local function describe_model(model, seed)
  local config, path = model.config, type(model.config) == "string" and model.config or nil
  if model.kind == "hf" then
    model.dir = native.absolute(model.dir)
    if native.exists(model.dir) ~= "directory" then
      local file, line = native.origin(model, "dir")
      native.raise_list { {
        path = "model.dir", message = ("no directory '%s'"):format(model.dir), file = file, line = line,
        help = "give the folder of a Hugging Face model: config.json, *.safetensors, tokenizer.json",
      } }
    end
    path = model.dir .. "/config.json"
  end
  if path then config = native.read_json(path) end
  config.kind = nil
  model.config = config
  model.tokenizer = model.tokenizer or (model.kind == "hf" and require("ft.tokenizer_file")(model.dir) and model.dir) or nil
  require("ft.vocabulary").settle(model, seed)
  model.description = require("ft.architecture")(config, path and native.null_keys(path))
  require("ft.vocabulary").name_tables(model)
end

local function make(given, config)
  local plan = native.construct("plan", with_profile(given))
  require("ft.faults").settle(native.faults(plan))
  local host, ranks = native.host(), native.ranks()
  if output_asked_for(plan) then plan.save.out = plan.save.dir end
  plan.save.out = plan.save.out and native.absolute(plan.save.out)
  local resume = host.resume ~= "" and host.resume or config.resume
  if resume then
    plan.save.resume = resume
    native.place(plan.save, "resume", host.resume ~= "" and "--resume" or config.resume_file, config.resume_line or 0)
  end
  plan.nproc_given = host.nproc
  plan.parallel.nproc = ranks_of(plan.parallel, host.nproc, ranks.world_size)
  if ranks.world_size > 0 then native.place(plan.parallel, "nproc", "environment", 0) end
  local said = config.environment or from_environment(plan)
  require("ft.mesh").resolve(plan)
  fill_batch(plan)
  fill_seq_len(plan.data)
  describe_model(plan.model, plan.seed)
  local one_weight = require("ft.tied").settle(plan)
  if require("ft.verify").layout() then require("ft.verify").shrink(plan) end
  return setmetatable({
    plan = plan, host = host, ranks = ranks, own_rules = {}, off = config.off or {}, tied = one_weight,
    environment = said, key_of = config.key_of, place_of = config.place_of,
  }, Plan)
end

local function ft_plan(given)
  if not options.filled then native.refuse_flags() end
  return make(given, {})
end

--- Switches a warning off by its rule's id; an error stays one.
function Plan:without(id)
  local file, line = native.caller()
  local rule
  for _, own in ipairs(self.own_rules) do rule = own.name == id and own or rule end
  rule = rule or require("ft.rules").find(id)
  if rule.severity ~= "warning" then
    native.raise {
      kind = "config", path = "plan:without", where = ("%s:%d"):format(file, line),
      message = ("'%s' is an error, and stays one"):format(id), help = "ftengine rules " .. id .. " says why it is one",
    }
  end
  self.off[id] = true
  return self
end

--- Adds a rule of the recipe's own. `check(p)` returns ok, help, key, what; p holds the plan's keys and facts
--- (docs/recipes.md). `about` may say severity = "warning".
--- @param id an id, or the sentence itself
function Plan:rule(id, about, check)
  if type(about) == "function" then about, check = {}, about end
  local file, line = native.caller()
  if type(id) ~= "string" or type(about) ~= "table" or type(check) ~= "function" then
    native.raise {
      kind = "config", path = "plan:rule", where = ("%s:%d"):format(file, line),
      message = "want a sentence and a function", help = "plan:rule(\"rows are few\", function(p) return p.batch.total < 64 end)",
    }
  end
  table.insert(self.own_rules, {
    name = id, sentence = about.sentence, severity = about.severity, check = check, file = file, line = line,
  })
  return self
end

--- The plan as the engine reads it: plain data, without what only the front needs.
function Plan:resolved()
  local out = {}
  for key, value in pairs(self.plan) do out[key] = value end
  out.nproc_given = nil
  local said = require("ft.dialect.environment").lines(self.environment)
  out.environment = said[1] and said or nil
  out.recipe = self.host.recipe
  return out
end

--- Builds, shards and loads on every rank, after the rules have passed. Collective in a run of several ranks.
function Plan:start()
  local judge, verify = require "ft.judge", require "ft.verify"
  local command = self.host.command
  if command == "verify" and not verify.layout() then return verify.run(self) end
  if verify.layout() then self.own_rules = {} end -- they are of the size that is trained
  judge.apply(self, {})
  if command == "check" or command == "plan" then return require("ft.report")[command](self) end
  if command == "preprocess" then return require("ft.commands.preprocess")(self) end
  if self.ranks.world_size == 0 and self.plan.parallel.nproc > 1 then
    native.launch(self.plan.parallel.nproc / self.host.nnodes)
  end
  native.open_device(self.plan.parallel.device)
  if self.ranks.rank == 0 then require("ft.report").environment(self) end
  local data, tokenizer = require("ft.data").load(self.plan)
  judge.apply(self, data)
  return require("ft.run").start(self:resolved(), data, tokenizer)
end

--- ft.plan{…} by a recipe; plan.from(given, { key_of, resume }) by a configuration, whose keys messages name.
return setmetatable({ from = make }, { __call = function(_, given) return ft_plan(given) end })
