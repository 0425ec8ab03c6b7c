#include "engine/data/row_stream.h"

#include <algorithm>
#include <cmath>

#include "engine/tensor/counter_random.h"

namespace ft {
namespace {

int64_t passes_of(const DataFile& file) { return static_cast<int64_t>(std::ceil(file.weight)); }

}  // namespace

RowStream::RowStream(std::vector<DataFile> files, RowChoice choice) : files_(std::move(files)), choice_(choice) {
  if (choice_.share <= 0) return;
  int64_t rows = 0;
  for (const DataFile& file : files_) {
    RowReader reader(file.path, choice_.unit, [](const std::string&) { return false; });
    while (reader.skip()) ++rows;
  }
  held_ = held_out_rows(rows, choice_.share, choice_.seed);
}

bool RowStream::open_next() {
  if (reader_) {
    bytes_ += static_cast<int64_t>(reader_->bytes_read());
    if (pass_ + 1 == passes_of(files_[file_])) {
      base_ += reader_->count();
      ++file_;
      pass_ = -1;
    }
    reader_.reset();
  }
  if (file_ >= files_.size()) return false;
  ++pass_;
  reader_ = std::make_unique<RowReader>(files_[file_].path, choice_.unit, uses_);
  return true;
}

bool RowStream::takes(int64_t number) const {
  // A file that has grown since its rows were counted has more of them than were drawn from.
  if (choice_.share > 0 &&
      (static_cast<size_t>(number) < held_.size() && held_[static_cast<size_t>(number)]) != choice_.held)
    return false;
  const double part = files_[file_].weight - static_cast<double>(pass_);
  return part >= 1 || CounterRandom(choice_.seed, "data.weight").uniform(static_cast<uint64_t>(number)) < part;
}

std::optional<Value> RowStream::next() {
  if (choice_.limit > 0 && taken_ == choice_.limit) return std::nullopt;
  if (!reader_ && !open_next()) return std::nullopt;
  while (true) {
    if (!takes(base_ + reader_->count())) {
      if (reader_->skip()) continue;
    } else if (std::optional<Value> row = reader_->next()) {
      ++taken_;
      return row;
    }
    if (!open_next()) return std::nullopt;
  }
}

int64_t RowStream::bytes_read() const { return bytes_ + (reader_ ? static_cast<int64_t>(reader_->bytes_read()) : 0); }

int64_t RowStream::total_bytes() const {
  int64_t total = 0;
  for (const DataFile& file : files_)
    total += passes_of(file) * static_cast<int64_t>(std::filesystem::file_size(file.path));
  return total;
}

}  // namespace ft
