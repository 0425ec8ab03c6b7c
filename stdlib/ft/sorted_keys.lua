--- The keys of one table or several, sorted: `pairs` gives them in an order that no two processes share.
return function(...)
  local names = {}
  for _, map in ipairs { ... } do for name in pairs(map) do names[#names + 1] = name end end
  table.sort(names)
  return names
end
