#include "engine/text/sentencepiece_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <unordered_map>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/text/model.h"
#include "engine/text/token_table.h"
#include "engine/text/unicode.h"
#include "engine/text/vocabulary.h"
#include "engine/text/wire_format.h"

namespace ft {
namespace {

using Type = SentencePieces::Type;

/// Fields of sentencepiece_model.proto, and what they are where the file does not say.
struct Spec {
  int64_t model_type = 1, bos = 1, eos = 2, pad = -1;
  bool byte_fallback = false, suffix = false;
  bool dummy_prefix = true, remove_extra = true, escape = true;
  std::string_view charsmap;
};

void read_trainer_spec(std::string_view message, Spec& spec) {
  WireReader reader(message);
  while (const auto field = reader.next()) {
    const auto number = static_cast<int64_t>(field->value);
    switch (field->number) {
      case 3:
        spec.model_type = number;
        break;
      case 24:
        spec.suffix = number != 0;
        break;
      case 35:
        spec.byte_fallback = number != 0;
        break;
      case 41:
        spec.bos = number;
        break;
      case 42:
        spec.eos = number;
        break;
      case 43:
        spec.pad = number;
        break;
      default:
        break;
    }
  }
}

void read_normalizer_spec(std::string_view message, Spec& spec) {
  WireReader reader(message);
  while (const auto field = reader.next()) {
    switch (field->number) {
      case 2:
        spec.charsmap = field->bytes;
        break;
      case 3:
        spec.dummy_prefix = field->value != 0;
        break;
      case 4:
        spec.remove_extra = field->value != 0;
        break;
      case 5:
        spec.escape = field->value != 0;
        break;
      default:
        break;
    }
  }
}

void read_piece(std::string_view message, TokenizerFile& out, SentencePieces& pieces) {
  const size_t id = pieces.types.size();
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::format, "piece " + std::to_string(id) + " " + what);
  };
  constexpr size_t kMostPieces = 1 << 24;  // ids index arrays; the largest vocabularies known have 2^18
  if (id >= kMostPieces) refuse("is one too many");
  std::string_view text;
  float score = 0;
  uint64_t type = 1;
  WireReader reader(message);
  while (const auto field = reader.next()) {
    if (field->number == 1) text = field->bytes;
    if (field->number == 2) score = field->as_float();
    if (field->number == 3) type = field->value;
  }
  if (text.empty() || text.find('\0') != std::string_view::npos || unicode::find_invalid(text) != std::string::npos)
    refuse("has no text, or one that is not UTF-8");
  if (!std::isfinite(score)) refuse("has a score that is not a number");
  if (type < 1 || type > 6) refuse("is of type " + std::to_string(type) + ", which is not implemented");
  out.vocab.push_back(
      {{static_cast<uint32_t>(out.text.size()), static_cast<uint32_t>(text.size())}, static_cast<int32_t>(id)});
  out.text += text;
  pieces.scores.push_back(score);
  pieces.types.push_back(static_cast<Type>(type));
}

/// Walks the whole message.
Spec read_model(std::string_view bytes, TokenizerFile& out, SentencePieces& pieces) {
  Spec spec;
  WireReader reader(bytes);
  while (const auto field = reader.next()) {
    if (!field->has_bytes) continue;
    if (field->number == 1) read_piece(field->bytes, out, pieces);
    if (field->number == 2) read_trainer_spec(field->bytes, spec);
    if (field->number == 3) read_normalizer_spec(field->bytes, spec);
  }
  return spec;
}

/// What the library checks when it loads a model (model_interface.cc, InitializePieces), and the tables of pieces.
void settle_pieces(const TokenizerFile& file, const Spec& spec, SentencePieces& pieces) {
  pieces.byte_fallback = spec.byte_fallback;
  pieces.of_byte.fill(-1);
  for (const TokenizerFile::VocabEntry& entry : file.vocab) {
    const std::string_view text = file.str(entry.token);
    const Type type = pieces.types[static_cast<size_t>(entry.id)];
    const auto refuse = [&](const std::string& what) {
      throw Error(ErrorKind::format, "piece " + std::to_string(entry.id) + ", '" + std::string(text) + "', " + what);
    };
    if (type == Type::unknown && pieces.unknown >= 0) refuse("is a second unknown piece");
    if (type == Type::unknown) pieces.unknown = entry.id;
    if (type == Type::user_defined) {
      if (pieces.user_defined.find(text) != ByteTrie::kNoValue) refuse("is there twice");
      pieces.user_defined.insert(text, entry.id);
    }
    if (type != Type::byte) continue;
    const int byte = byte_of_piece(text);
    if (byte < 0 || !spec.byte_fallback) refuse("stands for no byte");
    pieces.of_byte[static_cast<size_t>(byte)] = entry.id;
  }
  if (pieces.unknown < 0) throw Error(ErrorKind::format, "has no unknown piece");
  if (spec.byte_fallback && std::count(pieces.of_byte.begin(), pieces.of_byte.end(), -1) > 0)
    throw Error(ErrorKind::format, "has byte_fallback, but not a piece for each byte");
}

