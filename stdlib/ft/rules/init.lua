--- Rules: conditions that a plan must meet before anything is loaded. A rule is a function of the plan's facts that
--- returns `ok`; and, when not ok, help, the key that is to blame, and what is wrong with it. A recipe adds its own by
--- plan:rule("sentence", function(p) … end); the built-in ones are stated in the same way, in the files beside this.
local rules = { list = {} }

--- rules.add(name, check): check(p) -> ok, help [, key [, what]]
function rules.add(name, check)
  rules.list[#rules.list + 1] = { name = name, check = check }
end

for _, subject in ipairs { "fsdp2", "wrapping", "context", "tensor", "batch", "model", "adapter", "data", "optimizer" } do
  require("ft.rules." .. subject)(rules.add)
end

return rules
