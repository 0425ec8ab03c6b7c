#include "engine/text/tokenizer.h"

#include <limits>
#include <mutex>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/nfc.h"
#include "engine/text/post_processor.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer_file.h"
#include "engine/text/unicode.h"
#include "engine/text/vocabulary.h"

namespace ft {
namespace {

/// Memory of one encode call; kept from call to call, so that the words of a data set are merged once.
struct Scratch {
  PreTokenizer::Scratch words;
  WordCache cache;
  std::vector<BpeSymbol> symbols;
};

/// Whether the normalizer is NFC (true) or none (false).
bool parse_normalizer(const Value& tree) {
  if (tree.is_null()) return false;
  const std::string type = tree.get("type", "");
  if (type == "NFC") return true;
  if (type == "Sequence") {
    bool nfc = false;
    for (const Value& part : tree.at("normalizers").as_list()) nfc |= parse_normalizer(part);
    return nfc;
  }
  throw Error(ErrorKind::format, (type.empty() ? "a normalizer without a type" : type) + " is not implemented")
      .key("normalizer");
}

void check_decoder(const Value& tree) {
  const std::string type = tree.get("type", "");
  if (type == "ByteLevel") return;
  if (type == "Sequence" && tree.at("decoders").as_list().size() == 1)
    return check_decoder(tree.at("decoders").as_list()[0]);
  const std::string part = tree.is_null() ? "no decoder" : type.empty() ? "a decoder without a type" : type;
  throw Error(ErrorKind::format, part + " is not implemented, want ByteLevel").key("decoder");
}

const Value& entry_of(const Value& tree, const char* key) {
  static const Value kNull;
  const Value* v = tree.find(key);
  return v ? *v : kNull;
}

AddedTokenMatcher matcher_of(const Vocabulary& vocabulary, bool normalized, bool nfc) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  for (const bool special : {true, false}) {  // of two that normalize alike, `tokenizers` meets the special one first
    for (const AddedToken& token : vocabulary.added()) {
      if (token.normalized != normalized || token.special != special) continue;
      tokens.push_back(token);
      patterns.push_back(normalized && nfc ? normalize_nfc(token.content).text : token.content);
    }
  }
  return AddedTokenMatcher(std::move(tokens), patterns);
}

}  // namespace

struct Tokenizer::State {
  /// The small parts are read first, so that a file of another kind is refused by the part that makes it so.
  State(TokenizerFile& content, const Value& config)
      : nfc(parse_normalizer(entry_of(content.tree, "normalizer"))),
        pre_tokenizer(PreTokenizer::parse(entry_of(content.tree, "pre_tokenizer"))),
        post_processor(PostProcessor::parse(entry_of(content.tree, "post_processor"))),
        vocabulary(content) {
    check_decoder(entry_of(content.tree, "decoder"));
    // `truncation` and `padding` are left alone: transformers switches both off before it encodes, and how long a row
    // may be is the data set's affair (TokenRowsOptions).
    vocabulary.add_tokens(entry_of(content.tree, "added_tokens"), config);
    raw_tokens = matcher_of(vocabulary, false, nfc);
    normalized_tokens = matcher_of(vocabulary, true, nfc);
  }

  /// Appends the tokens of a text between added tokens that are looked for before the normalizer.
  void encode_raw(std::string_view raw, uint32_t raw_begin, Scratch& scratch, std::vector<Token>& out) const;
  /// Appends the tokens of a stretch of normalized text without added tokens.
  template <typename Locate>
  void encode_piece(std::string_view piece, const Locate& locate, Scratch& scratch, std::vector<Token>& out) const;
  std::unique_ptr<Scratch> borrow() const;
  void give_back(std::unique_ptr<Scratch> scratch) const;

  std::filesystem::path file;
  bool nfc;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Vocabulary vocabulary;
  AddedTokenMatcher raw_tokens, normalized_tokens;
  TextMarks marks;
  mutable std::mutex mutex;  ///< guards `idle`
  mutable std::vector<std::unique_ptr<Scratch>> idle;
};

std::unique_ptr<Scratch> Tokenizer::State::borrow() const {
  const std::lock_guard lock(mutex);
  if (idle.empty()) return std::make_unique<Scratch>();
  std::unique_ptr<Scratch> scratch = std::move(idle.back());
  idle.pop_back();
  return scratch;
}

void Tokenizer::State::give_back(std::unique_ptr<Scratch> scratch) const {
  const std::lock_guard lock(mutex);
  idle.push_back(std::move(scratch));
}

template <typename Locate>
void Tokenizer::State::encode_piece(std::string_view piece, const Locate& locate, Scratch& scratch,
                                    std::vector<Token>& out) const {
  pre_tokenizer.split(piece, scratch.words);
  for (const PreTokenizer::Word& word : scratch.words.words) {
    scratch.symbols.clear();
    vocabulary.bpe().encode(word.bytes, scratch.cache, scratch.symbols);
    for (const BpeSymbol& s : scratch.symbols) {
      const auto [begin, end] =
          locate(std::max<int64_t>(word.begin + s.begin, 0), std::max<int64_t>(word.begin + s.end, 0));
      out.push_back({s.id, begin, end});
    }
  }
}

