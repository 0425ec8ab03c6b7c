#include <arrow/buffer.h>
#include <arrow/io/file.h>
#include <arrow/ipc/options.h>
#include <arrow/ipc/reader.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/result.h>
#include <arrow/type.h>

#include <algorithm>
#include <span>

#include "engine/data/arrow_batches.h"
#include "engine/error/error.h"
#include "engine/formats/file.h"

namespace ft {
namespace {

using File = std::shared_ptr<arrow::io::ReadableFile>;

constexpr std::string_view kMagic = "ARROW1", kOldFeather = "FEA1", kParquet = "PAR1";
constexpr std::string_view kContinuation("\xFF\xFF\xFF\xFF", 4);
constexpr std::string_view kEndOfStream("\xFF\xFF\xFF\xFF\0\0\0\0", 8);

File open(const std::string& path, arrow::MemoryPool* memory) {
  auto file = arrow::io::ReadableFile::Open(path, memory);
  check_status(file.status(), "the file", path);
  return *file;
}

/// Up to `size` bytes of a file.
std::string bytes_at(arrow::io::ReadableFile& file, int64_t at, int64_t size, const std::string& path) {
  auto read = file.ReadAt(at, size);
  check_status(read.status(), "the file", path);
  return (*read)->ToString();
}

/// How the wanted columns are read. Where none is, one is read all the same: an empty list means all to Arrow.
arrow::ipc::IpcReadOptions options_for(const Columns& columns, arrow::MemoryPool* memory) {
  auto options = arrow::ipc::IpcReadOptions::Defaults();
  options.memory_pool = memory;
  options.use_threads = false;
  options.included_fields = columns.wanted;
  if (columns.wanted.empty() && columns.schema && columns.schema->num_fields() > 0) options.included_fields = {0};
  return options;
}

class IpcBatches : public Batches {
 public:
  explicit IpcBatches(const std::filesystem::path& path)
      : path_(path.string()),
        bytes_(InputFile(path).size()),
        memory_(batch_memory(bytes_)),
        file_(open(path_, memory_)) {}

  const Columns& columns() const override { return columns_; }
  int64_t rows() const override { return -1; }

  Part next(int64_t) override {
    while (true) {
      const std::string name = "its batch " + std::to_string(count_ + 1);
      const std::shared_ptr<arrow::RecordBatch> batch = read(name);
      if (!batch) return {};
      ++count_;
      check_rows(batch->num_rows(), bytes_, path_);
      if (batch->num_rows() == 0) continue;
      check_batch(*batch, name, path_);
      const Part part{at_, batch->num_rows(), columns_.wanted.empty() ? nullptr : batch};
      at_ += part.rows;
      return part;
    }
  }

 protected:
  /// The batch after the last one; null at the end.
  virtual std::shared_ptr<arrow::RecordBatch> read(const std::string& name) = 0;

  std::string path_;
  uint64_t bytes_;  ///< of the file
  arrow::MemoryPool* memory_;
  File file_;
  Columns columns_;
  int count_ = 0;  ///< batches read

 private:
  int64_t at_ = 0;
};

/// Arrow's file format, which Feather is since its version 2: the batches are listed at the end.
class FileBatches : public IpcBatches {
 public:
  FileBatches(const std::filesystem::path& path, const UsesColumn& uses) : IpcBatches(path) {
    reader_ = opened();
    columns_ = choose_columns(reader_->schema(), uses, path_);
    reader_ = opened();
  }
  uint64_t bytes_read() const override {
    const int all = reader_->num_record_batches();
    return all > 0 ? bytes_ * static_cast<uint64_t>(count_) / static_cast<uint64_t>(all) : bytes_;
  }

 private:
  std::shared_ptr<arrow::ipc::RecordBatchFileReader> opened() {
    auto made = arrow::ipc::RecordBatchFileReader::Open(file_, options_for(columns_, memory_));
    check_status(made.status(), "the file", path_);
    return *made;
  }
  std::shared_ptr<arrow::RecordBatch> read(const std::string& name) override {
    if (count_ >= reader_->num_record_batches()) return nullptr;
    auto batch = reader_->ReadRecordBatch(count_);
    check_status(batch.status(), name, path_);
    return *batch;
  }

  std::shared_ptr<arrow::ipc::RecordBatchFileReader> reader_;
};

/// Arrow's stream, as Hugging Face's `datasets` keeps it in files.
class StreamBatches : public IpcBatches {
 public:
  StreamBatches(const std::filesystem::path& path, const UsesColumn& uses) : IpcBatches(path) {
    reader_ = opened();
    columns_ = choose_columns(reader_->schema(), uses, path_);
    check_status(file_->Seek(0), "the file", path_);
    reader_ = opened();
  }
  uint64_t bytes_read() const override { return position(); }

 private:
  std::shared_ptr<arrow::ipc::RecordBatchStreamReader> opened() {
    auto made = arrow::ipc::RecordBatchStreamReader::Open(file_, options_for(columns_, memory_));
    check_status(made.status(), "the file", path_);
    return *made;
  }
  std::shared_ptr<arrow::RecordBatch> read(const std::string& name) override {
    std::shared_ptr<arrow::RecordBatch> batch;
    check_status(reader_->ReadNext(&batch), name, path_);
    if (!batch) check_end();
    return batch;
  }
  uint64_t position() const {
    const auto at = file_->Tell();
    return at.ok() ? static_cast<uint64_t>(*at) : 0;
  }

  /// Arrow takes the end of the file for the end of the stream, wherever it was cut. A writer that was closed has left
  /// a mark; before Arrow 0.15, when messages had no mark either, none that could be told from data.
  void check_end() const {
    const int64_t size = static_cast<int64_t>(bytes_), mark = static_cast<int64_t>(kEndOfStream.size());
    if (bytes_at(*file_, 0, 4, path_) != kContinuation) return;
    if (position() == bytes_ && size >= mark && bytes_at(*file_, size - mark, mark, path_) == kEndOfStream) return;
    throw Error(ErrorKind::format, position() == bytes_ ? "the stream has no end: the file was cut, or is still written"
                                                        : "something follows the end of the stream")
        .at(path_)
        .help("write or fetch it again");
  }

  std::shared_ptr<arrow::ipc::RecordBatchStreamReader> reader_;
};

}  // namespace

std::unique_ptr<Batches> open_arrow(const std::filesystem::path& path, const UsesColumn& uses) {
  const InputFile file(path);
  std::string head(std::min<uint64_t>(kMagic.size(), file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(head)));
  if (head == kMagic) return std::make_unique<FileBatches>(path, uses);
  if (head.starts_with(kParquet))
    throw Error(ErrorKind::format, "is a Parquet file by its first bytes").at(path.string()).help("call it .parquet");
  if (head.starts_with(kOldFeather))
    throw Error(ErrorKind::format, "is a Feather file of version 1, which is not read")
        .at(path.string())
        .help("write it again: pyarrow.feather.write_feather(pyarrow.feather.read_table('" + path.string() +
              "'), 'new.feather')");
  return std::make_unique<StreamBatches>(path, uses);
}

}  // namespace ft
