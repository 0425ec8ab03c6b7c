--- Measures what can be answered in test.jsonl without having learnt the task: always giving the commonest answer of
--- train.jsonl, and giving back the prompt or the list in it. The third control, training on answers that belong to other
--- prompts, is a run of its own (README.md).
---   ftengine run recipes/demo/controls.lua     or  luajit recipes/demo/controls.lua

local here = debug.getinfo(1, "S").source:match("^@(.*)controls%.lua$") or ""

local function read(name)
  local rows = {}
  for line in io.lines(here .. name) do
    local prompt, answer = line:match('"user", "content": "(.-)"}, .-"assistant", "content": "(.-)"}')
    rows[#rows + 1] = { prompt = assert(prompt, name .. ": not a row of make.lua"), answer = answer }
  end
  return rows
end

--- The most frequent answer; of several, the first in the order of bytes.
local function commonest(rows)
  local counts, best = {}, nil
  for _, row in ipairs(rows) do counts[row.answer] = (counts[row.answer] or 0) + 1 end
  for answer, count in pairs(counts) do -- any order: the comparison is total
    if not best or count > counts[best] or (count == counts[best] and answer < best) then best = answer end
  end
  return best
end

local train, test = read "train.jsonl", read "test.jsonl"
local best, seen = commonest(train), {}
for _, row in ipairs(train) do seen[row.prompt] = true end

local hits = { common = 0, prompt = 0, list = 0, seen = 0 }
for _, row in ipairs(test) do
  local list, said = row.prompt:match("[:?] (.*)$"), row.answer:match("^In reverse order: (.*)$") or row.answer
  if row.answer == best then hits.common = hits.common + 1 end
  if row.answer == row.prompt then hits.prompt = hits.prompt + 1 end
  if said == list then hits.list = hits.list + 1 end
  if seen[row.prompt] then hits.seen = hits.seen + 1 end
end
local function show(name, count) print(("%-36s %.4f"):format(name, count / #test)) end
print(("%d prompts to learn, %d to answer"):format(#train, #test))
show("of these, among those to learn", hits.seen)
show("the commonest answer, " .. best, hits.common)
show("copying the prompt", hits.prompt)
show("copying the list in it", hits.list)
