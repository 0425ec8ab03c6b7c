// The Arrow plugin's door: rows of Parquet and Arrow files.
#include <arrow/array.h>
#include <arrow/io/interfaces.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/thread_pool.h>

#include "engine/data/arrow_batches.h"
#include "engine/data/arrow_cells.h"
#include "engine/data/row_format.h"
#include "engine/error/error.h"

namespace ft {
namespace {

/// Calls Arrow. What it throws, or Parquet below it, is a refusal, too.
template <class Call>
auto refusing(const std::string& path, const Call& call) {
  try {
    return call();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::memory, "not enough memory to read it").at(path);
  } catch (const std::exception& exception) {
    const std::string what = exception.what();
    throw Error(ErrorKind::format, "cannot be read: " + what.substr(0, what.find('\n')))
        .at(path)
        .help("is the file whole? write or fetch it again");
  }
}

std::unique_ptr<Batches> open_batches(const std::filesystem::path& path, const UsesColumn& uses) {
  static const arrow::Status alone = arrow::SetCpuThreadPoolCapacity(1) & arrow::io::SetIOThreadPoolCapacity(1);
  check_status(alone, "Arrow's threads", path.string());
  return path.extension() == ".parquet" ? open_parquet(path, uses) : open_arrow(path, uses);
}

class ColumnRows : public RowFormat {
 public:
  ColumnRows(const std::filesystem::path& path, const UsesColumn& uses)
      : path_(path.string()), batches_(refusing(path_, [&] { return open_batches(path, uses); })) {}

  std::optional<Value> next() override {
    if (!locate()) return std::nullopt;
    const int64_t row = row_++ - part_.begin;
    return refusing(path_, [&] { return value(row); });
  }
  /// Where the file says how many rows it has, nothing is read.
  bool skip() override {
    if (batches_->rows() >= 0 ? row_ >= batches_->rows() : !locate()) return false;
    ++row_;
    return true;
  }
  int64_t line() const override { return row_; }
  uint64_t bytes_read() const override { return batches_->bytes_read(); }

 private:
  /// Reads up to the part that holds row_.   @return false where there is none
  bool locate() {
    while (row_ >= part_.begin + part_.rows) {
      part_ = refusing(path_, [&] { return batches_->next(row_); });
      if (part_.rows == 0) return false;
      const size_t columns = part_.batch ? static_cast<size_t>(part_.batch->num_columns()) : 0;
      if (columns != batches_->columns().wanted.size())
        throw Error(ErrorKind::format, "has " + std::to_string(columns) + " columns where its schema has others")
            .at(path_);
    }
    return true;
  }

  Value value(int64_t row) const {
    const Columns& columns = batches_->columns();
    const std::string place = path_ + ":" + std::to_string(row_);
    Value::Map out;
    size_t bytes = 0;
    for (int i = 0, read = 0; i < columns.schema->num_fields(); ++i) {
      const bool wanted = static_cast<size_t>(read) < columns.wanted.size() && columns.wanted[read] == i;
      out.emplace_back(columns.schema->field(i)->name(),
                       wanted ? cell(*part_.batch->column(read++), row, bytes, place) : Value());
    }
    return Value(std::move(out));
  }

  std::string path_;
  std::unique_ptr<Batches> batches_;
  Batches::Part part_;
  int64_t row_ = 0;  ///< of the file: the next one, and the number, from 1 on, of the last
};

}  // namespace
}  // namespace ft

extern "C" __attribute__((visibility("default"))) ft::RowFormat* ftengine_open_column_rows(
    const std::filesystem::path& path, const ft::UsesColumn& uses) {
  return new ft::ColumnRows(path, uses);
}
