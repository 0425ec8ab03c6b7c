#include "tools/cli/merge_command.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "engine/device/terminal.h"
#include "engine/error/error.h"
#include "engine/merge/show_merge.h"
#include "engine/schema/fault.h"

namespace ft {
namespace {

const std::vector<std::string> kFlags{"-o",     "--output",       "--model",   "--dtype", "--shard-size",
                                      "--base", "--adapter-only", "--threads", "--format"};

DType read_dtype(const std::string& text) {
  const auto dtype = dtype_from_name(text);
  if (dtype && (*dtype == DType::f32 || *dtype == DType::f16 || *dtype == DType::bf16)) return *dtype;
  throw Error(ErrorKind::config, "got '" + text + "', want fp32, fp16 or bf16").key("--dtype");
}

MergeBase read_base(const std::string& text) {
  if (text == "original") return MergeBase::original;
  if (text == "dequantized") return MergeBase::dequantized;
  throw Error(ErrorKind::config, "got '" + text + "', want original or dequantized").key("--base");
}

MergeFormat read_format(const std::string& text) {
  constexpr std::pair<const char*, MergeFormat> kFormats[] = {{"huggingface", MergeFormat::huggingface},
                                                              {"dcp", MergeFormat::dcp},
                                                              {"gguf", MergeFormat::gguf},
                                                              {"gguf-q8_0", MergeFormat::gguf_q8_0},
                                                              {"nf4", MergeFormat::nf4}};
  for (const auto& [name, format] : kFormats)
    if (text == name) return format;
  throw Error(ErrorKind::config, "got '" + text + "', want huggingface, dcp, gguf, gguf-q8_0 or nf4").key("--format");
}

uint64_t read_size(const std::string& text) {
  try {
    return parse_bytes(text);
  } catch (Error& error) {
    error.key("--shard-size");
    throw;
  }
}

int read_threads(const std::string& text) {
  int threads = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (wrong == std::errc() && end == text.data() + text.size() && threads >= 0) return threads;
  throw Error(ErrorKind::config, "got '" + text + "', want a number, 0 for as many as there are processors")
      .key("--threads");
}

void set(MergeOptions& options, const std::string& flag, const std::string& text) {
  if (flag == "-o" || flag == "--output") options.output = text;
  if (flag == "--model") options.model = text;
  if (flag == "--dtype") options.dtype = read_dtype(text);
  if (flag == "--shard-size") options.shard_size = read_size(text);
  if (flag == "--format") options.format = read_format(text);
  if (flag == "--base") options.base = read_base(text);
  if (flag == "--threads") options.threads = read_threads(text);
}

/// Reads the flags. @return what is wrong with them; "" when nothing is.
std::string read(const std::vector<std::string>& arguments, MergeOptions& options) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.empty() || argument[0] != '-') {
      if (!options.input.empty()) return "merge takes one directory, got '" + argument + "' as well";
      options.input = argument;
      continue;
    }
    const size_t equals = argument.find('=');
    const std::string flag = argument.substr(0, equals);
    if (std::find(kFlags.begin(), kFlags.end(), flag) == kFlags.end()) {
      const std::string near = nearest(flag, kFlags);
      return "unknown flag '" + flag + "'\n   help: " + (near.empty() ? "" : "did you mean '" + near + "'?  ") +
             "flags: " + enumerate(kFlags);
    }
    if (flag == "--adapter-only") {
      options.adapter_only = true;
    } else if (equals == std::string::npos && i + 1 == arguments.size()) {
      return "'" + flag + "' wants a value";
    } else {
      set(options, flag, equals == std::string::npos ? arguments[++i] : argument.substr(equals + 1));
    }
  }
  return options.input.empty() ? "merge wants a checkpoint, or a run's directory" : "";
}

}  // namespace

int merge_command(const std::vector<std::string>& arguments) {
  MergeOptions options;
  if (const std::string wrong = read(arguments, options); !wrong.empty()) {
    std::fprintf(stderr, "ftengine merge: %s\n", wrong.c_str());
    return 2;
  }
  show_merge(options, Terminal::on(STDOUT_FILENO));
  return 0;
}

}  // namespace ft
