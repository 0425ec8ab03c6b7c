#pragma once
/// The rows of a data set: its files one after the other, those that the split takes, as often as their weights say.
/// The same rows in the same order on every rank. Owned by whoever reads a split; one thread.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/data/data_files.h"
#include "engine/data/rows.h"

namespace ft {

/// Which rows of the files a split takes.
struct RowChoice {
  double share = 0;   ///< above 0: a share of the rows is held out
  bool held = false;  ///< of these, those that are held out; else those that are not
  int64_t limit = 0;  ///< rows to take from the start; 0: all
  uint64_t seed = 0;
  TextUnit unit = TextUnit::line;  ///< what a row of a plain text is
};

class RowStream {
 public:
  /// A share counts the rows of all files first.   @throws as RowReader
  RowStream(std::vector<DataFile> files, RowChoice choice);

  /// The next row, its origin file:line; nothing at the end. A file of weight 2.5 is read three times, the third time
  /// each of its rows with a chance of a half, by the seed.
  std::optional<Value> next();

  /// From the next file on, values of other columns are not read, where files lie by columns.
  void read_only(UsesColumn uses) { uses_ = std::move(uses); }

  const std::vector<DataFile>& files() const { return files_; }
  const RowChoice& choice() const { return choice_; }
  int64_t bytes_read() const;   ///< of the files as they lie on the disk, each as often as it is read
  int64_t total_bytes() const;  ///< what bytes_read() comes to

 private:
  bool open_next();
  bool takes(int64_t number) const;

  std::vector<DataFile> files_;
  RowChoice choice_;
  std::vector<bool> held_;
  UsesColumn uses_;
  std::unique_ptr<RowReader> reader_;
  size_t file_ = 0;
  int64_t pass_ = -1, base_ = 0, taken_ = 0, bytes_ = 0;  ///< base_: rows of the files before this one
};

}  // namespace ft
