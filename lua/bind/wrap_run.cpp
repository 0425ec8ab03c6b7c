// Run: what a recipe's loop drives. stdlib/ft/run.lua gives it the recipe's spelling (run:steps(), run.lr).
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <lua.hpp>

#include "engine/data/token_rows.h"
#include "engine/device/gpu_cards.h"
#include "engine/device/terminal.h"
#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/merge/show_merge.h"
#include "engine/parallel/device_choice.h"
#include "engine/parallel/launch.h"
#include "engine/parallel/process_group.h"
#include "engine/parallel/share_threads.h"
#include "engine/schema/fault.h"
#include "engine/text/tokenizer.h"
#include "engine/train/run.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"
#include "lua/vm/vm.h"

namespace ft {
namespace {

/// native.ranks() -> { rank=, world_size=, said_by= }; world_size 0: no launcher has set the environment, else said_by
/// is its variable. For who only plans, WORLD_SIZE alone says how many.
int ranks(lua_State* L) {
  return guarded(L, [&] {
    // What a launcher has started is then one launcher of ours a node.
    if (host_of(L).launch.nodes.count > 1 && !under_launcher()) {
      push_value(L, Value::map({{"rank", 0}, {"world_size", 0}, {"said_by", ""}}));
      return 1;
    }
    const std::string& command = host_of(L).command;
    if (command == "check" || command == "plan") {
      const auto [world_size, said_by] = RankEnvironment::stated_world_size();
      push_value(L, Value::map({{"rank", 0}, {"world_size", world_size}, {"said_by", said_by}}));
      return 1;
    }
    const RankEnvironment place = RankEnvironment::from_env().value_or(RankEnvironment{.world_size = 0});
    push_value(L, Value::map({{"rank", place.rank}, {"world_size", place.world_size}, {"said_by", place.size_from}}));
    return 1;
  });
}

/// native.gpus(device) -> GPUs of this machine that a plan's parallel.device makes ranks compute on; 0 on the CPU
int gpus(lua_State* L) {
  return guarded(L, [&] {
    lua_pushnumber(L, default_gpu_ranks(text_argument(L, 1, "parallel.device")));
    return 1;
  });
}

/// native.device_facts() -> { cards = { { name, sm }, … }, fast = "bf16" or "fp32" }: what the GPUs of this machine
/// are, and the dtype that its processor is fast in. Nothing of CUDA is opened.
int device_facts(lua_State* L) {
  return guarded(L, [&] {
    Value::List cards;
    for (const GpuCard& card : gpu_cards())
      cards.push_back(Value::map({{"name", card.name}, {"sm", 10 * card.major + card.minor}}));
    push_value(
        L, Value::map({{"cards", Value(std::move(cards))}, {"fast", std::string(to_string(fast_compute_dtype()))}}));
    return 1;
  });
}

/// native.open_device(device): says at once what is missing where a GPU is asked for
int open_rank_device(lua_State* L) {
  return guarded(L, [&] {
    open_device(text_argument(L, 1, "parallel.device"));
    return 0;
  });
}

/// native.launch(nproc): becomes the supervisor of this machine's ranks; leaves the process with their exit code.
int launch(lua_State* L) {
  return guarded(L, [&]() -> int {
    LaunchOptions options = host_of(L).launch;
    options.nproc = static_cast<int>(number_argument(L, 1, "number of ranks"));
    std::fflush(nullptr);
    const int code = launch_local_ranks(host_of(L).arguments, options);
    std::fflush(nullptr);
    std::_Exit(code);
  });
}

/// native.start(plan, { train = TokenRows, … }, tokenizer or nil) -> Run
int start(lua_State* L) {
  return guarded(L, [&] {
    RunInputs inputs;
    inputs.plan = to_value(L, 1, "plan");
    const auto& words = host_of(L).arguments;
    inputs.plan.set("command", Value(Value::List(words.begin(), words.end())));
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1))
      inputs.data[lua_tostring(L, -2)] = check_handle<TokenRows>(L, -1);
    if (!lua_isnoneornil(L, 3)) inputs.tokenizer = check_handle<const Tokenizer>(L, 3);
    const auto environment = RankEnvironment::from_env();
    const Value* parallel = inputs.plan.find("parallel");
    const std::chrono::seconds timeout(parallel && parallel->is_map() ? parallel->get("timeout", 600) : 600);
    inputs.group = environment ? ProcessGroup::connect(*environment, timeout) : ProcessGroup::single();
    share_threads(*inputs.group);
    defer_interrupts(L);
    push_handle(L, Run::start(std::move(inputs)));
    return 1;
  });
}

