--- ftengine test FILE-OR-FOLDER …: runs Lua tests; of a folder, every *_test.lua. Exit code 1 when one fails.
local native = require "ft.native"
local test = require "ft.test"

local function files_of(path)
  if native.exists(path) ~= "directory" then return { path } end
  local files = {}
  for _, name in ipairs(native.list_folder(path)) do
    if name:match("_test%.lua$") then files[#files + 1] = path .. "/" .. name end
  end
  return files
end

return function(...)
  local paths = { ... }
  if #paths == 0 then error({ kind = "usage", message = "test wants a file or a folder" }, 0) end
  for _, path in ipairs(paths) do
    for _, file in ipairs(files_of(path)) do
      local chunk, wrong = loadfile(file)
      if not chunk then error(wrong, 0) end
      chunk()
    end
  end
  if test.run() > 0 then error({ kind = "exit", code = 1 }, 0) end
end
