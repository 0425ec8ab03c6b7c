--- The ranks as a grid of four axes: what a plan's `parallel` block says of them, with every axis filled in.
local native = require "ft.native"

local mesh = {}

local axes = { "replicate", "shard", "context", "tensor" }
local other_name = {
  replicate = "dp_replicate_size", shard = "dp_shard_size", context = "context_parallel_size",
  tensor = "tensor_parallel_size",
}

local function gcd(a, b)
  while b > 0 do a, b = b, a % b end
  return a
end

--- mesh.size(shape): ranks of the whole grid.
function mesh.size(shape) return shape.replicate * shape.shard * shape.context * shape.tensor end

--- mesh.literal(shape): the shape as a recipe writes it; axes of one rank are left out.
function mesh.literal(shape)
  local parts = {}
  for _, axis in ipairs(axes) do
    if shape[axis] > 1 or axis == "shard" then parts[#parts + 1] = ("%s = %d"):format(axis, shape[axis]) end
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

--- mesh.keys(shape): the shape in the words of a YAML configuration.
function mesh.keys(shape)
  local parts = {}
  for _, axis in ipairs(axes) do
    if shape[axis] > 1 or axis == "shard" then parts[#parts + 1] = ("%s: %d"):format(other_name[axis], shape[axis]) end
  end
  return table.concat(parts, ", ")
end

--- mesh.nearest(shape, ranks): the axes cut down to what divides the ranks (engine/parallel/mesh.cpp does the same).
function mesh.nearest(shape, ranks)
  local near = { tensor = gcd(shape.tensor, ranks) }
  near.context = gcd(shape.context, ranks / near.tensor)
  near.replicate = gcd(shape.replicate, ranks / (near.tensor * near.context))
  near.shard = ranks / (near.tensor * near.context * near.replicate)
  return near
end

--- mesh.resolve(plan): fills plan.parallel.mesh in for plan.parallel.nproc ranks; the rule mesh.fits_the_ranks judges it.
function mesh.resolve(plan)
  local parallel = plan.parallel
  local shape = parallel.mesh or {}
  local faults = {}
  for _, axis in ipairs(axes) do
    local named = parallel[other_name[axis]]
    if named and shape[axis] and shape[axis] ~= named then
      local file, line = native.origin(plan, "parallel." .. other_name[axis])
      faults[#faults + 1] = {
        path = "parallel." .. other_name[axis], message = ("got %d, but mesh.%s is %d"):format(named, axis, shape[axis]),
        help = "they are two names of one axis: state one of them", file = file, line = line,
      }
    end
    shape[axis] = shape[axis] or named
  end
  if #faults > 0 then native.raise_list(faults) end
  for _, axis in ipairs { "replicate", "context", "tensor" } do shape[axis] = shape[axis] or 1 end
  local others = shape.replicate * shape.context * shape.tensor
  shape.shard = shape.shard or math.max(1, math.floor(parallel.nproc / others))
  parallel.mesh = shape
end

return mesh
