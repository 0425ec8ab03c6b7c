--- The pre-training text: little stories in which somebody passes or packs a row of things and then meets it
--- backwards. A model that predicts them well has to look back into the text, which is what the instructions later ask
--- for in another form. One document in ten is a chat, about nothing but greetings, so that the model knows how a turn
--- begins and ends.

local stories = {}

local function listed(list)
  return table.concat(list, " ")
end

local function reversed(list)
  local out = {}
  for i = #list, 1, -1 do out[#out + 1] = list[i] end
  return out
end

local backwards = {
  "NAME packed LIST. Taken out in reverse order: BACK.",
  "NAME stacked LIST. From the top down: BACK.",
  "On the way to the PLACE, NAME passed LIST. On the way back: BACK.",
  "NAME learned the list backwards. The list was LIST. Backwards: BACK.",
}
local ends = {
  "NAME saw LIST. The first was FIRST and the last was LAST.",
  "In the PLACE there were LIST. The last was LAST, the first was FIRST.",
}
local opening = {
  "It was a WEATHER DAY in the PLACE.",
  "On DAY NAME went to the PLACE.",
  "NAME and FRIEND met at the PLACE on a WEATHER DAY.",
  "The PLACE was WEATHER that day.",
}
local closing = {
  "Then NAME went home.",
  "That was all for this DAY.",
  "NAME said thank you and left.",
  "FRIEND was happy about it.",
}

--- Fills the capital words of a template: NAME, FRIEND, PLACE, DAY, WEATHER from the scene, the others from a list.
local function fill(template, scene, list)
  local values = {
    NAME = scene.name, FRIEND = scene.friend, PLACE = scene.place, DAY = scene.day, WEATHER = scene.weather,
    LIST = list and listed(list), BACK = list and listed(reversed(list)), FIRST = list and list[1],
    LAST = list and list[#list],
  }
  return (template:gsub("%u%u%u+", values))
end

--- A song that goes round and round: nearly every word of it follows from the text before, so this is where a young
--- model first learns to look at what stood beside a word, in hundreds of steps instead of thousands. Without the songs
--- it learns which things are still to come on a way back, but not in which order.
local function song(random, words)
  local list = random:pick_some(words.things, random:between(3, 6))
  local round = listed(list)
  return ("%s sang: %s"):format(random:pick(words.names), round .. (" " .. round):rep(math.ceil(42 / #list) - 1))
end

--- Walks there and back, each past other things: were they the same, the second way back could be copied from the
--- first.
local function walks(random, words)
  local parts, length = {}, 0
  repeat
    local list = random:pick_some(words.things, random:between(3, 6))
    parts[#parts + 1] = ("There: %s. Back: %s."):format(listed(list), listed(reversed(list)))
    length = length + 2 * #list
  until length >= 36
  return ("%s went there and back. %s"):format(random:pick(words.names), table.concat(parts, " "))
end

local function greeting(random, words)
  local name, place, day = random:pick(words.names), random:pick(words.places), random:pick(words.days)
  local turns = random:pick {
    { "Good morning, I am NAME.", "Good morning, NAME." },
    { "Hello, I am NAME from the PLACE.", "Hello NAME, how is it in the PLACE?" },
    { "This is NAME. See you on DAY.", "See you on DAY, NAME." },
    { "Thank you, and greetings from the PLACE.", "Thank you. Greetings to the PLACE." },
  }
  local scene = { name = name, place = place, day = day }
  return ("<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n%s<|im_end|>\n"):format(
    fill(turns[1], scene), fill(turns[2], scene))
end

--- One document of the pre-training text.
function stories.document(random, words)
  local kind = random:below(20)
  if kind < 2 then return greeting(random, words) end
  if kind < 8 then return song(random, words) end
  if kind < 16 then return walks(random, words) end
  local people = random:pick_some(words.names, 2)
  local scene = {
    name = people[1], friend = people[2], place = random:pick(words.places), day = random:pick(words.days),
    weather = random:pick(words.weathers),
  }
  local sentences = { fill(random:pick(opening), scene) }
  for _ = 1, random:between(2, 4) do
    local list = random:pick_some(words.things, random:between(3, 6))
    local told = random:below(3) == 0 and ends or backwards
    sentences[#sentences + 1] = fill(random:pick(told), scene, list)
  end
  sentences[#sentences + 1] = fill(random:pick(closing), scene)
  return table.concat(sentences, " ")
end

return stories
