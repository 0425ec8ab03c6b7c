#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/merge/gguf_model.h"
#include "engine/text/sentencepiece_file.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

// Kinds of tokens, as llama.cpp numbers them (gguf.TokenType).
constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;

const fs::path* find(const std::vector<fs::path>& files, const char* name) {
  for (const fs::path& file : files)
    if (file.filename() == name) return &file;
  return nullptr;
}

// The parts of a normalizer or a pre-tokenizer, one or a Sequence's.
std::vector<const Value*> steps_of(const Value* part, const char* of_sequence) {
  std::vector<const Value*> steps;
  if (part && part->get("type", "") == "Sequence") {
    for (const Value& step : part->at(of_sequence).as_list()) steps.push_back(&step);
  } else if (part && part->is_map()) {
    steps.push_back(part);
  }
  return steps;
}

// llama.cpp splits texts by code of its own, one for each family; a name stands for it.
std::string splitting(const Value& tokenizer, const std::string& file) {
  const std::string shared =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const auto with = [&](const char* digits) {
    std::string text = shared;
    return text.replace(text.find('%'), 1, digits);
  };
  const std::vector<const Value*> steps = steps_of(tokenizer.find("pre_tokenizer"), "pretokenizers");
  std::string pattern;
  bool byte_level = false;
  for (const Value* step : steps) {
    const std::string type = step->get("type", "");
    const Value* inner = step->find("pattern");
    if (type == "Split" && inner) pattern = inner->get("Regex", "");
    byte_level = byte_level || type == "ByteLevel";
  }
  if (byte_level && pattern.empty() && steps.size() == 1) return "gpt-2";
  if (byte_level && pattern == with("{1,3}")) return "llama-bpe";
  if (byte_level && pattern == with("")) return "qwen2";
  throw Error(ErrorKind::config, "splits texts in a way that GGUF has no name for here")
      .at(file)
      .key("pre_tokenizer")
      .help(
          "known are those of GPT-2, Llama 3 and Qwen 2; --format huggingface, and llama.cpp's own converter from "
          "there");
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> kinds;
};

void set(Tokens& tokens, const std::string& text, const Value& id, int32_t kind) {
  if (!id.is_integer() || id.as_integer() < 0 || id.as_integer() >= static_cast<int64_t>(tokens.texts.size())) return;
  const auto at = static_cast<size_t>(id.as_integer());
  tokens.texts[at] = text;
  tokens.kinds[at] = kind;
}

// As many tokens as the embedding has rows: ids that stand for nothing.
Tokens padding(int64_t vocabulary) {
  Tokens tokens;
  for (int64_t i = 0; i < vocabulary; ++i) tokens.texts.push_back("[PAD" + std::to_string(i) + "]");
  tokens.kinds.assign(tokens.texts.size(), kUnused);
  return tokens;
}

Tokens tokens_of(const Value& tokenizer, int64_t vocabulary, bool byte_fallback) {
  Tokens tokens = padding(vocabulary);
  const std::string unknown = tokenizer.at("model").get("unk_token", "");
  for (const auto& [text, id] : tokenizer.at("model").at("vocab").as_map()) {
    const bool is_byte = byte_fallback && text.size() == 6 && text.starts_with("<0x") && text.back() == '>';
    set(tokens, text, id, is_byte ? kByte : !unknown.empty() && text == unknown ? kUnknown : kNormal);
  }
  if (const Value* added = tokenizer.find("added_tokens"); added && added->is_list())
    for (const Value& token : added->as_list())
      if (!(byte_fallback && token.get("content", "") == unknown && !unknown.empty()))
        set(tokens, token.get("content", ""), token.at("id"), token.get("special", false) ? kControl : kUserDefined);
  return tokens;
}

std::vector<std::string> merges_of(const Value& model) {
  std::vector<std::string> merges;
  const Value* list = model.find("merges");
  for (const Value& merge : list && list->is_list() ? list->as_list() : Value::List{}) {
    if (merge.is_list() && merge.as_list().size() == 2)
      merges.push_back(merge.as_list()[0].as_string() + " " + merge.as_list()[1].as_string());
    else
      merges.push_back(merge.as_string());
  }
  return merges;
}

