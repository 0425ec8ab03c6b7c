#include "engine/train/weights.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/peft_adapter.h"
#include "engine/parallel/scalar_type.h"
#include "engine/quant/nf4.h"
#include "engine/tensor/counter_random.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

constexpr int64_t kChunkGroups = 64;  // 1 Mi elements: 4 MB of staging, enough work for every core
constexpr int64_t kChunkElements = kChunkGroups * nf4::kGroup;

bool is_adapter(const Parameter& parameter) { return parameter.name.find(".lora_") != std::string::npos; }

}  // namespace

WeightSource::WeightSource(const ModelDirectory* directory, uint64_t seed, const Checkpoint* checkpoint,
                           const PeftAdapter* adapter)
    : directory_(directory), checkpoint_(checkpoint), adapter_(adapter), seed_(seed) {}

const TensorEntry* WeightSource::on_disk(const Parameter& parameter) const {
  if (is_adapter(parameter)) return adapter_ ? adapter_->find(parameter.name) : nullptr;
  return directory_ ? directory_->find(parameter.name) : nullptr;
}

DType WeightSource::stored_dtype(const Parameter& parameter) const {
  if (in_checkpoint(parameter)) return DType::f32;
  const TensorEntry* entry = on_disk(parameter);
  return entry ? entry->dtype : DType::f32;
}

bool WeightSource::in_checkpoint(const Parameter& parameter) const {
  return checkpoint_ && checkpoint_->contains(parameter.name, "master");
}

void WeightSource::draw(const Parameter& parameter, int64_t begin, int64_t count, float* out) const {
  switch (parameter.init.kind) {
    case Init::Kind::zeros:
      std::fill_n(out, count, 0.f);
      return;
    case Init::Kind::ones:
      std::fill_n(out, count, 1.f);
      return;
    default:
      break;
  }
  const CounterRandom random(seed_, parameter.name);
  const bool normal = parameter.init.kind == Init::Kind::normal;
  const double scale = parameter.init.scale;
  at::parallel_for(0, count, /*grain_size=*/4096, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const auto index = static_cast<uint64_t>(begin + i);
      out[i] = static_cast<float>(scale * (normal ? random.normal(index) : 2 * random.uniform(index) - 1));
    }
  });
}

void WeightSource::read(const Parameter& parameter, int64_t begin, int64_t count, void* out) const {
  if (in_checkpoint(parameter)) return checkpoint_->read(parameter.name, "master", begin, count, out);
  const TensorEntry* entry = on_disk(parameter);
  if (!entry) return draw(parameter, begin, count, static_cast<float*>(out));
  const auto width = static_cast<int64_t>(byte_size(entry->dtype));
  const auto from = static_cast<uint64_t>(begin * width);
  const std::span<std::byte> bytes{static_cast<std::byte*>(out), static_cast<size_t>(count * width)};
  if (is_adapter(parameter)) {
    adapter_->read(parameter.name, from, bytes);
  } else {
    directory_->read(parameter.name, from, bytes);
  }
}

void WeightSource::read_fp32(const Parameter& parameter, int64_t begin, int64_t count, float* out) const {
  const DType stored = stored_dtype(parameter);
  if (stored == DType::f32) return read(parameter, begin, count, out);
  std::vector<std::byte> raw(static_cast<size_t>(count) * byte_size(stored));
  read(parameter, begin, count, raw.data());
  to_fp32(stored, raw.data(), count, out);
}

