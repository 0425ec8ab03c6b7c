#pragma once
/// Which documents share a row. Fixed once, from lengths alone, before rows are dealt to ranks: the same on every
/// layout. Pure functions; no thread rules.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ft {

class TokenRows;

/// Rows of documents: rows[r] lists the TokenRows indices that lie one after the other in packed row r.
struct Packing {
  std::vector<std::vector<int64_t>> rows;
  int64_t size() const { return static_cast<int64_t>(rows.size()); }
};

/// Best fit, decreasing: the longest document first, each into the fullest row that still has room (Johnson 1973: at
/// most 11/9 of the least number of rows, plus 4). O(n log capacity); ties go by index, so the result depends on
/// lengths alone.
/// @throws Error(format) for a document longer than `capacity`, naming its index.
Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity);

/// Packs a split into rows of seq_len tokens, or with `pack` false leaves one document a row, in order. Documents that
/// stand together (TokenRowsOptions) share a row of their own, each up to seq_len tokens.
Packing make_packing(const TokenRows& rows, int64_t seq_len, bool pack);

/// The share of the rows' room that holds tokens; 0 where there are no rows.
double packing_efficiency(const TokenRows& rows, const Packing& packing, int64_t seq_len);
/// "1,204 documents in 163 rows of 512, 96.2% full"; a row of documents that stand together is as long as they may be.
std::string packing_report(const TokenRows& rows, const Packing& packing, int64_t seq_len);

}  // namespace ft
