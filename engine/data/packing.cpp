#include "engine/data/packing.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "engine/data/token_rows.h"
#include "engine/error/error.h"

namespace ft {

Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
  if (!order.empty() && lengths[order[0]] > capacity)
    throw Error(ErrorKind::format,
                fmt::format("document {} has {} tokens, more than a row of {}", order[0], lengths[order[0]], capacity));
  Packing out;
  std::vector<std::vector<int64_t>> rows_with(static_cast<size_t>(capacity) + 1);  // rows by the room they have left
  std::set<int64_t> rooms;                                                         // which of them are not empty
  for (const int64_t document : order) {
    const int64_t length = lengths[document];
    int64_t row = out.size(), room = capacity;
    if (const auto fit = rooms.lower_bound(length); fit != rooms.end()) {
      room = *fit;
      row = rows_with[room].back();
      rows_with[room].pop_back();
      if (rows_with[room].empty()) rooms.erase(fit);
    } else {
      out.rows.emplace_back();
    }
    out.rows[row].push_back(document);
    rows_with[room - length].push_back(row);
    rooms.insert(room - length);
  }
  return out;
}

Packing make_packing(const TokenRows& rows, int64_t seq_len, bool pack) {
  const int64_t together = rows.options().together;
  if (pack && together == 1) return pack_best_fit(rows.lengths(), seq_len);
  Packing out;
  for (int64_t row = 0; row < rows.size(); ++row) {
    if (rows.length(row) > seq_len && seq_len > 0)
      throw Error(ErrorKind::format,
                  fmt::format("document {} has {} tokens, more than a row of {}", row, rows.length(row), seq_len));
    if (row % together == 0) out.rows.emplace_back();
    out.rows.back().push_back(row);
  }
  return out;
}

double packing_efficiency(const TokenRows& rows, const Packing& packing, int64_t seq_len) {
  const double room = static_cast<double>(packing.size()) * static_cast<double>(seq_len * rows.options().together);
  return room > 0 ? static_cast<double>(rows.num_tokens()) / room : 0;
}

std::string packing_report(const TokenRows& rows, const Packing& packing, int64_t seq_len) {
  return fmt::format("{} documents in {} rows of {}, {:.1f}% full", rows.size(), packing.size(),
                     seq_len * rows.options().together, 100 * packing_efficiency(rows, packing, seq_len));
}

}  // namespace ft
