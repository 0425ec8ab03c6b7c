// Seconds to load a tokenizer and to encode a file of rows, for tools/bench/tokenize: bench_tokenize DIR ROWS THREADS…
// prints {"load": s, "tokens": n, "seconds": {"1": s, …}}.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "engine/formats/json.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int run(const std::vector<std::string>& arguments) {
  const auto start = Clock::now();
  const auto tokenizer = Tokenizer::load(arguments.at(1));
  const double load = seconds_since(start);
  std::vector<std::string> texts;
  std::ifstream stream(arguments.at(2));
  for (std::string line; std::getline(stream, line);) texts.push_back(parse_json(line, "rows").at("text").as_string());
  size_t tokens = 0;
  std::string times;
  for (size_t i = 3; i < arguments.size(); ++i) {
    const auto begin = Clock::now();
    tokens = 0;
    for (const auto& ids : tokenizer->encode_batch(texts, false, std::stoi(arguments[i]))) tokens += ids.size();
    times += (i > 3 ? ", \"" : "\"") + arguments[i] + "\": " + std::to_string(seconds_since(begin));
  }
  std::printf("{\"load\": %.4f, \"tokens\": %zu, \"seconds\": {%s}}\n", load, tokens, times.c_str());
  return 0;
}

}  // namespace
}  // namespace ft

int main(int argc, char** argv) {
  try {
    return ft::run({argv, argv + argc});
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "%s\n", exception.what());
    return 1;
  }
}
