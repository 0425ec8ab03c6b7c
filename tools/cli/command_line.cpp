#include "tools/cli/command_line.h"

#include <algorithm>
#include <charconv>
#include <span>
#include <utility>

#include "engine/schema/fault.h"

namespace ft {
namespace {

struct Command {
  const char* name;
  const char* arguments;
  const char* doc;
  bool takes_recipe;
};
constexpr Command kCommands[] = {
    {"run", "RECIPE|CONFIG.yml [--key value …]", "the job that the recipe, or Axolotl's configuration, states", true},
    {"check", "RECIPE|CONFIG.yml [--json] [--key value …]",
     "its rules only: everything that is wrong at once; no weights, no data are read", true},
    {"plan", "RECIPE|CONFIG.yml [--device-memory 24GiB] [--host-memory 64GiB] [--key value …]",
     "what the run comes to, its memory and its rules on the data included: the data is read, no weights", true},
    {"preprocess", "RECIPE|CONFIG.yml [--key value …]",
     "tokenizes its data once, into a cache on the disk that runs and their ranks share", true},
    {"verify", "RECIPE [--key value …]",
     "the recipe at a tiny size over every layout that fits: how far losses come from one process's", true},
    {"merge", "CHECKPOINT [-o DIR] [--format F] [--dtype D] [--shard-size S] [--base B] [--adapter-only]",
     "one model, for Hugging Face, torch or llama.cpp, or a PEFT adapter; of FSDP's and DeepSpeed's checkpoints, too",
     false},
    {"generate", "DIR --prompt TEXT [--max-new-tokens N] [--temperature T]", "an answer of a model or a checkpoint",
     false},
    {"eval", "DIR DATA [--json]", "the mean loss over a data file", false},
    {"parity", "DIR --reference VALUES.safetensors [--json]",
     "a model's loss, logits and gradients against those that another implementation stored", false},
    {"tokenize", "DIR [--no-special] [--decode] [--threads N] [--debug] < ROWS.jsonl",
     "the ids of each row's text; --debug: a data set's tokens beside their labels", false},
    {"render", "DIR [--keep-going] [--threads N] < ROWS.jsonl",
     "each conversation as the model's chat template writes it", false},
    {"rules", "[ID]", "the conditions that a plan must meet, or one of them explained", false},
    {"profiles", "[NAME]", "the layouts over ranks that are built in, or one of them", false},
    {"fetch", "deepspeed_configs|profiles [--dest DIR]", "writes files that are built in", false},
    {"convert", "CONFIG.yml -o recipe.lua|new.yml", "a configuration as a recipe, or in FSDP2's spelling", false},
    {"doctor", "[--nproc N] [--nnodes K --node-rank I --master-addr HOST]",
     "what this machine gives a run, and whether ranks can meet", false},
    {"test", "FILE-OR-FOLDER …", "tests written in Lua", false},
};

/// Commands of other engines, and what does their work here.
struct ForeignCommand {
  const char* name;
  const char* here;
};
constexpr ForeignCommand kForeignCommands[] = {
    {"train", "ftengine run CONFIG.yml"},
    {"evaluate", "ftengine eval DIR DATA"},
    {"inference", "ftengine generate DIR --prompt TEXT"},
    {"merge-lora", "ftengine merge RUN -o DIR folds the adapter into the model"},
    {"merge-sharded-fsdp-weights", "ftengine merge RUN -o DIR puts the shards together"},
    {"quantize", "load_in_4bit: true (quantize = \"nf4\") quantizes while the weights are read"},
    {"config-schema", "ftengine check CONFIG.yml names every key it does not know"},
    {"vllm-serve", "ftengine merge RUN -o DIR writes a directory that vLLM serves"},
};

constexpr int64_t kMostRanks = 1 << 20;

struct NumberFlag {
  const char* name;
  int64_t CommandLine::*value;
  int64_t least;
  const char* want;
  int64_t most = kMostRanks;
};
constexpr NumberFlag kNumberFlags[] = {
    {"--nproc", &CommandLine::nproc, 1, "a number of ranks from 1"},
    {"--max-restarts", &CommandLine::max_restarts, 0, "how often to start ranks again, from 0"},
    {"--min-nproc", &CommandLine::min_nproc, 1, "a number of ranks from 1"},
    {"--nnodes", &CommandLine::nnodes, 1, "a number of machines from 1"},
    {"--node-rank", &CommandLine::node_rank, 0, "this machine's number, from 0"},
    {"--node-wait", &CommandLine::node_wait, 1, "seconds from 1"},
    {"--master-port", &CommandLine::master_port, 1, "a port, from 1 to 65535", 65535},
};

constexpr NumberFlag kSizeFlags[] = {
    {"--device-memory", &CommandLine::device_memory, 1, "bytes, such as 24GiB or 80GB"},
    {"--host-memory", &CommandLine::host_memory, 1, "bytes, such as 64GiB or 512GB"},
};

/// "24GiB", "23.5 GiB", "80GB", "1000000"; 0 for what is no size.
int64_t size_of(const std::string& text) {
  double number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc()) return 0;
  std::string unit(read.ptr, text.data() + text.size());
  unit.erase(0, unit.find_first_not_of(' '));
  constexpr std::pair<const char*, double> kUnits[] = {
      {"", 1},      {"B", 1},        {"kB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  constexpr double kMost = 0x1p53;
  for (const auto& [name, bytes] : kUnits)
    if (unit == name && number * bytes <= kMost) return static_cast<int64_t>(number * bytes);
  return 0;
}

struct TextFlag {
  const char* name;
  std::string CommandLine::*value;
  const char* want;
  bool of_doctor;
};
constexpr TextFlag kTextFlags[] = {
    {"--master-addr", &CommandLine::master_addr, "the first machine's name or address", true},
    {"--resume", &CommandLine::resume, "auto, a run directory or a checkpoint", false},
};

/// The flag among `flags` that is "--name" or begins "--name=text", or nullptr.
template <class Flag>
const Flag* find_flag(std::span<const Flag> flags, const std::string& argument) {
  for (const Flag& flag : flags)
    if (argument == flag.name || argument.rfind(std::string(flag.name) + "=", 0) == 0) return &flag;
  return nullptr;
}

/// What follows a flag, in its own word or the next one, which `next` then names.
std::string text_of(const std::string& flag, const std::vector<std::string>& arguments, size_t& next) {
  if (arguments[next].size() > flag.size()) return arguments[next].substr(flag.size() + 1);
  return next + 1 < arguments.size() ? arguments[++next] : "";
}

/// Reads the flag at `next` where it is one of this program's, not the recipe's. False where it is not.
bool read_flag(CommandLine& out, bool takes_recipe, const std::vector<std::string>& arguments, size_t& next) {
  const std::string& argument = arguments[next];
  const bool of_ranks = takes_recipe || out.command == "doctor";
  if (const auto* flag = of_ranks ? find_flag<NumberFlag>(kNumberFlags, argument) : nullptr) {
    const std::string text = text_of(flag->name, arguments, next);
    int64_t& value = out.*flag->value;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || read.ptr != text.data() + text.size() || value < flag->least || value > flag->most)
      out.wrong = std::string(flag->name) + ": got '" + text + "', want " + flag->want;
    return true;
  }
  if (const auto* flag = out.command == "plan" ? find_flag<NumberFlag>(kSizeFlags, argument) : nullptr) {
    const std::string text = text_of(flag->name, arguments, next);
    out.*flag->value = size_of(text);
    if (out.*flag->value < flag->least)
      out.wrong = std::string(flag->name) + ": got '" + text + "', want " + flag->want;
    return true;
  }
  const auto* flag = find_flag<TextFlag>(kTextFlags, argument);
  if (!flag || !(takes_recipe || (flag->of_doctor && of_ranks))) return false;
  out.*flag->value = text_of(flag->name, arguments, next);
  if ((out.*flag->value).empty()) out.wrong = std::string(flag->name) + ": want " + flag->want;
  return true;
}

/// The nearest command, or what another program's does here.
std::string unknown_command(const std::string& name) {
  const std::string unknown = "unknown command '" + name + "'\n   help: ";
  for (const ForeignCommand& foreign : kForeignCommands)
    if (name == foreign.name) return unknown + "here it is " + foreign.here;
  std::vector<std::string> names;
  for (const Command& known : kCommands) names.emplace_back(known.name);
  const std::string near = nearest(name, names);
  return unknown + (near.empty() ? "" : "did you mean '" + near + "'?  ") + "commands: " + enumerate(names);
}

}  // namespace

CommandLine read_command_line(const std::vector<std::string>& arguments) {
  CommandLine out;
  const auto refused = [&](std::string wrong) {
    out.wrong = std::move(wrong);
    return out;
  };
  if (arguments.size() < 2) return refused("no command\n   help: ftengine --help lists them");
  out.command = arguments[1];
  if (out.command == "--help" || out.command == "-h" || out.command == "help") out.command = "--help";
  if (out.command == "--help" || out.command == "--version") return out;
  const auto* command =
      std::find_if(std::begin(kCommands), std::end(kCommands), [&](const Command& c) { return c.name == out.command; });
  if (command == std::end(kCommands)) return refused(unknown_command(out.command));
  // After a recipe, --help asks for the recipe's own page; elsewhere for this program's.
  const auto asks = [](const std::string& word) { return word == "--help" || word == "-h"; };
  const auto end = command->takes_recipe ? arguments.begin() + std::min<size_t>(3, arguments.size()) : arguments.end();
  if (std::any_of(arguments.begin() + 2, end, asks)) {
    out.command = "--help";
    return out;
  }
  size_t next = 2;
  if (command->takes_recipe) {
    if (arguments.size() < 3 || arguments[2].rfind("--", 0) == 0)
      return refused(out.command + " wants a recipe\n   help: ftengine " + out.command + " " + command->arguments);
    out.file = arguments[next++];
  }
  for (; next < arguments.size(); ++next) {
    const std::string& argument = arguments[next];
    if (argument == "--trace") {
      out.trace = true;
    } else if (out.command == "check" && argument == "--json") {
      out.json = true;
    } else if (!read_flag(out, command->takes_recipe, arguments, next)) {
      out.flags.push_back(argument);
    }
  }
  if (out.command == "doctor" && !out.flags.empty())
    return refused("doctor: got '" + out.flags.front() +
                   "'\n   help: ftengine doctor [--nproc N] [--nnodes K --node-rank I --master-addr HOST]");
  return out;
}

std::string help_text() {
  std::string out = "ftengine: fine-tunes language models; recipes are Lua files\n\n";
  for (const Command& command : kCommands)
    out += std::string("  ftengine ") + command.name + " " + command.arguments + "\n      " + command.doc + "\n";
  return out +
         "\n  ftengine RUN-COMMAND RECIPE --help    the recipe's own options\n"
         "  --nproc N    ranks on this machine      --trace    print Lua frames with an error\n"
         "  --max-restarts N    start the ranks again, from the newest checkpoint, when one was killed, crashed or "
         "hung\n"
         "  --min-nproc N    give ranks that fail up, as long as this many are left\n"
         "  --nnodes K --node-rank I --master-addr HOST    of a run on K machines, what is started on number I, from "
         "0;\n"
         "      HOST is number 0; --master-port (29500), --node-wait (600 seconds for all to come)\n"
         "  --resume auto|DIR    go on with the run in --out, if there is one, or with that run or checkpoint\n"
         "\nexit codes: 0 done, 1 refused or failed (one message), 2 wrong command line, 130 interrupted\n";
}

}  // namespace ft
