#include "engine/train/weights.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "engine/error/error.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/peft_adapter.h"
#include "engine/formats/saved_state.h"
#include "engine/parallel/scalar_type.h"
#include "engine/parallel/tensor_slice.h"
#include "engine/tensor/counter_random.h"
#include "engine/tensor/half.h"
#include "engine/train/load_nf4.h"

namespace ft {
namespace {

bool is_adapter(const Parameter& parameter) { return parameter.name.find(".lora_") != std::string::npos; }

}  // namespace

WeightSource::WeightSource(const ModelDirectory* directory, uint64_t seed, const SavedState* checkpoint,
                           const PeftAdapter* adapter)
    : directory_(directory), checkpoint_(checkpoint), adapter_(adapter), seed_(seed) {}

const TensorEntry* WeightSource::on_disk(const Parameter& parameter) const {
  if (const TensorEntry* entry = in_adapter(parameter)) return entry;
  return directory_ && !is_adapter(parameter) ? directory_->find(parameter.name) : nullptr;
}

// Matrices of LoRA, modules of the base that the adapter has trained whole, and tables that have more rows there.
const TensorEntry* WeightSource::in_adapter(const Parameter& parameter) const {
  if (!adapter_) return nullptr;
  if (const TensorEntry* entry = adapter_->find(parameter.name)) return entry;
  return directory_ && directory_->is_grown(parameter.name) ? adapter_->base_table(parameter.name) : nullptr;
}

bool WeightSource::holds(const Parameter& parameter) const {
  return in_checkpoint(parameter) || on_disk(parameter) != nullptr;
}

DType WeightSource::stored_dtype(const Parameter& parameter) const {
  if (in_checkpoint(parameter)) return DType::f32;
  const TensorEntry* entry = on_disk(parameter);
  if (!entry && assumed_ && !directory_ && !is_adapter(parameter)) return *assumed_;
  return entry ? entry->dtype : DType::f32;
}

// Another engine's checkpoint holds frozen weights as well, in whatever dtype; those are the directory's.
bool WeightSource::in_checkpoint(const Parameter& parameter) const {
  return checkpoint_ && parameter.storage == Storage::trainable && checkpoint_->contains(parameter.name, "master");
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
  const auto width = static_cast<int64_t>(byte_size(stored_dtype(parameter)));
  auto* bytes = static_cast<std::byte*>(out);
  for_each_run(parameter, begin, count, [&](const SliceRun& run) {
    read_whole(parameter, run.whole, run.count, bytes + (run.local - begin) * width);
  });
}

void WeightSource::read_whole(const Parameter& parameter, int64_t begin, int64_t count, std::byte* out) const {
  if (in_checkpoint(parameter)) return checkpoint_->read(parameter.name, "master", begin, count, out);
  const TensorEntry* entry = on_disk(parameter);
  if (!entry) return draw(parameter, begin, count, reinterpret_cast<float*>(out));
  const auto width = static_cast<int64_t>(byte_size(entry->dtype));
  const auto from = static_cast<uint64_t>(begin * width);
  const std::span<std::byte> bytes{out, static_cast<size_t>(count * width)};
  if (in_adapter(parameter)) {
    adapter_->read(*entry, from, bytes);
  } else {
    directory_->read(parameter.name, from, bytes);
  }
}

const BnbWeight* WeightSource::quantized(const Parameter& parameter) const {
  if (!directory_ || is_adapter(parameter) || in_adapter(parameter) || in_checkpoint(parameter)) return nullptr;
  return directory_->quantized(parameter.name);
}

void WeightSource::read_records(const BnbWeight& weight, int64_t begin, int64_t count, uint8_t* records) const {
  directory_->read_records(weight, begin, count, records);
}

void WeightSource::read_fp32(const Parameter& parameter, int64_t begin, int64_t count, float* out) const {
  const DType stored = stored_dtype(parameter);
  if (stored == DType::f32) return read(parameter, begin, count, out);
  std::vector<std::byte> raw(static_cast<size_t>(count) * byte_size(stored));
  read(parameter, begin, count, raw.data());
  to_fp32(stored, raw.data(), count, out);
}

namespace {

void load_plain(FlatRange& range, const WeightSource& source, int rank, const std::function<void(int64_t)>& progress) {
  for (const ShardPiece& piece : range.layout.pieces(rank)) {
    const at::Tensor own = range.piece(piece), host = host_memory_for(own, std::min(kLoadChunk, piece.count));
    const auto width = static_cast<int64_t>(byte_size(source.stored_dtype(*piece.parameter)));
    for (int64_t done = 0; done < piece.count; done += kLoadChunk) {
      const int64_t count = std::min(kLoadChunk, piece.count - done);
      const at::Tensor to = host.narrow(0, own.is_cpu() ? done : 0, count);
      if (range.storage == Storage::trainable) {
        source.read_fp32(*piece.parameter, piece.begin + done, count, to.data_ptr<float>());
      } else {
        source.read(*piece.parameter, piece.begin + done, count, to.data_ptr());
      }
      if (!own.is_cpu()) own.narrow(0, done, count).copy_(to);
      progress(count * width);
    }
  }
}

}  // namespace

void check_weights(const ModelDirectory& directory, Model& model) {
  std::vector<ExpectedTensor> expected;
  for (const Parameter* p : model.parameters())
    if (!is_adapter(*p)) expected.push_back({p->name, p->full_shape()});
  // Tied embeddings: files of old writers hold the head a second time.
  const ModelUnit& head = model.units().back();
  for (const size_t lender : head.borrows)
    expected.push_back({head.name + ".weight", model.units()[lender].parameters[0]->full_shape(), /*optional=*/true});
  directory.check_tensors(expected);
}

void check_weights(const PeftAdapter& adapter, Model& model) {
  std::vector<ExpectedTensor> expected;
  for (const Parameter* p : model.parameters())
    if (p->storage == Storage::trainable) expected.push_back({p->name, p->full_shape()});
  // Tables of the vocabulary, which PEFT writes where they grew, trained or not.
  for (const Parameter* p : model.parameters()) {
    const std::vector<int64_t> shape = p->full_shape();
    if (p->storage != Storage::frozen || shape.size() != 2 || shape[0] != model.vocab_size()) continue;
    for (const char* end : {".weight", ".base_layer.weight"})
      expected.push_back({p->name.substr(0, p->name.rfind('.')) + end, shape, /*optional=*/true});
  }
  // Tied embeddings: PEFT writes what is trained of them a second time, as the head's.
  const ModelUnit& head = model.units().back();
  for (const size_t lender : head.borrows)
    for (const Parameter* p : model.units()[lender].parameters) {
      const auto shape = p->full_shape();
      if (p->name.ends_with(".lora_embedding_A"))
        expected.push_back({head.name + ".lora_B.weight", {shape[1], shape[0]}, /*optional=*/true});
      else if (p->name.ends_with(".lora_embedding_B"))
        expected.push_back({head.name + ".lora_A.weight", {shape[1], shape[0]}, /*optional=*/true});
      else if (p->storage == Storage::trainable)
        expected.push_back({head.name + ".weight", shape, /*optional=*/true});
    }
  adapter.check_tensors(expected);
}

void load_range(FlatRange& range, const WeightSource& source, int rank, ProcessGroup& holders,
                const std::function<void(int64_t)>& progress) {
  if (range.mapped) return;
  if (range.storage == Storage::nf4) return load_nf4(range, source, rank, holders, progress);
  load_plain(range, source, rank, progress);
}

void load_unit(ShardUnit& unit, const WeightSource& source, int rank, ProcessGroup& holders,
               const std::function<void(int64_t)>& progress) {
  for (FlatRange& range : unit.ranges()) load_range(range, source, rank, holders, progress);
}

int64_t bytes_to_read(ShardUnit& unit, const WeightSource& source, int rank) {
  int64_t bytes = 0;
  for (const FlatRange& range : unit.ranges()) {
    if (range.mapped) continue;
    for (const ShardPiece& piece : range.layout.pieces(rank)) {
      const int64_t elements = range.storage == Storage::nf4 ? nf4_elements(piece) : piece.count;
      bytes += elements * static_cast<int64_t>(byte_size(source.stored_dtype(*piece.parameter)));
    }
  }
  return bytes;
}

}  // namespace ft
