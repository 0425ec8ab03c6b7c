#include "engine/formats/safetensors.h"

#include <cstring>
#include <vector>

#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using test::spill;
using test::TemporaryDirectory;

std::string with_header(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

// A file with this header and `bytes` of data.
std::filesystem::path make(const TemporaryDirectory& directory, const std::string& header, size_t bytes) {
  spill(directory / "x.safetensors", with_header(header, std::string(bytes, '\1')));
  return directory / "x.safetensors";
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

TEST(Safetensors, RoundTripsInAnyPieces) {
  const TemporaryDirectory directory;
  std::vector<TensorEntry> entries = {{.name = "b", .dtype = DType::f32, .shape = {2, 3}},
                                      {.name = "nothing", .dtype = DType::f16, .shape = {0, 5}},
                                      {.name = "é\"", .dtype = DType::u8, .shape = {3}},
                                      {.name = "scalar", .dtype = DType::bf16, .shape = {}}};
  const float values[6] = {0, 1, 2, 3, 4, -5};
  std::string data(reinterpret_cast<const char*>(values), sizeof values);
  data += "abcXY";
  SafetensorsWriter writer(directory / "x.safetensors", entries, {{"format", "pt"}, {"of", "test"}});
  for (size_t at = 0; at < data.size(); at += 7)
    writer.append(std::as_bytes(std::span(data).subspan(at, std::min<size_t>(7, data.size() - at))));
  EXPECT_FALSE(std::filesystem::exists(directory / "x.safetensors"));
  writer.finish();
  EXPECT_EQ(writer.checksum(), file_checksum(directory / "x.safetensors"));

  const SafetensorsFile file(directory / "x.safetensors");
  EXPECT_EQ(file.size() % 8, data.size() % 8) << "the header is padded to 8 bytes";
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}, {"of", "test"}}));
  ASSERT_EQ(file.entries().size(), 4u);
  const TensorEntry* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  float part[2];
  file.read(*b, 12, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part[0], 3);
  EXPECT_EQ(part[1], 4);
  EXPECT_EQ(file.find("scalar")->numel(), 1);
  EXPECT_EQ(file.find("nothing")->bytes(), 0u);
  EXPECT_EQ(file.find("é\"")->bytes(), 3u);
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_THROW(file.read(*b, 20, std::as_writable_bytes(std::span(part))), Error);
}

TEST(Safetensors, AWriterThatIsNotFinishedLeavesNothing) {
  const TemporaryDirectory directory;
  { SafetensorsWriter writer(directory / "x.safetensors", {{.name = "a", .dtype = DType::u8, .shape = {2}}}); }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  SafetensorsWriter writer(directory / "x.safetensors", {{.name = "a", .dtype = DType::u8, .shape = {2}}});
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_THROW(writer.append(std::as_bytes(std::span("abc", 3))), Error);
}

TEST(Safetensors, OrdersAsTheReferenceDoes) {
  std::vector<TensorEntry> entries = {
      {.name = "c", .dtype = DType::bf16}, {.name = "b", .dtype = DType::f32}, {.name = "a", .dtype = DType::bf16}};
  sort_entries(entries);
  EXPECT_EQ(entries[0].name + entries[1].name + entries[2].name, "bac");
}

TEST(Safetensors, RefusesTruncatedFiles) {
  const TemporaryDirectory directory;
  spill(directory / "x", "1234");
  EXPECT_ERROR(SafetensorsFile(directory / "x"), format, "holds 4 bytes");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + tensor("a", "F32", "[4]", "[0,16]") + "}", 12)), format,
               "x.safetensors: a: ends at byte 16, but the file holds 12");
  const std::string whole = with_header("{" + tensor("a", "F32", "[4]", "[0,16]") + "}", std::string(16, 'x'));
  for (size_t size = 0; size < whole.size(); ++size) {
    spill(directory / "x", whole.substr(0, size));
    EXPECT_EQ(test::thrown([&] { SafetensorsFile file(directory / "x"); }).kind(), ErrorKind::format) << size;
  }
  EXPECT_ERROR(SafetensorsFile(directory / "absent"), io, "cannot open");
}

