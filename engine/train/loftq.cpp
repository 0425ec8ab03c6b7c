#include "engine/train/loftq.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "engine/error/error.h"
#include "engine/formats/bnb_weight.h"
#include "engine/parallel/tensor_slice.h"
#include "engine/quant/nf4.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

constexpr int64_t kChunk = 1024;  // columns that stand in fp64 at once

// The parameter as one rank alone would have it.
Parameter whole_of(const Parameter& parameter) {
  Parameter whole;
  whole.name = parameter.name;
  whole.shape = parameter.full_shape();
  whole.storage = parameter.storage;
  whole.init = parameter.init;
  whole.double_quant = parameter.double_quant || parameter.decoded_scales;
  return whole;
}

struct Residual {
  at::Tensor values;  // W − NF4(W), fp32 [out, in]
  double weight = 0;  // squared norm of W
};

Residual residual_of(const Parameter& parameter, const WeightSource& source) {
  const Parameter whole = whole_of(parameter);
  const int64_t numel = whole.numel();
  const DType stored = source.stored_dtype(whole);
  std::vector<std::byte> raw(static_cast<size_t>(numel) * byte_size(stored));
  source.read(whole, 0, numel, raw.data());
  const nf4::Quantized made = nf4::quantize(stored, raw.data(), numel, whole.double_quant);
  const nf4::Records records{made.records.data(), made.offset, whole.double_quant};
  Residual residual{.values = at::empty(whole.shape, at::kFloat)};
  auto* values = residual.values.data_ptr<float>();
  to_fp32(stored, raw.data(), numel, values);
  for (int64_t i = 0; i < numel; ++i)
    residual.weight += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  at::parallel_for(0, nf4::num_groups(numel), 1, [&](int64_t g0, int64_t g1) {
    std::vector<float> kept(static_cast<size_t>(nf4::kGroup));
    for (int64_t g = g0; g < g1; ++g) {
      const int64_t begin = g * nf4::kGroup, count = std::min(nf4::kGroup, numel - begin);
      nf4::dequantize(records, begin, count, DType::f32, kept.data());
      for (int64_t i = 0; i < count; ++i) values[begin + i] -= kept[static_cast<size_t>(i)];
    }
  });
  return residual;
}

// Where a rank's own part of a parameter stands.
using Places = std::map<const Parameter*, std::vector<std::pair<FlatRange*, ShardPiece>>>;

Places places_of(const std::vector<std::unique_ptr<ShardUnit>>& units, int rank) {
  Places places;
  for (const auto& unit : units)
    if (FlatRange* range = unit->trainable())
      for (const ShardPiece& piece : range->layout.pieces(rank)) places[piece.parameter].emplace_back(range, piece);
  return places;
}

void put(const Parameter& parameter, const at::Tensor& whole, const Places& places) {
  const auto found = places.find(&parameter);
  if (found == places.end()) return;
  const auto* values = whole.const_data_ptr<float>();
  for (const auto& [range, piece] : found->second) {
    const at::Tensor host = at::empty({piece.count}, at::kFloat);
    auto* to = host.data_ptr<float>();
    for_each_run(parameter, piece.begin, piece.count, [&](const SliceRun& run) {
      std::copy_n(values + run.whole, run.count, to + (run.local - piece.begin));
    });
    range->piece(piece).copy_(host);
  }
}

// What `start` begins as: the factors over the scale, and for rows without a value what they were drawn as.
LowRank start_of(const LowRankStart& start, const WeightSource& source, double& weight) {
  const Residual residual = residual_of(*start.weight, source);
  weight = residual.weight;
  const int64_t r = start.a->full_shape()[0];
  LowRank made = nearest_low_rank(residual.values, r);
  const double each = 1 / std::sqrt(start.scale);
  made.a.mul_(each), made.b.mul_(each);
  const Parameter a = whole_of(*start.a);
  const int64_t in = a.shape[1];
  for (int64_t row = 0; row < r; ++row)
    if (made.b.select(1, row).count_nonzero().item<int64_t>() == 0)
      source.read_fp32(a, row * in, in, made.a.data_ptr<float>() + row * in);
  return made;
}

bool is_open(const LowRankStart& start, const WeightSource& source) {
  return !source.holds(*start.a) && !source.holds(*start.b);
}

}  // namespace

