#include "engine/text/tokenizer.h"

#include <limits>
#include <mutex>

#include "engine/device/parallel_for.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/aligned_text.h"
#include "engine/text/byte_level.h"
#include "engine/text/decoder.h"
#include "engine/text/length_limits.h"
#include "engine/text/normalizer.h"
#include "engine/text/post_processor.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/tokenizer_file.h"
#include "engine/text/unicode.h"
#include "engine/text/vocabulary.h"

namespace ft {
namespace {

/// Memory of one encode call; kept from call to call, so that the words of a data set are looked up once.
struct Scratch {
  std::vector<AlignedText> words, spare;
  WordCache cache;
  std::vector<Symbol> symbols;
};

const Value& entry_of(const Value& tree, const char* key) {
  static const Value kNull;
  const Value* v = tree.find(key);
  return v ? *v : kNull;
}

/// The id of an added token in a text.   @throws Error(format) for one that has none: transformers gives it one that
/// the model has no row for
int32_t id_of(const TextSpan& span, std::string_view text) {
  if (span.id != AddedToken::kNoId) return span.id;
  throw Error(ErrorKind::format, "text has '" + std::string(text.substr(span.begin, span.end - span.begin)) +
                                     "', which tokenizer_config.json calls a token, and no file has an id for it")
      .help("add it to the model (ft.hf { added_tokens = … }), or take it out of the text");
}

/// tokenizer.json; where there is none, a tokenizer.model.
std::filesystem::path tokenizer_file_in(const std::filesystem::path& folder) {
  std::filesystem::path file = folder / "tokenizer.json";
  const std::filesystem::path pieces = folder / "tokenizer.model";
  return !std::filesystem::exists(file) && std::filesystem::exists(pieces) ? pieces : file;
}

AddedTokenMatcher matcher_of(const Vocabulary& vocabulary, bool normalized, const Normalizer& normalizer) {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  const auto add = [&](const std::vector<AddedToken>& added, bool special) {
    for (const AddedToken& token : added) {
      if (token.normalized != normalized || token.special != special) continue;
      tokens.push_back(token);
      AlignedText pattern(token.content, 0);
      if (normalized) normalizer.apply(pattern);
      patterns.emplace_back(pattern.text());
    }
  };
  // Of two that normalize alike, `tokenizers` meets the special one first.
  for (const bool special : {true, false}) add(vocabulary.added(), special);
  add(vocabulary.without_id(), true);
  return AddedTokenMatcher(std::move(tokens), patterns);
}

}  // namespace

struct Tokenizer::State {
  /// The small parts are read first, so that a file of another kind is refused by the part that makes it so.
  State(TokenizerFile& content, const Value& config)
      : normalizer(content.pieces ? sentencepiece_normalizer(content.pieces)
                                  : parse_normalizer(entry_of(content.tree, "normalizer"))),
        raw_bytes(PreTokenizer::ends_in_byte_level(entry_of(content.tree, "pre_tokenizer")) &&
                  reads_raw_bytes(content.tree.at("model"))),
        pre_tokenizer(entry_of(content.tree, "pre_tokenizer"), raw_bytes),
        post_processor(PostProcessor::parse(entry_of(content.tree, "post_processor"))),
        decoder(entry_of(content.tree, "decoder")),
        limits(entry_of(content.tree, "truncation"), entry_of(content.tree, "padding")),
        vocabulary(content, raw_bytes) {
    drops_lone_space = content.pieces && !content.pieces->legacy;
    vocabulary.add_tokens(entry_of(content.tree, "added_tokens"), config);
    if (!content.pieces) vocabulary.add_named_tokens(config);
    raw_tokens = matcher_of(vocabulary, false, *normalizer);
    normalized_tokens = matcher_of(vocabulary, true, *normalizer);
  }

  /// Appends the tokens of a text between added tokens that are looked for before the normalizer.
  void encode_raw(AlignedText text, Scratch& scratch, std::vector<Token>& out) const;
  /// Appends the tokens of a stretch of normalized text without added tokens.
  void encode_piece(AlignedText piece, Scratch& scratch, std::vector<Token>& out) const;
  /// All but the post-processor.
  std::vector<Token> encode(std::string_view text) const;
  std::unique_ptr<Scratch> borrow() const;
  void give_back(std::unique_ptr<Scratch> scratch) const;

