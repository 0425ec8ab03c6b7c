#include <ATen/core/Tensor.h>

#include <algorithm>

#include "engine/formats/model_directory.h"
#include "engine/parallel/shard_unit.h"
#include "engine/quant/nf4.h"
#include "engine/train/weights.h"
#include "tests/thrown.h"

namespace ft {
namespace {

const char* const kUp = "model.layers.0.mlp.up_proj.weight";

std::string golden(const std::string& name) { return std::string(FT_GOLDEN_DIR) + "/foreign/" + name; }

// A unit of one quantized weight and of one that the file holds plain, as a rank alone loads it.
struct Loaded {
  explicit Loaded(const std::string& kind, bool double_quant) : directory(golden(kind)) {
    weight.name = kUp;
    weight.shape = {192, 128};
    weight.storage = Storage::nf4;
    weight.double_quant = double_quant;
    plain.name = "model.embed_tokens.weight";
    plain.shape = {21, 128};
    plain.storage = Storage::nf4;
    plain.double_quant = double_quant;
    unit = std::make_unique<ShardUnit>("layer", std::vector<Parameter*>{&weight, &plain},
                                       std::vector<at::ScalarType>{at::kByte, at::kByte}, *group, pool,
                                       ShardUnitOptions{});
    const WeightSource source(&directory, 1);
    load_unit(*unit, source, 0, *group, [this](int64_t bytes) { reported += bytes; });
    expected = bytes_to_read(*unit, source, 0);
  }

  ModelDirectory directory;
  Parameter weight, plain;
  BufferPool pool{at::kCPU};
  std::shared_ptr<ProcessGroup> group = ProcessGroup::single();
  std::unique_ptr<ShardUnit> unit;
  int64_t reported = 0, expected = 0;
};

TEST(BnbWeights, AreTakenAsTheyAreBesideWhatIsQuantizedHere) {
  for (const bool nested : {true, false}) {
    Loaded loaded(nested ? "bnb_nf4" : "bnb_nf4_flat", nested);
    EXPECT_EQ(loaded.reported, loaded.expected);
    const BnbWeight* stored = loaded.directory.quantized(kUp);
    EXPECT_EQ(loaded.weight.nested_offset, stored->nested_offset());
    const size_t record = nf4::record_bytes(nested);
    std::vector<uint8_t> want(2 * record);
    loaded.directory.read_records(*stored, 0, 2, want.data());
    const FlatRange& range = loaded.unit->ranges()[0];
    std::vector<std::byte> raw(21 * 128 * 2);
    loaded.directory.read(loaded.plain.name, 0, raw);
    const nf4::Quantized plain = nf4::quantize(DType::bf16, raw.data(), 21 * 128, nested);
    for (const ShardPiece& piece : range.layout.pieces(0)) {
      const at::Tensor own = range.piece(piece);
      const std::vector<uint8_t>& records = piece.parameter == &loaded.weight ? want : plain.records;
      ASSERT_EQ(own.numel(), static_cast<int64_t>(records.size()));
      EXPECT_TRUE(std::equal(records.begin(), records.end(), own.data_ptr<uint8_t>())) << piece.parameter->name;
    }
    if (nested) {
      EXPECT_EQ(loaded.plain.nested_offset, plain.offset);
    }
  }
}

TEST(BnbWeights, AreNotQuantizedAgain) {
  EXPECT_ERROR(Loaded("bnb_fp4", true), config, "quantized as fp4");
  EXPECT_ERROR(Loaded("bnb_nf4", false), config, "set double_quant = true");
  EXPECT_ERROR(Loaded("bnb_nf4_flat", true), config, "set double_quant = false");
}

}  // namespace
}  // namespace ft
