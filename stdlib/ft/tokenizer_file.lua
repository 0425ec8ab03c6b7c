--- tokenizer_file(DIR) -> the file that a model's tokenizer is read from, nil where it has none: tokenizer.json, else a
--- SentencePiece tokenizer.model.
local native = require "ft.native"

return function(folder)
  for _, name in ipairs { "tokenizer.json", "tokenizer.model" } do
    local path = folder .. "/" .. name
    if native.exists(path) == "file" then return path end
  end
end
