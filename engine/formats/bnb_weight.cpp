#include "engine/formats/bnb_weight.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/quant/dynamic_map.h"
#include "engine/quant/nf4.h"

namespace ft {

BnbWeight::BnbWeight(const std::string& name, const std::string& state, const Find& find, const Read& read)
    : name_(name), quant_type_(state.substr(state.rfind('_') + 1)) {
  const TensorEntry* text = find(state);
  constexpr uint64_t kLongest = 65536;
  if (!text || text->dtype != DType::u8 || text->bytes() > kLongest) fail("has no readable quant_state");
  std::string json(text->bytes(), '\0');
  read(*text, 0, std::as_writable_bytes(std::span(json)));
  parts_.push_back(state);
  read_state(json);
  codes_ = find(name);
  const auto want = static_cast<uint64_t>(numel_ + 1) / 2;
  if (!codes_) fail("is not there");
  const uint64_t padded = (want + byte_size(codes_->dtype) - 1) / byte_size(codes_->dtype) * byte_size(codes_->dtype);
  if (codes_->bytes() != padded)
    fail("has " + std::to_string(codes_->bytes()) + " bytes of codes, want " + std::to_string(want) + " for shape " +
         shape_text(shape_));
  const int64_t blocks = (numel_ + block_ - 1) / block_;
  absmax_ = part(".absmax", find, nested_block_ > 0 ? DType::u8 : DType::f32, blocks);
  const auto load = [&](const TensorEntry* entry, std::vector<float>& to) {
    to.resize(static_cast<size_t>(entry->numel()));
    read(*entry, 0, std::as_writable_bytes(std::span(to)));
  };
  load(part(".quant_map", find, DType::f32, 16), map_);
  if (nested_block_ > 0) {
    nested_ = part(".nested_absmax", find, DType::f32, (blocks + nested_block_ - 1) / nested_block_);
    load(part(".nested_quant_map", find, DType::f32, 256), nested_map_);
  }
}

void BnbWeight::read_state(const std::string& text) {
  const Value state = parse_json(text, name_ + std::string(kBnbState) + quant_type_);
  if (!state.is_map() || state.get("quant_type", "") != quant_type_ || (quant_type_ != "nf4" && quant_type_ != "fp4"))
    fail("is quantized as '" + (state.is_map() ? state.get("quant_type", "") : "") + "', want nf4 or fp4");
  const auto power = [&](const char* key, int64_t otherwise) {
    const int64_t value = state.get(key, otherwise);
    if (value < 1 || value > (1 << 20) || !std::has_single_bit(static_cast<uint64_t>(value)))
      fail(std::string("has ") + key + " " + std::to_string(value));
    return value;
  };
  block_ = power("blocksize", 0);
  const auto dtype = dtype_from_name(state.get("dtype", ""));
  if (!dtype || (*dtype != DType::f32 && *dtype != DType::f16 && *dtype != DType::bf16))
    fail("is of dtype '" + state.get("dtype", "") + "'");
  dtype_ = *dtype;
  for (const Value& dim : state.at("shape").as_list()) {
    shape_.push_back(dim.as_integer());
    if (shape_.back() < 1 || __builtin_mul_overflow(numel_, shape_.back(), &numel_) || numel_ > (int64_t{1} << 50))
      fail("has shape " + shape_text(shape_));
  }
  if (!state.find("nested_blocksize")) return;
  nested_block_ = power("nested_blocksize", 0);
  if (state.get("nested_dtype", "float32") != std::string("float32"))
    fail("has nested scales of another dtype than float32");
  nested_offset_ = static_cast<float>(state.at("nested_offset").as_number());
}

const TensorEntry* BnbWeight::part(const char* suffix, const Find& find, DType dtype, int64_t count) {
  const TensorEntry* entry = find(name_ + suffix);
  if (!entry || entry->dtype != dtype || entry->numel() != count)
    fail(std::string("has ") + (entry ? shape_text(entry->shape) + " " + to_string(entry->dtype) : "nothing") +
         " for " + (suffix + 1) + ", want " + std::to_string(count) + " of " + to_string(dtype));
  parts_.push_back(name_ + suffix);
  return entry;
}

bool BnbWeight::has_records() const {
  return quant_type_ == "nf4" && block_ == nf4::kBlock && (!nested_ || nested_block_ == nf4::kNestedBlock) &&
         std::equal(map_.begin(), map_.end(), nf4::kCodebook) &&
         (!nested_ || std::equal(nested_map_.begin(), nested_map_.end(), signed_dynamic_map().begin()));
}

// Scales of blocks [first, first + count).
std::vector<float> BnbWeight::scales(int64_t first, int64_t count, const Read& read) const {
  std::vector<float> result(static_cast<size_t>(count));
  if (!nested_) {
    read(*absmax_, static_cast<uint64_t>(first) * sizeof(float), std::as_writable_bytes(std::span(result)));
    return result;
  }
  std::vector<uint8_t> codes(result.size());
  read(*absmax_, static_cast<uint64_t>(first), std::as_writable_bytes(std::span(codes)));
  const int64_t first_nested = first / nested_block_, last_nested = (first + count - 1) / nested_block_;
  std::vector<float> nested(static_cast<size_t>(last_nested - first_nested + 1));
  read(*nested_, static_cast<uint64_t>(first_nested) * sizeof(float), std::as_writable_bytes(std::span(nested)));
  for (int64_t i = 0; i < count; ++i)
    result[static_cast<size_t>(i)] = nested_map_[codes[static_cast<size_t>(i)]] *
                                         nested[static_cast<size_t>((first + i) / nested_block_ - first_nested)] +
                                     nested_offset_;
  return result;
}

void BnbWeight::read_fp32(int64_t begin, int64_t count, float* out, const Read& read) const {
  FT_CHECK(begin >= 0 && count >= 0 && count <= numel_ - begin, "read past the end of '" + name_ + "'");
  if (count == 0) return;
  const int64_t first_block = begin / block_, first_byte = begin / 2;
  const std::vector<float> absmax = scales(first_block, (begin + count - 1) / block_ - first_block + 1, read);
  std::vector<uint8_t> codes(static_cast<size_t>((begin + count + 1) / 2 - first_byte));
  read(*codes_, static_cast<uint64_t>(first_byte), std::as_writable_bytes(std::span(codes)));
  for (int64_t i = begin; i < begin + count; ++i) {
    const uint8_t pair = codes[static_cast<size_t>(i / 2 - first_byte)];
    out[i - begin] = map_[i % 2 == 0 ? pair >> 4 : pair & 15] * absmax[static_cast<size_t>(i / block_ - first_block)];
  }
}

void BnbWeight::read_records(int64_t begin, int64_t count, uint8_t* records, const Read& read) const {
  FT_CHECK(has_records() && begin >= 0 && count <= nf4::num_groups(numel_) - begin,
           "'" + name_ + "' has no such records");
  if (count == 0) return;
  const int64_t elements = std::min(count * nf4::kGroup, numel_ - begin * nf4::kGroup),
                blocks = nf4::num_blocks(elements);
  nf4::Arrays arrays;
  arrays.codes.resize(static_cast<size_t>((elements + 1) / 2));
  read(*codes_, static_cast<uint64_t>(begin) * nf4::kCodeBytes, std::as_writable_bytes(std::span(arrays.codes)));
  const size_t scale = nested_ ? 1 : sizeof(float);
  arrays.absmax.resize(static_cast<size_t>(blocks) * scale);
  read(*absmax_, static_cast<uint64_t>(begin * nf4::kNestedBlock) * scale,
       std::as_writable_bytes(std::span(arrays.absmax)));
  if (nested_) {
    arrays.nested_absmax.resize(static_cast<size_t>(count));
    read(*nested_, static_cast<uint64_t>(begin) * sizeof(float),
         std::as_writable_bytes(std::span(arrays.nested_absmax)));
  }
  const std::vector<uint8_t> made = nf4::to_records(arrays, elements, nested_ != nullptr);
  std::memcpy(records, made.data(), made.size());
}

void BnbWeight::fail(const std::string& message) const {
  throw Error(ErrorKind::format, message).key(name_).help("want a weight as bitsandbytes stores one in four bits");
}

}  // namespace ft