  std::filesystem::path file;
  std::unique_ptr<const Normalizer> normalizer;
  bool raw_bytes;                 ///< words reach the model as bytes, not as their spelling
  bool drops_lone_space = false;  ///< of a tokenizer.model
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Decoder decoder;
  LengthLimits limits;
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

void Tokenizer::State::encode_piece(AlignedText piece, Scratch& scratch, std::vector<Token>& out) const {
  pre_tokenizer.split(std::move(piece), scratch.words, scratch.spare);
  for (const AlignedText& word : scratch.words) {
    if (word.empty()) continue;
    scratch.symbols.clear();
    vocabulary.model().encode(word.text(), scratch.cache, scratch.symbols);
    for (const Symbol& s : scratch.symbols) {
      const auto [begin, end] = word.source(s.begin, s.end);
      out.push_back({s.id, begin, end});
    }
  }
}

void Tokenizer::State::encode_raw(AlignedText text, Scratch& scratch, std::vector<Token>& out) const {
  normalizer->apply(text);
  std::vector<TextSpan> spans;
  normalized_tokens.split(text.text(), spans);
  for (const TextSpan& span : spans) {
    if (span.id != TextSpan::kPlain) {
      const auto [begin, end] = text.source(span.begin, span.end);
      out.push_back({id_of(span, text.text()), begin, end});
    } else {
      encode_piece(text.slice(span.begin, span.end), scratch, out);
    }
  }
}

std::vector<Tokenizer::Token> Tokenizer::State::encode(std::string_view text) const {
  if (const size_t bad = unicode::find_invalid(text); bad != std::string_view::npos)
    throw Error(ErrorKind::format, "text is not UTF-8 at byte " + std::to_string(bad));
  if (text.size() >= std::numeric_limits<uint32_t>::max() / 32)  // a normalizer may make 18 characters of one
    throw Error(ErrorKind::format,
                "text of " + std::to_string(text.size()) + " bytes, want less than 128 MiB at a time");
  std::vector<Token> out;
  std::unique_ptr<Scratch> scratch = borrow();
  std::vector<TextSpan> spans;
  raw_tokens.split(text, spans);
  for (const TextSpan& span : spans) {
    const auto begin = static_cast<uint32_t>(span.begin), end = static_cast<uint32_t>(span.end);
    if (span.id != TextSpan::kPlain) {
      // what transformers' slow Llama tokenizer does, without legacy, where a special token is behind a lone space
      if (drops_lone_space && out.size() == 1 && spans[0].id == TextSpan::kPlain && vocabulary.is_special(span.id) &&
          vocabulary.token(out[0].id) == "▁")
        out.clear();
      out.push_back({id_of(span, text), begin, end});
    } else {
      encode_raw(AlignedText(text.substr(begin, end - begin), begin), *scratch, out);
    }
  }
  give_back(std::move(scratch));
  return out;
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& model_dir_or_file) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(model_dir_or_file, ignored);
  const std::filesystem::path file = is_folder ? tokenizer_file_in(model_dir_or_file) : model_dir_or_file;
  const std::filesystem::path folder = file.parent_path();
  try {
    Value config = read_optional(folder / "tokenizer_config.json");
    TokenizerFile content =
        file.extension() == ".model" ? read_sentencepiece_file(file, config) : read_tokenizer_file(file);
    auto state = std::make_unique<State>(
        content, content.pieces ? config : complete_config(folder, entry_of(content.tree, "added_tokens"), config));
    state->file = file;
    state->marks = read_marks(folder, config, state->vocabulary);
    if (content.pieces)  // a tokenizer.json says so itself, whatever tokenizer_config.json has (transformers 5)
      state->post_processor = PostProcessor::of_marks(is_on(config, "add_bos_token") ? state->marks.bos : std::nullopt,
                                                      is_on(config, "add_eos_token") ? state->marks.eos : std::nullopt);
    return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(state)));
  } catch (Error& error) {
    error.at(file.string());
    throw;
  }
}

std::vector<Tokenizer::Token> Tokenizer::encode_with_offsets(std::string_view text, bool add_special_tokens) const {
  std::vector<Token> out = state_->encode(text);
  if (!add_special_tokens) return out;
  const PostProcessor& around = state_->post_processor;
  const auto size = static_cast<uint32_t>(text.size());
  std::vector<Token> before;
  for (const int32_t id : around.before) before.push_back({id, 0, 0});
  out.insert(out.begin(), before.begin(), before.end());
  for (const int32_t id : around.behind) out.push_back({id, size, size});
  return out;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const std::vector<Token> tokens = encode_with_offsets(text, add_special_tokens);
  std::vector<int32_t> ids(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) ids[i] = tokens[i].id;
  return ids;
}

