// What a step of each optimizer costs on the parameters of Qwen3-0.6B, as multiples of ATen's fused fp32 AdamW: see
// tools/bench/optimizer.
#include "engine/optim/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "engine/error/error.h"

namespace ft {
namespace {

struct Arguments {
  int64_t layers = 28, repeats = 7;
  std::vector<int> threads{1, 2};
  std::vector<std::string> kinds{"adamw8bit"};
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (i + 1 == argc) throw Error(ErrorKind::config, "wants a value").key(std::string(flag));
    const std::string value = argv[i + 1];
    if (flag == "--layers") {
      arguments.layers = std::stoll(value);
    } else if (flag == "--repeats") {
      arguments.repeats = std::stoll(value);
    } else if (flag == "--threads") {
      arguments.threads.clear();
      for (const std::string& part : split(value)) arguments.threads.push_back(std::stoi(part));
    } else if (flag == "--kinds") {
      arguments.kinds = split(value);
    } else {
      throw Error(ErrorKind::config, "is no option").key(std::string(flag));
    }
  }
  return arguments;
}

struct Shape {
  std::string name;
  std::vector<int64_t> shape;
};

/// Hidden size 1024, heads of 128 (16 of queries, 8 of keys), MLP 3072, a tied vocabulary of 151,936.
std::vector<Shape> shapes(int64_t layers) {
  std::vector<Shape> all{{"model.embed_tokens.weight", {151936, 1024}}, {"model.norm.weight", {1024}}};
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const Shape parts[] = {{"self_attn.q_proj.weight", {2048, 1024}},  {"self_attn.k_proj.weight", {1024, 1024}},
                           {"self_attn.v_proj.weight", {1024, 1024}},  {"self_attn.o_proj.weight", {1024, 2048}},
                           {"mlp.gate_proj.weight", {3072, 1024}},     {"mlp.up_proj.weight", {3072, 1024}},
                           {"mlp.down_proj.weight", {1024, 3072}},     {"self_attn.q_norm.weight", {128}},
                           {"self_attn.k_norm.weight", {128}},         {"input_layernorm.weight", {1024}},
                           {"post_attention_layernorm.weight", {1024}}};
    for (const Shape& part : parts) all.push_back({layer + part.name, part.shape});
  }
  return all;
}

/// Pieces over memory that every optimizer measured here shares.
std::vector<OptimizerPiece> make_pieces(int64_t layers) {
  std::vector<OptimizerPiece> pieces;
  for (const Shape& s : shapes(layers)) {
    int64_t numel = 1;
    for (const int64_t d : s.shape) numel *= d;
    OptimizerPiece piece;
    piece.name = s.name;
    piece.numel = piece.count = numel;
    piece.master = at::empty({numel}, at::kFloat).normal_(0, 0.02);
    piece.grad = at::empty({numel}, at::kFloat).normal_(0, 0.001);
    piece.decay = s.shape.size() > 1;
    piece.shape = s.shape;
    piece.hidden = s.shape.size() > 1 && s.name.find("layers") != std::string::npos;
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

Value description(const std::string& kind) {
  if (kind == "adamw8bit") return Value::map({{"kind", "adamw"}, {"bits", 8}, {"weight_decay", 0.1}});
  return Value::map({{"kind", kind}, {"weight_decay", 0.1}});
}

double seconds_of_step(Optimizer& optimizer) {
  const auto start = std::chrono::steady_clock::now();
  optimizer.step(1e-4);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const Arguments& arguments, Optimizer& fused, const std::vector<std::unique_ptr<Optimizer>>& others) {
  for (const int threads : arguments.threads) {
    at::set_num_threads(threads);
    fused.step(1e-4);
    for (const auto& other : others) other->step(1e-4);
    std::vector<double> base;
    std::vector<std::vector<double>> times(others.size()), ratios(others.size());
    for (int64_t r = 0; r < arguments.repeats; ++r) {
      base.push_back(seconds_of_step(fused));
      for (size_t i = 0; i < others.size(); ++i) {
        times[i].push_back(seconds_of_step(*others[i]));
        ratios[i].push_back(times[i].back() / base.back());
      }
    }
    std::printf("%d thread%s  adamw (fused, fp32) %8.1f ms\n", threads, threads == 1 ? " " : "s", 1e3 * median(base));
    for (size_t i = 0; i < others.size(); ++i) {
      const auto [least, most] = std::minmax_element(ratios[i].begin(), ratios[i].end());
      std::printf("           %-19s %8.1f ms   %.2f times as long (median of %lld, %.2f to %.2f)\n",
                  arguments.kinds[i].c_str(), 1e3 * median(times[i]), median(ratios[i]),
                  static_cast<long long>(arguments.repeats), *least, *most);
    }
  }
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  const std::vector<OptimizerPiece> pieces = make_pieces(arguments.layers);
  int64_t total = 0;
  for (const OptimizerPiece& piece : pieces) total += piece.numel;
  std::printf("%.1f M parameters, %lld layers\n", static_cast<double>(total) / 1e6,
              static_cast<long long>(arguments.layers));
  const auto fused = build_optimizer(description("adamw"), pieces);
  std::vector<std::unique_ptr<Optimizer>> others;
  for (const std::string& kind : arguments.kinds) others.push_back(build_optimizer(description(kind), pieces));
  measure(arguments, *fused, others);
  return 0;
}

}  // namespace
}  // namespace ft

int main(int argc, char** argv) {
  try {
    return ft::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "optimizer: %s\n", e.what());
    return 2;
  }
}
