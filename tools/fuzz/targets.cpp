#include "tools/fuzz/targets.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/data/rows.h"
#include "engine/data/token_cache.h"
#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/formats/pickle.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/torch_file.h"
#include "engine/formats/yaml.h"
#include "engine/merge/gguf_model.h"
#include "engine/schema/registry.h"
#include "engine/template/chat_template.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/tokenizer.h"

namespace ft::fuzz {
namespace {

// A file in memory, under a path. The name of the file may matter to the reader: a link gives it one.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const uint8_t> bytes, const std::string& name = "")
      : descriptor_(memfd_create("fuzz", 0)) {
    if (descriptor_ < 0 || write(descriptor_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      std::abort();
    path_ = "/proc/self/fd/" + std::to_string(descriptor_);
    if (name.empty()) return;
    std::string folder = (std::filesystem::temp_directory_path() / "ftengine-fuzz-XXXXXX").string();
    if (!mkdtemp(folder.data())) std::abort();
    folder_ = folder;
    std::filesystem::create_symlink(path_, folder_ / name);
    path_ = folder_ / name;
  }
  ~MemoryFile() {
    close(descriptor_);
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
  }
  MemoryFile(const MemoryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  int descriptor_;
  std::filesystem::path path_, folder_;
};

std::string_view text_of(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void json(std::span<const uint8_t> bytes) {
  const Value value = parse_json(text_of(bytes), "fuzz.json");
  // What was read must be written and read again to the same text.
  const std::string text = write_json(value);
  FT_CHECK(write_json(parse_json(text, "again")) == text, "a value changes as it is written");
}

void yaml(std::span<const uint8_t> bytes) { parse_yaml(text_of(bytes), "fuzz.yaml"); }

// A plan of anyone's, as a configuration would state it: what is wrong with it has a text, and what was filled in
// holds.
void plan(std::span<const uint8_t> bytes) {
  Value value = parse_yaml(text_of(bytes), "fuzz.yaml");
  std::vector<Fault> faults;
  check(*find_schema("plan"), value, "", faults);
  const bool holds = std::all_of(faults.begin(), faults.end(), [](const Fault& fault) { return fault.warning; });
  for (const Fault& fault : faults) {
    FT_CHECK(!fault.message.empty() && (fault.origin.line > 0 || !fault.path.empty()),
             "a fault without message or place");
    (void)write_json(as_value(fault));
  }
  (void)render(faults, [](const std::string&, int) { return std::nullopt; });
  if (!holds) return;
  const Value filled = value;
  faults.clear();
  check(*find_schema("plan"), value, "", faults);
  FT_CHECK(faults.empty() && value == filled, "a plan that holds changes as it is checked again");
}

void safetensors(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes);
  const SafetensorsFile file(memory.path());
  std::vector<std::byte> values;
  for (const TensorEntry& entry : file.entries()) {
    values.resize(entry.bytes());
    file.read(entry, 0, values);
  }
}

void pickle(std::span<const uint8_t> bytes) {
  const Pickle read({bytes.begin(), bytes.end()}, "fuzz.pkl",
                    {.nodes = 200'000, .references = 400'000, .allow_persistent = true});
  (void)describe(read.root());
}

// Every tensor of an archive that torch.save may have written.
void torch_file(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes);
  const InputFile file(memory.path());
  const TorchFile archive(file);
  std::vector<const PickleNode*> nodes{&archive.root()};
  for (size_t i = 0; i < nodes.size() && i < 1000; ++i) {
    const PickleNode& node = *nodes[i];
    if (const auto tensor = archive.tensor(node)) {
      std::byte first;
      if (tensor->numel() > 0) file.read(tensor->offset, {&first, 1});
    }
    nodes.insert(nodes.end(), node.items.begin(),
                 node.items.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(node.items.size(), 100)));
  }
}

void tokenizer(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes, "tokenizer.json");
  const auto made = Tokenizer::load(memory.path());
  made->encode("Ein Text, a text: 12 日本 <s>\n\t é", true);
  made->encode_pair_as_stated("Ein Text", "a text: 12 日本 <s>\n\t é", true);
}

void sentencepiece(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes, "tokenizer.model");
  const auto made = Tokenizer::load(memory.path());
  for (const char* text : {"Ein Text, a text: 12 日本 <s>\n\t é", "  Ａ½ ﬁx▁\u200b▁"})
    made->decode(made->encode(text, true), false);
  (void)rename_piece(text_of(bytes), made->vocab_size() / 2, "a name");
  GgufKeys keys;
  add_gguf_tokenizer(keys, {memory.path()}, 1000);
}

// GGUF's keys are written from a tokenizer.json of anyone's.
void gguf_tokenizer(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes, "tokenizer.json");
  GgufKeys keys;
  add_gguf_tokenizer(keys, {memory.path()}, 1000);
}

// A template of anyone's, rendered with little to spend.
void chat_template(std::span<const uint8_t> bytes) {
  static const Value row = parse_json(
      R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi\n"},
          {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}}]}],
          "tools": [{"type": "function", "function": {"name": "f"}}], "add_generation_prompt": true, "now": "2024-07-26 12:34:56"})",
      "row");
  const ChatTemplate made(text_of(bytes), "fuzz.jinja", {{"bos_token", "<s>"}});
  made.render(row, {.steps = 20'000, .bytes = 1 << 20});
}

void read_all(RowReader reader, int64_t most = INT64_MAX) {
  while (reader.count() < most && reader.next()) {
  }
}

// Rows of JSON, and of whatever gzip or Zstandard makes of the bytes.
void data_rows(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes, "rows.json");
  read_all(RowReader(memory.path()));
}

void csv(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes, "rows.csv");
  read_all(RowReader(memory.path()));
}

// By the Arrow plugin. A file may have many rows of few bytes: some of them will do.
constexpr int64_t kRowsOfColumns = 10'000;

void parquet(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes, "rows.parquet");
  read_all(RowReader(memory.path()), kRowsOfColumns);
}

// Arrow's stream and its file: the first bytes say which.
void arrow(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes, "rows.arrow");
  read_all(RowReader(memory.path()), kRowsOfColumns);
}

void token_cache(std::span<const uint8_t> bytes) {
  const MemoryFile memory(bytes);
  const TokenRows rows(std::make_shared<const MappedTokens>(memory.path()));
  for (int64_t row = 0; row < rows.size(); ++row) rows.check_mapped(row);
}

template <void (*run)(std::span<const uint8_t>)>
void refusing(std::span<const uint8_t> bytes) {
  try {
    run(bytes);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) throw;
  }
}

constexpr Target kTargets[] = {{"json", refusing<json>},
                               {"yaml", refusing<yaml>},
                               {"plan", refusing<plan>},
                               {"safetensors", refusing<safetensors>},
                               {"pickle", refusing<pickle>},
                               {"torch_file", refusing<torch_file>},
                               {"tokenizer", refusing<tokenizer>},
                               {"sentencepiece", refusing<sentencepiece>},
                               {"chat_template", refusing<chat_template>},
                               {"gguf_tokenizer", refusing<gguf_tokenizer>},
                               {"data_rows", refusing<data_rows>},
                               {"csv", refusing<csv>},
                               {"parquet", refusing<parquet>},
                               {"arrow", refusing<arrow>},
                               {"token_cache", refusing<token_cache>}};

}  // namespace

std::span<const Target> targets() { return kTargets; }

}  // namespace ft::fuzz
