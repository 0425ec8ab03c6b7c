--- A text as the shell reads it back: one word, whatever it holds.
return function(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
