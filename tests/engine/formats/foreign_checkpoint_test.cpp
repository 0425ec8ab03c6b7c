#include "engine/formats/foreign_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <random>
#include <span>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/formats/peft_names.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/trainer_order.h"
#include "engine/quant/dynamic_map.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using test::slurp;
using test::spill;
using test::TemporaryDirectory;
using testing::HasSubstr;

fs::path golden(const std::string& name) { return fs::path(FT_GOLDEN_DIR) / "resume" / name; }

std::vector<float> values(const SavedState& saved, const SavedState::Tensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.numel()));
  saved.read(tensor.name, tensor.kind, 0, tensor.numel(), out.data());
  return out;
}

std::vector<std::string> names_of(const SavedState& saved) {
  std::vector<std::string> names;
  for (const SavedState::Tensor& tensor : saved.tensors()) names.push_back(tensor.name);
  return names;
}

// Engines add up in orders of their own, four steps deep.
void expect_near(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  float largest = 0;
  for (const float value : want) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 3e-5f * largest) << i;
}

TEST(ForeignCheckpoint, HoldsMastersAveragesAndSteps) {
  for (const auto& [path, kind] :
       std::vector<std::pair<const char*, const char*>>{{"fsdp/checkpoint-4", "full"},
                                                        {"fsdp_full/checkpoint-4", "full"},
                                                        {"zero1", "full"},
                                                        {"zero2", "full"},
                                                        {"zero3", "full"},
                                                        {"fsdp_lora/checkpoint-4/", "lora"},
                                                        {"joint_lora", "lora"},
                                                        {"zero2_lora/checkpoint-4", "lora"},
                                                        {"zero3_lora/checkpoint-4", "lora"}}) {
    SCOPED_TRACE(path);
    const ForeignCheckpoint saved(golden(path));
    EXPECT_EQ(saved.step(), 4);
    EXPECT_EQ(saved.header().at("optimizer_steps").as_integer(), 4);
    EXPECT_FALSE(saved.engine().empty());
    const SafetensorsFile want(golden(std::string(kind) + "_saved.safetensors"));
    size_t trained = 0, averages = 0;
    for (const SavedState::Tensor& tensor : saved.tensors()) {
      trained += tensor.kind == "master" && tensor.trained;
      averages += tensor.kind != "master";
    }
    EXPECT_EQ(trained + averages, want.entries().size());
    for (const TensorEntry& entry : want.entries()) {
      SCOPED_TRACE(entry.name);
      std::string name = entry.name, what = "master";
      for (const std::string average : {".exp_avg", ".exp_avg_sq"})
        if (name.ends_with(average)) name.resize(name.size() - average.size()), what = average.substr(1);
      const SavedState::Tensor* tensor = saved.find(plain_name(name), what);
      ASSERT_NE(tensor, nullptr);
      EXPECT_EQ(tensor->shape, entry.shape);
      EXPECT_TRUE(tensor->trained);
      std::vector<float> wanted(static_cast<size_t>(entry.numel()));
      want.read(entry, 0, std::as_writable_bytes(std::span(wanted)));
      const std::vector<float> got = values(saved, *tensor);
      expect_near(got, wanted);
      const int64_t begin = entry.numel() / 3, count = entry.numel() / 2;
      std::vector<float> part(static_cast<size_t>(count));
      saved.read(tensor->name, tensor->kind, begin, count, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), got.begin() + begin));
    }
  }
}

// What bitsandbytes has of each tensor by its own sums (the script's).
TEST(ForeignCheckpoint, HoldsCodesAndScalesOfBitsandbytes) {
  const Value losses = read_json(golden("losses.json"));
  for (const char* kind : {"blocks_full", "blocks_lora"}) {
    SCOPED_TRACE(kind);
    ForeignCheckpoint saved(golden(kind) / "checkpoint-4");
    ASSERT_TRUE(saved.is_numbered());
    ASSERT_TRUE(saved.name_averages(*trainer_groups(names_of(saved), "llama")));
    EXPECT_EQ(saved.header().at("optimizer_steps").as_integer(), 4);
    const Value::Map& sums = losses.at(kind).at("sums").as_map();
    size_t coded = 0;
    for (const SavedState::Tensor& tensor : saved.tensors()) coded += tensor.dtype == DType::u8;
    EXPECT_EQ(2 * coded, sums.size());
    for (const auto& [place, sum] : sums) {
      SCOPED_TRACE(place);
      const size_t dot = place.rfind('.');
      const std::string name = plain_name(place.substr(0, dot)), what = place.substr(dot + 1);
      const SavedState::Tensor* tensor = saved.find(name, what);
      ASSERT_NE(tensor, nullptr);
      if (what.ends_with("_scale")) {
        std::vector<float> scales = values(saved, *tensor);
        scales.resize(static_cast<size_t>((saved.find(name, "master")->numel() + 255) / 256));  // 2048 may hold more
        double total = 0;
        for (const float scale : scales) total += scale;
        EXPECT_NEAR(total, sum.as_number(), 1e-12 * total);
        continue;
      }
      ASSERT_EQ(tensor->dtype, DType::u8);
      std::vector<uint8_t> codes(static_cast<size_t>(tensor->numel()));
      saved.read(name, what, 0, tensor->numel(), codes.data());
      int64_t total = 0;
      for (size_t i = 0; i < codes.size(); ++i) total += static_cast<int64_t>(i % 1009 + 1) * codes[i];
      EXPECT_EQ(total, sum.as_integer());
    }
  }
}

