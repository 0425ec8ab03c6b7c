#pragma once
/// The end of a recipe that has stated its `plan`: trains by it without clipping, and logs each step's loss.

namespace ft::test {

inline constexpr const char* kTrainPlan = R"(local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:update()
  run:log { step = step, loss = run:sum(loss) }
end
run:finish()
)";

}  // namespace ft::test
