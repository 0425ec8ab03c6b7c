#include "engine/formats/tensor_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "engine/error/error.h"
#include "engine/formats/safetensors.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

int64_t product(const std::vector<int64_t>& counts) {
  int64_t n = 1;
  for (const int64_t count : counts) n *= count;
  return n;
}

// Small runs that lie near each other in a file come by one read.
class Gather {
 public:
  Gather(const InputFile& file, std::byte* out) : file_(file), out_(out) {}

  void add(uint64_t offset, size_t to, size_t bytes) {
    constexpr uint64_t kLargest = 1 << 20, kGap = 4096;
    if (bytes >= kLargest / 2) return flush(), file_.read(offset, {out_ + to, bytes});
    const bool near =
        !runs_.empty() && offset >= begin_ && offset <= end_ + kGap && offset + bytes - begin_ <= kLargest;
    if (!near) flush();
    if (runs_.empty()) begin_ = end_ = offset;
    runs_.push_back({offset, to, bytes});
    end_ = std::max(end_, offset + bytes);
  }
  void flush() {
    if (runs_.size() == 1) {
      file_.read(begin_, {out_ + runs_[0].to, runs_[0].bytes});
    } else if (!runs_.empty()) {
      scratch_.resize(end_ - begin_);
      file_.read(begin_, scratch_);
      for (const Run& run : runs_) std::memcpy(out_ + run.to, scratch_.data() + (run.offset - begin_), run.bytes);
    }
    runs_.clear();
  }

 private:
  struct Run {
    uint64_t offset;
    size_t to, bytes;
  };
  const InputFile& file_;
  std::byte* out_;
  std::vector<Run> runs_;
  std::vector<std::byte> scratch_;
  uint64_t begin_ = 0, end_ = 0;
};

// The part of a piece that lies in a flat range of its tensor.
class PieceReader {
 public:
  // `shape`: the tensor's, or its number of elements for a flat piece.
  PieceReader(const TensorPiece& piece, const std::vector<int64_t>& shape, size_t width)
      : piece_(piece), width_(width) {
    const size_t dims = shape.size();
    tensor_stride_.assign(dims, 1);
    for (size_t d = dims; d-- > 1;) tensor_stride_[d - 1] = tensor_stride_[d] * shape[d];
    for (size_t d = 0; d < dims; ++d) first_ += piece.begin[d] * tensor_stride_[d];
    // The last dims whose elements follow each other in the file and in the tensor alike.
    outer_ = dims;
    while (outer_ > 0) {
      const size_t d = outer_ - 1;
      if (piece.count[d] != 1 && piece.stride[d] != run_) break;
      run_ *= piece.count[d];
      outer_ = d;
      if (piece.count[d] != shape[d]) break;
    }
    for (size_t d = 0; d < outer_; ++d) runs_ *= piece.count[d];
  }

  void read(int64_t begin, int64_t count, Gather& gather) const {
    const int64_t end = begin + count;
    for (int64_t run = first_run_past(begin); run < runs_; ++run) {
      const auto [place, offset] = locate(run);
      if (place >= end) break;
      const int64_t from = std::max(begin, place), to = std::min(end, place + run_);
      gather.add(piece_.offset + static_cast<uint64_t>(offset + from - place) * width_,
                 static_cast<size_t>(from - begin) * width_, static_cast<size_t>(to - from) * width_);
    }
  }

 private:
  // Where a run begins in the tensor and, in elements, in the file.
  std::pair<int64_t, int64_t> locate(int64_t run) const {
    int64_t place = first_, offset = 0;
    for (size_t d = outer_; d-- > 0;) {
      const int64_t index = run % piece_.count[d];
      run /= piece_.count[d];
      place += index * tensor_stride_[d];
      offset += index * piece_.stride[d];
    }
    return {place, offset};
  }
  // The first run that ends past `begin`; places grow with the run's number.
  int64_t first_run_past(int64_t begin) const {
    int64_t low = 0, high = runs_;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (locate(middle).first + run_ > begin)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }

