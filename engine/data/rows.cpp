#include "engine/data/rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/error/error.h"
#include "engine/tensor/counter_random.h"

namespace ft {
namespace {

/// The end of a name that says what the file holds: ".csv" of "a.csv.gz".
std::string kind_of(std::filesystem::path path) {
  if (const auto packed = path.extension(); packed == ".gz" || packed == ".zst") path.replace_extension();
  return path.extension();
}

std::unique_ptr<RowFormat> open_rows(const std::filesystem::path& path, TextUnit unit, const UsesColumn& uses) {
  const std::string kind = kind_of(path);
  if (kind == ".parquet" || kind == ".arrow" || kind == ".feather") {
    if (path.extension() == kind) return open_column_rows(path, uses);
    throw Error(ErrorKind::format, "is a " + kind + " file that was compressed as a whole")
        .at(path.string())
        .help("unpack it: such files compress their columns themselves");
  }
  if (kind == ".csv") return open_csv_rows(path, ',');
  if (kind == ".tsv") return open_csv_rows(path, '\t');
  if (kind == ".txt" || kind == ".text" || kind == ".md") return open_text_rows(path, unit);
  return open_json_rows(path);
}

}  // namespace

bool is_data_file(const std::filesystem::path& path) {
  constexpr const char* kKinds[] = {".jsonl", ".json", ".csv",     ".tsv",   ".txt",
                                    ".text",  ".md",   ".parquet", ".arrow", ".feather"};
  const std::string kind = kind_of(path);
  return std::find(std::begin(kKinds), std::end(kKinds), kind) != std::end(kKinds);
}

RowReader::RowReader(std::filesystem::path path, TextUnit unit, const UsesColumn& uses)
    : path_(std::move(path)), rows_(open_rows(path_, unit, uses)) {}

std::optional<Value> RowReader::next() {
  std::optional<Value> row = rows_->next();
  if (!row) return std::nullopt;
  ++count_;
  row->origin = {path_.string(), static_cast<int>(rows_->line())};
  return row;
}

bool RowReader::skip() {
  const bool there = rows_->skip();
  count_ += there;
  return there;
}

std::vector<Value> read_rows(const std::filesystem::path& path) {
  RowReader reader(path);
  std::vector<Value> rows;
  while (std::optional<Value> row = reader.next()) rows.push_back(std::move(*row));
  if (rows.empty()) throw Error(ErrorKind::format, "is an empty data set: no rows").at(path.string());
  return rows;
}

std::vector<bool> held_out_rows(int64_t rows, double fraction, uint64_t seed) {
  if (!(fraction > 0 && fraction < 1))
    throw Error(ErrorKind::config, "got " + std::to_string(fraction) + ", want a fraction between 0 and 1")
        .key("split");
  std::vector<bool> out(static_cast<size_t>(rows), false);
  if (rows < 2) return out;
  const auto count = std::clamp<int64_t>(std::llround(fraction * static_cast<double>(rows)), 1, rows - 1);
  const CounterRandom random(seed, "data.split");
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  std::nth_element(order.begin(), order.begin() + (count - 1), order.end(), [&](int64_t a, int64_t b) {
    const uint64_t x = random.bits(static_cast<uint64_t>(a)), y = random.bits(static_cast<uint64_t>(b));
    return x != y ? x < y : a < b;
  });
  for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(order[i])] = true;
  return out;
}

}  // namespace ft
