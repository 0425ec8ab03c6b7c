--- Tokens that were made before: one file for all that they depend on, mapped by whoever wants the same. Filled by
--- `ftengine preprocess` and by runs with streaming = true; used by every run.
local native = require "ft.native"

local token_cache = {}

--- What a data set says that changes no token.
local indifferent = { path = true, pack = true, remainder = true, shuffle = true, cache = true, streaming = true, split = true }
--- What says how texts become tokens.
local tokenizer_files = {
  "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
  "generation_config.json",
}

--- Where caches lie whose place a plan does not say.
function token_cache.root()
  local root = os.getenv("FTENGINE_CACHE")
  return root and root ~= "" and root or (os.getenv("HOME") or "/tmp") .. "/.cache/ftengine"
end

function token_cache.folder(split)
  return split.cache and native.absolute(split.cache) or token_cache.root() .. "/data"
end

--- Everything that the tokens depend on, this program included: its file is hashed as the data's are.
local function description(request, folder, files)
  local split, used = request.split, { "/proc/self/exe" }
  if request.tokenizer then
    for _, name in ipairs(tokenizer_files) do
      local path = request.tokenizer:folder() .. "/" .. name
      if native.exists(path) == "file" then used[#used + 1] = path end
    end
  end
  local template = request.template
  if template then used[#used + 1] = template:file() end
  local options = {}
  for key, value in pairs(split) do if not indifferent[key] then options[key] = value end end
  return {
    files = files, used = native.describe_files(used, folder), options = options, choice = request.choice,
    vocab_size = request.vocab_size,
    day = template and template:reads("strftime_now") and os.date("%Y-%m-%d") or nil, -- the template may write it down
  }
end

--- The file of a request, or nil where nothing was ever kept of these data files and `add` is false.
--- @param request split, choice, tokenizer, template, vocab_size, source
function token_cache.file(request, add)
  local folder = token_cache.folder(request.split)
  if add then native.make_folder(folder) end
  if not native.exists(folder) then return nil end
  local files = request.source:describe(folder, add)
  if not files then return nil end
  return folder .. "/" .. native.cache_key(description(request, folder, files)) .. ".tokens"
end

--- Opens the tokens of a file, or has `make(file)` write them first; of several processes one does, and the others wait.
--- @return TokenRows, and whether they had been there
function token_cache.open(file, make)
  if native.exists(file) then return native.open_tokens(file), true end
  local lock = native.lock_file(file:gsub("%.tokens$", ".lock"))
  local there = native.exists(file) ~= nil
  if not there then
    local done, problem = pcall(make, file)
    if not done then
      lock:release()
      error(problem, 0)
    end
  end
  lock:release()
  return native.open_tokens(file), there
end

return token_cache