// An optimizer's file that is not read says how to go on without: what a pickle may not name, codes of another map.
TEST(ForeignCheckpoint, SaysToMoveAnUnreadOptimizerAway) {
  const TemporaryDirectory directory;
  fs::copy(golden("blocks_full/checkpoint-4"), directory / "checkpoint-4");
  const fs::path file = directory / "checkpoint-4/optimizer.pt";
  const std::string whole = slurp(file);
  for (const float value : {signed_dynamic_map()[7], unsigned_dynamic_map()[7]}) {
    std::string bytes = whole;
    const size_t at = bytes.find(std::string(std::bit_cast<std::array<char, 4>>(value).data(), 4));
    ASSERT_NE(at, std::string::npos);
    bytes[at + 1] ^= 1;
    spill(file, bytes);
    const Error error = test::thrown([&] { ForeignCheckpoint saved(directory / "checkpoint-4"); });
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_THAT(error.what(), HasSubstr(value < 0 ? "(qmap1)" : "(qmap2)"));
    EXPECT_THAT(error.what(), HasSubstr("move " + file.string() + " away to begin with fresh averages"));
  }
  std::string bytes = whole;
  const std::string known = "_rebuild_tensor_v2";
  for (size_t at = 0; (at = bytes.find(known, at)) != std::string::npos;)
    bytes.replace(at, known.size(), "_rebuild_tensor_v9");
  spill(file, bytes);
  const Error error = test::thrown([&] { ForeignCheckpoint saved(directory / "checkpoint-4"); });
  EXPECT_THAT(error.what(), HasSubstr("_rebuild_tensor_v9"));
  EXPECT_THAT(error.what(), HasSubstr("away to begin with fresh averages"));
}

// bf16 weights come as fp32, exactly; without averages nobody knows what was trained.
TEST(ForeignCheckpoint, HoldsWeightsAlone) {
  const fs::path foreign = fs::path(FT_GOLDEN_DIR) / "foreign";
  const ForeignCheckpoint saved(foreign / "dcp");
  EXPECT_EQ(saved.step(), 0);
  EXPECT_EQ(saved.header().find("optimizer_steps"), nullptr);
  const SafetensorsFile model(foreign / "model/model.safetensors");
  const SavedState::Tensor* head = saved.find("lm_head.weight", "master");
  ASSERT_NE(head, nullptr);
  EXPECT_FALSE(head->trained);
  EXPECT_EQ(head->dtype, DType::f32);
  const TensorEntry& entry = *model.find("lm_head.weight");
  ASSERT_EQ(entry.dtype, DType::bf16);
  std::vector<uint16_t> bits(static_cast<size_t>(entry.numel()));
  model.read(entry, 0, std::as_writable_bytes(std::span(bits)));
  const std::vector<float> got = values(saved, *head);
  for (size_t i = 0; i < bits.size(); ++i) EXPECT_EQ(std::bit_cast<uint32_t>(got[i]), uint32_t{bits[i]} << 16);
}

// The step is the Trainer's, which counts what Adam has skipped; without it that of the optimizer, else of the name.
TEST(ForeignCheckpoint, CountsSteps) {
  const TemporaryDirectory directory;
  fs::copy(golden("fsdp/checkpoint-4"), directory / "checkpoint-7", fs::copy_options::recursive);
  const fs::path at = directory / "checkpoint-7";
  spill(at / "trainer_state.json", "{\"global_step\": 6}");
  EXPECT_EQ(ForeignCheckpoint(at).step(), 6);
  EXPECT_EQ(ForeignCheckpoint(at / "pytorch_model_fsdp_0").step(), 6);
  EXPECT_EQ(ForeignCheckpoint(at).header().at("optimizer_steps").as_integer(), 4);
  fs::remove(at / "trainer_state.json");
  EXPECT_EQ(ForeignCheckpoint(at).step(), 4);
  fs::remove_all(at / "optimizer_0");
  EXPECT_EQ(ForeignCheckpoint(at).step(), 7);
}

