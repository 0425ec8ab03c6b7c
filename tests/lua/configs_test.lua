--- Configurations of the YAML dialect: tests/configs. What is refused or warned of is pinned in tests/golden/errors/configs;
--- what passes says the same plan as a recipe, and in FSDP2's spelling.
local native = require "ft.native"
local test = require "ft.test"

local inside = assert(loadfile "tests/lua/rules/inside.lua")()
local golden = "tests/golden/errors/configs/"

--- The plan that a file came to, but for the file's own name.
local function plan_of(answer)
  answer.normalized.recipe = nil
  return answer.normalized
end

local function same(t, got, want, what)
  local ok, wrong = pcall(t.equal, got, want)
  t.truthy(ok, what .. ": " .. tostring(wrong))
end

local function survives_convert(t, file, nproc, answer)
  local config = inside.read(file)
  local text = require("ft.dialect.recipe_text").write(config, "recipe.lua")
  local _, lines = text:gsub("\n", "")
  t.truthy(lines <= 60, ("the recipe has %d lines"):format(lines))
  local recipe = inside.check(t.write("recipe.lua", text), { nproc = nproc })
  t.truthy(recipe.ok, "the recipe is refused: " .. native.to_json(recipe.errors) .. "\n" .. text)
  same(t, plan_of(recipe), answer.normalized, "the recipe says another plan")
  local again = require("ft.dialect.fsdp2_text").write(config, t.read(file))
  local converted, message = inside.check(t.write("new.yml", again), { nproc = nproc })
  t.truthy(converted.ok, "FSDP2's spelling is refused: " .. message .. again)
  same(t, plan_of(converted), answer.normalized, "FSDP2's spelling says another plan")
  for _, rule in ipairs { "fsdp1_is_deprecated", "fsdp_prefix", "fsdp_list", "dropped", "sharding_strategy", "renamed" } do
    t.truthy(not inside.named(converted, "dialect." .. rule), rule .. " is still said:\n" .. again)
  end
end

local function pinned(t, kind, name, message)
  local path = ("%s%s_%s.txt"):format(golden, kind, name)
  if os.getenv "FTENGINE_UPDATE_GOLDEN" then
    local file = assert(io.open(path, "wb"))
    file:write(message)
    file:close()
  end
  t.equal(message, t.read(path))
end

local verdicts = {
  valid = function(answer) return answer.ok and #answer.warnings == 0 end,
  deprecated = function(answer) return answer.ok and #answer.warnings > 0 end,
  wrong = function(answer) return not answer.ok end,
}

local count = 0
for _, kind in ipairs { "valid", "deprecated", "wrong" } do
  for _, entry in ipairs(native.list_folder("tests/configs/" .. kind)) do
    count = count + 1
    local name, file = entry:match "^(.*)%.yml$", ("tests/configs/%s/%s"):format(kind, entry)
    test.case(("%s is %s"):format(name, kind), function(t)
      local nproc = tonumber(t.read(file):match "\n# ranks: (%d+)") or 1
      local answer, message = inside.check(file, { nproc = nproc })
      t.truthy(verdicts[kind](answer), message)
      for _, fault in ipairs(answer.errors) do
        t.truthy(fault.where and #fault.message > 3, "an error without a place: " .. native.to_json(fault))
      end
      if kind ~= "valid" then pinned(t, kind, name, message) end
      if answer.ok then
        plan_of(answer)
        survives_convert(t, file, nproc, answer)
      end
    end)
  end
end

test.case("there are as many as were asked for", function(t) t.truthy(count >= 60, tostring(count)) end)