// SentencePiece's scores say which merge comes first; a tokenizer.json has the order itself.
std::vector<float> scores_of(const Tokens& tokens, const std::vector<std::string>& merges) {
  std::map<std::string, size_t> ids;
  for (size_t i = 0; i < tokens.texts.size(); ++i) ids[tokens.texts[i]] = i;
  std::vector<float> scores(tokens.texts.size(), 0);
  for (size_t i = merges.size(); i-- > 0;) {
    const size_t space = merges[i].find(' ');
    const auto token = ids.find(merges[i].substr(0, space) + merges[i].substr(space + 1));
    if (token != ids.end()) scores[token->second] = -static_cast<float>(i + 1);
  }
  return scores;
}

// Whether a text's first word has the mark of a space before it, as Llama's has and Gemma's has not.
bool begins_with_space(const Value& tokenizer) {
  for (const Value* step : steps_of(tokenizer.find("normalizer"), "normalizers"))
    if (step->get("type", "") == "Prepend") return true;
  for (const Value* step : steps_of(tokenizer.find("pre_tokenizer"), "pretokenizers"))
    if (step->get("type", "") == "Metaspace" && step->get("prepend_scheme", "always") != "never" &&
        step->get("add_prefix_space", true))
      return true;
  return false;
}

// {"bos_token": "<s>"} or {"bos_token": {"content": "<s>"}} -> its id.
std::optional<uint32_t> special(const Value& config, const char* key, const Tokens& tokens) {
  const Value* value = config.find(key);
  const std::string text = !value ? "" : value->is_string() ? value->as_string() : value->get("content", "");
  const auto found = std::find(tokens.texts.begin(), tokens.texts.end(), text);
  if (text.empty() || found == tokens.texts.end()) return std::nullopt;
  return static_cast<uint32_t>(found - tokens.texts.begin());
}

/// @param config tokenizer_config.json's
void put_specials(GgufKeys& keys, const std::vector<fs::path>& files, const Value& config, const Tokens& tokens) {
  constexpr std::pair<const char*, const char*> kIds[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                                                          {"eos_token", "tokenizer.ggml.eos_token_id"},
                                                          {"unk_token", "tokenizer.ggml.unknown_token_id"},
                                                          {"pad_token", "tokenizer.ggml.padding_token_id"}};
  for (const auto& [theirs, ours] : kIds)
    if (const auto id = special(config, theirs, tokens)) keys.put(ours, *id);
  for (const std::string key : {"add_bos_token", "add_eos_token"})
    if (config.find(key)) keys.put("tokenizer.ggml." + key, config.get(key, false));
  const fs::path* jinja = find(files, "chat_template.jinja");
  const std::string text = jinja ? read_text(*jinja)
                           : config.find("chat_template") && config.at("chat_template").is_string()
                               ? config.at("chat_template").as_string()
                               : "";
  if (!text.empty()) keys.put("tokenizer.chat_template", text);
}

// Added tokens that models ship as plain ones although they are marks; llama.cpp's converter knows them by their looks.
bool looks_special(std::string_view token) {
  const auto between = [&](std::string_view begin, std::string_view end) {
    return token.size() >= begin.size() + end.size() && token.starts_with(begin) && token.ends_with(end);
  };
  return token == "<pad>" || token == "<mask>" || token == "<2mass>" || token == "[@BOS@]" || between("<|", "|>") ||
         between("<｜", "｜>") || between("<unused", ">");
}

std::string with_spaces(std::string text) {
  constexpr std::string_view kMark = "▁";
  for (size_t at = text.find(kMark); at != std::string::npos; at = text.find(kMark))
    text.replace(at, kMark.size(), " ");
  return text;
}

// llama.cpp's own tokenizer for SentencePiece merges by score, falls back to bytes, and changes no character.
void check_pieces(const SentencePieces& pieces, const fs::path& file) {
  const auto refuse = [&](const char* what) {
    throw Error(ErrorKind::config, std::string(what) + " is not what llama.cpp's tokenizer 'llama' does")
        .at(file.string())
        .help("--format huggingface keeps the tokenizer as it is");
  };
  if (pieces.kind != SentencePieces::Kind::bpe) refuse("a Unigram model");
  if (!pieces.byte_fallback) refuse("a model without byte fallback");
  if (!pieces.rules.empty()) refuse("a map of characters");
  if (pieces.remove_extra_whitespaces) refuse("remove_extra_whitespaces");
}