TEST(ForeignCheckpoint, IsNoFolderOfAnotherKind) {
  EXPECT_FALSE(find_foreign_checkpoint(golden("nothing")));
  EXPECT_FALSE(find_foreign_checkpoint(golden("model")));  // a model is none: it says of no step
  EXPECT_EQ(test::thrown([] { ForeignCheckpoint saved(golden("model")); }).kind(), ErrorKind::config);
}

// Another optimizer's state, by its keys' names: changed in place to others of the same length.
TEST(ForeignCheckpoint, RefusesWhatIsNotAdams) {
  const TemporaryDirectory directory;
  fs::copy(golden("zero3"), directory / "zero3", fs::copy_options::recursive);
  for (const char* rank : {"0", "1", "2"}) {
    const fs::path file =
        directory / "zero3/global_step4" / (std::string("zero_pp_rank_") + rank + "_mp_rank_00_optim_states.pt");
    std::string bytes = slurp(file);
    for (size_t at = 0; (at = bytes.find("exp_avg_sq", at)) != std::string::npos;) bytes.replace(at, 10, "momentum_b");
    spill(file, bytes);
  }
  const Error error = test::thrown([&] { ForeignCheckpoint saved(directory / "zero3"); });
  EXPECT_EQ(error.kind(), ErrorKind::config);
  EXPECT_THAT(error.what(), HasSubstr("momentum_b"));
  EXPECT_THAT(error.what(), HasSubstr("AdamW"));
}

// Cut anywhere, a rank's file costs a message.
TEST(ForeignCheckpoint, RefusesStatesThatAreNotWhole) {
  for (const char* name : {"zero1/global_step4/zero_pp_rank_1_mp_rank_00_optim_states.pt",
                           "fsdp/checkpoint-4/optimizer_0/__0_0.distcp", "fsdp/checkpoint-4/optimizer_0/.metadata"}) {
    SCOPED_TRACE(name);
    const TemporaryDirectory directory;
    const std::string top = fs::path(name).begin()->string();
    fs::copy(golden(top), directory / top, fs::copy_options::recursive);
    const std::string whole = slurp(golden(name));
    const fs::path from = directory / (top == "fsdp" ? "fsdp/checkpoint-4" : top);
    for (size_t cut = whole.size() - 1; cut > 64; cut -= 1 + cut / 7) {
      spill(directory / name, whole.substr(0, cut));
      EXPECT_EQ(test::thrown([&] { ForeignCheckpoint saved(from); }).kind(), ErrorKind::format) << cut;
    }
    if (std::string(name).ends_with(".metadata")) continue;  // without it there is no such checkpoint
    fs::remove(directory / name);
    EXPECT_NE(test::thrown([&] { ForeignCheckpoint saved(from); }).kind(), ErrorKind::internal);
  }
}

// Any byte changed: a message, or other numbers.
TEST(ForeignCheckpoint, SurvivesEveryByteChanged) {
  const TemporaryDirectory directory;
  fs::copy(golden("zero2_lora"), directory / "zero2_lora", fs::copy_options::recursive);
  fs::copy(golden("fsdp_lora"), directory / "fsdp_lora", fs::copy_options::recursive);
  fs::copy(golden("blocks_lora"), directory / "blocks_lora", fs::copy_options::recursive);
  fs::rename(directory / "blocks_lora/codes.pt", directory / "blocks_lora/checkpoint-4/optimizer.pt");
  std::mt19937 random(7);
  for (const char* name : {"zero2_lora/checkpoint-4/global_step4/zero_pp_rank_0_mp_rank_00_optim_states.pt",
                           "fsdp_lora/checkpoint-4/optimizer_0/.metadata", "blocks_lora/checkpoint-4/optimizer.pt"}) {
    const std::string whole = slurp(directory / name);
    const fs::path from = directory / *fs::path(name).begin() / "checkpoint-4";
    for (size_t at = 0; at < whole.size(); at += 1 + random() % 8) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      fs::remove(directory / name);  // some file systems bring one that is truncated to the disk when it is closed
      spill(directory / name, bytes);
      try {
        ForeignCheckpoint saved(from);
        if (saved.is_numbered()) saved.name_averages(*trainer_groups(names_of(saved), "llama"));
        for (const SavedState::Tensor& tensor : saved.tensors()) {
          const int64_t count = std::min<int64_t>(tensor.numel(), 64);
          float last[64];
          saved.read(tensor.name, tensor.kind, tensor.numel() - count, count, last);
        }
      } catch (const Error& error) {
        EXPECT_NE(error.kind(), ErrorKind::internal) << at << ": " << error.what();
      }
    }
    spill(directory / name, whole);
  }
}

}  // namespace
}  // namespace ft
