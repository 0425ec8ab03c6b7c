#include "engine/data/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "engine/data/packing.h"
#include "engine/data/token_rows.h"
#include "engine/device/figures.h"
#include "engine/device/terminal.h"

namespace ft {
namespace {

constexpr int kBarColumns = 40;

/// `eighths` of a column: whole blocks and one that is not, or '#'.
std::string bar(int eighths, bool blocks) {
  static const char* const kParts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!blocks) return std::string(static_cast<size_t>((eighths + 7) / 8), '#');
  std::string out;
  for (int i = 0; i < eighths / 8; ++i) out += "█";
  return out + kParts[eighths % 8];
}

}  // namespace

std::vector<LengthBin> length_histogram(const TokenRows& rows) {
  std::vector<LengthBin> bins;
  for (int64_t row = 0; row < rows.size(); ++row) {
    const auto k =
        static_cast<size_t>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(1, rows.length(row)))) - 1);
    while (bins.size() <= k) bins.push_back({int64_t{1} << bins.size(), (int64_t{2} << bins.size()) - 1, 0});
    ++bins[k].count;
  }
  bins.erase(bins.begin(), std::find_if(bins.begin(), bins.end(), [](const LengthBin& bin) { return bin.count > 0; }));
  return bins;
}

std::string histogram_text(const std::vector<LengthBin>& bins, const Terminal& terminal) {
  int64_t most = 1;
  size_t width = 0;
  std::vector<std::string> names;
  for (const LengthBin& bin : bins) {
    most = std::max(most, bin.count);
    names.push_back(bin.from == bin.to ? count_text(bin.from) : count_text(bin.from) + "-" + count_text(bin.to));
    width = std::max(width, names.back().size());
  }
  std::string text;
  for (size_t i = 0; i < bins.size(); ++i) {
    const double share = static_cast<double>(bins[i].count) / static_cast<double>(most);
    const int eighths = bins[i].count == 0 ? 0 : std::max(1, static_cast<int>(share * 8 * kBarColumns));
    const std::string drawn = bar(eighths, terminal.live());
    text += fmt::format("  {:>{}}  {}{} {}\n", names[i], width, terminal.paint(Style::cyan, drawn),
                        std::string(static_cast<size_t>(std::max(0, kBarColumns - columns(drawn))), ' '),
                        count_text(bins[i].count));
  }
  return text;
}

Value data_statistics(const TokenRows& rows, const Packing& packing, int64_t seq_len) {
  Value::List lengths;
  for (const LengthBin& bin : length_histogram(rows))
    lengths.push_back(Value::map({{"from", bin.from}, {"to", bin.to}, {"count", bin.count}}));
  const TokenRows::Counts& counts = rows.counts();
  return Value::map({{"documents", rows.size()},
                     {"tokens", rows.num_tokens()},
                     {"targets", rows.num_targets()},
                     {"rows", packing.size()},
                     {"packing", packing_report(rows, packing, seq_len)},
                     {"efficiency", packing_efficiency(rows, packing, seq_len)},
                     {"truncated", counts.truncated},
                     {"tokens_cut", counts.tokens_cut},
                     {"dropped", counts.dropped},
                     {"untrained", counts.untrained},
                     {"lengths", Value(std::move(lengths))}});
}

}  // namespace ft
