#include "engine/merge/lora_terms.h"

#include "engine/error/error.h"
#include "engine/formats/peft_adapter.h"

namespace ft {
namespace {

constexpr std::string_view kWeight = ".weight", kBias = ".bias";

LoraOptions options_of(const Value& config) {
  check_peft_config(config);
  return LoraOptions::read(plan_options(config));
}

using Shape = std::vector<int64_t>;

}  // namespace

std::vector<float> transposed(const std::vector<float>& matrix, int64_t columns) {
  const int64_t rows = static_cast<int64_t>(matrix.size()) / columns;
  std::vector<float> out(matrix.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      out[static_cast<size_t>(j * rows + i)] = matrix[static_cast<size_t>(i * columns + j)];
  return out;
}

LoraTerms::LoraTerms(const Value& config, Find find) : targets_(options_of(config)), find_(std::move(find)) {
  dora_ = config.get("use_dora", false);
}

const Shape* LoraTerms::take(const std::string& name) {
  const Shape* shape = find_(name);
  if (shape) used_.insert(name);
  return shape;
}

void LoraTerms::fold_into(MergeTensor& tensor) {
  if (tensor.name.ends_with(kWeight))
    fold_weight(tensor, tensor.name.substr(0, tensor.name.size() - kWeight.size()));
  else if (tensor.name.ends_with(kBias))
    fold_bias(tensor, tensor.name.substr(0, tensor.name.size() - kBias.size()));
}

void LoraTerms::fold_weight(MergeTensor& tensor, const std::string& module) {
  LoraPair pair{.a = module + ".lora_A.weight", .b = module + ".lora_B.weight"};
  const Shape *a = take(pair.a), *b = take(pair.b);
  if (!a && !b) {
    pair = {.a = module + ".lora_embedding_A", .b = module + ".lora_embedding_B", .of_embedding = true};
    a = take(pair.a), b = take(pair.b);
  }
  if (!a && !b) return;
  if (!a || !b)
    throw Error(ErrorKind::format, std::string("the checkpoint lacks ") + (a ? "lora_B" : "lora_A")).key(module);
  const LoraShape asked = targets_.shape(module);
  pair.rank = asked.r;
  pair.scale = static_cast<float>(asked.scale);
  const Shape& shape = tensor.shape;
  // An embedding's A counts in tokens, its B in features.
  const bool fits = shape.size() == 2 && *a == Shape{pair.rank, shape[pair.of_embedding ? 0 : 1]} &&
                    *b == Shape{shape[pair.of_embedding ? 1 : 0], pair.rank};
  if (!fits)
    throw Error(ErrorKind::shape, "got lora_A " + shape_text(*a) + " and lora_B " + shape_text(*b) +
                                      ", want [r, in] and [out, r] for weight " + shape_text(shape) +
                                      " with r = " + std::to_string(pair.rank))
        .key(module);
  if (!is_weight_dtype(tensor.stored))
    throw Error(ErrorKind::format, std::string("LoRA cannot be folded into ") + to_string(tensor.stored))
        .key(tensor.name);
  if (dora_) {
    pair.magnitude = module + ".lora_magnitude_vector";
    const Shape* magnitude = take(pair.magnitude);
    if (!magnitude || *magnitude != Shape{shape[0]})
      throw Error(ErrorKind::shape, "DoRA wants a lora_magnitude_vector [" + std::to_string(shape[0]) + "], got " +
                                        (magnitude ? shape_text(*magnitude) : std::string("none")))
          .key(module);
  }
  tensor.lora = std::move(pair);
}

void LoraTerms::fold_bias(MergeTensor& tensor, const std::string& module) {
  const std::string name = module + ".lora_B.bias";
  const Shape* shape = take(name);
  if (!shape) return;
  if (*shape != tensor.shape)
    throw Error(ErrorKind::shape, "got lora_B.bias " + shape_text(*shape) + ", want " + shape_text(tensor.shape))
        .key(module);
  tensor.added_bias = LoraBias{name, static_cast<float>(targets_.shape(module).scale)};
}

}  // namespace ft
