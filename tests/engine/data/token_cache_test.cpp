#include "engine/data/token_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "engine/data/batch.h"
#include "engine/data/packing.h"
#include "engine/data/row_stream.h"
#include "engine/data/row_tokens.h"
#include "engine/data/token_rows.h"
#include "engine/device/memory.h"
#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TokenCache : public ::testing::Test {
 protected:
  /// Rows of input_ids: row i has 3 + i mod 50 tokens, the first two of them not learned.
  DataFile write(int rows) const {
    std::ofstream out(folder_ / "rows.jsonl");
    for (int i = 0; i < rows; ++i) {
      std::string ids, labels;
      for (int t = 0; t < 3 + i % 50; ++t) {
        ids += (t ? ", " : "") + std::to_string((i + 7 * t) % 1000);
        labels += (t ? ", " : "") + std::to_string(t < 2 ? -100 : (i + 7 * t) % 1000);
      }
      out << "{\"input_ids\": [" << ids << "], \"labels\": [" << labels << "]}\n";
    }
    return {folder_ / "rows.jsonl"};
  }
  static RowToTokens tokenized() { return row_to_tokens(Value::map({{"kind", "tokenized"}}), nullptr, nullptr, {}); }
  static TokenRows read(const DataFile& file, TokenCacheWriter* writer = nullptr, int threads = 1) {
    TokenRows rows({.seq_len = 40, .vocab_size = 1000});
    RowStream stream({file}, {});
    read_token_rows(rows, stream, tokenized(), {.threads = threads, .writer = writer});
    return rows;
  }
  fs::path keep(const DataFile& file) const {
    TokenCacheWriter writer(folder_ / "a.tokens");
    TokenRows rows = read(file, &writer);
    writer.commit(rows);
    return folder_ / "a.tokens";
  }
  const test::TemporaryDirectory folder_;
};

void expect_equal(const TokenRows& a, const TokenRows& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.report(), b.report());
  for (int64_t row = 0; row < a.size(); ++row) {
    ASSERT_TRUE(std::ranges::equal(a.ids(row), b.ids(row))) << row;
    ASSERT_TRUE(std::ranges::equal(a.labels(row), b.labels(row))) << row;
    ASSERT_EQ(a.line(row), b.line(row));
  }
}

TEST_F(TokenCache, HoldsWhatMemoryWouldHoldWhateverTheThreads) {
  const DataFile file = write(10000);
  const TokenRows in_memory = read(file);
  EXPECT_GT(in_memory.counts().truncated, 0);
  const TokenRows mapped(std::make_shared<const MappedTokens>(keep(file)));
  expect_equal(in_memory, mapped);
  expect_equal(in_memory, read(file, nullptr, 3));
  const Packing packing = make_packing(mapped, 40, true);
  const std::vector<int64_t> ids{0, packing.size() - 1};
  const Batch a = make_batch(in_memory, packing, ids, 0), b = make_batch(mapped, packing, ids, 0);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.targets, b.targets);
}