void refuse_others(const Spec& spec, const Value& config) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::format, what + " is not implemented"); };
  if (spec.model_type != 1 && spec.model_type != 2)
    refuse("model_type " + std::to_string(spec.model_type) + " (BPE and Unigram are)");
  if (spec.suffix) refuse("treat_whitespace_as_suffix");
  if (!spec.escape) refuse("escape_whitespaces = false");
  std::string name = config.get("tokenizer_class", "LlamaTokenizer");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name == "LlamaTokenizer" || name == "GemmaTokenizer") return;
  throw Error(ErrorKind::format, "tokenizer_class " + name + " with a tokenizer.model is not implemented")
      .help("transformers writes a tokenizer.json beside it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)");
}

/// The tokens that transformers adds: those that the configuration lists, and the marks. Control pieces too, since
/// text that spells one means it.
class Additions {
 public:
  Additions(const TokenizerFile& file, const SentencePieces& pieces) : next_(file.vocab.size()) {
    for (const TokenizerFile::VocabEntry& entry : file.vocab) {
      const std::string text(file.str(entry.token));
      if (!ids_.emplace(text, entry.id).second)
        throw Error(ErrorKind::format, "has two pieces '" + text + "', which is not implemented");
      if (const Type type = pieces.types[static_cast<size_t>(entry.id)]; type == Type::control) add(text);
    }
  }
  /// A special token; nothing where the text is empty or there already.
  void add(const std::string& text) { add(Value::map({{"content", text}, {"special", true}}), {}); }
  /// Whatever `normalized` says: slow tokenizers look for added tokens before anything else looks at the text.
  void add(Value token, std::optional<int64_t> stated) {
    token.set("normalized", false);
    const std::string text = token.at("content").as_string();
    if (text.empty() || std::any_of(out_.begin(), out_.end(),
                                    [&](const Value& other) { return other.at("content").as_string() == text; }))
      return;
    const auto known = ids_.find(text);
    const int64_t id = known != ids_.end() ? known->second : static_cast<int64_t>(next_++);
    token.set("id", stated.value_or(id));
    out_.push_back(std::move(token));
  }
  Value::List take() { return std::move(out_); }

 private:
  std::unordered_map<std::string, int64_t> ids_;
  size_t next_;
  Value::List out_;
};

void sort_by_id(std::vector<std::pair<int64_t, Value>>& tokens) {
  std::sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
}

/// added_tokens_decoder, or added_tokens.json where an older configuration has that.
std::vector<std::pair<int64_t, Value>> listed_tokens(const std::filesystem::path& folder, const Value& config,
                                                     const std::vector<std::string>& special) {
  std::vector<std::pair<int64_t, Value>> out;
  if (const Value* listed = config.find("added_tokens_decoder"); listed && listed->is_map()) {
    for (const auto& [id, token] : listed->as_map()) out.emplace_back(std::strtoll(id.c_str(), nullptr, 10), token);
  } else if (const Value older = read_optional(folder / "added_tokens.json"); older.is_map()) {
    for (const auto& [text, id] : older.as_map()) {
      const bool is_special = std::find(special.begin(), special.end(), text) != special.end();
      out.emplace_back(id.as_integer(), Value::map({{"content", text}, {"special", is_special}}));
    }
  }
  sort_by_id(out);
  return out;
}

/// Fills in what the configuration leaves to its class, and lists the tokens that are added.
Value::List settle_config(const std::filesystem::path& folder, const TokenizerFile& file, const SentencePieces& pieces,
                          const Spec& spec, Value& config) {
  const Value map = read_optional(folder / "special_tokens_map.json");
  std::vector<std::string> special;
  const auto piece = [&](int64_t id) {
    const bool is_there = id >= 0 && id < static_cast<int64_t>(file.vocab.size());
    return is_there ? std::string(file.str(file.vocab[static_cast<size_t>(id)].token)) : std::string();
  };
  const std::pair<const char*, int64_t> marks[] = {
      {"bos_token", spec.bos}, {"eos_token", spec.eos}, {"unk_token", pieces.unknown}, {"pad_token", spec.pad}};
  for (const auto& [name, id] : marks) {
    auto text = mark_text(config, name);
    if (!text && (text = mark_text(map, name))) config.set(name, *text);
    if (!text && id >= 0 && !piece(id).empty()) config.set(name, *(text = piece(id)));
    if (text) special.push_back(*text);
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    Value::List listed;
    for (const Value* tree : {static_cast<const Value*>(&config), &map})
      if (const Value* more = tree->find(key); more && more->is_list())
        for (const Value& token : more->as_list())
          listed.emplace_back(token.is_map() ? token.get("content", "") : token.as_string());
    for (const Value& token : listed) special.push_back(token.as_string());
    if (!listed.empty() && !config.find(key)) config.set(key, Value(std::move(listed)));
  }
  const auto settle = [&](const char* key, const Value& otherwise) {
    if (const Value* said = config.find(key); !said || said->is_null()) config.set(key, otherwise);
  };
  settle("add_bos_token", true);
  settle("tokenizer_class", "LlamaTokenizer");
  settle("legacy", pieces.legacy);
  Additions out(file, pieces);
  for (auto& [id, token] : listed_tokens(folder, config, special)) out.add(std::move(token), id);
  for (const std::string& token : special) out.add(token);
  return out.take();
}

