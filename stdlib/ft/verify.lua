--- ftengine verify RECIPE: the recipe at a tiny size, trained over the layouts that fit, and how far their losses and gradient
--- norms come from one process's. The model keeps its architecture and tokenizer, with random weights of a few wide layers.
--- Each layout is a run of this program, told by the environment what to be.
local native = require "ft.native"
local quoted = require "ft.shell_word"

local verify = {}

local layout_variable, folder_variable = "FTENGINE_VERIFY_LAYOUT", "FTENGINE_VERIFY_OUT"
local steps, rows, longest = 4, 8, 128
local loss_bound, norm_bound = 1e-5, 1e-4
local default_ranks = 4

--- name, ranks, and the profile, or a profile's text.
local layouts = {
  { "one process", 1, "single" },
  { "ddp", 2, "ddp" },
  { "zero1", 2, "zero1" },
  { "zero2", 2, "zero2" },
  { "fsdp2", 2, "fsdp2" },
  { "fsdp2, no reshard", 2, "fsdp2_no_reshard" },
  { "fsdp2, no prefetch", 2, "prefetch: false\n" },
  { "fsdp2, in one unit", 2, "auto_wrap_policy: NO_WRAP\n" },
  { "fsdp2, offloaded", 2, "fsdp2_swap" },
  { "fsdp2 on 4, resharded over 2", 4, "reshard_after_forward: 2\n" },
  { "hsdp", 4, "hsdp" },
  { "tp", 2, "tp" },
  { "tp x fsdp2", 4, "fsdp2_tp" },
  { "cp, ring", 2, "cp" },
  { "cp, ulysses", 2, "context_parallel_size: 2\ncontext_method: ulysses\n" },
  { "cp of 4", 4, "context_parallel_size: 4\n" },
  { "cp x fsdp2", 4, "mesh: { context: 2 }\n" },
  { "tp x cp", 4, "mesh: { context: 2, tensor: 2 }\n" },
  { "tp x cp x fsdp2", 8, "fsdp2_tp_cp" },
}

--- In a run of one layout: the profile that takes the place of the recipe's; else nil.
function verify.layout()
  return native.host().command == "verify" and os.getenv(layout_variable) or nil
end

local tiny = {
  hidden_size = 128, intermediate_size = 256, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2,
  head_dim = 32, max_window_layers = 2,
}

--- Makes a plan tiny, in fp32, with a directory of its own.
function verify.shrink(plan)
  local model = plan.model
  for key, size in pairs(tiny) do
    if model.config[key] ~= nil then model.config[key] = math.min(size, tonumber(model.config[key]) or size) end
  end
  model.config.layer_types = nil -- of each layer: its length is that of the whole model
  model.dir, model.compute = nil, "fp32"
  model.description = require("ft.architecture")(model.config)
  if plan.adapter then plan.adapter.from = nil end
  plan.batch.total, plan.batch.micro, plan.batch.accumulation = rows, 1, nil
  plan.max_steps = steps
  for name, split in pairs(plan.data) do
    if type(split) == "table" then
      split.seq_len, split.too_long, split.remainder = math.min(split.seq_len, longest), "truncate", "pad"
      split.limit = math.min(split.limit or math.huge, name == "train" and 8 * rows or 4)
    end
  end
  plan.save.out, plan.save.every, plan.save.final, plan.save.resume = os.getenv(folder_variable), 0, "sharded", nil
  plan.save.per_epoch = nil
end

--- Runs one layout. @return rows of { loss =, grad_norm = }, or nil and what it said
local function train(folder, number, layout)
  local name, ranks, profile = layout[1], layout[2], layout[3]
  if profile:find("\n", 1, true) then
    local path = ("%s/%d.yaml"):format(folder, number)
    local file = assert(io.open(path, "wb"))
    file:write(profile)
    file:close()
    profile = path
  end
  local host = native.host()
  local out = ("%s/%d"):format(folder, number)
  local words = { quoted(host.program), "verify", quoted(host.recipe), "--nproc", tostring(ranks) }
  for _, flag in ipairs(host.flags) do words[#words + 1] = quoted(flag) end
  local pipe = io.popen(("%s=%s %s=%s %s 2>&1; echo \"code $?\""):format(layout_variable, quoted(profile), folder_variable,
    quoted(out), table.concat(words, " ")))
  local said = pipe:read("*a")
  pipe:close()
  if not said:match("code 0\n$") then return nil, said:gsub("code %d+\n$", "") end
  local found = {}
  for line in io.lines(out .. "/metrics.jsonl") do
    local row = native.parse_json(line)
    if row.step > 0 and row.loss then found[#found + 1] = row end
  end
  if #found == 0 then return nil, name .. ": the recipe logs no loss" end
  return found
end

--- Largest relative difference of a column; nil where neither has it.
local function difference(one, other, key)
  local most
  for step, row in ipairs(one) do
    local value = other[step] and other[step][key]
    if row[key] then
      local here = value and math.abs(value - row[key]) / math.max(math.abs(row[key]), 1e-30) or math.huge
      most = math.max(most or 0, here == here and here or math.huge)
    end
  end
  return most
end

local function figure(value) return value and ("%.1e"):format(value) or "-" end

--- Trains one layout after the other and prints the table. @param most ranks
local function compare(folder, most)
  local one, failed = nil, {}
  print(("%-30s %5s  %-10s %-10s"):format("layout", "ranks", "loss", "grad norm"))
  for number, layout in ipairs(layouts) do
    local name, ranks = layout[1], layout[2]
    local label = ("%-30s %5d"):format(name, ranks)
    local found, said
    if ranks <= most then found, said = train(folder, number, layout) end
    if ranks > most then
      print(("%s  not tried: --nproc %d"):format(label, ranks))
    elseif not found and not one then
      native.raise { kind = "config", path = "verify", message = "one process does not train:\n" .. said }
    elseif not found then
      local refused = said:match("([^\n]*parallel%.[^\n]*)") or said:match("([^\n]*model%.[^\n]*)")
      if not refused then failed[#failed + 1] = name end
      print(("%s  %s: %s"):format(label, refused and "does not fit" or "FAILED", refused or said))
    else
      one = one or found
      local loss, norm = difference(one, found, "loss"), difference(one, found, "grad_norm")
      local good = loss <= loss_bound and (norm or 0) <= norm_bound and #found == #one
      if not good then failed[#failed + 1] = name end
      print(("%s  %-10s %-10s %s"):format(label, figure(loss), figure(norm), found == one and "" or good and "ok" or "DIFFERS"))
    end
  end
  return failed
end

--- plan:start() of `ftengine verify`, before any layout is chosen. Returns a run of no steps.
function verify.run(plan_object)
  local folder = os.tmpname()
  os.remove(folder)
  os.execute("mkdir -p " .. quoted(folder))
  local given = plan_object.host.nproc
  print(("%s at a tiny size, %d steps: largest relative difference from one process"):format(plan_object.host.recipe, steps))
  local done, failed = pcall(compare, folder, given > 0 and given or default_ranks)
  os.execute("rm -rf " .. quoted(folder))
  if not done then error(failed, 0) end
  if #failed > 0 then
    native.raise {
      kind = "config", path = "verify", message = table.concat(failed, "; ") .. ": not as one process trains",
      help = ("losses may differ by %.0e, gradient norms by %.0e"):format(loss_bound, norm_bound),
    }
  end
  return require("ft.run").empty()
end

return verify