TEST_F(TokenCache, RowsThatFailAreNamedAndLeaveNoFile) {
  const DataFile file = write(20);
  std::ofstream(file.path, std::ios::app) << "{\"input_ids\": [1, 2], \"labels\": [1]}\n";
  EXPECT_THAT(test::refusal([&] { keep(file); }), HasSubstr("rows.jsonl:21"));
  std::ofstream(file.path) << "{\"input_ids\": [1, 1000]}\n";
  EXPECT_THAT(test::refusal([&] { keep(file); }),
              HasSubstr("rows.jsonl:1: id 1000 at token 1 is outside the vocabulary of 1000"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(TokenCache, DamagedFilesAreRefused) {
  const fs::path path = keep(write(100));
  const std::string whole = read_text(path);
  const auto opened = [&](std::string bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return test::refusal([&] { TokenRows rows(std::make_shared<const MappedTokens>(path)); });
  };
  EXPECT_EQ(opened(whole), "was taken");
  EXPECT_THAT(opened(""), HasSubstr("it is cut short"));
  EXPECT_THAT(opened(whole.substr(0, whole.size() - 8)), HasSubstr("is no cache of tokens"));
  EXPECT_THAT(opened(whole.substr(8)), HasSubstr("its sizes do not add up"));
  const auto changed = [&](size_t from_end, char by) {
    std::string bytes = whole;
    bytes[bytes.size() - from_end] = static_cast<char>(bytes[bytes.size() - from_end] ^ by);
    return opened(bytes);
  };
  EXPECT_THAT(changed(40, 2), HasSubstr("it is of version 3"));
  EXPECT_THAT(changed(200, 1), HasSubstr("its index is damaged"));
  for (size_t i = 1; i <= 48; ++i) EXPECT_NE(changed(i, 0x40), "was taken") << "byte " << i << " from the end";
  // tokens are not read when the file is opened: they are checked as they are used
  std::string tokens = whole;
  tokens[3] = 0x10;
  ASSERT_EQ(opened(tokens), "was taken");
  const TokenRows rows(std::make_shared<const MappedTokens>(path));
  const Packing packing = make_packing(rows, 40, false);
  EXPECT_THAT(test::refusal([&] { make_batch(rows, packing, std::vector<int64_t>{0}, 0); }),
              HasSubstr("the file is damaged"));
}

TEST_F(TokenCache, FilesAreKnownByTheirBytes) {
  const DataFile file = write(3);
  EXPECT_FALSE(describe_files({file}, folder_, false));
  const Value first = *describe_files({file}, folder_, true);
  EXPECT_EQ(*describe_files({file}, folder_, false), first);
  const std::string text = read_text(file.path);
  fs::last_write_time(file.path, fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(*describe_files({file}, folder_, false), first);  // touched, and hashed again
  std::string other = text;
  other[other.size() - 4] ^= 1;
  std::ofstream(file.path, std::ios::binary) << other;
  EXPECT_NE(*describe_files({file}, folder_, false), first);
  EXPECT_NE(cache_key(*describe_files({file}, folder_, true)), cache_key(first));
  const auto time = fs::last_write_time(file.path);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // more than the file system's tick
  std::ofstream(file.path, std::ios::binary) << text;
  fs::last_write_time(file.path, time);  // as tools that keep times do
  EXPECT_EQ(*describe_files({file}, folder_, false), first);
  std::ofstream(folder_ / "files.json") << "{ damaged";
  std::ofstream(file.path, std::ios::binary) << text;
  EXPECT_EQ(*describe_files({file}, folder_, true), first);
}

// 220 MB of text with 1.2 GB of tokens and labels were they all held: memory of one's own stays what a window takes.
TEST_F(TokenCache, MemoryIsBoundedWhateverTheSizeOfTheFile) {
  const DataFile file{folder_ / "big.jsonl"};
  {
    std::ofstream out(file.path);
    std::string row = "{\"input_ids\": [";
    for (int t = 0; t < 4000; ++t) row += (t ? "," : "") + std::to_string(t % 997);
    row += "]}\n";
    for (size_t bytes = 0; bytes < (size_t{220} << 20); bytes += row.size()) out << row;
  }
  const auto anonymous = [] { return static_cast<int64_t>(read_host_memory().anonymous); };
  const int64_t before = anonymous();
  int64_t most = 0;
  TokenCacheWriter writer(folder_ / "big.tokens");
  TokenRows rows({.vocab_size = 1000});
  RowStream stream({file}, {});
  read_token_rows(rows, stream, tokenized(),
                  {.threads = 2, .advance = [&](int64_t) { most = std::max(most, anonymous()); }, .writer = &writer});
  writer.commit(rows);
  const TokenRows mapped(std::make_shared<const MappedTokens>(folder_ / "big.tokens"));
  int64_t sum = 0;
  for (int64_t row = 0; row < mapped.size(); ++row) sum += mapped.ids(row).back();
  most = std::max(most, anonymous());
  EXPECT_EQ(sum, mapped.size() * (3999 % 997));
  EXPECT_GT(8 * mapped.num_tokens(), int64_t{400} << 20);
  EXPECT_LT(most - before, int64_t{256} << 20);
  const Packing packing = make_packing(mapped, 8192, true);
  EXPECT_EQ(make_batch(mapped, packing, std::vector<int64_t>{0}, 0).num_targets, 2 * 3999);
}

}  // namespace
}  // namespace ft
