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

  rule("batch.two_fix_the_third", {
    keys = { "batch.total", "batch.micro", "batch.accumulation" },
    sentence = "total, micro and accumulation agree where all three are given",
    reason = "two of them fix the third",
    source = "docs/recipes.md",
    help = "leave one of them out",
  }, function(p)
    local batch, world = p.batch, p.data_ranks
    local rows = batch.accumulation and batch.micro * batch.accumulation * world
    return not rows or batch.total == rows or batch.total % (batch.micro * world) ~= 0, -- what the rule above says
      ("leave batch.accumulation out, or write batch.total = %d"):format(rows or 0), "batch.accumulation",
      ("got %d, but batch.total = %d is batch.micro * ranks * accumulation = %d * %d * %d"):format(batch.accumulation or 0,
        batch.total, batch.micro, world, math.floor(batch.total / (batch.micro * world)))
  end)
end
