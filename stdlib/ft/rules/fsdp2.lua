--- The layout over ranks.
local mesh = require "ft.mesh"

return function(rule)
  rule("fsdp2.version_is_2", {
    keys = { "parallel.fsdp_version" },
    sentence = "fsdp_version is 2",
    reason = "FSDP1 is deprecated where it comes from, and not offered here",
    source = "PyTorch, fully_shard",
    help = "set fsdp_version = 2",
  }, function(p)
    return p.parallel.fsdp_version == 2, "set fsdp_version: 2; FSDP1 is not offered", "parallel.fsdp_version",
      ("got %d, want 2"):format(p.parallel.fsdp_version)
  end)

  rule("fsdp2.pin_memory_needs_offload", {
    keys = { "parallel.cpu_offload_pin_memory", "parallel.offload_params" },
    sentence = "cpu_offload_pin_memory = false goes with offload_params = true",
    reason = "without offload there is no host memory that could be left unpinned",
    source = "PyTorch, CPUOffloadPolicy.pin_memory",
    help = "set offload_params = true, or remove cpu_offload_pin_memory",
  }, function(p)
    return p.parallel.cpu_offload_pin_memory or p.parallel.offload_params,
      "set offload_params: true, or remove cpu_offload_pin_memory; see docs/troubleshooting.md#memory",
      "parallel.cpu_offload_pin_memory", "false needs parallel.offload_params = true (it is false)"
  end)

  rule("fsdp2.maps_whole_matrices", {
    keys = { "parallel.frozen_weights", "parallel.mesh.tensor" },
    sentence = "frozen_weights = \"mmap\" goes without a tensor axis",
    reason = "the file holds whole matrices, of which ranks of a tensor axis have slices",
    source = "engine/train/weight_cache.h",
    help = "set frozen_weights = \"split\", or tensor_parallel_size = 1",
  }, function(p)
    return p.parallel.frozen_weights ~= "mmap" or p.parallel.mesh.tensor == 1,
      "set frozen_weights: split, or tensor_parallel_size: 1",
      "parallel.frozen_weights", ("mmap with %d ranks on the tensor axis"):format(p.parallel.mesh.tensor)
  end)

  rule("plan.offloads_what_checkpointing_keeps", {
    keys = { "activation_offload", "activation_checkpointing" },
    sentence = "activation_offload goes with activation_checkpointing",
    reason = "what it keeps on the host are the inputs of layers that are run again",
    source = "engine/train/schedule.h",
    help = "set activation_checkpointing = true, or remove activation_offload",
  }, function(p)
    local every = p.activation_checkpointing
    return not p.activation_offload or (every and every ~= 0),
      "set activation_checkpointing = true, or remove activation_offload",
      "activation_offload", "true without activation_checkpointing"
  end)

  rule("mesh.fits_the_ranks", {
    keys = { "parallel.mesh" },
    sentence = "the mesh has as many places as there are ranks",
    reason = "each rank has one place on every axis",
    source = "PyTorch, DeviceMesh",
    help = "change the mesh or the number of ranks",
  }, function(p)
    local shape, ranks = p.parallel.mesh, p.world_size
    local size, near = mesh.size(shape), mesh.nearest(shape, ranks)
    return size == ranks,
      ("write %s for %d rank%s, or start %d (--nproc)"):format(p.facts.yaml and mesh.keys(near)
        or "mesh = " .. mesh.literal(near), ranks, ranks == 1 and "" or "s", size),
      "parallel.mesh", ("%s makes %d ranks, but there are %d"):format(mesh.literal(shape), size, ranks)
  end)

  rule("fsdp2.reshard_divides_the_split", {
    keys = { "parallel.reshard_after_forward" },
    sentence = "a number for reshard_after_forward divides the ranks that parameters are split over",
    reason = "parameters are kept split over so many neighbours",
    source = "PyTorch, fully_shard, reshard_after_forward",
    help = "take a divisor, true or false",
  }, function(p)
    local ranks = p.parallel.reshard_after_forward
    if type(ranks) ~= "number" then return true end
    local split, fitting = p.parallel.mesh.shard * p.parallel.mesh.context, {}
    for n = 1, split do if split % n == 0 then fitting[#fitting + 1] = tostring(n) end end
    return ranks > 0 and split % ranks == 0, "numbers that do: " .. table.concat(fitting, ", "),
      "parallel.reshard_after_forward",
      ("got %d, want true, false or a number that divides the %d ranks that parameters are split over"):format(ranks, split)
  end)

  rule("fsdp2.nproc_is_the_launchers", {
    keys = { "parallel.nproc" },
    sentence = "--nproc agrees with the launcher's number of ranks",
    reason = "two numbers of ranks cannot both hold",
    source = "torchrun, WORLD_SIZE; Open MPI, OMPI_COMM_WORLD_SIZE; MPICH, PMI_SIZE; srun, SLURM_STEP_NUM_TASKS",
    help = "leave --nproc away under a launcher",
  }, function(p)
    local launched, variable = p.facts.launched, p.facts.launched_by
    return launched == 0 or p.nproc_given == 0 or launched == p.nproc_given,
      ("leave --nproc away where a launcher has started the ranks, or unset %s where none has"):format(variable),
      "parallel.nproc", ("%s is %d, but --nproc is %d"):format(variable, launched, p.nproc_given)
  end)
end
