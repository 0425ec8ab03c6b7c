#include "engine/train/checkpoint_saver.h"

#include <algorithm>
#include <chrono>
#include <new>

#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/json.h"
#include "engine/train/full_checkpoint.h"

namespace ft {
namespace {

// Between two looks at whether to give up.
constexpr int64_t kChunk = int64_t{8} << 20;

std::string failure_text(const std::exception& exception) {
  const auto* error = dynamic_cast<const Error*>(&exception);
  if (dynamic_cast<const std::bad_alloc*>(&exception)) return "host memory is out";
  if (!error) return exception.what();
  return error->where().empty() ? error->message() : error->where() + ": " + error->message();
}

// "+" and the record of what was written, "-" and what failed.
template <class Write>
std::string result_of(const Write& write) try {
  return "+" + write_json(write().to_value());
} catch (const std::exception& e) {
  return "-" + failure_text(e);
}

// Tells all ranks how each one's work went.   @return each rank's result, without its mark.
std::vector<std::string> share(ProcessGroup& group, const std::string& said) {
  std::vector<std::string> results = group.all_gather_text(said);
  for (size_t rank = 0; rank < results.size(); ++rank) {
    if (results[rank].front() == '-')
      throw Error(ErrorKind::io, results[rank].substr(1)).context("saving on rank " + std::to_string(rank));
    results[rank].erase(0, 1);
  }
  return results;
}

// Runs `action` on this rank, and throws on every rank where one fails.
template <class Action>
std::vector<std::string> on_every_rank(ProcessGroup& group, const Action& action) {
  std::string said;
  try {
    said = "+" + action();
  } catch (const std::exception& e) {
    said = "-" + failure_text(e);
  }
  return share(group, said);
}

}  // namespace

CheckpointSaver::~CheckpointSaver() {
  give_up_ = true;
  if (thread_.joinable()) thread_.join();
}

bool CheckpointSaver::start(const std::filesystem::path& directory, std::vector<SavedPiece> pieces, Value header,
                            bool replace) {
  FT_CHECK(!at_work(), "one checkpoint at a time");
  const auto prepared = on_every_rank(*group_, [&] {
    std::error_code absent;
    if (replace && group_->rank() == 0) std::filesystem::remove(directory / "manifest.json", absent);
    return std::string(group_->rank() == 0 && !prepare_checkpoint(directory) ? "whole" : "");
  });
  if (prepared[0] == "whole") return false;
  values_made_ = device_->mark();
  directory_ = directory;
  header_ = std::move(header);
  at_work_ = true;
  if (kind_ == StateDict::full) {
    result_ = result_of([&] { return write_full_checkpoint(*group_, directory_, pieces); });
    read_ = done_ = true;
    return true;
  }
  read_ = done_ = false;
  thread_ = std::thread([this, all = std::move(pieces)] { write(all); });
  return true;
}

void CheckpointSaver::write(const std::vector<SavedPiece>& pieces) {
  const auto tell = [&](bool& what) {
    const std::lock_guard lock(mutex_);
    what = true;
    news_.notify_all();
  };
  result_ = result_of([&] {
    std::vector<Piece> table;
    for (const SavedPiece& saved : pieces) table.push_back(saved.piece);
    CheckpointShardWriter writer(directory_, group_->rank(), group_->size(), std::move(table));
    const auto queue = device_->enter(ComputeDevice::Queue::saving);
    device_->wait(values_made_);
    for (const SavedPiece& saved : pieces)
      if (saved.piece.count > 0) append(writer, saved.value);
    tell(read_);  // the rest, above all the wait for the disk, needs no tensor
    return writer.finish();
  });
  tell(read_);
  tell(done_);
}

void CheckpointSaver::append(CheckpointShardWriter& writer, const at::Tensor& value) {
  const int64_t width = value.element_size();
  for (int64_t at = 0; at < value.numel(); at += kChunk / width) {
    if (give_up_) throw Error(ErrorKind::io, "given up");
    const at::Tensor part = value.narrow(0, at, std::min(kChunk / width, value.numel() - at)).cpu();
    writer.append({static_cast<const std::byte*>(part.const_data_ptr()), part.nbytes()});
  }
}

double CheckpointSaver::wait_for_reads() {
  if (!at_work()) return 0;
  const auto started = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  news_.wait(lock, [this] { return read_; });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

bool CheckpointSaver::done_everywhere() {
  bool done;
  {
    const std::lock_guard lock(mutex_);
    done = done_;
  }
  return group_->max(done ? 0 : 1) == 0;
}

void CheckpointSaver::finish(const std::function<void()>& on_first_rank) {
  FT_CHECK(at_work(), "finish follows start");
  if (thread_.joinable()) thread_.join();
  at_work_ = false;
  const auto complete = [&](const std::vector<std::string>& records) {
    std::vector<ShardRecord> shards;
    for (const std::string& record : records)
      if (const Value value = parse_json(record, "shard record"); value.at("file") != Value(""))
        shards.push_back(ShardRecord::from_value(value));
    write_manifest(directory_, header_, shards);
    if (on_first_rank) on_first_rank();
    return std::string();
  };
  try {
    const auto records = share(*group_, result_);
    on_every_rank(*group_, [&] { return group_->rank() == 0 ? complete(records) : std::string(); });
  } catch (const Error& error) {
    std::error_code ignored;
    if (error.kind() == ErrorKind::io && group_->rank() == 0 && !is_whole_checkpoint(directory_))
      std::filesystem::remove_all(directory_, ignored);
    throw;
  }
}

}  // namespace ft
