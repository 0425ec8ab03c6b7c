--- The demo's world: a few people, things and places. Every word is common and short, so that the tokenizer gives it
--- one token; no thing is also a place or a name.

local function split(text)
  local list = {}
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  return list
end

local words = {}

words.names = split [[
  Ada Anton Bela Bruno Clara Dana Emil Erik Flora Gita Hana Hugo Ida Ivan Jana Jonas Karl Kira Lena Leo Lina Marco Mira
  Nadia Nils Nora Olga Omar Oskar Paul Petra Ravi Rosa Sami Sara Tara Theo Tilda Uma Vera Viktor Wanda Yara Zora
]]

words.things = split [[
  apple axe bag ball banjo basket bead bell belt bike book boot bottle bowl box bread brush bucket button cake
  camera candle card chain cheese clock coat coin comb cup dice doll drum egg feather fig flag flute fork
  glass glove hammer harp hat honey hook horn jar kettle key kite knife lace ladder lamp leaf lemon letter
  lock map mask melon mirror nail needle nut olive orange paddle paint pear pen pillow pipe plate plum pot
  puzzle radio ribbon ring robe rope saddle scarf shell soap spoon stamp string
]]

words.places = split [[
  attic barn bakery cabin castle cave cellar chapel church forest garage garden harbour hotel island kitchen library
  market meadow mill museum office park school shed ship stable station tower tunnel valley village
]]

words.days = split [[Monday Tuesday Wednesday Thursday Friday Saturday Sunday]]
words.weathers = split [[cold warm windy rainy sunny quiet foggy busy]]

--- Things that no instruction for training names, although the pre-training text does: half of the test asks for them.
words.held_out_things = {}
--- The other things.
words.training_things = {}
for i, thing in ipairs(words.things) do
  local list = i % 6 == 0 and words.held_out_things or words.training_things
  list[#list + 1] = thing
end

return words
