#pragma once
/// What a split comes to, for a person to judge it by before it trains. Pure functions of its rows.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

class Terminal;
class TokenRows;
struct Packing;

/// Rows of `from` to `to` tokens.
struct LengthBin {
  int64_t from, to, count;
};

/// Lengths by powers of two: 1, 2 to 3, 4 to 7, …; without the empty bins at either end.
std::vector<LengthBin> length_histogram(const TokenRows& rows);

/// A line for each bin, with a bar; bars are drawn with blocks on a terminal, else with '#'.
std::string histogram_text(const std::vector<LengthBin>& bins, const Terminal& terminal);

/// { documents, tokens, targets, rows, packing, efficiency, truncated, tokens_cut, dropped, untrained, lengths };
/// `packing` is packing_report's text, `efficiency` the share of the rows' room that holds tokens.
Value data_statistics(const TokenRows& rows, const Packing& packing, int64_t seq_len);

}  // namespace ft
