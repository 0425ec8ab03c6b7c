--- Hub names in the local Hugging Face cache: nothing is fetched unasked.
local native = require "ft.native"

local hub = {}

local function cache()
  local home = os.getenv("HF_HOME") or (os.getenv("HOME") or "") .. "/.cache/huggingface"
  return os.getenv("HF_HUB_CACHE") or os.getenv("HUGGINGFACE_HUB_CACHE") or home .. "/hub"
end

local function first_line(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local line = file:read("*l")
  file:close()
  return line
end

--- @param kind "models" or "datasets"
--- @param wanted a branch, tag or commit; by default main
--- @return the directory of the name's snapshot in the cache, or nil
function hub.find(name, kind, wanted)
  if not name:match("^[%w._-]+/[%w._-]+$") then return nil end
  local folder = ("%s/%s--%s"):format(cache(), kind, (name:gsub("/", "--")))
  local revision = first_line(folder .. "/refs/" .. (wanted or "main")) or wanted
  local dir = revision and folder .. "/snapshots/" .. revision
  return dir and native.exists(dir) == "directory" and dir or nil
end

--- What downloads it.
function hub.command(name, kind, wanted)
  return ("hf download %s%s%s"):format(kind == "datasets" and "--repo-type dataset " or "", name,
    wanted and " --revision " .. wanted or "")
end

return hub