// The keys of a tokenizer.model, as llama.cpp's convert_hf_to_gguf.py has them (_create_vocab_sentencepiece): pieces,
// scores and kinds of the file, which are numbered alike; what tokenizer_config.json adds or lists again is worth
// -1000. User-defined pieces, which that script takes for normal ones, keep their kind: llama.cpp then finds them
// whole.
void add_pieces(GgufKeys& keys, const std::vector<fs::path>& files, const fs::path& file, int64_t vocabulary) {
  constexpr float kAbsent = -10000, kAdded = -1000;
  const fs::path* said = find(files, "tokenizer_config.json");
  Value config = said ? read_json(*said) : Value::map();
  const Value listed = config.find("added_tokens_decoder") ? config.at("added_tokens_decoder") : Value();
  const auto is_listed = [&](int64_t id) { return listed.find(std::to_string(id)) != nullptr; };
  const TokenizerFile content = read_sentencepiece_file(file, config);
  const SentencePieces& pieces = *content.pieces;
  check_pieces(pieces, file);
  Tokens tokens = padding(vocabulary);
  std::vector<float> scores(tokens.texts.size(), kAbsent);
  for (const TokenizerFile::VocabEntry& entry : content.vocab) {
    const auto at = static_cast<size_t>(entry.id);
    if (at >= scores.size()) break;
    const auto kind = static_cast<int32_t>(pieces.types[at]);
    const std::string text(content.str(entry.token));
    set(tokens, kind == kUserDefined ? with_spaces(text) : text, entry.id, kind);
    scores[at] = pieces.scores[at];
  }
  for (const Value& token : content.tree.at("added_tokens").as_list()) {
    const int64_t id = token.at("id").as_integer();
    if (id < 0 || id >= vocabulary || (id < static_cast<int64_t>(content.vocab.size()) && !is_listed(id))) continue;
    const std::string text = token.at("content").as_string();
    const bool is_special = token.get("special", false) || looks_special(text);
    set(tokens, is_special ? text : with_spaces(text), id, is_special ? kControl : kUserDefined);
    scores[static_cast<size_t>(id)] = kAdded;
  }
  keys.put("tokenizer.ggml.model", "llama");
  keys.put("tokenizer.ggml.pre", "default");
  keys.put("tokenizer.ggml.tokens", tokens.texts);
  keys.put("tokenizer.ggml.scores", scores);
  keys.put("tokenizer.ggml.token_type", tokens.kinds);
  keys.put("tokenizer.ggml.add_space_prefix", pieces.prefix != SentencePieces::Prefix::none);
  put_specials(keys, files, config, tokens);
}

}  // namespace

void add_gguf_tokenizer(GgufKeys& keys, const std::vector<fs::path>& files, int64_t vocabulary) {
  const fs::path* file = find(files, "tokenizer.json");
  const fs::path* pieces = find(files, "tokenizer.model");
  if (!file && !pieces) return;
  if (vocabulary < 1 || vocabulary > std::numeric_limits<int32_t>::max())
    throw Error(ErrorKind::config, "got " + std::to_string(vocabulary)).key("vocab_size");
  if (!file) return add_pieces(keys, files, *pieces, vocabulary);
  const Value tokenizer = read_json(*file, {.origins = false});
  const Value* found = tokenizer.find("model");
  const std::string type = found ? found->get("type", "BPE") : "none";
  if (type != "BPE")
    throw Error(ErrorKind::config, "is a tokenizer of type " + type + ", want BPE for GGUF").at(file->string());
  const Value& model = *found;
  if (!model.find("vocab") || !model.at("vocab").is_map())
    throw Error(ErrorKind::config, "has no vocab").at(file->string()).key("model");
  const bool byte_fallback = model.get("byte_fallback", false);
  const Tokens tokens = tokens_of(tokenizer, vocabulary, byte_fallback);
  const std::vector<std::string> merges = merges_of(model);
  keys.put("tokenizer.ggml.model", byte_fallback ? "llama" : "gpt2");
  keys.put("tokenizer.ggml.pre", byte_fallback ? "default" : splitting(tokenizer, file->string()));
  keys.put("tokenizer.ggml.tokens", tokens.texts);
  if (byte_fallback) keys.put("tokenizer.ggml.scores", scores_of(tokens, merges));
  keys.put("tokenizer.ggml.token_type", tokens.kinds);
  if (!byte_fallback) keys.put("tokenizer.ggml.merges", merges);
  if (byte_fallback) keys.put("tokenizer.ggml.add_space_prefix", begins_with_space(tokenizer));
  const fs::path* config = find(files, "tokenizer_config.json");
  put_specials(keys, files, config ? read_json(*config) : Value::map(), tokens);
}

}  // namespace ft
