#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>

#include <algorithm>

#include "engine/data/arrow_batches.h"
#include "engine/error/error.h"
#include "engine/formats/file.h"

namespace ft {
namespace {

/// Small, so that memory holds few rows, and that lists do not fall into chunks, which Arrow does not put together.
constexpr int64_t kRowsOfBatch = 256;

void add_leaves(const parquet::arrow::SchemaField& field, std::vector<int>& leaves) {
  if (field.is_leaf()) leaves.push_back(field.column_index);
  for (const auto& child : field.children) add_leaves(child, leaves);
}

/// A row group at a time, of it pages as they are needed.
class ParquetBatches : public Batches {
 public:
  ParquetBatches(const std::filesystem::path& path, const UsesColumn& uses)
      : path_(path.string()), bytes_(InputFile(path).size()), memory_(batch_memory(bytes_)) {
    auto file = arrow::io::ReadableFile::Open(path_, memory_);
    check_status(file.status(), "the file", path_);
    parquet::ReaderProperties pages(memory_);
    pages.enable_buffered_stream();
    pages.set_page_checksum_verification(true);
    parquet::ArrowReaderProperties properties(/*use_threads=*/false);
    properties.set_pre_buffer(false);
    properties.set_batch_size(kRowsOfBatch);
    parquet::arrow::FileReaderBuilder builder;
    check_status(builder.Open(*file, pages), "the file", path_);
    check_status(builder.memory_pool(memory_)->properties(properties)->Build(&reader_), "its schema", path_);
    std::shared_ptr<arrow::Schema> schema;
    check_status(reader_->GetSchema(&schema), "its schema", path_);
    columns_ = choose_columns(std::move(schema), uses, path_);
    for (const int column : columns_.wanted) add_leaves(reader_->manifest().schema_fields.at(column), leaves_);
    count_rows();
  }

  const Columns& columns() const override { return columns_; }
  int64_t rows() const override { return begins_.back(); }

  Part next(int64_t row) override {
    if (row >= rows()) at_ = rows();
    while (at_ < rows()) {
      if (row >= end_of_group()) at_ = begins_[static_cast<size_t>(group_of(row))];
      const int group = group_of(at_);
      if (leaves_.empty()) return nothing_wanted(group);
      if (group != group_) open(group);
      const std::string name = "its row group " + std::to_string(group + 1);
      std::shared_ptr<arrow::RecordBatch> batch;
      check_status(batches_->ReadNext(&batch), name, path_);
      if (!batch || batch->num_rows() > begins_[static_cast<size_t>(group) + 1] - at_)
        throw Error(ErrorKind::format, name + " has not as many rows as it says").at(path_);
      if (batch->num_rows() == 0) continue;
      check_batch(*batch, name, path_);
      const Part part{at_, batch->num_rows(), batch};
      at_ += part.rows;
      return part;
    }
    return {};
  }

  uint64_t bytes_read() const override {
    const double share = rows() > 0 ? static_cast<double>(at_) / static_cast<double>(rows()) : 1;
    return static_cast<uint64_t>(share * static_cast<double>(bytes_));
  }

 private:
  void count_rows() {
    const auto data = reader_->parquet_reader()->metadata();
    for (int group = 0; group < data->num_row_groups(); ++group) {
      const int64_t rows = data->RowGroup(group)->num_rows();
      check_rows(rows, bytes_, path_);
      begins_.push_back(begins_.back() + rows);
      check_rows(begins_.back(), bytes_, path_);
    }
    if (begins_.back() != data->num_rows())
      throw Error(ErrorKind::format, "its row groups have " + std::to_string(begins_.back()) + " rows, itself " +
                                         std::to_string(data->num_rows()))
          .at(path_);
  }

  /// The group that holds a row of the file.
  int group_of(int64_t row) const {
    return static_cast<int>(std::upper_bound(begins_.begin(), begins_.end(), row) - begins_.begin()) - 1;
  }
  int64_t end_of_group() const { return begins_[static_cast<size_t>(group_of(at_)) + 1]; }

  void open(int group) {
    auto made = reader_->GetRecordBatchReader({group}, leaves_);
    check_status(made.status(), "its row group " + std::to_string(group + 1), path_);
    batches_ = std::move(*made);
    group_ = group;
  }

  Part nothing_wanted(int group) {
    const Part part{at_, std::min(kRowsOfBatch, begins_[static_cast<size_t>(group) + 1] - at_), nullptr};
    at_ += part.rows;
    return part;
  }

  std::string path_;
  uint64_t bytes_;  ///< of the file
  arrow::MemoryPool* memory_;
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;  ///< of group_
  Columns columns_;
  std::vector<int> leaves_;         ///< numbers of the wanted columns' leaves
  std::vector<int64_t> begins_{0};  ///< the row that each group begins with, and at last the number of rows
  int64_t at_ = 0;                  ///< the row that the next part begins with
  int group_ = -1;
};

}  // namespace

std::unique_ptr<Batches> open_parquet(const std::filesystem::path& path, const UsesColumn& uses) {
  return std::make_unique<ParquetBatches>(path, uses);
}

}  // namespace ft
