// Parquet and Arrow files against the same rows as JSONL (tests/golden/columns.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/data/data_files.h"
#include "engine/data/row_stream.h"
#include "engine/data/rows.h"
#include "engine/data/used_columns.h"
#include "engine/error/error.h"
#include "engine/template/chat_template.h"
#include "tests/arrow_plugin.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kGolden = fs::path(FT_GOLDEN_DIR) / "columns";
const std::vector<std::string> kFiles = {"snappy.parquet", "gzip.parquet", "zstd.parquet", "brotli.parquet",
                                         "plain.parquet",  "stream.arrow", "file.arrow",   "zstd.arrow",
                                         "wide.arrow",     "lz4.feather"};

class Columns : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test::have_arrow_plugin()) GTEST_SKIP() << "the Arrow plugin is not built";
  }
  fs::path write(const std::string& name, const std::string& bytes) const { return test::spill(folder_ / name, bytes); }
  /// What is said of a file that must be refused, and is no bug of ours.
  static std::string refusal(const fs::path& path, const UsesColumn& uses = {}) {
    return test::refusal([&] {
      RowReader reader(path, TextUnit::line, uses);
      while (reader.next()) {
      }
    });
  }
  static std::vector<std::string> texts(const Value& given, const RowChoice& choice = {}) {
    RowStream stream(list_data_files(given), choice);
    std::vector<std::string> out;
    while (const auto row = stream.next()) out.push_back(row->at("text").as_string());
    return out;
  }
  const test::TemporaryDirectory folder_;
};

TEST_F(Columns, HaveTheRowsOfTheSameDataAsJson) {
  const std::vector<Value> want = read_rows(kGolden / "rows.jsonl");
  for (const std::string& name : kFiles) {
    SCOPED_TRACE(name);
    const std::vector<Value> rows = read_rows(kGolden / name);
    ASSERT_EQ(rows.size(), want.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i], want[i]) << i << ": " << describe(rows[i]) << "\n" << describe(want[i]);
      EXPECT_EQ(rows[i].origin.str(), (kGolden / name).string() + ":" + std::to_string(i + 1));
    }
  }
}

// Row groups and batches have four rows: what is passed over lies inside them, is all of one, or ends with one.
TEST_F(Columns, RowsArePassedOver) {
  const std::vector<Value> want = read_rows(kGolden / "rows.jsonl");
  for (const std::string& name : kFiles)
    for (size_t taken = 0; taken < 1u << want.size(); taken += 37) {
      SCOPED_TRACE(name + " " + std::to_string(taken));
      RowReader reader(kGolden / name);
      for (size_t i = 0; i < want.size(); ++i) {
        if (taken >> i & 1) {
          ASSERT_EQ(reader.next(), want[i]) << i;
        } else {
          ASSERT_TRUE(reader.skip()) << i;
        }
        ASSERT_EQ(reader.count(), static_cast<int64_t>(i) + 1);
      }
      EXPECT_FALSE(reader.skip());
      EXPECT_FALSE(reader.next());
    }
}

TEST_F(Columns, OnlyWhatIsWantedIsRead) {
  const std::vector<Value> want = read_rows(kGolden / "rows.jsonl");
  for (const std::string& name : kFiles) {
    SCOPED_TRACE(name);
    RowReader some(kGolden / name, TextUnit::line, [](const std::string& column) { return column == "messages"; });
    RowReader none(kGolden / name, TextUnit::line, [](const std::string&) { return false; });
    for (const Value& row : want) {
      const auto one = some.next(), empty = none.next();
      ASSERT_TRUE(one && empty);
      EXPECT_EQ(one->at("messages"), row.at("messages"));
      EXPECT_EQ(one->as_map().size(), row.as_map().size());
      EXPECT_TRUE(one->at("id").is_null() && empty->at("messages").is_null());
    }
    EXPECT_FALSE(some.next());
    EXPECT_FALSE(none.next());
  }
}