int next_step(lua_State* L) {
  return guarded(L, [&] {
    lua_pushboolean(L, check_handle<Run>(L, 1)->next_step());
    lua_gc(L, LUA_GCSTEP, 0);  // between two windows nothing waits on this rank's collector
    return 1;
  });
}

template <class T>
int number_of(lua_State* L, T (Run::*method)() const) {
  return guarded(L, [&] {
    lua_pushnumber(L, static_cast<double>(((*check_handle<Run>(L, 1)).*method)()));
    return 1;
  });
}
int step(lua_State* L) { return number_of(L, &Run::step); }
int total_steps(lua_State* L) { return number_of(L, &Run::total_steps); }
int window_tokens(lua_State* L) { return number_of(L, &Run::window_tokens); }
int lr(lua_State* L) { return number_of(L, &Run::lr); }
int rank(lua_State* L) { return number_of(L, &Run::rank); }
int world_size(lua_State* L) { return number_of(L, &Run::world_size); }

/// run:window() -> list of Batch
int window(lua_State* L) {
  return guarded(L, [&] {
    const auto run = check_handle<Run>(L, 1);
    lua_createtable(L, static_cast<int>(run->window().size()), 0);
    int i = 0;
    for (const Batch& batch : run->window()) {
      push_handle(L, std::make_shared<Batch>(batch));  // a copy: a recipe may keep it beyond its window
      lua_rawseti(L, -2, ++i);
    }
    return 1;
  });
}

int backward(lua_State* L) {
  return guarded(L, [&] {
    const auto run = check_handle<Run>(L, 1);
    const auto batch = check_handle<Batch>(L, 2);
    lua_pushnumber(L, run->backward(*batch, number_argument(L, 3, "the window's tokens over all ranks")));
    return 1;
  });
}

/// run:log_probs(batch, adapter) -> Σ log p of each sequence; adapter false: without it
int log_probs(lua_State* L) {
  return guarded(L, [&] {
    const auto batch = check_handle<Batch>(L, 2);
    const auto values = check_handle<Run>(L, 1)->log_probs(*batch, lua_toboolean(L, 3) != 0);
    push_value(L, Value(Value::List(values.begin(), values.end())));
    return 1;
  });
}

/// run:backward_sequences(batch, count, function(log_probs) -> loss, { gradient, … }) -> loss / count
int backward_sequences(lua_State* L) {
  return guarded(L, [&] {
    const auto run = check_handle<Run>(L, 1);
    const auto batch = check_handle<Batch>(L, 2);
    const double count = number_argument(L, 3, "what the loss is divided by");
    luaL_checktype(L, 4, LUA_TFUNCTION);
    lua_pushnumber(L, run->backward(*batch, count, [L](const std::vector<double>& log_probs) {
      lua_pushvalue(L, 4);
      push_value(L, Value(Value::List(log_probs.begin(), log_probs.end())));
      lua_call(L, 1, 2);
      SequenceLoss loss{.value = number_argument(L, -2, "the loss")};
      for (const Value& one : to_value(L, -1, "gradients").as_list()) loss.gradient.push_back(one.as_number());
      lua_pop(L, 2);
      return loss;
    }));
    return 1;
  });
}

int sum(lua_State* L) {
  return guarded(L, [&] {
    lua_pushnumber(L, check_handle<Run>(L, 1)->sum(number_argument(L, 2, "this rank's part")));
    return 1;
  });
}

int clip(lua_State* L) {
  return guarded(L, [&] {
    lua_pushnumber(L, check_handle<Run>(L, 1)->clip(number_argument(L, 2, "the greatest norm")));
    return 1;
  });
}

int update(lua_State* L) {
  return guarded(L, [&] {
    check_handle<Run>(L, 1)->update();
    return 0;
  });
}

/// run:use_schedule({ factors }): the rate of each step, as a factor of optimizer.lr
int use_schedule(lua_State* L) {
  return guarded(L, [&] {
    std::vector<double> factors;
    for (const Value& factor : to_value(L, 2, "factors").as_list()) factors.push_back(factor.as_number());
    check_handle<Run>(L, 1)->use_schedule(std::move(factors));
    return 0;
  });
}

int log(lua_State* L) {
  return guarded(L, [&] {
    check_handle<Run>(L, 1)->log(to_value(L, 2, "run:log"));
    return 0;
  });
}

