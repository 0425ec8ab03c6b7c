--- What a plan takes: bytes of a rank by kind, what a step moves, what is written; and, where memory is stated that it
--- does not fit in, the profile that does with the least offload. docs/memory.md says how to read it.
local native = require "ft.native"

local memory = {}

--- Profiles by how much they give up, the least first. Another than the plan's own keeps the plan's mesh.
local ladder = { "ddp", "zero1", "zero2", "fsdp2", "fsdp2_offload", "fsdp2_mmap", "fsdp2_swap" }

--- What a profile leaves open.
local unsaid = {
  zero_stage = 3, reshard_after_forward = true, offload_params = false, cpu_offload_pin_memory = true, prefetch = true,
  param_dtype = "auto", frozen_weights = "split",
}

--- Of a GPU that no tensor is counted in: CUDA's context and the workspaces of cuBLAS and NCCL. An assumption.
local gpu_floor = 2 ^ 30

local units = { { 1e12, "TB" }, { 1e9, "GB" }, { 1e6, "MB" }, { 1e3, "kB" } }

--- "23.4 MB": three significant digits, decimal, as in the report at a run's start.
local function bytes(count)
  for _, unit in ipairs(units) do
    local number = count / unit[1]
    if number >= 0.9995 then
      return ("%." .. (number >= 99.95 and 0 or number >= 9.995 and 1 or 2) .. "f %s"):format(number, unit[2])
    end
  end
  return ("%d B"):format(count)
end

memory.bytes = bytes

local function line(name, text) print(("  %-12s %s"):format(name, text)) end

local function sum(rows, place)
  local all = 0
  for _, row in ipairs(rows) do all = all + row[place] end
  return all
end

--- @return what a rank takes: device, host, and of the host what may be swapped out
local function needs(facts, gpu, parallel)
  local device, home = sum(facts.training, "device"), sum(facts.training, "home")
  device = math.max(device, sum(facts.standing, "device") + facts.evaluation)
  local starting = sum(facts.standing, "home") + facts.starting -- LoftQ's, of the host
  local pageable = parallel.offload_params and not parallel.cpu_offload_pin_memory and home or 0
  if gpu then
    return { device = device + gpu_floor, host = facts.floor + math.max(home, starting), pageable = pageable }
  end
  starting = starting + sum(facts.standing, "device")
  return { device = 0, host = facts.floor + math.max(device + home, starting), pageable = pageable }
end

--- @return whether it fits, and the bytes that would have to be swapped out for it
local function fits(need, host, ranks)
  if host.device_memory > 0 and need.device > host.device_memory then return false, 0 end
  local over = host.host_memory > 0 and ranks * need.host - host.host_memory or 0
  return over <= ranks * need.pageable, math.max(0, over)
end

local function kind_name(row, facts)
  if row.kind == "nf4 base" then return "nf4 base (4 bits and scales)" end
  if row.kind == "frozen" then return "frozen (" .. table.concat(facts.frozen, ", ") .. ")" end
  if row.kind == "masters" or row.kind == "gradients" then return row.kind .. " (fp32)" end
  return row.kind
end

local function of_target(need, stated, ranks)
  if stated == 0 then return "" end
  local for_all = ranks > 1 and (", %s for %d ranks"):format(bytes(need * ranks), ranks) or ""
  return ("%s of %s"):format(for_all, bytes(stated))
end

local function table_of(facts, gpu, need, host, ranks)
  local function row(name, device, home, note)
    local first = gpu and ("%10s"):format(device > 0 and bytes(device) or "") or ""
    print(("  %-30s%s%10s  %s"):format(name, first, home > 0 and bytes(home) or "", note or ""))
  end
  print(("memory of a rank, at most        %s"):format(gpu and "     GPU      host" or " host"))
  row("the program itself", gpu_floor, facts.floor, gpu and "on the GPU an assumption" or "")
  for _, kind in ipairs(facts.training) do
    local on_device, at_home = kind.device, kind.home
    if not gpu then on_device, at_home = 0, on_device + at_home end
    if on_device + at_home > 0 then row(kind_name(kind, facts), on_device, at_home) end
  end
  row("total", need.device, need.host, "")
  local mapped = sum(facts.training, "map")
  if mapped > 0 then line("file map", bytes(mapped) .. " in files that the system may drop from memory and read again") end
  local standing = sum(facts.standing, "device") + (gpu and 0 or sum(facts.standing, "home"))
  if facts.evaluation > 0 then
    line("evaluation", ("%s above what stands, %s at its peak"):format(bytes(facts.evaluation),
      bytes(standing + facts.evaluation + (gpu and gpu_floor or facts.floor))))
  end
  if facts.starting > 0 then
    line("LoftQ", bytes(facts.starting) .. " of the host above what stands, to begin LoRA with one matrix after another")
  end
  if need.pageable > 0 then line("swap", bytes(need.pageable) .. " of the host's may be swapped out") end
  if host.device_memory > 0 then line("on the GPU", bytes(need.device) .. of_target(need.device, host.device_memory, 1)) end
  if host.host_memory > 0 then line("on the host", bytes(need.host) .. of_target(need.host, host.host_memory, ranks)) end
