#include "engine/text/token_table.h"

#include <algorithm>
#include <functional>

#include "engine/error/error.h"

namespace ft {
namespace {

size_t hash_text(std::string_view text) { return std::hash<std::string_view>{}(text); }

}  // namespace

size_t hash_table_size(size_t count) {
  size_t size = 16;
  while (size < 2 * count) size *= 2;
  return size;
}

TokenTable::TokenTable(TokenizerFile& file) : text_(std::move(file.text)) {
  int32_t highest = -1;
  for (const auto& entry : file.vocab) highest = std::max(highest, entry.id);
  of_id_.assign(static_cast<size_t>(highest + 1), {0, kAbsent});
  table_.assign(hash_table_size(file.vocab.size()), -1);
  for (const auto& entry : file.vocab) {
    const std::string_view token = str(entry.token);
    if (has(entry.id))
      throw Error(ErrorKind::format, "gives id " + std::to_string(entry.id) + " to both '" +
                                         std::string(this->token(entry.id)) + "' and '" + std::string(token) + "'");
    of_id_[entry.id] = entry.token;
    size_t at = hash_text(token) & (table_.size() - 1);
    while (table_[at] >= 0 && this->token(table_[at]) != token) at = (at + 1) & (table_.size() - 1);
    count_ += table_[at] < 0 || !file.has_vocab_map;  // in a list each entry counts
    table_[at] = entry.id;
  }
}

int32_t TokenTable::find(std::string_view token) const {
  for (size_t at = hash_text(token) & (table_.size() - 1); table_[at] >= 0; at = (at + 1) & (table_.size() - 1))
    if (this->token(table_[at]) == token) return table_[at];
  return -1;
}

std::string_view TokenTable::token(int32_t id) const { return has(id) ? str(of_id_[id]) : std::string_view(); }

}  // namespace ft
