--- ftengine preprocess RECIPE: tokenizes each split of its plan into the cache, and says what they come to.
local data = require "ft.data"

--- @param plan_object a plan whose rules have passed. Returns a run of no steps.
return function(plan_object)
  local plan = plan_object.plan
  for _, name in ipairs { "train", "val", "test" } do
    if plan.data[name] then
      if plan.data[name].kind == "preference" then
        print(("%-12s pairs are read by each run: nothing is kept of them"):format(name))
      else
        plan.data[name].streaming = true
      end
    end
  end
  local splits = data.load(plan)
  for _, name in ipairs { "train", "val", "test" } do
    local split = plan.data[name]
    if splits[name] then print(("%-12s %s"):format(name, splits[name]:facts(split.seq_len, split.pack).packing)) end
  end
  return require("ft.run").empty()
end