end

local function moved(facts)
  local parts = {}
  for _, one in ipairs {
    { facts.gathered, "all-gathers" }, { facts.reduced, "reductions" }, { facts.exchanged, "exchanges" },
  } do
    if one[1] > 0 then parts[#parts + 1] = bytes(one[1]) .. " by " .. one[2] end
  end
  if #parts > 0 then line("received", table.concat(parts, ", ") .. ", in each step by each rank") end
  if facts.to_device + facts.to_home > 0 then
    line("copied", ("%s from home to where it computes, %s back, in each step by each rank"):format(bytes(facts.to_device),
      bytes(facts.to_home)))
  end
end

local function disk(facts, save)
  local keep = save.keep or 0
  local kept = keep > 0 and ("%s for %d kept and one on its way"):format(bytes(facts.checkpoint * (keep + 1)), keep)
    or "all are kept"
  local mapped = sum(facts.training, "map")
  local cache = mapped > 0 and (", files that are mapped %s"):format(bytes(mapped)) or ""
  line("disk", ("checkpoints of %s, %s; merged %s%s"):format(bytes(facts.checkpoint), kept, bytes(facts.merged), cache))
end

--- The plan with another profile in the place of its own, on the same ranks.
local function with_profile(plan, name)
  local copy, parallel = {}, {}
  for key, value in pairs(plan) do copy[key] = value end
  for key, value in pairs(plan.parallel) do parallel[key] = value end
  for key, value in pairs(unsaid) do parallel[key] = value end
  local profile = native.profile(name)
  for key in pairs(unsaid) do
    if profile[key] ~= nil then parallel[key] = profile[key] end
  end
  parallel.profile = name
  copy.parallel = parallel
  return copy
end

local function swap_text(swap) return swap > 0 and (", with %s of swap"):format(bytes(swap)) or "" end

--- The first profile of the ladder that fits, or what the last one takes. @param need of the plan's own
local function advise(plan, need, host, gpu, data)
  local ranks = plan.parallel.nproc
  for _, name in ipairs(ladder) do
    local other = with_profile(plan, name)
    local possible, facts = pcall(native.memory_plan, other, ranks, gpu, data) -- no map with a tensor axis
    need = possible and needs(facts, gpu, other.parallel) or need
    local fit, swap = fits(need, host, ranks)
    if possible and fit then
      line("does not fit", ("profile %s does%s: %s"):format(name, swap_text(swap), gpu
        and ("%s on the GPU, %s on the host"):format(bytes(need.device), bytes(need.host)) or bytes(need.host)))
      return
    end
  end
  line("does not fit", ("no profile does: %s takes %s%s; lower batch.micro or seq_len, or take more ranks"):format(
    ladder[#ladder], gpu and (bytes(need.device) .. " on the GPU and ") or "", bytes(need.host) .. " on the host"))
end

--- Prints it all. @param data token rows by split, or nil: rows are as long as seq_len then
function memory.report(plan_object, data)
  local plan, host = plan_object:resolved(), plan_object.host
  local ranks = plan.parallel.nproc
  local gpu = host.device_memory > 0 or native.gpus(plan.parallel.device) > 0
  local facts = native.memory_plan(plan, ranks, gpu, data)
  local need = needs(facts, gpu, plan.parallel)
  plan_object.memory = facts
  table_of(facts, gpu, need, host, ranks)
  if facts.checkpointing_saves > 0 then
    line("to save", ("activation_checkpointing = true would take %s less"):format(bytes(facts.checkpointing_saves)))
  end
  moved(facts)
  disk(facts, plan.save)
  if host.device_memory + host.host_memory > 0 then
    local fit, swap = fits(need, host, ranks)
    if fit then line("fits", (plan.parallel.profile or "") .. swap_text(swap)) else advise(plan, need, host, gpu, data) end
  end
  print(facts.trainable)
end

--- Prints what an evaluation that generates takes above what stands.
--- @param data token rows by split; nothing is said of a split that they lack
--- @param options of run:evaluate
function memory.answers(plan_object, data, split, options)
  if not (data and data[split] and options and options.generate) then return end
  local plan = plan_object:resolved()
  local gpu = plan_object.host.device_memory > 0 or native.gpus(plan.parallel.device) > 0
  local taken = native.answers_memory(plan, plan.parallel.nproc, gpu, data[split], options)
  local facts = plan_object.memory
  local standing = sum(facts.standing, "device") + (gpu and 0 or sum(facts.standing, "home"))
  line("answers", ("%s while those of %s are made, %s above what stands"):format(
    bytes(standing + taken + (gpu and gpu_floor or facts.floor)), split, bytes(taken)))
end

return memory