TEST_F(Columns, TypesThatJsonHasNoLikeOfAreRefusedWhereTheyAreUsed) {
  for (const char* name : {"odd.parquet", "odd.arrow"}) {
    RowReader reader(kGolden / name, TextUnit::line, [](const std::string& column) { return column == "text"; });
    EXPECT_EQ(reader.next()->at("text"), Value("a"));
    EXPECT_TRUE(reader.next()->at("when").is_null());
    EXPECT_FALSE(reader.next());
    const auto used = [&](const char* wanted) {
      return refusal(kGolden / name, [=](const std::string& column) { return column == wanted; });
    };
    EXPECT_THAT(used("when"), HasSubstr("column 'when' holds values of type timestamp[us]"));
    EXPECT_THAT(used("times"), HasSubstr("column 'times' holds values of type timestamp[us]"));
    EXPECT_THAT(used("price"), HasSubstr("column 'price' holds values of type decimal128(3, 2)"));
    EXPECT_THAT(used("image"), HasSubstr("column 'image' holds values of type binary"));
    EXPECT_EQ(refusal(kGolden / name), "was taken");
  }
}

TEST_F(Columns, AFileThatIsCutAnywhereIsRefused) {
  for (const std::string& name : kFiles) {
    const std::string whole = test::slurp(kGolden / name);
    for (size_t size = 0; size < whole.size(); size += size < whole.size() - 100 ? 61 : 1) {
      const fs::path cut = write(name, whole.substr(0, size));
      ASSERT_THAT(refusal(cut), AllOf(HasSubstr(cut.string()), testing::Not(HasSubstr("was taken")))) << size;
    }
  }
}

TEST_F(Columns, OtherFilesAreRefused) {
  const std::string parquet = test::slurp(kGolden / "plain.parquet"), stream = test::slurp(kGolden / "stream.arrow");
  EXPECT_THAT(refusal(write("a.parquet", "{\"text\": \"a\"}\n")), HasSubstr("a.parquet: the file cannot be read: "));
  EXPECT_THAT(refusal(write("b.parquet", parquet.substr(0, parquet.size() - 1) + "2")), HasSubstr("magic bytes"));
  EXPECT_THAT(refusal(write("a.arrow", "{\"text\": \"a\"}\n")), HasSubstr("a.arrow: the file cannot be read: "));
  EXPECT_THAT(refusal(write("c.arrow", parquet)), HasSubstr("c.arrow: is a Parquet file"));
  EXPECT_THAT(refusal(write("d.feather", "FEA1....")), HasSubstr("a Feather file of version 1"));
  EXPECT_THAT(refusal(write("e.parquet.gz", parquet)), HasSubstr("compressed as a whole"));
  EXPECT_THAT(refusal(write("f.arrow", stream.substr(0, stream.size() - 8))), HasSubstr("the stream has no end"));
  EXPECT_THAT(refusal(write("g.arrow", stream + "more")), HasSubstr("something follows the end of the stream"));
}

TEST_F(Columns, DamageIsFoundByChecksums) {
  std::string bytes = test::slurp(kGolden / "plain.parquet");
  const size_t at = bytes.find("turn 0 of 3");
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 'T';
  EXPECT_THAT(refusal(write("damaged.parquet", bytes)),
              AllOf(HasSubstr("damaged.parquet: its row group 1 cannot be read"), HasSubstr("CRC checksum")));
}

TEST_F(Columns, WhatIsNoTextIsRefused) {
  std::string bytes = test::slurp(kGolden / "stream.arrow");
  const size_t at = bytes.find("turn 0 of 3");
  ASSERT_NE(at, std::string::npos);
  bytes[at] = '\xFF';
  EXPECT_THAT(refusal(write("damaged.arrow", bytes)),
              AllOf(HasSubstr("its batch 1 cannot be read"), HasSubstr("UTF8")));
}

TEST_F(Columns, ClaimsBeyondTheBytesAreRefused) {
  EXPECT_THAT(refusal(kGolden / "rows_of_nothing.arrow"), HasSubstr("claims 2147483647 rows in"));
  EXPECT_THAT(refusal(kGolden / "list_of_nothing.arrow"), HasSubstr("list_of_nothing.arrow:1: a row of more than"));
}

