#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/status.h>
#include <arrow/type.h>

#include <map>
#include <mutex>
#include <set>

#include "engine/data/arrow_batches.h"
#include "engine/data/arrow_cells.h"
#include "engine/error/error.h"

namespace ft {
namespace {

constexpr uint64_t kMostMemory = uint64_t{4} << 30, kLeastMemory = uint64_t{256} << 20, kMostMemoryOfByte = 1000;
/// Rows that all say the same come to very few bytes, but not to fewer than this says.
constexpr uint64_t kMostRowsOfByte = 4096;

}  // namespace

Columns choose_columns(std::shared_ptr<arrow::Schema> schema, const UsesColumn& uses, const std::string& path) {
  Columns columns{std::move(schema), {}};
  std::set<std::string> names;
  for (int i = 0; i < columns.schema->num_fields(); ++i) {
    const arrow::Field& field = *columns.schema->field(i);
    if (!names.insert(field.name()).second)
      throw Error(ErrorKind::format, "two columns are called '" + field.name() + "'").at(path);
    if (uses && !uses(field.name())) continue;
    const std::string part = unreadable_part(*field.type());
    if (!uses && !part.empty()) continue;
    if (!part.empty())
      throw Error(ErrorKind::format,
                  "column '" + field.name() + "' holds values of type " + part + ", which is not read")
          .at(path)
          .help(
              "texts, numbers, booleans, lists and structs of them are read: write the column as one of these, or "
              "leave it out");
    columns.wanted.push_back(i);
  }
  return columns;
}

arrow::MemoryPool* batch_memory(uint64_t file_bytes) {
  // Kept for ever: a thread of Arrow may give a buffer back when its reader is gone.
  static auto& pools = *new std::map<uint64_t, arrow::CappedMemoryPool>;
  static std::mutex mutex;
  uint64_t most = kLeastMemory;
  while (most < kMostMemory && most / kMostMemoryOfByte < file_bytes) most *= 2;
  const std::lock_guard lock(mutex);
  return &pools.try_emplace(most, arrow::default_memory_pool(), static_cast<int64_t>(most)).first->second;
}

void check_status(const arrow::Status& status, const std::string& part, const std::string& path) {
  if (status.ok()) return;
  const std::string what = status.message();
  throw Error(status.IsIOError() ? ErrorKind::io : ErrorKind::format,
              part + " cannot be read: " + what.substr(0, what.find('\n')))
      .at(path)
      .help("is the file whole? write or fetch it again");
}

void check_rows(int64_t rows, uint64_t file_bytes, const std::string& path) {
  if (rows >= 0 && static_cast<uint64_t>(rows) / kMostRowsOfByte <= file_bytes) return;
  throw Error(ErrorKind::format, "claims " + std::to_string(rows) + " rows in " + std::to_string(file_bytes) + " bytes")
      .at(path)
      .help("is the file whole? write or fetch it again");
}

void check_batch(const arrow::RecordBatch& batch, const std::string& part, const std::string& path) {
  check_status(batch.ValidateFull(), part, path);
}

}  // namespace ft