EvaluateOptions evaluate_options(const Value& given) {
  static const std::vector<std::string> kKeys{"generate", "limit", "max_new_tokens"};
  if (given.is_list() && given.as_list().empty()) return {};  // Lua's {}
  for (const auto& [key, value] : given.as_map()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) continue;
    const std::string near = nearest(key, kKeys);
    throw Error(ErrorKind::config, "unknown key '" + key + "'")
        .key("run:evaluate")
        .help((near.empty() ? "" : "did you mean '" + near + "'?  ") + ("keys: " + enumerate(kKeys)));
  }
  EvaluateOptions options;
  options.generate = given.get("generate", options.generate);
  options.max_new_tokens = given.get("max_new_tokens", options.max_new_tokens);
  options.limit = given.get("limit", options.limit);
  if (!options.generate && given.as_map().size() > (given.find("generate") ? 1 : 0))
    throw Error(ErrorKind::config, "max_new_tokens and limit are of answers")
        .key("run:evaluate")
        .help("add generate = true");
  return options;
}

/// run:evaluate(split, { generate = true, max_new_tokens =, limit = }) -> { loss, tokens, prompts, exact_match }
int evaluate(lua_State* L) {
  return guarded(L, [&] {
    const Value given = lua_istable(L, 3) ? to_value(L, 3, "run:evaluate") : Value::map();
    const Evaluation result =
        check_handle<Run>(L, 1)->evaluate(text_argument(L, 2, "a split's name"), evaluate_options(given));
    push_value(L, Value::map({{"loss", result.loss},
                              {"tokens", result.tokens},
                              {"prompts", result.prompts},
                              {"exact_match", result.exact_match}}));
    return 1;
  });
}

/// run:measure(split, function(batch) -> sum, count end) -> mean over all ranks
int measure(lua_State* L) {
  return guarded(L, [&] {
    luaL_checktype(L, 3, LUA_TFUNCTION);
    const std::string split = text_argument(L, 2, "a split's name");
    lua_pushnumber(L, check_handle<Run>(L, 1)->measure(split, [L](const Batch& batch) {
      lua_pushvalue(L, 3);
      push_handle(L, std::make_shared<Batch>(batch));
      lua_call(L, 1, 2);
      const Measured one{number_argument(L, -2, "a sum"), number_argument(L, -1, "what it is a sum over")};
      lua_pop(L, 2);
      return one;
    }));
    return 1;
  });
}

int save(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_handle<Run>(L, 1)->save().c_str());
    return 1;
  });
}

int finish(lua_State* L) {
  return guarded(L, [&] {
    const auto run = check_handle<Run>(L, 1);
    run->finish();
    if (run->merges_at_end() && run->rank() == 0) show_merge({.input = run->directory()}, Terminal::on(STDOUT_FILENO));
    return 0;
  });
}

int directory(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_handle<Run>(L, 1)->directory().c_str());
    return 1;
  });
}

int batch_tokens(lua_State* L) {
  return guarded(L, [&] {
    lua_pushnumber(L, static_cast<double>(check_handle<Batch>(L, 1)->num_targets));
    return 1;
  });
}

}  // namespace

template <>
const HandleClass& handle_class<Run>() {
  static const HandleClass type{"Run",
                                {{"next_step", next_step},
                                 {"step", step},
                                 {"total_steps", total_steps},
                                 {"window", window},
                                 {"window_tokens", window_tokens},
                                 {"backward", backward},
                                 {"backward_sequences", backward_sequences},
                                 {"log_probs", log_probs},
                                 {"sum", sum},
                                 {"clip", clip},
                                 {"update", update},
                                 {"use_schedule", use_schedule},
                                 {"log", log},
                                 {"lr", lr},
                                 {"evaluate", evaluate},
                                 {"measure", measure},
                                 {"save", save},
                                 {"finish", finish},
                                 {"rank", rank},
                                 {"world_size", world_size},
                                 {"directory", directory}},
                                [](const void* object) {
                                  const auto* run = static_cast<const Run*>(object);
                                  return "Run " + run->directory() + ", step " + std::to_string(run->step()) + " of " +
                                         std::to_string(run->total_steps());
                                }};
  return type;
}

template <>
const HandleClass& handle_class<Batch>() {
  static const HandleClass type{"Batch", {{"tokens", batch_tokens}}, [](const void* object) {
                                  const auto* batch = static_cast<const Batch*>(object);
                                  return "Batch [" + std::to_string(batch->rows) + ", " +
                                         std::to_string(batch->length) + "], " + std::to_string(batch->num_targets) +
                                         " targets";
                                }};
  return type;
}

void bind_run(lua_State* L) {
  add_function(L, "ranks", ranks);
  add_function(L, "gpus", gpus);
  add_function(L, "device_facts", device_facts);
  add_function(L, "open_device", open_rank_device);
  add_function(L, "launch", launch);
  add_function(L, "start", start);
}

}  // namespace ft
