--- Rules: conditions that a plan must meet before anything is loaded. A rule is a function of the plan's facts that
--- returns `ok`; and, when not ok, help, the key that is to blame, and what is wrong with it. A recipe adds its own by
--- plan:rule("sentence", function(p) … end); the built-in ones are stated in the same way, in the files beside this.
--- Rules only look. Those of `dialect` see a YAML configuration as it was written, before older names are read; those of
--- dialect/reading.lua are applied by the reader itself, and stated for those who ask about them.
local native = require "ft.native"

local rules = { list = {}, written = {}, reading = {} }

local function into(list)
  return function(id, about, check)
    if type(about) == "function" then about, check = {}, about end
    list[#list + 1] = {
      name = id, check = check, severity = about.severity or "error", keys = about.keys or {}, sentence = about.sentence,
      reason = about.reason, source = about.source, help = about.help,
    }
  end
end

--- rules.add(id, { keys, sentence, reason, source, help, severity }, check): check(p) -> ok, help [, key [, what]]
rules.add = into(rules.list)

for _, subject in ipairs {
  "fsdp2", "wrapping", "context", "tensor", "batch", "model", "adapter", "precision", "data", "optimizer", "checkpoints",
} do
  require("ft.rules." .. subject)(rules.add)
end
for _, subject in ipairs { "fsdp", "optimizer", "adapter", "layout", "data", "pairs" } do
  require("ft.rules.dialect." .. subject)(into(rules.written))
end
require("ft.rules.dialect.reading")(into(rules.reading))

--- All rules: those on plans, those on what a configuration says, and what is refused while one is read.
function rules.all()
  local all = {}
  for _, list in ipairs { rules.list, rules.written, rules.reading } do
    for _, rule in ipairs(list) do all[#all + 1] = rule end
  end
  return all
end

--- The rule of an id; or nil, and the nearest id.
function rules.known(id)
  local ids = {}
  for i, rule in ipairs(rules.all()) do
    if rule.name == id then return rule end
    ids[i] = rule.name
  end
  return nil, native.nearest(tostring(id), ids)
end

--- The rule of an id. Raises with the nearest one when there is none.
function rules.find(id)
  local rule, near = rules.known(id)
  if rule then return rule end
  native.raise {
    kind = "config", path = "rules", message = ("no rule '%s'"):format(tostring(id)),
    help = near and ("did you mean '%s'?"):format(near) or "ftengine rules lists them",
  }
end

return rules