  const TensorPiece& piece_;
  size_t width_;
  std::vector<int64_t> tensor_stride_;
  int64_t first_ = 0, run_ = 1, runs_ = 1;
  size_t outer_ = 0;
};

[[noreturn]] void fail(const fs::path& path, const std::string& tensor, const std::string& message) {
  throw Error(ErrorKind::format, message).at(path.string()).key(tensor);
}

std::string box_text(const TensorPiece& piece) { return shape_text(piece.count) + " at " + shape_text(piece.begin); }

// Bytes that a piece reaches from its offset on, or nothing where 64 bits cannot count them.
std::optional<uint64_t> reach(const TensorPiece& piece, size_t width) {
  uint64_t last = 0, bytes = 0;
  for (size_t d = 0; d < piece.count.size(); ++d) {
    uint64_t step = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(piece.count[d] - 1), static_cast<uint64_t>(piece.stride[d]),
                               &step) ||
        __builtin_add_overflow(last, step, &last))
      return std::nullopt;
  }
  if (__builtin_mul_overflow(last + 1, uint64_t{width}, &bytes)) return std::nullopt;
  return bytes;
}

bool overlap(const TensorPiece& a, const TensorPiece& b) {
  for (size_t d = 0; d < a.begin.size(); ++d)
    if (a.begin[d] >= b.begin[d] + b.count[d] || b.begin[d] >= a.begin[d] + a.count[d]) return false;
  return true;
}

// Every element in one piece exactly. Pieces are in the order of where they begin.
void check_cover(const SourceTensor& tensor, const fs::path& path) {
  int64_t covered = 0;
  for (size_t i = 0; i < tensor.pieces.size(); ++i) {
    const TensorPiece& piece = tensor.pieces[i];
    covered += piece.numel();  // pieces lie within the tensor and do not overlap: no overflow
    for (size_t j = i + 1; j < tensor.pieces.size(); ++j) {
      const TensorPiece& next = tensor.pieces[j];
      if (!piece.begin.empty() && next.begin[0] >= piece.begin[0] + piece.count[0]) break;
      if (overlap(piece, next))
        fail(path, tensor.name, "has pieces that overlap, " + box_text(piece) + " and " + box_text(next));
    }
  }
  if (covered != tensor.numel())
    fail(path, tensor.name,
         "has pieces of " + std::to_string(covered) + " elements, want " + std::to_string(tensor.numel()) +
             " for shape " + shape_text(tensor.shape));
}

}  // namespace

int64_t TensorPiece::numel() const { return product(count); }
int64_t SourceTensor::numel() const { return product(shape); }

const SourceTensor* TensorSource::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void TensorSource::read(const SourceTensor& tensor, int64_t begin, int64_t count, void* out) const {
  FT_CHECK(begin >= 0 && count >= 0 && count <= tensor.numel() - begin, "read past the end of '" + tensor.name + "'");
  const size_t width = byte_size(tensor.dtype);
  const std::vector<int64_t> flat{tensor.numel()};
  for (const TensorPiece& piece : tensor.pieces) {
    const bool same_dims = piece.begin.size() == tensor.shape.size();
    Gather gather(*files_[piece.file], static_cast<std::byte*>(out));
    PieceReader(piece, same_dims ? tensor.shape : flat, width).read(begin, count, gather);
    gather.flush();
  }
}

size_t TensorSourceBuilder::open(const std::string& name) {
  const fs::path file(name);
  if (name.empty() || file.is_absolute() || std::find(file.begin(), file.end(), fs::path("..")) != file.end())
    throw Error(ErrorKind::format, "names the file '" + name + "', which lies outside the directory")
        .at(source_.path_.string());
  for (size_t i = 0; i < source_.files_.size(); ++i)
    if (source_.files_[i]->path() == source_.path_ / file) return i;
  source_.files_.push_back(std::make_unique<InputFile>(source_.path_ / file));
  return source_.files_.size() - 1;
}

