--- Rows a step.
return function(rule)
  rule("batch.total_is_whole_micro_batches", {
    keys = { "batch.total", "batch.micro", "batch.accumulation" },
    sentence = "batch.total is a multiple of batch.micro times the ranks that read rows",
    reason = "a step is the same number of micro batches on every rank",
    source = "the schedule: engine/train/schedule.cpp",
    help = "change batch.total, batch.micro or the ranks",
  }, function(p)
    local rows, world = p.batch.micro, p.data_ranks
    local lower = math.floor(p.batch.total / (rows * world)) * rows * world
    return p.batch.total % (rows * world) == 0,
      ("write batch.total = %d, or change batch.micro or the number of ranks"):format(math.max(lower, rows * world)),
      "batch.total", ("got %d, want a multiple of batch.micro * ranks = %d * %d"):format(p.batch.total, rows, world)
  end)
end
