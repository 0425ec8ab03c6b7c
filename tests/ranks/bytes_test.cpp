// Quantized bytes travel as integers: every bit pattern arrives as it left, those that are signalling NaNs as floats
// too.
#include <gtest/gtest.h>

#include "engine/parallel/shard_unit.h"
#include "engine/quant/nf4.h"
#include "tests/ranks/ranks.h"

namespace ft::test {
namespace {

// Byte `i` of the unit's records: signalling NaNs of fp32 and of bf16 in turn with plain counting.
uint8_t byte_at(int64_t i) {
  constexpr uint8_t kSignallingFp32[4] = {0x01, 0x00, 0xA0, 0x7F}, kSignallingBf16[4] = {0x81, 0x7F, 0x81, 0xFF};
  const int64_t word = i / 4;
  if (word % 3 == 0) return kSignallingFp32[i % 4];
  if (word % 3 == 1) return kSignallingBf16[i % 4];
  return static_cast<uint8_t>(word * 7 + i);
}

}  // namespace

RANK_BODY(gather_records) {
  Parameter quantized;
  quantized.name = "w";
  quantized.shape = {5, nf4::kGroup};
  quantized.storage = Storage::nf4;
  BufferPool pool(at::kCPU);
  ShardUnit unit("layer", {&quantized}, {at::kByte}, *group, pool, {});
  FlatRange& range = unit.ranges()[0];
  EXPECT_EQ(range.gather_dtype, at::kByte);
  const int64_t own = range.owned.numel();
  for (int64_t i = 0; i < own; ++i) range.owned.data_ptr<uint8_t>()[i] = byte_at(group->rank() * own + i);
  double waited = 0;
  unit.start_gather();
  unit.finish_gather(waited);
  const auto* bytes = quantized.value.data_ptr<uint8_t>();
  int64_t wrong = 0;
  for (int64_t i = 0; i < quantized.value.numel(); ++i) wrong += bytes[i] != byte_at(i);
  unit.release();
  return std::to_string(wrong);
}

TEST(Bytes, quantized_records_arrive_bit_for_bit) {
  for (const int world : {1, 2, 4})
    for (const std::string& wrong : run_ranks(world, "gather_records")) EXPECT_EQ(wrong, "0");
}

}  // namespace ft::test