void TensorSourceBuilder::add(SourceTensor tensor) {
  const fs::path& path = source_.path_;
  uint64_t bytes = byte_size(tensor.dtype);
  for (const int64_t dim : tensor.shape)
    if (dim < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes) || bytes > (uint64_t{1} << 60))
      fail(path, tensor.name, "has shape " + shape_text(tensor.shape) + ", which nothing can hold");
  std::erase_if(tensor.pieces, [](const TensorPiece& piece) {
    return std::find(piece.count.begin(), piece.count.end(), 0) != piece.count.end();
  });
  std::stable_sort(tensor.pieces.begin(), tensor.pieces.end(),
                   [](const TensorPiece& a, const TensorPiece& b) { return a.begin < b.begin; });
  // What every rank holds alike may be listed more than once.
  tensor.pieces.erase(
      std::unique(tensor.pieces.begin(), tensor.pieces.end(),
                  [](const TensorPiece& a, const TensorPiece& b) { return a.begin == b.begin && a.count == b.count; }),
      tensor.pieces.end());
  const std::vector<int64_t> flat{tensor.numel()};
  for (const TensorPiece& piece : tensor.pieces) {
    const std::vector<int64_t>& shape = piece.begin.size() == tensor.shape.size() ? tensor.shape : flat;
    bool inside =
        piece.begin.size() == shape.size() && piece.count.size() == shape.size() && piece.stride.size() == shape.size();
    for (size_t d = 0; inside && d < shape.size(); ++d)
      inside = piece.begin[d] >= 0 && piece.count[d] > 0 && piece.stride[d] >= 0 && piece.count[d] <= shape[d] &&
               piece.begin[d] <= shape[d] - piece.count[d];
    if (!inside)
      fail(path, tensor.name, "has a piece " + box_text(piece) + ", outside its shape " + shape_text(tensor.shape));
    const std::optional<uint64_t> want = reach(piece, byte_size(tensor.dtype));
    const uint64_t size = source_.files_[piece.file]->size();
    if (!want || piece.offset > size || *want > size - piece.offset)
      fail(source_.files_[piece.file]->path(), tensor.name,
           "has a piece " + box_text(piece) + " past the file's end: it is truncated");
  }
  check_cover(tensor, path);
  if (!source_.index_.emplace(tensor.name, source_.tensors_.size()).second)
    fail(path, tensor.name, "stands there twice");
  source_.tensors_.push_back(std::move(tensor));
}

void TensorSourceBuilder::add_steps(const std::string& parameter, double steps) {
  constexpr double kMost = 1e12;
  if (!(steps >= 0 && steps <= kMost) || steps != std::floor(steps))
    fail(source_.path_, parameter, "has taken " + std::to_string(steps) + " steps");
  const auto count = static_cast<int64_t>(steps);
  if (source_.steps_ && *source_.steps_ != count)
    fail(source_.path_, parameter,
         "has taken " + std::to_string(count) + " steps, others " + std::to_string(*source_.steps_));
  source_.steps_ = count;
}

double TensorSourceBuilder::number(size_t file, DType dtype, uint64_t offset) const {
  std::array<std::byte, 8> raw{};
  const InputFile& in = *source_.files_[file];
  in.read(offset, std::span(raw).first(byte_size(dtype)));
  const auto as = [&](auto value) {
    std::memcpy(&value, raw.data(), sizeof value);
    return static_cast<double>(value);
  };
  if (dtype == DType::f32) return as(float{});
  if (dtype == DType::f64) return as(double{});
  if (dtype == DType::i32) return as(int32_t{});
  if (dtype == DType::i64) return as(int64_t{});
  throw Error(ErrorKind::format, std::string("has a count of steps in ") + to_string(dtype)).at(in.path().string());
}

TensorSource TensorSourceBuilder::finish(std::string kind, SourcePart part) {
  if (source_.tensors_.empty() && part == SourcePart::model)
    throw Error(ErrorKind::format, "holds no tensors of a model").at(source_.path_.string());
  source_.kind_ = std::move(kind);
  return std::move(source_);
}

}  // namespace ft
