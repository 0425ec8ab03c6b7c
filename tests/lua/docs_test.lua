--- What docs/ shows as Lua is run here, as it stands there.
local test = require "ft.test"

--- The page's Lua block that begins with a file's name in a comment.
local function block(t, page, name)
  local text = t.read(t.here .. "/../../docs/" .. page)
  for code in text:gmatch("```lua\n(.-)```") do
    if code:sub(1, #name + 4) == "-- " .. name .. "\n" then return code end
  end
  error("docs/" .. page .. " has no " .. name)
end

local function rows()
  local lines = {}
  for i = 1, 12 do
    local ids = {}
    for j = 1, 8 + i do ids[j] = (i * 7 + j * 5) % 64 end
    lines[i] = '{"input_ids": [' .. table.concat(ids, ", ") .. "]}\n"
  end
  return table.concat(lines)
end

test.case("the recipe of docs/recipes.md trains", function(t)
  t.write("rows.jsonl", rows())
  local recipe = t.write("first.lua", block(t, "recipes.md", "first.lua"))
  local output, code = t.program("run", recipe, "--out", t.folder .. "/run", "--steps", "1")
  t.truthy(code == 0, output)
  t.contains(output, "to merge: ftengine merge ")
end)

test.case("the test of a rule in docs/recipes.md passes", function(t)
  t.write("first.lua", block(t, "recipes.md", "first.lua"))
  local file = t.write("rows_test.lua", (block(t, "recipes.md", "rows_test.lua"):gsub("first%.lua\",", t.folder
    .. "/first.lua\",")))
  local output, code = t.program("test", file)
  t.truthy(code == 0, output)
end)

test.case("the configuration of docs/axolotl.md passes, but for its model", function(t)
  local yaml = t.read(t.here .. "/../../docs/axolotl.md"):match("```yaml\n(.-)```")
  yaml = yaml:gsub("%./Qwen3%-32B", "recipes/demo/model"):gsub("train%.jsonl", "recipes/demo/train.jsonl")
  local answer = t.check(t.write("swap.yml", (yaml:gsub("2048", "512"))), "--nproc", "2")
  t.equal({ answer.errors, answer.warnings }, { {}, {} })
end)

test.case("the architecture of docs/models.md trains in that recipe", function(t)
  t.write("rows.jsonl", rows())
  local recipe, changed = block(t, "recipes.md", "first.lua"):gsub('model_type = "llama"', 'model_type = "sandwich"')
  t.equal(changed, 1)
  os.execute("mkdir -p '" .. t.folder .. "/ft/models'")
  t.write("ft/models/sandwich.lua", block(t, "models.md", "ft/models/sandwich.lua"))
  local output, code = t.program("run", t.write("second.lua", recipe), "--out", t.folder .. "/run", "--steps", "1")
  t.truthy(code == 0, output)
  t.contains(output, "(sandwich, 2 layers)")
end)

test.case("the forward of docs/models.md trains in that recipe", function(t)
  t.write("rows.jsonl", rows())
  local recipe, changed = block(t, "recipes.md", "first.lua"):gsub('model_type = "llama"', 'model_type = "gelu_decoder"')
  t.equal(changed, 1)
  local forward = block(t, "models.md", "own_forward.lua")
  recipe = recipe:gsub('local ft = require "ft"\n', function() return forward end, 1)
  local output, code = t.program("run", t.write("third.lua", recipe), "--out", t.folder .. "/run", "--steps", "2")
  t.truthy(code == 0, output)
  t.contains(output, "(gelu_decoder, 2 layers)")
end)

test.case("run:evaluate refuses keys that it does not know, and those of answers without answers", function(t)
  t.write("rows.jsonl", rows())
  local recipe = block(t, "recipes.md", "first.lua"):gsub("for step, window in", "run:evaluate('train', %%s)\n%0", 1)
  for given, wanted in pairs {
    ["{ generat = true }"] = "run:evaluate: unknown key 'generat'\n   help: did you mean 'generate'?",
    ["{ limit = 3 }"] = "run:evaluate: max_new_tokens and limit are of answers",
  } do
    local file = t.write("recipe.lua", (recipe:format(given)))
    local output, code = t.program("run", file, "--out", t.folder .. "/run" .. #given)
    t.equal(code, 1)
    t.contains(output, wanted)
  end
end)
