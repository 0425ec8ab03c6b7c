--- ftengine eval DIR DATA [--json] [--adapter DIR]: the mean loss over a data file's trained tokens.
local data = require "ft.data"
local flags = require "ft.commands.flags"
local native = require "ft.native"
local open = require "ft.commands.open"

local declared = {
  positional = { "DIR", "DATA" }, json = "switch", seq_len = "number", format = "string", limit = "number",
  compute = { "auto", "fp32", "bf16", "fp16" }, model = "string", adapter = "string",
}
local kinds = { messages = "chat", sharegpt = "chat", alpaca = "alpaca", completion = "completion", tokens = "tokenized",
  segments = "segments" }
local longest = 2048 -- tokens a row, where the model does not say less: a run and what is merged of it are measured alike

--- How the file's rows are read: as the run read its training data where the forms agree.
local function described(path, given, plan)
  local reader = native.row_source { path = path }
  if not reader:next() then
    native.raise { kind = "format", where = path, message = "holds no rows" }
  end
  local kind = kinds[reader:form()]
  local train = plan.data and plan.data.train or {}
  local same = train.kind == kind and train or {}
  local most = plan.model.config.max_position_embeddings or longest
  return {
    kind = kind, path = path, seq_len = given.seq_len or math.min(longest, most), pack = true,
    too_long = "truncate", format = given.format or same.format or "auto", mask_prompts = same.mask_prompts ~= false,
    system = same.system, chat_template = same.chat_template, template_name = same.template_name,
    template_variables = same.template_variables, roles_to_train = same.roles_to_train, train_turns = same.train_turns,
    field = same.field, limit = given.limit,
  }
end

return function(...)
  local given = flags.read({ ... }, declared)
  local opened = open(given.dir, given)
  local split = described(given.data, given, opened.plan)
  local rows = data.read(split, opened.plan.model.config, opened.tokenizer)
  local pad = opened.tokenizer and opened.tokenizer:eos_id() or 0
  local result = opened.model:loss(rows, split.seq_len, 1, pad)
  if given.json then
    print(('{"loss": %.9g, "tokens": %d}'):format(result.loss, result.tokens))
  else
    print(("loss %.6f over %d tokens (%s)"):format(result.loss, result.tokens, rows:report()))
  end
end
