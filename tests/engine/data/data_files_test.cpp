#include "engine/data/data_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "engine/data/rows.h"
#include "engine/data/text_source.h"
#include "engine/error/error.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string gzip(const std::string& text) {
  std::string out(compressBound(text.size()) + 64, '\0');
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstandard(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

class DataFiles : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& bytes) const { return test::spill(folder_ / name, bytes); }
  std::vector<std::string> texts(const fs::path& path, TextUnit unit = TextUnit::line) const {
    std::vector<std::string> out;
    RowReader reader(path, unit);
    while (const auto row = reader.next())
      out.push_back(std::to_string(row->origin.line) + ":" + row->at("text").as_string());
    return out;
  }
  std::vector<std::string> names(const Value& given) const {
    std::vector<std::string> out;
    for (const DataFile& file : list_data_files(given))
      out.push_back(file.path.lexically_relative(folder_.path()).string() + " " +
                    std::to_string(file.weight).substr(0, 3));
    return out;
  }
  std::string at(const std::string& path) const { return (folder_ / path).string(); }
  const test::TemporaryDirectory folder_;
};

TEST_F(DataFiles, CompressionIsToldByTheFirstBytes) {
  std::string text, rows;
  for (int i = 0; i < 50000; ++i) rows += "{\"text\": \"row " + std::to_string(i) + "\"}\n";
  for (const auto& [name, bytes] : {std::pair{"plain.jsonl", rows},
                                    {"a.jsonl.gz", gzip(rows)},
                                    {"a.jsonl.zst", zstandard(rows)},
                                    {"members", gzip(rows.substr(0, 1000)) + gzip(rows.substr(1000))},
                                    {"frames", zstandard(rows.substr(0, 1000)) + zstandard(rows.substr(1000))}}) {
    RowReader reader(write(name, bytes));
    int64_t i = 0;
    while (const auto row = reader.next()) {
      ASSERT_EQ(row->at("text").as_string(), "row " + std::to_string(i++)) << name;
      ASSERT_EQ(row->origin.line, i) << name;
    }
    EXPECT_EQ(i, 50000) << name;
    EXPECT_EQ(reader.bytes_read(), bytes.size()) << name;
  }
}

TEST_F(DataFiles, DamagedCompressionIsRefusedByName) {
  std::string rows;
  for (int i = 0; i < 1000; ++i) rows += "{\"text\": \"" + std::to_string(i * i) + "\"}\n";
  for (const auto& [name, whole] : {std::pair{"a.jsonl.gz", gzip(rows)}, {"a.jsonl.zst", zstandard(rows)}}) {
    const fs::path path = write(name, whole.substr(0, whole.size() - 7));
    EXPECT_THAT(test::refusal([&] { read_rows(path); }),
                HasSubstr(path.string() + ": its compressed bytes are damaged"));
    std::string turned = whole;
    turned[turned.size() / 2] ^= 0x55;
    write(name, turned);
    EXPECT_NE(test::refusal([&] { read_rows(path); }), "was taken");
  }
  EXPECT_THAT(test::refusal([&] { read_rows(write("tail.gz", gzip(rows) + "more")); }), HasSubstr("damaged"));
}

TEST_F(DataFiles, ReadsCsvAsRfc4180Has) {
  const fs::path path =
      write("a.csv", "\xEF\xBB\xBFtext,\"b,c\"\r\n\"one, \"\"two\"\"\nthree\",x\r\n\n,\"\"\r\nlast,é");
  RowReader reader(path);
  const auto first = reader.next(), second = reader.next(), third = reader.next();
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(first->at("text").as_string(), "one, \"two\"\nthree");
  EXPECT_EQ(first->at("b,c").as_string(), "x");
  EXPECT_EQ(first->origin.line, 2);
  EXPECT_EQ(second->at("text").as_string(), "");
  EXPECT_EQ(second->origin.line, 5);
  EXPECT_EQ(third->at("b,c").as_string(), "é");
  EXPECT_EQ(third->origin.line, 6);
  EXPECT_FALSE(reader.next());
  EXPECT_THAT(texts(write("a.tsv.gz", gzip("n\ttext\n1\ta,b\n"))), ElementsAre("2:a,b"));
  EXPECT_TRUE(texts(write("empty.csv", "")).empty());
}

TEST_F(DataFiles, BadCsvIsNamedByItsLine) {
  EXPECT_THAT(test::refusal([&] { texts(write("a.csv", "text,b\n1,2\n1,2,3\n")); }),
              HasSubstr("a.csv:3: 3 fields, want 2 as the first line has names"));
  EXPECT_THAT(test::refusal([&] { texts(write("a.csv", "text\nx\n\"open\nstill\n")); }),
              HasSubstr("a.csv:3: a quote is not closed"));
  EXPECT_THAT(test::refusal([&] { texts(write("a.csv", "text\n\"x\"y\n")); }),
              HasSubstr("a.csv:2: text behind a closing quote"));
  EXPECT_THAT(test::refusal([&] { texts(write("a.csv", "text,text\n")); }),
              HasSubstr("a.csv:1: two columns are called 'text'"));
}

TEST_F(DataFiles, PlainTextIsALineARowOrAFileARow) {
  const fs::path path = write("a.txt", "one\r\n\n  two \nthree");
  EXPECT_THAT(texts(path), ElementsAre("1:one", "3:  two ", "4:three"));
  EXPECT_THAT(texts(path, TextUnit::document), ElementsAre("1:one\r\n\n  two \nthree"));
  EXPECT_TRUE(texts(write("b.txt", "\n \n"), TextUnit::document).empty());
}