TEST(Safetensors, RefusesBytesThatNobodyOwns) {
  const TemporaryDirectory directory;
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + tensor("a", "F32", "[4]", "[0,16]") + "}", 20)), format,
               "holds 20 bytes after its header, want 16");
  EXPECT_ERROR(
      SafetensorsFile(make(
          directory, "{" + tensor("a", "U8", "[4]", "[0,4]") + "," + tensor("b", "U8", "[4]", "[6,10]") + "}", 10)),
      format, "b: begins at byte 6, want 4: there is a hole");
}

TEST(Safetensors, RefusesOverlap) {
  const TemporaryDirectory directory;
  EXPECT_ERROR(
      SafetensorsFile(
          make(directory, "{" + tensor("a", "U8", "[4]", "[0,4]") + "," + tensor("b", "U8", "[4]", "[2,6]") + "}", 6)),
      format, "b: begins at byte 2 and overlaps 'a', which ends at byte 4");
}

TEST(Safetensors, RefusesOversizedHeaders) {
  const TemporaryDirectory directory;
  const uint64_t lengths[] = {100'000'001, ~uint64_t{0}, uint64_t{1} << 63};
  for (const uint64_t length : lengths) {
    spill(directory / "x", std::string(reinterpret_cast<const char*>(&length), 8) + "{}");
    EXPECT_ERROR(SafetensorsFile(directory / "x"), format, "want at most 100000000");
  }
  const uint64_t longer = 1000;
  spill(directory / "x", std::string(reinterpret_cast<const char*>(&longer), 8) + "{}");
  EXPECT_ERROR(SafetensorsFile(directory / "x"), format, "has a header of 1000 bytes, but holds 2");
}

TEST(Safetensors, RefusesShapesThatDoNotFitTheBytes) {
  const TemporaryDirectory directory;
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + tensor("a", "F32", "[2,3]", "[0,16]") + "}", 16)), format,
               "a: got bytes [0, 16], want 24 bytes for shape [2, 3] F32");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + tensor("a", "F32", "[4]", "[16,0]") + "}", 16)), format,
               "got bytes [16, 0]");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + tensor("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}", 0)),
               format, "more than 64 bits");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + tensor("a", "F32", "[-1]", "[0,4]") + "}", 4)), format,
               "got -1 in shape");
}

TEST(Safetensors, RefusesHeadersThatSayNonsense) {
  const TemporaryDirectory directory;
  EXPECT_ERROR(SafetensorsFile(make(directory, "[1]", 0)), format, "does not begin with '{'");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{\"a\":", 0)), format, "x.safetensors:1");
  const std::string a = tensor("a", "U8", "[1]", "[0,1]");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + a + "," + a + "}", 1)), format, "key 'a' stands twice");
  EXPECT_ERROR(SafetensorsFile(make(
                   directory, "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1)),
               format, "stands twice");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1)), format,
               "a: has no dtype");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1)), format,
               "a: has no shape");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1)),
               format, "data_offsets");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{\"a\":7}", 0)), format, "a: has no dtype");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{\"__metadata__\":{\"a\":1}}", 0)), format,
               "__metadata__.a: got 1, want a string");
  EXPECT_ERROR(SafetensorsFile(make(directory, "{" + tensor("a", "F33", "[1]", "[0,1]") + "}", 1)), format,
               "got dtype 'F33'");
}

TEST(Safetensors, NamesADtypeItHasNoUseForOnlyWhenItIsWanted) {
  const TemporaryDirectory directory;
  const SafetensorsFile file(
      make(directory, "{" + tensor("a", "F8_E4M3", "[4]", "[0,4]") + "," + tensor("b", "U8", "[4]", "[4,8]") + "}", 8));
  EXPECT_EQ(file.entries().size(), 1u);
  EXPECT_NE(file.find("b"), nullptr);
  EXPECT_TRUE(file.holds("a"));
  EXPECT_ERROR(file.find("a"), format, "a: got dtype F8_E4M3");
}

}  // namespace
}  // namespace ft
