#include "engine/train/saved_blocks.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

#include "engine/parallel/tensor_slice.h"
#include "engine/quant/block8.h"
#include "engine/train/saved_place.h"

namespace ft {
namespace {

constexpr std::string_view kScale = "_scale";

// How a checkpoint's scales were cut: along `dim` into `parts`.
struct Cut {
  size_t dim = 0;
  int64_t parts = 1;
};

// Nothing where the checkpoint holds no scales under the key.
std::optional<Cut> saved_cut(const SavedState& checkpoint, const std::string& name, const std::string& key) {
  if (checkpoint.contains(name, key)) return Cut{};
  for (const size_t dim : {size_t{0}, size_t{1}}) {
    const std::string before = kind_of_cut(key, dim, 0, 0);
    const std::string_view first = std::string_view(before).substr(0, before.size() - 1);  // "…#rows 0/"
    for (const SavedState::Tensor& tensor : checkpoint.tensors()) {
      if (tensor.name != name || !tensor.kind.starts_with(first)) continue;
      Cut cut{dim, 0};
      const char* end = tensor.kind.data() + tensor.kind.size();
      const auto read = std::from_chars(tensor.kind.data() + first.size(), end, cut.parts);
      if (read.ec == std::errc() && read.ptr == end && cut.parts > 1) return cut;
    }
  }
  return std::nullopt;
}

// The scales as they were saved, found by an element's place in the flattened whole tensor.
class SavedScales {
 public:
  struct Run {
    float scale;
    int64_t count;  // elements from there on that share it and follow one another
  };

  SavedScales(const SavedState& checkpoint, const Parameter& parameter, const std::string& key, const Cut& cut)
      : cut_(cut), slice_numel_(parameter.full_numel() / cut.parts) {
    if (cut.dim == 1) columns_ = parameter.full_shape()[1];
    for (int64_t i = 0; i < cut.parts; ++i) {
      const std::string kind = cut.parts == 1 ? key : kind_of_cut(key, cut.dim, i, cut.parts);
      std::vector<float>& scales = parts_.emplace_back(static_cast<size_t>((slice_numel_ + kBlock8 - 1) / kBlock8));
      checkpoint.read(parameter.name, kind, 0, static_cast<int64_t>(scales.size()), scales.data());
    }
  }

  Run at(int64_t element) const {
    int64_t part = element / slice_numel_, local = element % slice_numel_, together = slice_numel_ - local;
    if (cut_.dim == 1) {
      const int64_t width = columns_ / cut_.parts, column = element % columns_;
      part = column / width;
      local = element / columns_ * width + column % width;
      together = width - column % width;
    }
    return {parts_[static_cast<size_t>(part)][static_cast<size_t>(local / kBlock8)],
            std::min(together, kBlock8 - local % kBlock8)};
  }

 private:
  Cut cut_;
  int64_t slice_numel_, columns_ = 0;
  std::vector<std::vector<float>> parts_;
};

void fill(const at::Tensor& state, const void* values) {
  at::Tensor to = state;
  to.copy_(at::from_blob(const_cast<void*>(values), state.sizes(), state.options().device(at::kCPU)));
}

Map8 map_of(const StateTensor& codes) { return codes.key.ends_with("_sq") ? Map8::without_sign : Map8::with_sign; }

std::vector<float> decoded(const SavedState& checkpoint, const Parameter& parameter, const StateTensor& codes,
                           const SavedScales& saved) {
  std::vector<uint8_t> bytes(static_cast<size_t>(codes.count));
  read_at(checkpoint, place_of_state(parameter, codes), bytes.data());
  std::vector<float> values(bytes.size());
  for_each_run(parameter, codes.begin, codes.count, [&](const SliceRun& run) {
    for (int64_t done = 0; done < run.count;) {
      const SavedScales::Run block = saved.at(run.whole + done);
      const int64_t count = std::min(block.count, run.count - done), at = run.local - codes.begin + done;
      dequantize_block8(map_of(codes), bytes.data() + at, block.scale, count, values.data() + at);
      done += count;
    }
  });
  return values;
}

std::vector<float> floats(const SavedState& checkpoint, const Parameter& parameter, const StateTensor& codes) {
  std::vector<float> values(static_cast<size_t>(codes.count));
  Piece place = place_of_state(parameter, codes);
  place.dtype = DType::f32;
  read_at(checkpoint, place, values.data());
  return values;
}

void quantize(const std::vector<float>& values, const StateTensor& codes, const StateTensor& scales) {
  std::vector<uint8_t> bytes(values.size());
  std::vector<float> made(static_cast<size_t>(scales.count));
  for (int64_t block = 0; block < scales.count; ++block) {
    const int64_t at = block * kBlock8, count = std::min(kBlock8, codes.count - at);
    made[static_cast<size_t>(block)] = quantize_block8(map_of(codes), values.data() + at, count, bytes.data() + at);
  }
  fill(codes.value, bytes.data());
  fill(scales.value, made.data());
}

const StateTensor* find(const std::vector<StateTensor>& states, const std::string& name, const std::string& key) {
  for (const StateTensor& state : states)
    if (state.name == name && state.key == key) return &state;
  return nullptr;
}

}  // namespace

bool read_cut_anew(const SavedState& checkpoint, const Parameter& parameter, const StateTensor& state,
                   const std::vector<StateTensor>& states) {
  const bool is_scale = state.key.ends_with(kScale);
  const std::string key = is_scale ? state.key.substr(0, state.key.size() - kScale.size()) : state.key;
  const StateTensor *codes = find(states, state.name, key),
                    *scales = find(states, state.name, key + std::string(kScale));
  if (!codes || !scales) return false;
  const SavedState::Tensor* saved = checkpoint.find(state.name, key);
  if (!checkpoint.engine().empty() && saved && saved->dtype == DType::f32) {
    if (!is_scale) quantize(floats(checkpoint, parameter, *codes), *codes, *scales);
    return true;
  }
  if (checkpoint.contains(state.name, place_of_state(parameter, *scales).kind)) return false;
  const auto cut = saved_cut(checkpoint, state.name, scales->key);
  if (!cut || !saved) return false;
  if (!is_scale)
    quantize(decoded(checkpoint, parameter, *codes, {checkpoint, parameter, scales->key, *cut}), *codes, *scales);
  return true;
}

}  // namespace ft