LowRank nearest_low_rank(const at::Tensor& matrix, int64_t r) {
  const bool wide = matrix.size(0) <= matrix.size(1);
  const at::Tensor m = wide ? matrix : matrix.t();  // [few, many]
  const int64_t few = m.size(0), many = m.size(1), rank = std::min(r, few);
  const auto chunks = [&](const auto& visit) {
    for (int64_t at = 0; at < many; at += kChunk) {
      const int64_t count = std::min(kChunk, many - at);
      visit(at, count, m.narrow(1, at, count).to(at::kDouble));
    }
  };
  at::Tensor gram = at::zeros({few, few}, at::kDouble);
  chunks([&](int64_t, int64_t, const at::Tensor& part) { gram.addmm_(part, part.t()); });
  const double before = gram.trace().item<double>();
  const auto [squares, vectors] = at::linalg_eigh(gram, "L");  // ascending
  gram.reset();
  const double least = 1e-12 * squares[few - 1].item<double>();
  LowRank made{.a = at::zeros({r, matrix.size(1)}, at::kFloat), .b = at::zeros({matrix.size(0), r}, at::kFloat)};
  made.before = before, made.after = before;
  at::Tensor roots = at::zeros({rank}, at::kDouble);  // of the singular values, the largest first
  int64_t found = 0;
  for (; found < rank; ++found) {
    const double square = squares[few - 1 - found].item<double>();
    if (!(square > least) || square <= 0) break;
    roots[found] = std::pow(square, 0.25);
    made.after -= square;
  }
  made.after = std::max(made.after, 0.0);
  if (found == 0) return made;
  roots = roots.narrow(0, 0, found);
  at::Tensor left = vectors.narrow(1, few - found, found).flip({1});  // [few, found], orthonormal
  at::Tensor right = at::empty({found, many}, at::kDouble);
  chunks([&](int64_t at, int64_t count, const at::Tensor& part) {
    right.narrow(1, at, count).copy_(at::matmul(left.t(), part));
  });
  right.div_(roots.unsqueeze(1));
  left = left.mul(roots);
  // A and B are known but for a sign each.
  at::Tensor a = wide ? right : left.t().contiguous(), b = wide ? left : right.t().contiguous();
  const at::Tensor largest = a.gather(1, a.abs().argmax(1, /*keepdim=*/true)).sign();  // [found, 1]
  made.a.narrow(0, 0, found).copy_(a.mul(largest));
  made.b.narrow(1, 0, found).copy_(b.mul(largest.t()));
  return made;
}

LoftqReport begin_by_loftq(const std::vector<std::unique_ptr<ShardUnit>>& units, std::span<const LowRankStart> starts,
                           const WeightSource& source, int split_rank, ProcessGroup& world,
                           const std::function<void(int64_t, int64_t)>& done) {
  c10::AutoGradMode no_graph(false);
  std::vector<const LowRankStart*> open;
  for (const LowRankStart& start : starts) {
    if (!is_open(start, source)) continue;
    if (source.quantized(*start.weight))
      throw Error(ErrorKind::config,
                  "is quantized already: what that took away is in no file, so LoRA cannot begin as it")
          .key(start.weight->name)
          .help("leave init_lora_weights out, or name the model that was quantized");
    open.push_back(&start);
  }
  LoftqReport report{.linears = static_cast<int64_t>(open.size())};
  if (open.empty()) return report;
  const Places places = places_of(units, split_rank);
  const auto ranks = static_cast<size_t>(world.size()), own = static_cast<size_t>(world.rank());
  const auto bytes_of = [&](const Parameter& weight) {
    return weight.full_numel() * static_cast<int64_t>(byte_size(source.stored_dtype(weight)));
  };
  int64_t done_bytes = 0, all_bytes = 0;
  for (const LowRankStart* start : open) all_bytes += bytes_of(*start->weight);
  double weights = 0, before = 0, after = 0;
  for (size_t first = 0; first < open.size(); first += ranks) {
    const size_t end = std::min(first + ranks, open.size());
    LowRank mine;
    if (first + own < end) {
      double weight = 0;
      mine = start_of(*open[first + own], source, weight);
      weights += weight, before += mine.before, after += mine.after;
    }
    for (size_t i = first; i < end; ++i) {
      const LowRankStart& start = *open[i];
      const bool here = i == first + own;
      const at::Tensor a = here ? mine.a : at::empty(start.a->full_shape(), at::kFloat);
      const at::Tensor b = here ? mine.b : at::empty(start.b->full_shape(), at::kFloat);
      world.broadcast(a, static_cast<int>(i - first)).wait();
      world.broadcast(b, static_cast<int>(i - first)).wait();
      put(*start.a, a, places);
      put(*start.b, b, places);
    }
    for (size_t i = first; i < end; ++i) done_bytes += bytes_of(*open[i]->weight);
    if (done) done(done_bytes, all_bytes);
  }
  weights = world.sum(weights), before = world.sum(before), after = world.sum(after);
  if (weights > 0) report.before = std::sqrt(before / weights), report.after = std::sqrt(after / weights);
  return report;
}

int64_t loftq_bytes(std::span<const LowRankStart> starts, const WeightSource& source) {
  int64_t most = 0;
  for (const LowRankStart& start : starts) {
    if (!is_open(start, source)) continue;
    const std::vector<int64_t> shape = start.weight->full_shape();
    const int64_t few = std::min(shape[0], shape[1]), many = std::max(shape[0], shape[1]);
    const auto stored = static_cast<int64_t>(byte_size(source.stored_dtype(*start.weight)));
    // While it is quantized: as it is stored, in fp32, and in records. While it is taken apart: fp32, the Gram matrix,
    // its eigenvectors and LAPACK's workspace for them (syevd: 1 + 6n + 2n²), a chunk of columns.
    const int64_t quantizing = few * many * (stored + 5);
    const int64_t decomposing = few * many * 4 + 8 * (4 * few * few + few * kChunk);
    most = std::max({most, quantizing, decomposing});
  }
  return most;
}

}  // namespace ft
