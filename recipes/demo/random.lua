--- Random choices that come out the same on every machine: the "minimal standard" generator of Park and Miller
--- (Communications of the ACM 31, 1988; multiplier 48271 of their 1993 note). Each product is below 2^53, so doubles
--- hold it exactly, and neither the C library nor the order of a hash table has a say.

local random = {}
random.__index = random

local modulus, multiplier = 2147483647, 48271

--- A generator of its own for each purpose, so that changing how one text is made leaves the others as they are.
--- @param seed integer from 1 to 2^31 - 2
function random.new(seed)
  local self = setmetatable({ state = seed }, random)
  for _ = 1, 8 do self:below(1) end -- small seeds start alike
  return self
end

--- An integer from 0 to n - 1.
function random:below(n)
  self.state = self.state * multiplier % modulus
  return math.floor((self.state - 1) / (modulus - 1) * n)
end

--- An integer from `low` to `high`, both included.
function random:between(low, high)
  return low + self:below(high - low + 1)
end

--- One element of a list.
function random:pick(list)
  return list[self:below(#list) + 1]
end

--- `n` different elements of a list, in random order (rejection: the lists are much longer than n).
function random:pick_some(list, n)
  local picked, seen = {}, {}
  while #picked < n do
    local one = self:pick(list)
    if not seen[one] then
      seen[one] = true
      picked[#picked + 1] = one
    end
  end
  return picked
end

--- Shuffles a list in place (Fisher and Yates) and returns it.
function random:shuffle(list)
  for i = #list, 2, -1 do
    local j = self:below(i) + 1
    list[i], list[j] = list[j], list[i]
  end
  return list
end

return random
