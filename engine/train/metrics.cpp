#include "engine/train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/file_error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

// JSON has no NaN: readers other than Python's refuse it.
Value finite(Value value) {
  if (value.kind() == Value::Kind::number && !std::isfinite(value.as_number())) return {};
  if (value.is_list())
    for (Value& item : value.as_list()) item = finite(std::move(item));
  if (value.is_map())
    for (auto& [key, item] : value.as_map()) item = finite(std::move(item));
  return value;
}

void drop_later_rows(const std::filesystem::path& path, int64_t keep_steps) {
  if (!std::filesystem::exists(path)) return;
  const std::string text = read_text(path);
  std::string kept;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) break;  // a row that a dying run did not finish
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (parse_json(line, path.string(), {.origins = false}).get("step", int64_t{0}) <= keep_steps) kept += line + "\n";
  }
  write_text(path, kept);
}

}  // namespace

Metrics::Metrics(std::filesystem::path path, std::optional<int64_t> keep_steps) : path_(std::move(path)) {
  if (keep_steps) drop_later_rows(path_, *keep_steps);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw file_error(path_, "cannot be opened", errno);
}

Metrics::~Metrics() {
  try {
    flush();
  } catch (const Error&) {  // the run has ended, and said why
  }
  ::close(fd_);
}

void Metrics::add(const Value& row) {
  const Value* step = row.find("step");
  if (!step || !step->is_integer())
    throw Error(ErrorKind::config, "got " + describe(row) + ", want a table with an integer `step`")
        .at(row.origin.str())
        .key("run:log");
  Value& open = open_row(step->as_integer());
  for (const auto& [key, value] : row.as_map()) open.set(key, finite(value));
}

void Metrics::add(int64_t step, const StepMeasures& m) {
  Value& open = open_row(step);
  const auto set = [&](const char* key, Value value) {
    if (!open.find(key)) open.set(key, std::move(value));
  };
  set("tokens", m.tokens);
  set("seconds", m.seconds);
  set("wait_gather", m.wait_gather);
  set("wait_reduce", m.wait_reduce);
  set("wait_offload", m.wait_offload);
  set("wait_data", m.wait_data);
  set("wait_save", m.wait_save);
  if (m.wait_update) set("wait_update", *m.wait_update);
  if (m.loss_scale > 0) set("loss_scale", m.loss_scale);
  if (m.skipped_steps > 0) set("skipped_steps", m.skipped_steps);
  set("peak_memory", m.peak_memory);
  if (m.peak_tensor_memory > 0) set("peak_tensor_memory", m.peak_tensor_memory);
  if (m.peak_device_memory > 0) set("peak_device_memory", m.peak_device_memory);
}

Value& Metrics::open_row(int64_t step) {
  if (step_ && *step_ != step) flush();
  if (!step_) row_ = Value::map({{"step", step}});
  step_ = step;
  return row_;
}

void Metrics::flush() {
  if (!step_) return;
  const std::string line = write_json(row_) + "\n";
  step_.reset();
  // One write a row: with O_APPEND a reader never sees half of one.
  if (::write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw file_error(path_, "cannot be written", errno);
}

}  // namespace ft
