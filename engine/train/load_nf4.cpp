#include "engine/train/load_nf4.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <vector>

#include "engine/error/error.h"
#include "engine/formats/bnb_weight.h"
#include "engine/parallel/tensor_slice.h"
#include "engine/train/weights.h"

namespace ft {
namespace {

// A piece on its way: codes in its records, scales still beside them.
struct QuantizedPiece {
  ShardPiece piece;
  at::Tensor own, host;  // the piece's records, and where they are made
  uint8_t* records;
  std::vector<double> sums;   // of the groups' absmax
  std::vector<float> absmax;  // of the piece's blocks, groups padded to 256
};

QuantizedPiece quantized(const FlatRange& range, const ShardPiece& piece, const WeightSource& source,
                         const std::function<void(int64_t)>& progress) {
  const at::Tensor own = range.piece(piece), host = host_memory_for(own, own.numel());
  QuantizedPiece work{piece,
                      own,
                      host,
                      host.data_ptr<uint8_t>(),
                      std::vector<double>(static_cast<size_t>(piece.count)),
                      std::vector<float>(static_cast<size_t>(piece.count * nf4::kNestedBlock))};
  const DType stored = source.stored_dtype(*piece.parameter);
  const int64_t elements = nf4_elements(piece), first = piece.begin * nf4::kGroup;
  std::vector<std::byte> staging(static_cast<size_t>(std::min(elements, kLoadChunk)) * byte_size(stored));
  for (int64_t done = 0; done < elements; done += kLoadChunk) {
    const int64_t count = std::min(kLoadChunk, elements - done);
    source.read(*piece.parameter, first + done, count, staging.data());
    const int64_t base = done / nf4::kGroup, groups = nf4::num_groups(count);
    at::parallel_for(0, groups, 1, [&](int64_t g0, int64_t g1) {
      for (int64_t g = g0; g < g1; ++g) {
        const int64_t in_group = std::min(nf4::kGroup, count - g * nf4::kGroup);
        work.sums[static_cast<size_t>(base + g)] = nf4::quantize_codes(
            stored, staging.data() + static_cast<size_t>(g * nf4::kGroup) * byte_size(stored), in_group,
            work.records + (base + g) * range.atom_elements, work.absmax.data() + (base + g) * nf4::kNestedBlock);
      }
    });
    progress(count * static_cast<int64_t>(byte_size(stored)));
  }
  return work;
}

// The offsets of parameters that keep the scales of their own groups, from the groups' sums: each has one contributor,
// so that what the ranks add up is exact.
void find_offsets(const std::vector<Parameter*>& parameters, const std::vector<QuantizedPiece>& pieces,
                  ProcessGroup& holders) {
  int64_t groups = 0;
  std::map<Parameter*, int64_t> first_group;
  for (Parameter* p : parameters) {
    first_group[p] = groups;
    groups += ShardLayout::atoms(*p) * p->slice.parts;
  }
  const at::Tensor sums = at::zeros({groups}, at::kDouble);
  for (const QuantizedPiece& work : pieces) {
    const auto found = first_group.find(work.piece.parameter);
    if (found == first_group.end() || found->first->slice.copy != 0) continue;
    const TensorSlice& slice = found->first->slice;
    const int64_t begin = found->second + slice.index * ShardLayout::atoms(*found->first) + work.piece.begin;
    std::copy(work.sums.begin(), work.sums.end(), sums.data_ptr<double>() + begin);
  }
  holders.all_reduce_sum(sums).wait();
  for (Parameter* p : parameters) {
    const std::span<const double> own(sums.data_ptr<double>() + first_group[p],
                                      static_cast<size_t>(ShardLayout::atoms(*p) * p->slice.parts));
    p->nested_offset = nf4::nested_offset(own, p->full_numel());
  }
}

// What absmax of all of a tensor's blocks come to when they have been quantized themselves. @return the offset
float through_nested(std::span<float> absmax, int64_t numel) {
  const int64_t blocks = nf4::num_blocks(numel), groups = nf4::num_groups(numel);
  const auto of_group = [&](int64_t g) {
    return absmax.subspan(static_cast<size_t>(g * nf4::kNestedBlock),
                          static_cast<size_t>(std::min(nf4::kNestedBlock, blocks - g * nf4::kNestedBlock)));
  };
  std::vector<double> sums(static_cast<size_t>(groups));
  for (int64_t g = 0; g < groups; ++g)
    for (const float one : of_group(g)) sums[static_cast<size_t>(g)] += static_cast<double>(one);
  const float offset = nf4::nested_offset(sums, numel);
  at::parallel_for(0, groups, 16, [&](int64_t g0, int64_t g1) {
    std::array<uint8_t, nf4::record_bytes(true)> record;
    for (int64_t g = g0; g < g1; ++g) {
      const std::span<float> own = of_group(g);
      nf4::store_scales(own, offset, /*double_quant=*/true, record.data());
      for (size_t b = 0; b < own.size(); ++b)
        own[b] = nf4::block_absmax({record.data(), offset, true}, static_cast<int64_t>(b));
    }
  });
  return offset;
}

// The pieces of a slice that cuts groups get the scales that their blocks have in the whole tensor.
void decode_scales(Parameter& parameter, std::vector<QuantizedPiece>& pieces, ProcessGroup& holders) {
  const at::Tensor scales = at::zeros({nf4::num_groups(parameter.full_numel()) * nf4::kNestedBlock}, at::kFloat);
  auto* all = scales.data_ptr<float>();
  const auto for_blocks = [&](const auto& visit) {  // visit(of the piece, of the whole, blocks)
    for (QuantizedPiece& work : pieces) {
      if (work.piece.parameter != &parameter) continue;
      const int64_t first = work.piece.begin * nf4::kGroup;
      for_each_run(parameter, first, nf4_elements(work.piece), [&](const SliceRun& run) {
        visit(work.absmax.data() + (run.local - first) / nf4::kBlock, all + run.whole / nf4::kBlock,
              run.count / nf4::kBlock);
      });
    }
  };
  if (parameter.slice.copy == 0)
    for_blocks([](float* own, float* whole, int64_t blocks) { std::copy_n(own, blocks, whole); });
  holders.all_reduce_sum(scales).wait();
  parameter.nested_offset = through_nested({all, static_cast<size_t>(scales.numel())}, parameter.full_numel());
  for_blocks([](float* own, float* whole, int64_t blocks) { std::copy_n(whole, blocks, own); });
}

// The weight that bitsandbytes made of a parameter, where there is one; checks that records of it can be had.
const BnbWeight* stored_weight(const Parameter& parameter, const WeightSource& source) {
  const BnbWeight* weight = source.quantized(parameter);
  if (!weight) return nullptr;
  if (!weight->has_records())
    throw Error(ErrorKind::config,
                "is quantized as " + weight->quant_type() + " already, in a way that NF4 records cannot hold")
        .key(parameter.name)
        .help("quantize = \"none\" takes it as what it is dequantized to");
  if (weight->double_quant() != parameter.double_quant && !parameter.decoded_scales)
    throw Error(ErrorKind::config,
                std::string("is quantized already, its scales ") + (weight->double_quant() ? "too" : "are not"))
        .key(parameter.name)
        .help(std::string("set double_quant = ") + (weight->double_quant() ? "true" : "false"));
  const TensorSlice& slice = parameter.slice;
  if (!slice.whole() && (slice.dim != 0 || parameter.numel() % nf4::kGroup != 0))
    throw Error(ErrorKind::config,
                "is quantized already, and its slices for the tensor axis would cut groups of scales")
        .key(parameter.name)
        .help("use fewer ranks on the tensor axis, or quantize = \"none\"");
  return weight;
}

// A slice's groups are groups of the whole weight, too.
void take_records(const FlatRange& range, const ShardPiece& piece, const BnbWeight& weight, const WeightSource& source,
                  const std::function<void(int64_t)>& progress) {
  const at::Tensor own = range.piece(piece), host = host_memory_for(own, own.numel());
  const Parameter& parameter = *piece.parameter;
  const int64_t first = parameter.slice.index * ShardLayout::atoms(parameter) + piece.begin;
  constexpr int64_t kAtOnce = kLoadChunk / nf4::kGroup;
  for (int64_t done = 0; done < piece.count; done += kAtOnce)
    source.read_records(weight, first + done, std::min(kAtOnce, piece.count - done),
                        host.data_ptr<uint8_t>() + done * range.atom_elements);
  if (!own.is_cpu()) own.copy_(host);
  progress(nf4_elements(piece) * static_cast<int64_t>(byte_size(weight.dtype())));
}

}  // namespace

int64_t nf4_elements(const ShardPiece& piece) {
  return std::min(piece.count * nf4::kGroup, piece.parameter->numel() - piece.begin * nf4::kGroup);
}

at::Tensor host_memory_for(const at::Tensor& own, int64_t count) {
  return own.is_cpu() ? own : at::empty({count}, own.options().device(at::kCPU));
}

void load_nf4(FlatRange& range, const WeightSource& source, int rank, ProcessGroup& holders,
              const std::function<void(int64_t)>& progress) {
  std::vector<QuantizedPiece> pieces;
  for (const ShardPiece& piece : range.layout.pieces(rank)) {
    if (const BnbWeight* weight = stored_weight(*piece.parameter, source))
      take_records(range, piece, *weight, source, progress);
    else
      pieces.push_back(quantized(range, piece, source, progress));
  }
  std::vector<Parameter*> plain, decoded;
  for (Parameter* p : range.layout.parameters()) {
    if (const BnbWeight* weight = stored_weight(*p, source))
      p->nested_offset = weight->nested_offset();
    else
      (p->decoded_scales ? decoded : plain).push_back(p);
  }
  if (!plain.empty()) find_offsets(plain, pieces, holders);
  for (Parameter* p : decoded) decode_scales(*p, pieces, holders);
  for (QuantizedPiece& work : pieces) {
    const Parameter& parameter = *work.piece.parameter;
    const int64_t elements = nf4_elements(work.piece);
    for (int64_t g = 0; g < work.piece.count; ++g) {
      const int64_t blocks = nf4::num_blocks(std::min(nf4::kGroup, elements - g * nf4::kGroup));
      nf4::store_scales({work.absmax.data() + g * nf4::kNestedBlock, static_cast<size_t>(blocks)},
                        parameter.nested_offset, parameter.double_quant, work.records + g * range.atom_elements);
    }
    if (!work.own.is_cpu()) work.own.copy_(work.host);
  }
}

}  // namespace ft
