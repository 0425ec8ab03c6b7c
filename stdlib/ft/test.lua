--- Tests in Lua: local test = require "ft.test"; test.case("says what holds", function(t) t.equal(1 + 1, 2) end).
--- `ftengine test FILE-OR-FOLDER …` runs them; names are sentences.
local native = require "ft.native"
local quoted = require "ft.shell_word"

local test = { cases = {} }

--- Adds a case. `body(t)` gets the checks below; an error fails it.
function test.case(name, body)
  local file = native.caller()
  test.cases[#test.cases + 1] = { name = name, body = body, file = file }
end

local checks = {}

local function show(value)
  if type(value) == "table" and not getmetatable(value) then return native.to_json(value) end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key in pairs(a) do if not same(a[key], b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

local function fail(what) error(what, 3) end

--- got equals want; tables are compared entry by entry.
function checks.equal(got, want)
  if not same(got, want) then fail(("got %s, want %s"):format(show(got), show(want))) end
end

--- |got - want| <= tolerance
function checks.near(got, want, tolerance)
  if not (math.abs(got - want) <= tolerance) then fail(("got %.17g, want %.17g within %g"):format(got, want, tolerance)) end
end

function checks.truthy(value, what)
  if not value then fail(what or "got " .. show(value) .. ", want a true value") end
end

--- The text holds a piece, as it is written (no pattern).
function checks.contains(text, piece)
  if not tostring(text):find(piece, 1, true) then fail(("%s does not contain %s"):format(show(tostring(text)), show(piece))) end
end

--- Calling body raises; returns the error value. With `piece`, its text holds it.
function checks.raises(body, piece)
  local done, raised = pcall(body)
  if done then fail("raised nothing") end
  if piece and not tostring(raised):find(piece, 1, true) then
    fail(("raised %s, which does not contain %s"):format(show(tostring(raised)), show(piece)))
  end
  return raised
end

--- The shell's words for this program; a table before the arguments sets environment variables.
local function command_of(first, ...)
  local words, from = {}, { first, ... }
  if type(first) == "table" then
    words[1], from = "env", { ... }
    for name, value in pairs(first) do words[#words + 1] = quoted(name .. "=" .. value) end
  end
  words[#words + 1] = quoted(native.host().program)
  for _, word in ipairs(from) do words[#words + 1] = quoted(word) end
  return table.concat(words, " ")
end

local function output_of(command)
  local pipe = io.popen(command .. "; echo \"code $?\"")
  local output = pipe:read("*a")
  pipe:close()
  local text, code = output:match("^(.*)code (%d+)\n$")
  if not code then -- a time limit, say, whose signal reached the shell too
    error(("%s\nand its shell were ended by a signal, after: %s"):format(command, output), 0)
  end
  return text, tonumber(code)
end

--- Runs this program with arguments: t.program("check", file), t.program({ WORLD_SIZE = 2 }, "check", file).
--- @return what it printed (stdout and stderr together), its exit code
function checks.program(...) return output_of(command_of(...) .. " 2>&1") end

--- Checks a recipe or a configuration, with more words of the command line: t.check("my.lua", "--nproc", "2").
--- @return { ok =, errors = { { rule, key, where, message, help }, … }, warnings =, normalized = the plan }
function checks.check(file, ...)
  local output, code = output_of(command_of("check", file, "--json", ...))
  local done, answer = pcall(native.parse_json, output)
  if not done or code == 2 then fail(("check %s gave no answer (exit code %s): %s"):format(file, tostring(code), output)) end
  return answer
end

--- A rule (its id, or a rule of one's own: its sentence) is among an answer's errors and warnings. Returns what it said.
function checks.refused(answer, rule)
  for _, list in ipairs { answer.errors, answer.warnings } do
    for _, fault in ipairs(list) do if fault.rule == rule or fault.message == rule then return fault end end
  end
  fail(("no fault of rule '%s' in %s"):format(rule, show { errors = answer.errors, warnings = answer.warnings }))
end

--- Writes a file and returns its path; it goes with the test's folder.
function checks.write(name, text)
  local path = checks.folder .. "/" .. name
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- Reads a whole file, or nil.
function checks.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

--- Runs the cases that files have added. @return number of cases that failed
function test.run()
  local failed = 0
  for _, case in ipairs(test.cases) do
    checks.folder = os.tmpname()
    os.remove(checks.folder)
    os.execute("mkdir -p " .. quoted(checks.folder))
    checks.here = case.file:match("^(.*)/[^/]*$") or "."
    local done, raised = pcall(case.body, checks)
    os.execute("rm -rf " .. quoted(checks.folder))
    print((done and "ok      " or "FAILED  ") .. case.name)
    if not done then
      failed = failed + 1
      print("   " .. tostring(raised):gsub("\n", "\n   "))
    end
  end
  print(("%d of %d tests passed"):format(#test.cases - failed, #test.cases))
  return failed
end

return test
