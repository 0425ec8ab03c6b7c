#pragma once
/// What the tests of engine/text share: rows of golden files, read by line.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/formats/json.h"

namespace ft {

inline std::vector<int32_t> ids_of(const Value& list) {
  std::vector<int32_t> out;
  for (const Value& id : list.as_list()) out.push_back(static_cast<int32_t>(id.as_integer()));
  return out;
}

inline std::vector<Value> read_rows(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::vector<Value> rows;
  for (std::string line; std::getline(stream, line);) rows.push_back(parse_json(line, file.string()));
  return rows;
}

/// Byte offset of each character, and of the end.
inline std::vector<uint32_t> character_places(const std::string& text) {
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < text.size(); ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) out.push_back(i);
  out.push_back(static_cast<uint32_t>(text.size()));
  return out;
}

}  // namespace ft
