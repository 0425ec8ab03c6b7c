#include "engine/formats/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/error/error.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

constexpr uint64_t kAlign = 32;
constexpr uint32_t kMagic = 0x46554747, kVersion = 3;

// Types of values, as the format numbers them.
constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9;

template <typename T>
void add(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void add_string(std::string& bytes, const std::string& text) {
  add(bytes, uint64_t{text.size()});
  bytes += text;
}

uint64_t aligned(uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

uint64_t GgufTensor::bytes() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  switch (type) {
    case GgufType::f32:
      return static_cast<uint64_t>(n) * 4;
    case GgufType::q8_0:
      return static_cast<uint64_t>(n / kQ8Block * kQ8Bytes);
    default:
      return static_cast<uint64_t>(n) * 2;
  }
}

void GgufKeys::begin(const std::string& key, uint32_t type) {
  add_string(bytes_, key);
  add(bytes_, type);
  ++count_;
}

void GgufKeys::put(const std::string& key, const std::string& value) {
  begin(key, kString);
  add_string(bytes_, value);
}

void GgufKeys::put(const std::string& key, uint32_t value) {
  begin(key, kUint32);
  add(bytes_, value);
}

void GgufKeys::put(const std::string& key, float value) {
  begin(key, kFloat32);
  add(bytes_, value);
}

void GgufKeys::put(const std::string& key, bool value) {
  begin(key, kBool);
  bytes_ += value ? '\1' : '\0';
}

void GgufKeys::put(const std::string& key, const std::vector<std::string>& values) {
  begin(key, kArray);
  add(bytes_, kString);
  add(bytes_, uint64_t{values.size()});
  for (const std::string& value : values) add_string(bytes_, value);
}

void GgufKeys::put(const std::string& key, const std::vector<float>& values) {
  begin(key, kArray);
  add(bytes_, kFloat32);
  add(bytes_, uint64_t{values.size()});
  for (const float value : values) add(bytes_, value);
}

void GgufKeys::put(const std::string& key, const std::vector<int32_t>& values) {
  begin(key, kArray);
  add(bytes_, kInt32);
  add(bytes_, uint64_t{values.size()});
  for (const int32_t value : values) add(bytes_, value);
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufKeys& keys, std::vector<GgufTensor> tensors)
    : file_(path), tensors_(std::move(tensors)) {
  std::string head;
  add(head, kMagic);
  add(head, kVersion);
  add(head, uint64_t{tensors_.size()});
  add(head, keys.count());
  head += keys.bytes();
  uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors_) {
    add_string(head, tensor.name);
    add(head, static_cast<uint32_t>(tensor.shape.size()));
    for (size_t d = tensor.shape.size(); d-- > 0;) add(head, static_cast<uint64_t>(tensor.shape[d]));
    add(head, static_cast<uint32_t>(tensor.type));
    add(head, offset);
    offset += aligned(tensor.bytes());
  }
  head.resize(aligned(head.size()), '\0');
  file_.write(head);
}

void GgufWriter::append(std::span<const std::byte> bytes) {
  FT_CHECK(tensor_ < tensors_.size() && bytes.size() <= tensors_[tensor_].bytes() - written_,
           "more bytes than the table of tensors has");
  file_.write(bytes);
  written_ += bytes.size();
}

void GgufWriter::end_tensor() {
  FT_CHECK(written_ == tensors_[tensor_].bytes(), "'" + tensors_[tensor_].name + "' got " + std::to_string(written_) +
                                                      " bytes of " + std::to_string(tensors_[tensor_].bytes()));
  file_.write(std::string(aligned(written_) - written_, '\0'));
  written_ = 0;
  ++tensor_;
}

void GgufWriter::finish() {
  FT_CHECK(tensor_ == tensors_.size(), "tensors are missing");
  file_.commit();
}

bool quantize_q8_0(const float* x, int64_t count, std::byte* out) {
  for (int64_t block = 0; block < count / kQ8Block; ++block, x += kQ8Block, out += kQ8Bytes) {
    float most = 0;
    bool finite = true;
    for (int64_t i = 0; i < kQ8Block; ++i) {
      most = std::max(most, std::fabs(x[i]));
      finite = finite && std::isfinite(x[i]);
    }
    if (!finite) return false;
    const float scale = most / 127, inverse = scale != 0 ? 1 / scale : 0;
    from_fp32(&scale, 1, DType::f16, out);
    for (int64_t i = 0; i < kQ8Block; ++i) {
      const auto code = static_cast<int8_t>(std::round(x[i] * inverse));
      std::memcpy(out + 2 + i, &code, 1);
    }
  }
  return true;
}

}  // namespace ft
