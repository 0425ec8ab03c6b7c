#include "engine/layers/rope_table.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/error/error.h"
#include "engine/layers/module.h"

namespace ft {
namespace {

constexpr double kPi = 3.14159265358979323846;

int64_t longest_of(const std::vector<std::vector<int64_t>>& documents) {
  int64_t longest = 1;
  for (const auto& row : documents)
    for (const int64_t length : row) longest = std::max(longest, length);
  return longest;
}

// Documents say it on the host, since positions restart in each; asking a GPU would wait for it in every layer.
int64_t last_position(const Context& context) {
  if (context.cache || context.documents.empty()) return context.positions.max().item<int64_t>();
  return longest_of(context.documents) - 1;
}

// Waves longer than the model has seen are stretched by `factor`, short ones kept.
at::Tensor llama3(const at::Tensor& inverse, const RopeOptions& o) {
  const auto length = static_cast<double>(o.original);
  const at::Tensor wave = inverse.reciprocal().mul(2 * kPi);
  const at::Tensor is_long = wave.gt(length / o.low_freq_factor), is_short = wave.lt(length / o.high_freq_factor);
  const at::Tensor scaled = at::where(is_long, inverse.div(o.factor), inverse);
  const at::Tensor smooth =
      wave.reciprocal().mul(length).sub(o.low_freq_factor).div(o.high_freq_factor - o.low_freq_factor);
  const at::Tensor between = smooth.neg().add(1).mul(scaled).div(o.factor).add(smooth.mul(scaled));
  return at::where(is_long.logical_or(is_short), scaled, between);
}

// Features that turn often keep their speed, those that turn less than once are stretched, with a ramp in between.
at::Tensor yarn(const at::Tensor& inverse, const RopeOptions& o, int64_t width) {
  const auto feature = [&](double turns) {
    return static_cast<double>(width) * std::log(static_cast<double>(o.original) / (turns * 2 * kPi)) /
           (2 * std::log(o.theta));
  };
  double low = feature(o.beta_fast), high = feature(o.beta_slow);
  if (o.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(width - 1));
  if (low == high) high += 0.001;  // transformers' way around a division by zero
  const at::Tensor ramp = at::arange(width / 2, inverse.options()).sub(low).div(high - low).clamp(0, 1);
  const at::Tensor keep = ramp.neg().add(1);
  return inverse.div(o.factor).mul(keep.neg().add(1)).add(inverse.mul(keep));
}

// int64 [B, T]: each token's place in its document, on from where the table has the angles of a document so long.
template <class First>
at::Tensor table_rows(const Context& context, const First& first) {
  at::Tensor rows = at::empty_like(context.positions, at::TensorOptions(at::kCPU));
  int64_t* out = rows.data_ptr<int64_t>();
  for (const auto& row : context.documents) {
    std::vector<int64_t> whole;
    for (const int64_t length : row)
      for (int64_t t = 0; t < length; ++t) whole.push_back(first(length) + t);
    for (int64_t t = 0; t < rows.size(1); ++t) *out++ = whole[static_cast<size_t>(context.split.place(t))];
  }
  return rows;
}

}  // namespace

RopeOptions RopeOptions::read(const Value& d, const std::string& path) {
  RopeOptions o;
  o.type = d.get("type", o.type.c_str());
  o.theta = d.at("theta").as_number();
  o.factor = d.get("factor", o.factor);
  o.original = d.get("original", o.original);
  o.low_freq_factor = d.get("low_freq_factor", o.low_freq_factor);
  o.high_freq_factor = d.get("high_freq_factor", o.high_freq_factor);
  o.beta_fast = d.get("beta_fast", o.beta_fast);
  o.beta_slow = d.get("beta_slow", o.beta_slow);
  o.truncate = d.get("truncate", o.truncate);
  o.attention_factor = d.get("attention_factor", o.attention_factor);
  const auto numbers = [&](const char* key, std::vector<double>& into) {
    if (const Value* list = d.find(key))
      for (const Value& number : list->as_list()) into.push_back(number.as_number());
  };
  numbers("short_factor", o.short_factor);
  numbers("long_factor", o.long_factor);
  static const std::vector<std::string> kTypes{"default", "linear", "dynamic", "llama3", "yarn", "longrope"};
  if (std::find(kTypes.begin(), kTypes.end(), o.type) == kTypes.end())
    throw Error(ErrorKind::config,
                "got rope type '" + o.type + "', want default, linear, dynamic, llama3, yarn or longrope")
        .key(path);
  const bool needs_length = o.type != "default" && o.type != "linear";
  if (o.theta <= 1 || o.factor <= 0 || (needs_length && o.original < 1) ||
      (o.type == "llama3" && o.high_freq_factor == o.low_freq_factor))
    throw Error(ErrorKind::config, "the numbers of rope type '" + o.type + "' give no angles: theta " +
                                       std::to_string(o.theta) + ", factor " + std::to_string(o.factor) +
                                       ", original length " + std::to_string(o.original))
        .key(path);
  return o;
}

// fp32 [width/2]. @param seen tokens of the document; only "dynamic" and "longrope" ask.
at::Tensor RopeTable::inverse_frequencies(int64_t seen) const {
  const auto fp32 = at::TensorOptions(at::kFloat);
  const at::Tensor exponents = at::arange(0, width_, 2, fp32).div(static_cast<double>(width_));
  double theta = options_.theta;
  if (options_.type == "dynamic" && seen > options_.original) {
    const double stretch = options_.factor * static_cast<double>(seen) / static_cast<double>(options_.original);
    theta *= std::pow(stretch - (options_.factor - 1), static_cast<double>(width_) / static_cast<double>(width_ - 2));
  }
  const at::Tensor powers = at::pow(at::Scalar(theta), exponents);
  if (options_.type == "longrope") {
    const auto& factors = seen > options_.original ? options_.long_factor : options_.short_factor;
    return at::tensor(factors, fp32).mul(powers).reciprocal();
  }
  const at::Tensor inverse = powers.reciprocal();
  if (options_.type == "linear") return inverse.div(options_.factor);
  if (options_.type == "llama3") return llama3(inverse, options_);
  if (options_.type == "yarn") return yarn(inverse, options_, width_);
  return inverse;
}

// On the host and then moved: the same bits on every device.
void RopeTable::append(int64_t positions, int64_t seen) {
  const at::Tensor inverse = inverse_frequencies(seen);
  const at::Tensor angles = at::arange(positions, inverse.options()).unsqueeze(1).mul(inverse.unsqueeze(0));
  const at::Tensor cos = angles.cos().mul(options_.attention_factor), sin = angles.sin().mul(options_.attention_factor);
  cos_ = cos_.defined() ? at::cat({cos_, cos}) : cos;
  sin_ = sin_.defined() ? at::cat({sin_, sin}) : sin;
}

void RopeTable::reach(int64_t last) {
  const int64_t have = cos_.defined() ? cos_.size(0) : 0;
  if (last < have) return;
  cos_.reset();
  sin_.reset();
  append(std::max(last + 1, 2 * have), 0);  // generation asks for one more at a time
}

Rotation RopeTable::by_length(const Context& context, at::Device device) {
  const bool by_document = !context.cache && !context.documents.empty();
  const auto lengths =
      by_document ? context.documents : std::vector<std::vector<int64_t>>{{last_position(context) + 1}};
  const bool other_rows = by_document && (!rows_.defined() || rows_.sizes() != context.positions.sizes());
  if (!cos_.defined() || lengths != documents_ || other_rows) {
    cos_.reset();
    sin_.reset();
    // All documents up to `original` have the same angles; under longrope all longer ones have, too.
    const int64_t longest = longest_of(lengths);
    const auto seen_by = [&](int64_t length) {
      return options_.type == "longrope" && length > options_.original ? longest : std::max(length, options_.original);
    };
    std::map<int64_t, int64_t> first;  // seen length -> its first row of the tables
    for (const auto& row : lengths)
      for (const int64_t length : row) first.emplace(seen_by(length), 0);
    for (auto& [seen, begin] : first) {
      begin = cos_.defined() ? cos_.size(0) : 0;
      append(seen, seen);
    }
    rows_ = at::Tensor();
    if (by_document) rows_ = table_rows(context, [&](int64_t length) { return first.at(seen_by(length)); });
    documents_ = lengths;
  }
  cos_ = cos_.to(device);
  sin_ = sin_.to(device);
  if (!by_document) return {cos_, sin_, context.positions};
  rows_ = rows_.to(device);
  return {cos_, sin_, rows_};
}

Rotation RopeTable::rotation(const Context& context, at::Device device) {
  c10::AutoGradMode no_graph(false);
  if (options_.type == "dynamic" || options_.type == "longrope") return by_length(context, device);
  reach(last_position(context));
  cos_ = cos_.to(device);
  sin_ = sin_.to(device);
  return {cos_, sin_, context.positions};
}

}  // namespace ft
