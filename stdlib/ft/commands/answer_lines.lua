--- Standard input's lines, answered in order: so many are read, worked on at once by all threads and written, that memory
--- is bounded however many there are.

--- @param at_once whole number: lines that are read before they are answered
--- @param answer function(lines, first_line) -> list of what is printed, a line each; first_line counts from 1
return function(at_once, answer)
  local lines, first_line = {}, 1
  local function flush()
    for _, text in ipairs(answer(lines, first_line)) do io.write(text, "\n") end
    first_line = first_line + #lines
    lines = {}
  end
  for line in io.lines() do
    lines[#lines + 1] = line
    if #lines == at_once then flush() end
  end
  if #lines > 0 then flush() end
end
