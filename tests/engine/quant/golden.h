#pragma once
/// Reads tests/golden/quant.safetensors, which tests/golden/quant.py writes. Its own few lines, since engine/formats
/// stands above engine/quant.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/tensor/dtype.h"

namespace ft::golden {

class File {
 public:
  explicit File(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    uint64_t header = 0;
    in.read(reinterpret_cast<char*>(&header), sizeof(header));
    std::string text(header, '\0');
    in.read(text.data(), static_cast<std::streamsize>(header));
    entries_ = nlohmann::json::parse(text);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
  }

  template <class T>
  std::vector<T> get(const std::string& name) const {
    const auto& offsets = entries_.at(name).at("data_offsets");
    const size_t begin = offsets[0], end = offsets[1];
    std::vector<T> values((end - begin) / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes_.data() + begin, end - begin);
    return values;
  }
  DType dtype(const std::string& name) const {
    return *dtype_from_safetensors(entries_.at(name).at("dtype").get<std::string>());
  }
  /// The part of each name before the dot of those that end in ".x" and have codes of NF4.
  std::vector<std::string> cases() const {
    std::vector<std::string> names;
    for (const auto& [key, value] : entries_.items()) {
      const std::string suffix = ".nested_codes";
      if (key.ends_with(suffix)) names.push_back(key.substr(0, key.size() - suffix.size()));
    }
    return names;
  }

 private:
  nlohmann::json entries_;
  std::vector<char> bytes_;
};

inline const File& quant() {
  static const File file(std::string(FT_GOLDEN_DIR) + "/quant.safetensors");
  return file;
}

}  // namespace ft::golden
