#include "engine/formats/grown_table.h"

#include <algorithm>

#include "engine/error/error.h"
#include "engine/tensor/counter_random.h"
#include "engine/tensor/half.h"

namespace ft {

Growth Growth::read(const Value& value) {
  Growth growth;
  for (const Value& name : value.at("tensors").as_list()) growth.tensors.push_back(name.as_string());
  growth.rows = value.at("rows").as_integer();
  const std::string begin = value.get("begin", "mean");
  if (begin != "mean" && begin != "normal")
    throw Error(ErrorKind::config, "got '" + begin + "', want mean or normal").key("model.new_rows");
  growth.begin = begin == "mean" ? Begin::mean : Begin::normal;
  growth.scale = value.get("scale", 0.0);
  growth.seed = static_cast<uint64_t>(value.get("seed", 0));
  return growth;
}

Value Growth::to_value() const {
  return Value::map({{"tensors", Value(Value::List(tensors.begin(), tensors.end()))},
                     {"rows", rows},
                     {"begin", begin == Begin::mean ? "mean" : "normal"},
                     {"scale", scale},
                     {"seed", static_cast<int64_t>(seed)}});
}

GrownTable::GrownTable(const TensorEntry& stored, const Growth& growth)
    : entry_{.name = stored.name, .dtype = stored.dtype, .shape = stored.shape},
      stored_bytes_(static_cast<uint64_t>(stored.numel()) * byte_size(stored.dtype)),
      growth_(growth) {
  if (stored.shape.size() != 2 || stored.shape[0] < 1 || stored.shape[0] > growth.rows)
    throw Error(ErrorKind::shape, "got " + shape_text(stored.shape) + ", want a table of at most " +
                                      std::to_string(growth.rows) + " rows")
        .key(stored.name);
  entry_.shape[0] = growth.rows;
  entry_.end = static_cast<uint64_t>(entry_.numel()) * byte_size(entry_.dtype);
}

void GrownTable::read(uint64_t byte_offset, std::span<std::byte> out, const Read& stored) const {
  const size_t width = byte_size(entry_.dtype);
  FT_CHECK(byte_offset % width == 0 && out.size() % width == 0, "elements are read whole");
  const size_t old = byte_offset < stored_bytes_
                         ? static_cast<size_t>(std::min<uint64_t>(out.size(), stored_bytes_ - byte_offset))
                         : 0;
  if (old > 0) stored(byte_offset, out.first(old));
  if (old < out.size())
    make_rows(static_cast<int64_t>((byte_offset + old) / width), static_cast<int64_t>((out.size() - old) / width),
              out.data() + old, stored);
}

/// Elements [begin, begin + count) of the grown table, all of them of new rows.
void GrownTable::make_rows(int64_t begin, int64_t count, std::byte* out, const Read& stored) const {
  std::vector<float> values(static_cast<size_t>(count));
  if (growth_.begin == Growth::Begin::mean) {
    std::call_once(measured_, [&] { measure(stored); });
    for (int64_t i = 0; i < count; ++i)
      values[static_cast<size_t>(i)] = mean_[static_cast<size_t>((begin + i) % entry_.shape[1])];
  } else {
    const CounterRandom random(growth_.seed, entry_.name);
    for (int64_t i = 0; i < count; ++i)
      values[static_cast<size_t>(i)] =
          static_cast<float>(growth_.scale * random.normal(static_cast<uint64_t>(begin + i)));
  }
  from_fp32(values.data(), count, entry_.dtype, out);
}

// Sums in fp64, row after row: the same bits whoever adds them up.
void GrownTable::measure(const Read& stored) const {
  constexpr int64_t kBlock = 1 << 20;  // elements: 4 MB of fp32
  const int64_t columns = entry_.shape[1];
  const auto width = static_cast<int64_t>(byte_size(entry_.dtype));
  const int64_t rows = static_cast<int64_t>(stored_bytes_) / width / columns;
  const int64_t at_once = std::max<int64_t>(1, kBlock / columns);
  std::vector<std::byte> raw;
  std::vector<float> block;
  std::vector<double> sums(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; row += at_once) {
    const int64_t count = std::min(at_once, rows - row) * columns;
    raw.resize(static_cast<size_t>(count * width));
    block.resize(static_cast<size_t>(count));
    stored(static_cast<uint64_t>(row * columns * width), raw);
    to_fp32(entry_.dtype, raw.data(), count, block.data());
    for (int64_t i = 0; i < count; i += columns)
      for (int64_t c = 0; c < columns; ++c) sums[static_cast<size_t>(c)] += block[static_cast<size_t>(i + c)];
  }
  mean_.resize(sums.size());
  for (size_t c = 0; c < sums.size(); ++c) mean_[c] = static_cast<float>(sums[c] / static_cast<double>(rows));
}

}  // namespace ft
