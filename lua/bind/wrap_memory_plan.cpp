// What `ftengine plan` says of memory: the native half of stdlib/ft/memory.lua.
#include <lua.hpp>

#include "engine/data/token_rows.h"
#include "engine/train/evaluate.h"
#include "engine/train/memory_plan.h"
#include "engine/train/micro_batch.h"
#include "engine/train/start_report.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

/// The largest micro batch of a split: of its rows, where they were read, else of rows of seq_len tokens.
Batch batch_of(lua_State* L, const Value& plan, const char* name, int rows_index) {
  const Value* described = plan.at("data").find(name);
  if (!described || described->is_null()) return {};
  const int64_t micro = plan.at("batch").at("micro").as_integer();
  const int64_t seq_len = described->at("seq_len").as_integer();
  if (!lua_istable(L, rows_index)) return assumed_batch(micro, seq_len);
  lua_getfield(L, rows_index, name);
  Split split{check_handle<TokenRows>(L, -1), {}};
  lua_pop(L, 1);
  split.packing = make_packing(*split.rows, seq_len, described->get("pack", false));
  return heaviest_batch(split, micro, kLengthMultiple);
}

/// { { kind, device, home, map }, … }: kinds of which there is none are left out.
Value by_kind(const ImaginedMemory::Holding& holding) {
  Value::List rows;
  for (size_t kind = 0; kind < kNumMemoryKinds; ++kind) {
    const auto at = [&](ImaginedMemory::Place place) { return holding[static_cast<size_t>(place)][kind]; };
    const int64_t device = at(ImaginedMemory::Place::device), home = at(ImaginedMemory::Place::home);
    const int64_t map = at(ImaginedMemory::Place::map);
    if (device + home + map == 0) continue;
    rows.push_back(Value::map(
        {{"kind", to_string(static_cast<MemoryKind>(kind))}, {"device", device}, {"home", home}, {"map", map}}));
  }
  return rows;
}

/// native.answers_memory(plan, ranks, gpu, TokenRows, { max_new_tokens =, limit = }) -> bytes above what stands
int answers_memory(lua_State* L) {
  return guarded(L, [&] {
    MemoryPlanInputs inputs;
    inputs.plan = to_value(L, 1, "plan");
    inputs.ranks = static_cast<int>(number_argument(L, 2, "ranks"));
    inputs.gpu = lua_toboolean(L, 3);
    const Value given = to_value(L, 5, "options");
    EvaluateOptions options;
    options.max_new_tokens = given.get("max_new_tokens", options.max_new_tokens);
    options.limit = given.get("limit", options.limit);
    push_value(L, Value(plan_answers(inputs, *check_handle<TokenRows>(L, 4), options)));
    return 1;
  });
}

/// native.memory_plan(plan, ranks, gpu, { train = TokenRows, … } or nil) -> what plan_memory finds
int memory_plan(lua_State* L) {
  return guarded(L, [&] {
    MemoryPlanInputs inputs;
    inputs.plan = to_value(L, 1, "plan");
    inputs.ranks = static_cast<int>(number_argument(L, 2, "ranks"));
    inputs.gpu = lua_toboolean(L, 3);
    inputs.train = batch_of(L, inputs.plan, "train", 4);
    inputs.evaluate = batch_of(L, inputs.plan, "val", 4);
    const MemoryPlan made = plan_memory(inputs);
    Value::List frozen;
    for (const DType dtype : made.frozen) frozen.emplace_back(to_string(dtype));
    push_value(L, Value::map({{"frozen", Value(std::move(frozen))},
                              {"trainable", trainable_line(made.counts.trainable, made.counts.all)},
                              {"compute", to_string(made.compute)},
                              {"training", by_kind(made.training)},
                              {"standing", by_kind(made.standing)},
                              {"evaluation", made.evaluation},
                              {"starting", made.starting},
                              {"checkpointing_saves", made.checkpointing_saves},
                              {"gathered", made.traffic.gathered},
                              {"reduced", made.traffic.reduced},
                              {"exchanged", made.traffic.exchanged},
                              {"to_device", made.bytes_to_device},
                              {"to_home", made.bytes_to_home},
                              {"checkpoint", made.checkpoint},
                              {"merged", made.merged},
                              {"floor", made.floor}}));
    return 1;
  });
}

}  // namespace

void bind_memory_plan(lua_State* L) {
  add_function(L, "memory_plan", memory_plan);
  add_function(L, "answers_memory", answers_memory);
}

}  // namespace ft