TEST_F(Columns, FoldersOfHuggingFaceAreRead) {
  const auto saved = [](int from, int to) {
    std::vector<std::string> out;
    for (int i = from; i < to; ++i) out.push_back("saved " + std::to_string(i));
    return out;
  };
  EXPECT_EQ(texts((kGolden / "saved").string()), saved(0, 7));
  const auto part = [](const fs::path& folder, const char* name) {
    return Value::list({Value::map({{"path", folder.string()}, {"part", name}})});
  };
  EXPECT_EQ(texts(part(kGolden / "splits", "train")), saved(0, 5));
  EXPECT_EQ(texts(part(kGolden / "splits", "test")), saved(5, 7));
  // What Dataset.map left, and what was saved before in more files, is not the data set's.
  fs::copy(kGolden / "saved", folder_ / "saved", fs::copy_options::recursive);
  const std::string other = test::slurp(kGolden / "splits/test/data-00000-of-00001.arrow");
  write("saved/cache-0123456789abcdef.arrow", other);
  write("saved/data-00002-of-00003.arrow", other);
  EXPECT_EQ(texts((folder_ / "saved").string()), saved(0, 7));
  // As the hub has it.
  fs::create_directories(folder_ / "hub/data");
  for (const char* name : {"train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"})
    fs::copy(kGolden / "zstd.parquet", folder_ / "hub/data" / (std::string(name) + ".parquet"));
  const auto rows_of = [](const Value& given) {
    RowStream stream(list_data_files(given), {});
    size_t count = 0;
    while (stream.next()) ++count;
    return count;
  };
  EXPECT_EQ(rows_of(part(folder_ / "hub", "train")), 22u);
  EXPECT_EQ(rows_of((folder_ / "hub/data/train-*.parquet").string()), 22u);
  EXPECT_EQ(rows_of(part(folder_ / "hub", "test")), 11u);
}

TEST_F(Columns, SharesAndWeightsAreThoseOfJson) {
  const auto ids = [](const std::string& name, RowChoice choice, double weight) {
    RowStream stream(
        list_data_files(Value::list({Value::map({{"path", (kGolden / name).string()}, {"weight", weight}})})), choice);
    std::vector<int64_t> out;
    while (const auto row = stream.next()) out.push_back(row->at("id").as_integer());
    return out;
  };
  for (const bool held : {true, false})
    for (const double weight : {1.0, 2.5, 0.4}) {
      const RowChoice choice{.share = 0.3, .held = held, .seed = 5};
      const std::vector<int64_t> want = ids("rows.jsonl", choice, weight);
      EXPECT_EQ(ids("zstd.parquet", choice, weight), want);
      EXPECT_EQ(ids("stream.arrow", choice, weight), want);
      EXPECT_EQ(ids("file.arrow", choice, weight), want);
    }
}

TEST(UsedColumns, AreThoseOfTheKindThePlanAndTheTemplate) {
  const auto uses = [](const Value& split, const char* column, std::shared_ptr<const ChatTemplate> chat = nullptr) {
    return used_columns(split, std::move(chat))(column);
  };
  const Value tokens = Value::map({{"kind", "tokenized"}});
  EXPECT_TRUE(uses(tokens, "labels"));
  EXPECT_TRUE(uses(tokens, "attention_mask"));
  EXPECT_FALSE(uses(tokens, "text"));
  const Value story = Value::map({{"kind", "completion"}, {"field", "story"}});
  EXPECT_TRUE(uses(story, "story"));
  EXPECT_FALSE(uses(story, "text"));
  const Value alpaca =
      Value::map({{"kind", "alpaca"}, {"field_input", "given"}, {"format", "[{topic}] {instruction}"}});
  for (const char* column : {"topic", "given", "question", "response"}) EXPECT_TRUE(uses(alpaca, column)) << column;
  EXPECT_FALSE(uses(alpaca, "score"));
  const Value chat = Value::map({{"kind", "chat"}, {"field_messages", "dialog"}});
  const auto made = std::make_shared<ChatTemplate>("{{ mood }}{% for m in messages %}{{ m.content }}{% endfor %}", "t");
  for (const char* column : {"dialog", "messages", "tools", "mood"}) EXPECT_TRUE(uses(chat, column, made)) << column;
  EXPECT_FALSE(uses(chat, "mood"));
  EXPECT_FALSE(uses(chat, "created_at", made));
}

}  // namespace
}  // namespace ft
