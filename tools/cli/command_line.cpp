#include "tools/cli/command_line.h"

#include <algorithm>
#include <charconv>

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
    {"run", "RECIPE [--key value …]", "the job that the recipe states", true},
    {"check", "RECIPE [--key value …]", "its rules only: no weights, no data are read", true},
    {"plan", "RECIPE [--key value …]",
     "what the run comes to, its rules on the data included: the data is read, no weights", true},
    {"merge", "CHECKPOINT [-o DIR] [--dtype D] [--shard-size S] [--base B] [--adapter-only]",
     "one Hugging Face directory, or a PEFT adapter", false},
    {"generate", "DIR --prompt TEXT [--max-new-tokens N] [--temperature T]", "an answer of a model or a checkpoint",
     false},
    {"eval", "DIR DATA [--json]", "the mean loss over a data file", false},
    {"tokenize", "DIR [--no-special] [--decode] [--threads N] < ROWS.jsonl", "the ids of each row's text", false},
    {"test", "FILE-OR-FOLDER …", "tests written in Lua", false},
};

}  // namespace

CommandLine read_command_line(const std::vector<std::string>& arguments) {
  CommandLine out;
  if (arguments.size() < 2) {
    out.wrong = "no command\n   help: ftengine --help lists them";
    return out;
  }
  out.command = arguments[1];
  if (out.command == "--help" || out.command == "-h" || out.command == "help") out.command = "--help";
  if (out.command == "--help" || out.command == "--version") return out;
  const auto* command =
      std::find_if(std::begin(kCommands), std::end(kCommands), [&](const Command& c) { return c.name == out.command; });
  if (command == std::end(kCommands)) {
    std::vector<std::string> names;
    for (const Command& known : kCommands) names.emplace_back(known.name);
    const std::string near = nearest(out.command, names);
    out.wrong = "unknown command '" + out.command +
                "'\n   help: " + (near.empty() ? "" : "did you mean '" + near + "'?  ") +
                "commands: " + enumerate(names);
    return out;
  }
  // After a recipe, --help asks for the recipe's own page; elsewhere for this program's.
  const auto asks = [](const std::string& word) { return word == "--help" || word == "-h"; };
  const auto end = command->takes_recipe ? arguments.begin() + std::min<size_t>(3, arguments.size()) : arguments.end();
  if (std::any_of(arguments.begin() + 2, end, asks)) {
    out.command = "--help";
    return out;
  }
  size_t next = 2;
  if (command->takes_recipe) {
    if (arguments.size() < 3 || arguments[2].rfind("--", 0) == 0) {
      out.wrong = out.command + " wants a recipe\n   help: ftengine " + out.command + " " + command->arguments;
      return out;
    }
    out.file = arguments[next++];
  }
  for (; next < arguments.size(); ++next) {
    const std::string& argument = arguments[next];
    if (argument == "--trace") {
      out.trace = true;
    } else if (command->takes_recipe && (argument == "--nproc" || argument.rfind("--nproc=", 0) == 0)) {
      const std::string text = argument.size() > 7           ? argument.substr(8)
                               : next + 1 < arguments.size() ? arguments[++next]
                                                             : "";
      const auto read = std::from_chars(text.data(), text.data() + text.size(), out.nproc);
      if (text.empty() || read.ptr != text.data() + text.size() || out.nproc < 1)
        out.wrong = "--nproc: got '" + text + "', want a number of ranks from 1";
    } else if (command->takes_recipe && (argument == "--resume" || argument.rfind("--resume=", 0) == 0)) {
      out.resume = argument.size() > 8 ? argument.substr(9) : next + 1 < arguments.size() ? arguments[++next] : "";
      if (out.resume.empty()) out.wrong = "--resume: want auto, a run directory or a checkpoint";
    } else {
      out.flags.push_back(argument);
    }
  }
  return out;
}

std::string help_text() {
  std::string out = "ftengine: fine-tunes language models; recipes are Lua files\n\n";
  for (const Command& command : kCommands)
    out += std::string("  ftengine ") + command.name + " " + command.arguments + "\n      " + command.doc + "\n";
  return out +
         "\n  ftengine RUN-COMMAND RECIPE --help    the recipe's own options\n"
         "  --nproc N    ranks on this machine      --trace    print Lua frames with an error\n"
         "  --resume auto|DIR    go on with the run in --out, if there is one, or with that run or checkpoint\n"
         "\nexit codes: 0 done, 1 refused or failed (one message), 2 wrong command line, 130 interrupted\n";
}

}  // namespace ft
