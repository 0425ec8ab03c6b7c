--- Every rule: refused and passed, the whole message as in tests/golden/errors/rules, and the page docs/api/rules.md.
---   FTENGINE_UPDATE_GOLDEN=1 ftengine test tests/lua/rules_test.lua     writes messages and page anew
local native = require "ft.native"
local rules = require "ft.rules"
local test = require "ft.test"

local function part(name) return assert(loadfile("tests/lua/rules/" .. name .. ".lua"))() end
local inside, plans = part "inside", part "plans"
local cases = part "recipe_cases"
for id, case in pairs(part "yaml_cases") do cases[id] = case end

local golden = "tests/golden/errors/rules/"
local update = os.getenv "FTENGINE_UPDATE_GOLDEN" ~= nil

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Keys of fsdp_config with the prefix that they had.
local function with_prefix(text)
  local inner = false
  return (text:gsub("([^\n]*)(\n?)", function(line, ending)
    if line:match "^%S" then inner = line:match "^fsdp_config:" ~= nil end
    if inner and not line:match "^  version" then line = line:gsub("^  (%w)", "  fsdp_%1") end
    return line .. ending
  end))
end

--- A run's directory as the base plan leaves it, and a model whose embeddings are not tied.
local function folders(t)
  native.make_folder(t.folder .. "/untied")
  local config = native.read_json "recipes/demo/model/config.json"
  config.tie_word_embeddings = false
  t.write("untied/config.json", native.to_json(config))
  t.write("untied/tokenizer.json", t.read "recipes/demo/model/tokenizer.json")
  native.make_folder(t.folder .. "/run")
  local answer = inside.check(t.write("recipe.lua", plans.recipe {}))
  t.write("run/plan.json", native.to_json(answer.normalized))
  t.write("run/run.json", "{}")
end

local function check(t, case, change)
  local function here(text) return (text:gsub("FOLDER", t.folder)) end
  local text = case.yaml and plans.config(here(case.yaml)) or plans.recipe(case)
  local file = t.write(case.yaml and "config.yml" or "recipe.lua", change and change(text) or text)
  local answer, message = inside.check(file, {
    nproc = case.nproc, launched = case.launched, resume = case.resume and here(case.resume), cards = case.cards,
    fast = case.fast,
  })
  return answer, (message:gsub(t.folder:gsub("%p", "%%%0"), "DIR"))
end

for _, rule in ipairs(rules.all()) do
  local id, case = rule.name, cases[rule.name]
  test.case(id .. " refuses, and lets pass", function(t)
    t.truthy(case, "no case in tests/lua/rules")
    folders(t)
    local answer, message = check(t, case.refuses)
    t.truthy(inside.named(answer, id), "is not refused:\n" .. message)
    t.equal(answer.ok, rule.severity == "warning" and #answer.errors == 0)
    if update then write(golden .. id .. ".txt", message) end
    t.equal(message, t.read(golden .. id .. ".txt"))
    answer, message = check(t, case.passes)
    t.truthy(answer.ok and not inside.named(answer, id), "does not pass:\n" .. message)
    if case.refuses.yaml and case.refuses.yaml:find "fsdp_config:" and not case.refuses.prefixed then
      answer, message = check(t, case.refuses, with_prefix)
      t.truthy(inside.named(answer, id), "is not refused with the fsdp_ prefix:\n" .. message)
      t.equal(#answer.errors > 0, rule.severity ~= "warning")
      answer, message = check(t, case.passes, with_prefix)
      t.truthy(answer.ok and not inside.named(answer, id), "does not pass with the fsdp_ prefix:\n" .. message)
    end
  end)
end

test.case("there is no case of a rule that is gone, and no message either", function(t)
  local known = {}
  for _, rule in ipairs(rules.all()) do known[rule.name] = true end
  for id in pairs(cases) do t.truthy(known[id], id) end
  for _, file in ipairs(native.list_folder(golden)) do t.truthy(known[file:match "^(.*)%.txt$"], file) end
end)

test.case("every rule says what it asks, why, whence, and what to do", function(t)
  local seen = {}
  for _, rule in ipairs(rules.all()) do
    t.truthy(not seen[rule.name], rule.name .. " is there twice")
    seen[rule.name] = true
    for _, key in ipairs { "sentence", "reason", "source", "help" } do
      t.truthy(type(rule[key]) == "string" and #rule[key] > 3, rule.name .. " has no " .. key)
    end
    t.truthy(#rule.keys > 0 and (rule.severity == "error" or rule.severity == "warning"), rule.name)
  end
end)

local opening = [[
# Rules

What a plan must meet before anything is loaded. `ftengine check` says all that does not hold, with the place to blame; `ftengine
rules ID` explains one rule. A recipe adds its own with `plan:rule`, and switches a warning off with `plan:without(ID)`
([recipes.md](../recipes.md)). This page is made from `stdlib/ft/rules` by `tests/lua/rules_test.lua`, which fails when it
differs.
]]

local parts = {
  { "list", "Of every plan" }, { "written", "Of a YAML configuration, as it is written" },
  { "reading", "While a YAML configuration is read" },
}

local function page()
  local lines = { opening }
  for _, entry in ipairs(parts) do
    lines[#lines + 1] = ("\n## %s\n\n| rule | asks | because | source | help |\n|---|---|---|---|---|\n"):format(entry[2])
    for _, rule in ipairs(rules[entry[1]]) do
      local name = ("`%s`%s"):format(rule.name, rule.severity == "warning" and " (warning)" or "")
      local cells = { name, rule.sentence, rule.reason, rule.source, rule.help }
      for i, cell in ipairs(cells) do cells[i] = cell:gsub("|", "\\|") end
      lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |\n"
    end
  end
  return table.concat(lines)
end

test.case("the page of rules is what the rules say", function(t)
  if update then write("docs/api/rules.md", page()) end
  t.truthy(t.read "docs/api/rules.md" == page(),
    "docs/api/rules.md differs; write it again: FTENGINE_UPDATE_GOLDEN=1 ftengine test tests/lua/rules_test.lua")
end)