std::vector<std::vector<int32_t>> Tokenizer::encode_batch(std::span<const std::string> texts, bool add_special_tokens,
                                                          int threads) const {
  std::vector<std::vector<int32_t>> out(texts.size());
  parallel_for(texts.size(), {threads}, [&](size_t i) { out[i] = encode(texts[i], add_special_tokens); });
  return out;
}

std::vector<int32_t> Tokenizer::encode_as_stated(std::string_view text, bool add_special_tokens) const {
  const PostProcessor& around = state_->post_processor;
  std::vector<int32_t> ids = encode(text, false);
  const size_t added = add_special_tokens ? around.before.size() + around.behind.size() : 0;
  state_->limits.shorten(ids, state_->limits.kept(ids.size(), std::nullopt, added).first);
  if (add_special_tokens) {
    ids.insert(ids.begin(), around.before.begin(), around.before.end());
    ids.insert(ids.end(), around.behind.begin(), around.behind.end());
  }
  state_->limits.pad(ids);
  return ids;
}

std::vector<Tokenizer::Token> Tokenizer::encode_pair(std::string_view text, std::string_view pair,
                                                     bool add_special_tokens) const {
  const PostProcessor::Parts& parts =
      add_special_tokens ? state_->post_processor.pair : state_->post_processor.plain_pair;
  std::vector<Token> tokens[] = {state_->encode(text), state_->encode(pair)};
  size_t added = 0;
  for (const PostProcessor::Part& part : parts) added += part.ids.size();
  const auto [first, second] = state_->limits.kept(tokens[0].size(), tokens[1].size(), added);
  state_->limits.shorten(tokens[0], first);
  state_->limits.shorten(tokens[1], second);
  trim_offsets(text, tokens[0]);
  trim_offsets(pair, tokens[1]);
  std::vector<Token> out;
  for (const PostProcessor::Part& part : parts) {
    for (const int32_t id : part.ids) out.push_back({id, 0, 0});
    if (part.text != PostProcessor::Part::kSpecial)
      out.insert(out.end(), tokens[part.text].begin(), tokens[part.text].end());
  }
  return out;
}

std::vector<int32_t> Tokenizer::encode_pair_as_stated(std::string_view text, std::string_view pair,
                                                      bool add_special_tokens) const {
  std::vector<int32_t> ids;
  for (const Token& token : encode_pair(text, pair, add_special_tokens)) ids.push_back(token.id);
  state_->limits.pad(ids);
  return ids;
}

/// byte_level.rs, process_offsets: a space is U+0020 as byte-level spells it, or white space as it stands.
void Tokenizer::trim_offsets(std::string_view text, std::vector<Token>& tokens) const {
  const auto is_space = [](uint32_t c) { return c == byte_level::char_of(' ') || unicode::is_white_space(c); };
  for (size_t i = 0; i < tokens.size() && !state_->post_processor.trims.empty(); ++i) {
    Token& token = tokens[i];
    if (token.begin == token.end) continue;
    std::string_view spelled = state_->vocabulary.token(token.id).value_or("");
    // An added token's is what was found, perhaps with spaces beside it. The model may have one for unknown words.
    AlignedText found(text.substr(token.begin, token.end - token.begin), token.begin);
    if (const AddedToken* added = state_->vocabulary.added_token(token.id)) {
      if (added->normalized) state_->normalizer->apply(found);
      if (found.text().find(spelled) != std::string_view::npos) spelled = found.text();
    }
    size_t leading = 0, trailing = 0;
    for (size_t at = 0; at < spelled.size() && is_space(unicode::next_char(spelled, at));) ++leading;
    for (size_t at = spelled.size(); at > 0 && is_space(unicode::previous_char(spelled, at));) ++trailing;
    size_t begin = token.begin, end = token.end;
    for (const PostProcessor::Trim& trim : state_->post_processor.trims) {
      const bool is_prefix = (i == 0 || begin == 0) && trim.add_prefix_space && leading == 1;
      for (size_t n = is_prefix ? 0 : leading; n > 0 && begin < end; --n) unicode::next_char(text, begin);
      for (size_t n = trailing; n > 0 && end > begin; --n) unicode::previous_char(text, end);
    }
    token.begin = static_cast<uint32_t>(begin);
    token.end = static_cast<uint32_t>(end);
  }
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  Decoder::Tokens tokens;
  for (const int32_t id : ids) {
    const auto token = state_->vocabulary.token(id);
    if (token && !(skip_special_tokens && is_special(id))) tokens.emplace_back(*token);
  }
  return state_->decoder.decode(std::move(tokens));
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
