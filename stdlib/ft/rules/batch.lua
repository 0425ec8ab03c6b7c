--- Rows a step.
return function(rule)
  rule("batch.total_is_whole_micro_batches", function(p)
    local rows, world = p.batch.micro, p.data_ranks
    local lower = math.floor(p.batch.total / (rows * world)) * rows * world
    return p.batch.total % (rows * world) == 0,
      ("write batch.total = %d, or change batch.micro or the number of ranks"):format(math.max(lower, rows * world)),
      "batch.total", ("got %d, want a multiple of batch.micro * ranks = %d * %d"):format(p.batch.total, rows, world)
  end)
end