TEST_F(DataFiles, BadRowsOfAListAreNamedByTheirLine) {
  EXPECT_THAT(test::refusal([&] { read_rows(write("a.json", "[\n{\"text\": \"a\"},\n{\"text\": }\n]")); }),
              HasSubstr("a.json:3"));
  EXPECT_THAT(test::refusal([&] { read_rows(write("a.json", "[\n{\"text\": \"a\"}\n{}\n]")); }),
              HasSubstr("a.json:3: not valid JSON: want ',' or ']' after a row"));
  EXPECT_THAT(test::refusal([&] { read_rows(write("a.json", "[\n{\"text\": \"a\"},\n")); }),
              HasSubstr("the file ends inside"));
  EXPECT_THAT(test::refusal([&] { read_rows(write("a.json", "[{}]\n x")); }),
              HasSubstr("a.json:2: not valid JSON: text after"));
}

TEST_F(DataFiles, ListsFilesGlobsFoldersAndWeights) {
  write("d/part-2.jsonl", "{}");
  write("d/part-10.jsonl.zst", "{}");
  write("d/deep/x.csv", "a");
  write("d/README.md", "about");
  write("d/.cache/y.jsonl", "{}");
  write("d/z.bin", "");
  EXPECT_THAT(names(at("d/part-2.jsonl")), ElementsAre("d/part-2.jsonl 1.0"));
  EXPECT_THAT(names(at("d")), ElementsAre("d/deep/x.csv 1.0", "d/part-10.jsonl.zst 1.0", "d/part-2.jsonl 1.0"));
  EXPECT_THAT(names(at("d/part-*")), ElementsAre("d/part-10.jsonl.zst 1.0", "d/part-2.jsonl 1.0"));
  EXPECT_THAT(names(Value::list({at("d/z.bin"), Value::map({{"path", at("d/{deep/x,part-2}.*")}, {"weight", 0.5}})})),
              ElementsAre("d/z.bin 1.0", "d/deep/x.csv 0.5", "d/part-2.jsonl 0.5"));
}

TEST_F(DataFiles, FoldersOfSplitsAreTakenByPart) {
  write("d/data/train-0.jsonl", "{}");
  write("d/data/val-0.csv", "a");
  write("plain/b.jsonl", "{}");
  write("saved/data-0.jsonl", "{}");
  write("saved/data-1.jsonl", "{}");
  write("saved/state.json", R"({"_data_files": [{"filename": "data-1.jsonl"}]})");
  const auto part = [&](const std::string& folder, const char* name) {
    return names(Value::map({{"path", at(folder)}, {"part", name}}));
  };
  EXPECT_THAT(part("d", "train"), ElementsAre("d/data/train-0.jsonl 1.0"));
  EXPECT_THAT(part("d", "validation"), ElementsAre("d/data/val-0.csv 1.0"));
  EXPECT_THAT(part("plain", "train"), ElementsAre("plain/b.jsonl 1.0"));
  EXPECT_THAT(names(at("saved")), ElementsAre("saved/data-1.jsonl 1.0"));
  EXPECT_THAT(test::refusal([&] { part("d", "test"); }), HasSubstr("its files' names speak of: train, validation"));
  EXPECT_THAT(test::refusal([&] { part("plain", "test"); }), HasSubstr("speak of: none"));
  EXPECT_THAT(test::refusal([&] { part("d", "valid"); }),
              HasSubstr("got part = 'valid', want train, validation or test"));
  EXPECT_THAT(test::refusal([&] { part("plain/b.jsonl", "train"); }), HasSubstr("and this is none"));
  write("saved/state.json", R"({"_data_files": [{"filename": "data-7.jsonl"}]})");
  EXPECT_THAT(test::refusal([&] { names(at("saved")); }),
              HasSubstr("lists the file 'data-7.jsonl', which is not there"));
}

TEST_F(DataFiles, PathsWithoutDataAreRefused) {
  write("d/data/train-0.jsonl", "{}");
  write("d/data/test-0.jsonl", "{}");
  write("none/a.bin", "");
  EXPECT_THAT(test::refusal([&] { names(at("d")); }),
              HasSubstr("the files of several splits: data/test-0.jsonl and data/train-0.jsonl"));
  EXPECT_THAT(test::refusal([&] { names(at("none")); }), HasSubstr("the directory holds no data files"));
  EXPECT_THAT(test::refusal([&] { names(at("d/*.csv")); }), HasSubstr("no file fits the pattern"));
  EXPECT_THAT(test::refusal([&] {
                names(Value::map({{"path", at("d")}, {"weight", 0}}));
              }),
              HasSubstr("got weight = 0"));
  EXPECT_THAT(test::refusal([&] {
                names(Value::map({{"path", at("d")}, {"wieght", 2}}));
              }),
              HasSubstr("has no 'wieght'"));
  EXPECT_THAT(test::refusal([&] { names(Value(Value::List{})); }), HasSubstr("an empty list"));
  std::filesystem::create_symlink("loop.jsonl", at("loop.jsonl"));
  EXPECT_THAT(test::refusal([&] { names(at("loop.jsonl")); }),
              ::testing::AllOf(HasSubstr(at("loop.jsonl") + ": cannot read: Too many levels"),
                               ::testing::Not(HasSubstr("filesystem"))));
}

}  // namespace
}  // namespace ft
