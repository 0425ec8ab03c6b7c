--- Whatever a configuration or a recipe says, `check` comes to a verdict: it passes, or each fault is a message with a place.
---   FTENGINE_FUZZ_SECONDS=600 ftengine test tests/lua/fuzz_test.lua     goes on with new seeds; best with the asan preset
--- What was once found lies in tests/configs/found, and is tried first.
local native = require "ft.native"
local test = require "ft.test"

local function part(name) return assert(loadfile("tests/lua/rules/" .. name .. ".lua"))() end
local inside, plans, random_plans = part "inside", part "plans", part "random_plans"

local rounds = 300
local seconds = tonumber(os.getenv "FTENGINE_FUZZ_SECONDS" or 0)

local schemas = {}
for i, name in ipairs(native.schema_names()) do schemas[i] = native.schema(name) end

--- Says what is wrong with the verdict on a file; nil when nothing is.
local function complaint(file, nproc)
  local done, answer, _, raised = pcall(inside.check, file, { nproc = nproc })
  if not done then return "the check itself failed: " .. tostring(answer) end
  if answer.ok then return answer.normalized == nil and "passes without a plan" or nil end
  if type(raised) ~= "table" then return "raised no error value: " .. tostring(raised) end
  if raised.kind == "internal" then return "a bug of ours: " .. tostring(raised) end
  if #answer.errors == 0 then return "refused without a word" end
  for _, fault in ipairs(answer.errors) do
    if not fault.message or #fault.message < 3 or not (fault.where or fault.key) then
      return "a fault without message or place: " .. native.to_json(fault)
    end
  end
end

local function try(t, name, text, nproc)
  local wrong = complaint(t.write(name, text), nproc)
  t.truthy(not wrong, wrong and (wrong .. "\n" .. text))
end

test.case("what was found once has a verdict", function(t)
  local folder = "tests/configs/found"
  for _, name in ipairs(native.list_folder(folder)) do try(t, name, t.read(folder .. "/" .. name), 2) end
end)

test.case("random configurations and recipes have a verdict", function(t)
  local start, seed = os.time(), 0
  while seed < rounds or os.time() - start < seconds do
    seed = seed + 1
    try(t, "config.yml", random_plans.config(seed), seed % 3 + 1)
    try(t, "recipe.lua", plans.recipe(random_plans.entries(seed, schemas)), seed % 3 + 1)
  end
  if seconds > 0 then print(("%d configurations and recipes"):format(2 * seed)) end
end)
