#pragma once
/// Batches of rows out of Parquet and Arrow files. Part of the Arrow plugin: only *_arrow.cpp includes it. One thread;
/// Arrow has one of its own, which reads the footer of its files.

#include <arrow/type_fwd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/column_rows.h"

namespace arrow {
class Status;
template <class T>
class Result;
}  // namespace arrow

namespace ft {

/// A file's columns, and which of them are read: numbers of `schema`, rising. They are what a batch has, in this order.
struct Columns {
  std::shared_ptr<arrow::Schema> schema;
  std::vector<int> wanted;
};

class Batches {
 public:
  virtual ~Batches() = default;
  virtual const Columns& columns() const = 0;
  /// Rows of the file, or -1 where they are not known before all is read.
  virtual int64_t rows() const = 0;

  /// Rows that follow one another, the first of them number `begin` of the file. Validated in full: offsets, codes of
  /// dictionaries, UTF-8. `batch` may be null where no column is wanted.
  struct Part {
    int64_t begin = 0, rows = 0;  ///< no rows: the file has ended
    std::shared_ptr<arrow::RecordBatch> batch;
  };
  /// The part behind the last one, or a later one up to that with `row`, where what lies between costs nothing to leave
  /// out.   @throws Error(format) for damage
  virtual Part next(int64_t row) = 0;
  virtual uint64_t bytes_read() const = 0;  ///< of the file, about
};

std::unique_ptr<Batches> open_parquet(const std::filesystem::path& path, const UsesColumn& uses);
std::unique_ptr<Batches> open_arrow(const std::filesystem::path& path, const UsesColumn& uses);

/// Which columns are wanted.   @throws Error(format) for names that stand twice, and wanted ones that cannot be read
Columns choose_columns(std::shared_ptr<arrow::Schema> schema, const UsesColumn& uses, const std::string& path);

/// Memory for what Arrow reads of a file. What would be more than about a thousand times the file's size (and 256 MiB),
/// or than 4 GiB, is refused, whatever sizes the file claims.
arrow::MemoryPool* batch_memory(uint64_t file_bytes);

/// @throws Error(format) where `status` is none of success: "its row group 3 cannot be read: …"
void check_status(const arrow::Status& status, const std::string& part, const std::string& path);

/// Refuses counts that no writer comes to: a few bytes may claim any number of rows.   @throws Error(format)
void check_rows(int64_t rows, uint64_t file_bytes, const std::string& path);

/// Validates a batch.   @throws Error(format)
void check_batch(const arrow::RecordBatch& batch, const std::string& part, const std::string& path);

}  // namespace ft