namespace {

// The group sums of a parameter's absmax, filled by the ranks that own the groups and summed over ranks: each entry has
// one contributor, so the sum is exact.
struct QuantizedPiece {
  ShardPiece piece;
  uint8_t* records;
  std::vector<float> absmax;  // of the piece's blocks, groups padded to 256
};

int64_t elements_of(const ShardPiece& piece) {
  return std::min(piece.count * nf4::kGroup, piece.parameter->numel() - piece.begin * nf4::kGroup);
}

void quantize_codes(QuantizedPiece& work, const WeightSource& source, double* group_sums,
                    const std::function<void(int64_t)>& progress) {
  const Parameter& parameter = *work.piece.parameter;
  const DType stored = source.stored_dtype(parameter);
  const auto record = static_cast<int64_t>(nf4::record_bytes(parameter.double_quant));
  const int64_t elements = elements_of(work.piece), first = work.piece.begin * nf4::kGroup;
  std::vector<std::byte> staging(static_cast<size_t>(std::min(elements, kChunkElements)) * byte_size(stored));
  for (int64_t done = 0; done < elements; done += kChunkElements) {
    const int64_t count = std::min(kChunkElements, elements - done);
    source.read(parameter, first + done, count, staging.data());
    const int64_t base = done / nf4::kGroup, groups = nf4::num_groups(count);
    at::parallel_for(0, groups, 1, [&](int64_t g0, int64_t g1) {
      for (int64_t g = g0; g < g1; ++g) {
        const int64_t in_group = std::min(nf4::kGroup, count - g * nf4::kGroup);
        group_sums[base + g] = nf4::quantize_codes(
            stored, staging.data() + static_cast<size_t>(g * nf4::kGroup) * byte_size(stored), in_group,
            work.records + (base + g) * record, work.absmax.data() + (base + g) * nf4::kNestedBlock);
      }
    });
    progress(count * static_cast<int64_t>(byte_size(stored)));
  }
}

void load_nf4(FlatRange& range, const WeightSource& source, ProcessGroup& group,
              const std::function<void(int64_t)>& progress) {
  int64_t groups = 0;
  std::map<Parameter*, int64_t> first_group;
  for (Parameter* p : range.layout.parameters()) {
    first_group[p] = groups;
    groups += ShardLayout::atoms(*p);
  }
  at::Tensor sums = at::zeros({groups}, at::kDouble);
  std::vector<QuantizedPiece> pieces;
  for (const ShardPiece& piece : range.layout.pieces(group.rank())) {
    pieces.push_back({piece, range.piece(piece).data_ptr<uint8_t>(),
                      std::vector<float>(static_cast<size_t>(piece.count * nf4::kNestedBlock))});
    double* own = sums.data_ptr<double>() + first_group[piece.parameter] + piece.begin;
    quantize_codes(pieces.back(), source, own, progress);
  }
  group.all_reduce_sum(sums).wait();
  for (Parameter* p : range.layout.parameters()) {
    const std::span<const double> own(sums.data_ptr<double>() + first_group[p],
                                      static_cast<size_t>(ShardLayout::atoms(*p)));
    p->nested_offset = nf4::nested_offset(own, p->numel());
  }
  const auto record =
      static_cast<int64_t>(nf4::record_bytes(pieces.empty() || pieces[0].piece.parameter->double_quant));
  for (QuantizedPiece& work : pieces) {
    const Parameter& parameter = *work.piece.parameter;
    const int64_t elements = elements_of(work.piece);
    for (int64_t g = 0; g < work.piece.count; ++g) {
      const int64_t blocks = nf4::num_blocks(std::min(nf4::kGroup, elements - g * nf4::kGroup));
      nf4::store_scales({work.absmax.data() + g * nf4::kNestedBlock, static_cast<size_t>(blocks)},
                        parameter.nested_offset, parameter.double_quant, work.records + g * record);
    }
  }
}

void load_plain(FlatRange& range, const WeightSource& source, int rank, const std::function<void(int64_t)>& progress) {
  for (const ShardPiece& piece : range.layout.pieces(rank)) {
    auto* out = static_cast<std::byte*>(range.piece(piece).data_ptr());
    const auto width = static_cast<int64_t>(byte_size(source.stored_dtype(*piece.parameter)));
    for (int64_t done = 0; done < piece.count; done += kChunkElements) {
      const int64_t count = std::min(kChunkElements, piece.count - done);
      if (range.storage == Storage::trainable) {
        source.read_fp32(*piece.parameter, piece.begin + done, count, reinterpret_cast<float*>(out) + done);
      } else {
        source.read(*piece.parameter, piece.begin + done, count, out + done * width);
      }
      progress(count * width);
    }
  }
}

}  // namespace

void check_weights(const ModelDirectory& directory, Model& model) {
  std::vector<ExpectedTensor> expected;
  for (const Parameter* p : model.parameters())
    if (!is_adapter(*p)) expected.push_back({p->name, p->shape});
  // Tied embeddings: files of old writers hold the head a second time.
  const ModelUnit& head = model.units().back();
  for (const size_t lender : head.borrows)
    expected.push_back({head.name + ".weight", model.units()[lender].parameters[0]->shape, /*optional=*/true});
  directory.check_tensors(expected);
}

void check_weights(const PeftAdapter& adapter, Model& model) {
  std::vector<ExpectedTensor> expected;
  for (const Parameter* p : model.parameters())
    if (is_adapter(*p)) expected.push_back({p->name, p->shape});
  adapter.check_tensors(expected);
}

void load_unit(ShardUnit& unit, const WeightSource& source, ProcessGroup& group,
               const std::function<void(int64_t)>& progress) {
  for (FlatRange& range : unit.ranges()) {
    if (range.storage == Storage::nf4) {
      load_nf4(range, source, group, progress);
    } else {
      load_plain(range, source, group.rank(), progress);
    }
  }
}

int64_t bytes_to_read(ShardUnit& unit, const WeightSource& source, int rank) {
  int64_t bytes = 0;
  for (const FlatRange& range : unit.ranges()) {
    for (const ShardPiece& piece : range.layout.pieces(rank)) {
      const int64_t elements = range.storage == Storage::nf4 ? elements_of(piece) : piece.count;
      bytes += elements * static_cast<int64_t>(byte_size(source.stored_dtype(*piece.parameter)));
    }
  }
  return bytes;
}

}  // namespace ft
