#include "engine/train/full_checkpoint.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <exception>
#include <map>
#include <optional>

#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

constexpr int64_t kChunk = int64_t{4} << 20;  // bytes that travel at once

struct Owned {
  Piece piece;
  int rank;
  size_t index;  // in its rank's list
};

// A tensor, and who owns which pieces of it, in order.
struct Whole {
  Piece piece;
  std::vector<Owned> parts;

  bool in_columns() const {
    return std::any_of(parts.begin(), parts.end(), [](const Owned& part) { return !part.piece.columns.whole(); });
  }
};

Piece whole_of(const Piece& piece) {
  Piece whole{piece.name, piece.kind, piece.dtype, piece.shape, 0, 1};
  for (const int64_t dim : piece.shape) whole.count *= dim;
  return whole;
}

// The same list on every rank. Collective.
std::vector<Whole> all_tensors(ProcessGroup& group, const std::vector<SavedPiece>& mine) {
  ShardRecord record{.file = "pieces", .bytes = 0, .checksum = 0, .pieces = {}};
  for (const SavedPiece& saved : mine) record.pieces.push_back(saved.piece);
  const std::vector<std::string> told = group.all_gather_text(write_json(record.to_value()));
  std::vector<Whole> all;
  std::map<std::pair<std::string, std::string>, size_t> places;
  for (int rank = 0; rank < group.size(); ++rank) {
    const auto pieces = ShardRecord::from_value(parse_json(told[static_cast<size_t>(rank)], "a rank's pieces")).pieces;
    for (size_t index = 0; index < pieces.size(); ++index) {
      const Piece& piece = pieces[index];
      if (piece.count == 0) continue;
      const auto [place, is_new] = places.try_emplace({piece.name, piece.kind}, all.size());
      if (is_new) all.push_back({whole_of(piece), {}});
      all[place->second].parts.push_back({piece, rank, index});
    }
  }
  for (Whole& whole : all)
    std::sort(whole.parts.begin(), whole.parts.end(),
              [](const Owned& a, const Owned& b) { return a.piece.begin < b.piece.begin; });
  return all;
}

// Brings tensors to rank 0, all ranks at one piece at a time.
class Collector {
 public:
  Collector(ProcessGroup& group, const std::vector<SavedPiece>& mine)
      : group_(group), mine_(mine), chunk_(at::empty({kChunk}, at::kByte)) {}

  /// Hands a piece's bytes to `take` on rank 0, a few MB at a time, in order.
  template <class Take>
  void bring(const Owned& part, const Take& take) {
    const auto width = static_cast<int64_t>(byte_size(part.piece.dtype));
    for (int64_t at = 0; at < part.piece.count; at += kChunk / width) {
      const int64_t count = std::min(kChunk / width, part.piece.count - at);
      const at::Tensor bytes = chunk_.narrow(0, 0, count * width);
      if (group_.rank() == part.rank)
        bytes.view(mine_[part.index].value.scalar_type()).copy_(mine_[part.index].value.narrow(0, at, count));
      if (part.rank != 0) group_.broadcast(bytes, part.rank).wait();
      if (group_.rank() == 0)
        take(at, std::span(static_cast<const std::byte*>(bytes.const_data_ptr()), bytes.nbytes()));
    }
  }

 private:
  ProcessGroup& group_;
  const std::vector<SavedPiece>& mine_;
  at::Tensor chunk_;
};

// Puts elements of some columns where they stand in the whole matrix.   @param first of the columns' matrix
void put_columns(const Piece& piece, int64_t first, std::span<const std::byte> bytes, std::vector<std::byte>& whole) {
  const auto width = static_cast<int64_t>(byte_size(piece.dtype));
  const auto count = static_cast<int64_t>(bytes.size()) / width;
  for (int64_t done = 0; done < count;) {
    const int64_t row = (first + done) / piece.columns.count, column = (first + done) % piece.columns.count;
    const int64_t run = std::min(piece.columns.count - column, count - done);
    const int64_t to = row * piece.shape[1] + piece.columns.begin + column;
    std::copy_n(bytes.begin() + done * width, run * width, whole.begin() + to * width);
    done += run;
  }
}

// Rank 0's file. What goes wrong is told at the end: until then the other ranks go on sending.
class FullFile {
 public:
  FullFile(const std::filesystem::path& directory, const std::vector<Whole>& tensors) {
    std::vector<Piece> table;
    for (const Whole& whole : tensors) table.push_back(whole.piece);
    attempt([&] { writer_.emplace(directory, 0, 1, std::move(table)); });
  }

  void append(std::span<const std::byte> bytes) {
    attempt([&] { writer_->append(bytes); });
  }

  ShardRecord finish() {
    ShardRecord record;
    attempt([&] { record = writer_->finish(); });
    if (failed_) std::rethrow_exception(failed_);
    return record;
  }

 private:
  template <class Action>
  void attempt(const Action& action) {
    if (failed_) return;
    try {
      action();
    } catch (const std::exception&) {
      failed_ = std::current_exception();
    }
  }

  std::optional<CheckpointShardWriter> writer_;
  std::exception_ptr failed_;
};

}  // namespace

ShardRecord write_full_checkpoint(ProcessGroup& group, const std::filesystem::path& directory,
                                  const std::vector<SavedPiece>& mine) {
  const std::vector<Whole> tensors = all_tensors(group, mine);
  Collector collector(group, mine);
  std::optional<FullFile> file;
  if (group.rank() == 0) file.emplace(directory, tensors);
  for (const Whole& whole : tensors) {
    if (!whole.in_columns()) {
      for (const Owned& part : whole.parts)
        collector.bring(part, [&](int64_t, std::span<const std::byte> bytes) { file->append(bytes); });
      continue;
    }
    std::vector<std::byte> matrix;  // its columns come one after another
    if (group.rank() == 0) matrix.resize(static_cast<size_t>(whole.piece.count) * byte_size(whole.piece.dtype));
    for (const Owned& part : whole.parts)
      collector.bring(part, [&](int64_t at, std::span<const std::byte> bytes) {
        put_columns(part.piece, part.piece.begin + at, bytes, matrix);
      });
    if (file) file->append(matrix);
  }
  return file ? file->finish() : ShardRecord{};
}

}  // namespace ft