void Tokenizer::State::encode_raw(std::string_view raw, uint32_t raw_begin, Scratch& scratch,
                                  std::vector<Token>& out) const {
  using Ends = std::pair<uint32_t, uint32_t>;
  NormalizedText normalized;
  if (nfc) normalized = normalize_nfc(raw);
  const std::string_view text = nfc ? std::string_view(normalized.text) : raw;
  const bool moved = !normalized.changes.empty();
  const auto source = [&](size_t begin, size_t end) {
    if (!moved) return Ends{raw_begin + begin, raw_begin + end};
    const uint32_t from = normalized.source_begin(static_cast<uint32_t>(begin));
    return Ends{raw_begin + from, raw_begin + std::max(from, normalized.source_end(static_cast<uint32_t>(end)))};
  };
  std::vector<TextSpan> spans;
  normalized_tokens.split(text, spans);
  for (const TextSpan& span : spans) {
    if (span.id != TextSpan::kPlain) {
      const auto [begin, end] = source(span.begin, span.end);
      out.push_back({span.id, begin, end});
      continue;
    }
    const auto locate = [&](int64_t begin, int64_t end) {
      return source(span.begin + static_cast<size_t>(begin), span.begin + static_cast<size_t>(end));
    };
    encode_piece(text.substr(span.begin, span.end - span.begin), locate, scratch, out);
  }
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& model_dir_or_file) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(model_dir_or_file, ignored);
  const std::filesystem::path file = is_folder ? model_dir_or_file / "tokenizer.json" : model_dir_or_file;
  const std::filesystem::path folder = file.parent_path();
  try {
    TokenizerFile content = read_tokenizer_file(file);
    const std::filesystem::path config_file = folder / "tokenizer_config.json";
    const Value config = std::filesystem::exists(config_file) ? read_json(config_file) : Value();
    auto state = std::make_unique<State>(content, config);
    state->file = file;
    state->marks = read_marks(folder, config, state->vocabulary);
    return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(state)));
  } catch (Error& error) {
    error.at(file.string());
    if (error.kind() == ErrorKind::format) error.help("byte-level BPE files (GPT-2, Llama 3, Qwen) are read");
    throw;
  }
}

std::vector<Tokenizer::Token> Tokenizer::encode_with_offsets(std::string_view text, bool add_special_tokens) const {
  if (const size_t bad = unicode::find_invalid(text); bad != std::string_view::npos)
    throw Error(ErrorKind::format, "text is not UTF-8 at byte " + std::to_string(bad));
  if (text.size() >= std::numeric_limits<uint32_t>::max() / 4)  // NFC may grow a text threefold
    throw Error(ErrorKind::format, "text of " + std::to_string(text.size()) + " bytes, want less than 1 GiB at a time");
  std::vector<Token> out;
  const auto size = static_cast<uint32_t>(text.size());
  const PostProcessor& around = state_->post_processor;
  if (add_special_tokens)
    for (const int32_t id : around.before) out.push_back({id, 0, 0});
  std::unique_ptr<Scratch> scratch = state_->borrow();
  std::vector<TextSpan> spans;
  state_->raw_tokens.split(text, spans);
  for (const TextSpan& span : spans) {
    const auto begin = static_cast<uint32_t>(span.begin), end = static_cast<uint32_t>(span.end);
    if (span.id != TextSpan::kPlain) {
      out.push_back({span.id, begin, end});
    } else {
      state_->encode_raw(text.substr(begin, end - begin), begin, *scratch, out);
    }
  }
  state_->give_back(std::move(scratch));
  if (add_special_tokens)
    for (const int32_t id : around.behind) out.push_back({id, size, size});
  return out;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const std::vector<Token> tokens = encode_with_offsets(text, add_special_tokens);
  std::vector<int32_t> ids(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) ids[i] = tokens[i].id;
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) state_->vocabulary.decode(id, skip_special_tokens, bytes);
  return unicode::to_valid(bytes);
}

int64_t Tokenizer::vocab_size() const { return state_->vocabulary.size(); }
std::optional<int32_t> Tokenizer::token_id(std::string_view token) const { return state_->vocabulary.find(token); }
bool Tokenizer::is_special(int32_t id) const { return state_->vocabulary.is_special(id); }
std::optional<int32_t> Tokenizer::bos_id() const { return state_->marks.bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return state_->marks.eos; }
std::optional<int32_t> Tokenizer::pad_id() const { return state_->marks.pad; }
const std::vector<int32_t>& Tokenizer::stop_ids() const { return state_->marks.stop; }
const std::filesystem::path& Tokenizer::file() const { return state_->file; }

}  // namespace ft
