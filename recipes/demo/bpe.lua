--- Trains a byte-level BPE tokenizer (Sennrich et al., arXiv 1508.07909) for a tokenizer.json of the Qwen kind: NFC, a
--- split by regular expression, ByteLevel.

local bpe = {}

--- The split of Qwen 2 and 3: words with the space before them, single digits, punctuation, white space.
bpe.pattern = [[(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|]]
  .. [[ ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+]]

local function utf8_char(code)
  if code < 128 then return string.char(code) end
  return string.char(192 + math.floor(code / 64), 128 + code % 64) -- the alphabet ends below 2048
end

--- GPT-2's alphabet: each byte as a visible character; those that are none of their own move up to 256 and on.
--- @return table in the order of ids, and a table from the byte to its character
local function byte_alphabet()
  local char_of, shown, moved = {}, {}, {}
  for byte = 0, 255 do
    local visible = (byte >= 33 and byte <= 126) or (byte >= 161 and byte <= 172) or byte >= 174
    if visible then
      char_of[byte] = utf8_char(byte)
      shown[#shown + 1] = char_of[byte]
    else
      char_of[byte] = utf8_char(256 + #moved)
      moved[#moved + 1] = char_of[byte]
    end
  end
  for _, char in ipairs(moved) do shown[#shown + 1] = char end
  return shown, char_of
end

--- Counts the words, each with the space before it, that a text of plain ASCII holds. Merges are learnt inside words
--- only, where this agrees with the pattern above.
--- @param counts table from the word to its number, added to
function bpe.count_words(text, counts)
  for word in text:gmatch(" ?%a+") do counts[word] = (counts[word] or 0) + 1 end
end

local function sorted_words(counts, char_of)
  local list = {}
  for word, count in pairs(counts) do list[#list + 1] = { word = word, count = count } end
  table.sort(list, function(a, b) return a.word < b.word end)
  for _, entry in ipairs(list) do
    for i = 1, #entry.word do entry[i] = char_of[entry.word:byte(i)] end
  end
  return list
end

--- The commonest pair of neighbours; of several, the first in the order of bytes.
local function best_pair(list)
  local counts = {}
  for _, entry in ipairs(list) do
    for i = 1, #entry - 1 do
      local pair = entry[i] .. " " .. entry[i + 1]
      counts[pair] = (counts[pair] or 0) + entry.count
    end
  end
  local best, most = nil, 0
  for pair, count in pairs(counts) do -- any order: the comparison below is total
    if count > most or (count == most and pair < best) then best, most = pair, count end
  end
  return best
end

local function merge_pair(list, left, right)
  for _, entry in ipairs(list) do
    local out, i, n = {}, 1, #entry
    while i <= n do
      if entry[i] == left and entry[i + 1] == right then
        out[#out + 1], i = left .. right, i + 2
      else
        out[#out + 1], i = entry[i], i + 1
      end
    end
    for k = 1, n do entry[k] = out[k] end
  end
end

--- Learns merges until the vocabulary, special tokens included, has `size` entries or no pair is left.
--- @return table with `vocab` (list in the order of ids, from 0) and `merges` (list of { left, right })
function bpe.train(counts, size, num_special)
  local vocab, char_of = byte_alphabet()
  local known = {}
  for _, char in ipairs(vocab) do known[char] = true end
  local list, merges = sorted_words(counts, char_of), {}
  while #vocab + num_special < size do
    local pair = best_pair(list)
    if not pair then break end
    local left, right = pair:match("^(%S+) (%S+)$")
    merges[#merges + 1] = { left, right }
    if not known[left .. right] then
      known[left .. right] = true
      vocab[#vocab + 1] = left .. right
    end
    merge_pair(list, left, right)
  end
  return { vocab = vocab, merges = merges }
end

return bpe