Value decoder_of(bool prefixed) {
  Value::List steps{Value::map({{"type", "Replace"}, {"pattern", Value::map({{"String", "▁"}})}, {"content", " "}}),
                    Value::map({{"type", "ByteFallback"}}), Value::map({{"type", "Fuse"}})};
  if (prefixed) steps.push_back(Value::map({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}));
  return Value::map({{"type", "Sequence"}, {"decoders", Value(std::move(steps))}});
}

TokenizerFile read_known(const std::string& bytes, const std::filesystem::path& folder, Value& config) {
  if (bytes.empty()) throw Error(ErrorKind::format, "is empty");
  TokenizerFile out;
  auto pieces = std::make_shared<SentencePieces>();
  out.text.reserve(bytes.size());
  const Spec spec = read_model(bytes, out, *pieces);
  refuse_others(spec, config);
  settle_pieces(out, spec, *pieces);
  pieces->kind = spec.model_type == 2 ? SentencePieces::Kind::bpe : SentencePieces::Kind::unigram;
  if (!spec.charsmap.empty()) pieces->rules = CharsMap(spec.charsmap);
  pieces->remove_extra_whitespaces = spec.remove_extra;
  pieces->legacy = config.get("legacy", true) || config.get("tokenizer_class", "").starts_with("Gemma");
  using Prefix = SentencePieces::Prefix;
  if (pieces->legacy)
    pieces->prefix = spec.dummy_prefix ? Prefix::each : Prefix::none;
  else
    pieces->prefix = config.get("add_prefix_space", true) ? Prefix::first : Prefix::none;
  out.has_vocab_map = true;
  Value::List added = settle_config(folder, out, *pieces, spec, config);
  out.tree = Value::map({{"added_tokens", Value(std::move(added))},
                         {"decoder", decoder_of(pieces->prefix != Prefix::none)},
                         {"model", Value::map({})}});
  out.pieces = std::move(pieces);
  return out;
}

}  // namespace

size_t SentencePieces::user_defined_at(std::string_view text) const {
  size_t longest = 0;
  uint32_t node = ByteTrie::kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    node = user_defined.step(node, static_cast<unsigned char>(text[i]));
    if (node == ByteTrie::kNone) break;
    if (user_defined.value(node) != ByteTrie::kNoValue) longest = i + 1;
  }
  return longest;
}

std::string rename_piece(std::string_view model, int64_t id, std::string_view text) {
  const auto changed = [&](std::string_view piece) {
    std::string out;
    WireReader reader(piece);
    for (size_t at = 0; const auto field = reader.next(); at = piece.size() - reader.left())
      out +=
          field->number == 1 ? wire_bytes(1, text) : std::string(piece.substr(at, piece.size() - reader.left() - at));
    return out;
  };
  WireReader reader(model);
  int64_t place = 0;
  for (size_t at = 0; const auto field = reader.next(); at = model.size() - reader.left()) {
    if (field->number != 1 || !field->has_bytes || place++ != id) continue;
    const size_t behind = model.size() - reader.left();
    return std::string(model.substr(0, at)) + wire_bytes(1, changed(field->bytes)) + std::string(model.substr(behind));
  }
  throw Error(ErrorKind::format, "has no piece " + std::to_string(id));
}

TokenizerFile read_sentencepiece_file(const std::filesystem::path& file, Value& config) {
  const std::string bytes = read_text(file);
  if (bytes.size() > std::numeric_limits<uint32_t>::max())
    throw Error(ErrorKind::format, "is larger than 4 GiB").at(file.string());
  try {
    return read_known(bytes, file.parent_path(), config);
  } catch (Error& error) {
    error.context("reading a SentencePiece model").at(file.string());
    error.help("a tokenizer.json beside it is read in its place");
    throw;
  }
}

}  // namespace ft
