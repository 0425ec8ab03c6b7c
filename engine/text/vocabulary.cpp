#include "engine/text/vocabulary.h"

#include <algorithm>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/byte_level.h"

namespace ft {
namespace {

[[noreturn]] void refuse(const std::string& part) {
  throw Error(ErrorKind::format, part + " is not implemented").key("model");
}

/// True for an entry that is present and switched on: true, a number other than 0, text that is not empty.
bool is_on(const Value& tree, const char* key) {
  const Value* v = tree.find(key);
  if (!v || v->is_null()) return false;
  if (v->is_bool()) return v->as_bool();
  if (v->is_number()) return v->as_number() != 0;
  return !v->is_string() || !v->as_string().empty();
}

BpeModel build_bpe(TokenizerFile& file) {
  const Value& model = file.tree.at("model");
  const std::string type = model.get("type", "");
  if (!type.empty() && type != "BPE") refuse(type);
  if (!file.has_vocab_map) refuse("a vocabulary that is a list (Unigram)");
  if (!model.find("merges")) refuse("a vocabulary without merges (WordPiece, WordLevel)");  // older files name no type
  for (const char* option : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"})
    if (is_on(model, option)) refuse(option);
  BpeModel bpe(file, {is_on(model, "ignore_merges"), is_on(model, "fuse_unk")});
  if (is_on(model, "unk_token")) {
    const int32_t unk = bpe.find(model.at("unk_token").as_string());
    if (unk < 0) throw Error(ErrorKind::format, "unk_token is not in the vocabulary").key("model.unk_token");
    bpe.set_unk(unk);
  }
  return bpe;
}

AddedToken parse_added(const Value& tree) {
  AddedToken token;
  token.content = tree.at("content").as_string();
  token.single_word = tree.get("single_word", false);
  token.lstrip = tree.get("lstrip", false);
  token.rstrip = tree.get("rstrip", false);
  token.special = tree.get("special", false);
  token.normalized = tree.get("normalized", !token.special);
  return token;
}

/// A mark is written as its text, or as an added token with `content`.
std::optional<std::string> mark_text(const Value& tree, const char* key) {
  const Value* mark = tree.find(key);
  if (mark && mark->is_map()) mark = mark->find("content");
  return mark && mark->is_string() ? std::optional(mark->as_string()) : std::nullopt;
}

Value read_optional(const std::filesystem::path& file) {
  return std::filesystem::exists(file) ? read_json(file) : Value();
}

}  // namespace

Vocabulary::Vocabulary(TokenizerFile& file) : bpe_(build_bpe(file)) {}

void Vocabulary::add_tokens(const Value& added_tokens, const Value& config) {
  if (!added_tokens.is_null())
    for (const Value& tree : added_tokens.as_list()) add(parse_added(tree), tree.at("id").as_integer());
  const Value* more = config.find("added_tokens_decoder");
  if (!more || !more->is_map()) return;
  std::vector<std::pair<int64_t, const Value*>> by_id;
  for (const auto& [id, tree] : more->as_map()) by_id.emplace_back(std::strtoll(id.c_str(), nullptr, 10), &tree);
  std::sort(by_id.begin(), by_id.end());
  for (const auto& [id, tree] : by_id)
    if (AddedToken token = parse_added(*tree); !added_by_text_.contains(token.content)) add(std::move(token), id);
}

/// Gives a token the id that `tokenizers` gives it (added_vocabulary.rs, add_tokens): its own where the vocabulary has
/// it, else the next free one. The file's id is only a statement there; one that differs would mean other ids than the
/// model was trained with.
void Vocabulary::add(AddedToken token, std::optional<int64_t> stated_id) {
  if (token.content.empty() || added_by_text_.contains(token.content)) return;
  const int32_t known = bpe_.find(token.content);
  token.id = known >= 0 ? known : std::max(bpe_.count(), highest_added_ + 1);
  if (stated_id && *stated_id != token.id)
    throw Error(ErrorKind::format, "added token '" + token.content + "' states id " + std::to_string(*stated_id) +
                                       ", but Hugging Face tokenizers gives it " + std::to_string(token.id))
        .key("added_tokens");
  highest_added_ = std::max(highest_added_, token.id);
  added_by_text_[token.content] = added_.size();
  added_by_id_[token.id] = added_.size();
  added_.push_back(std::move(token));
}

std::optional<int32_t> Vocabulary::find(std::string_view token) const {
  if (const auto it = added_by_text_.find(std::string(token)); it != added_by_text_.end()) return added_[it->second].id;
  const int32_t id = bpe_.find(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

bool Vocabulary::is_special(int32_t id) const {
  const auto it = added_by_id_.find(id);
  return it != added_by_id_.end() && added_[it->second].special;
}

int64_t Vocabulary::size() const { return std::max<int64_t>(bpe_.size(), highest_added_ + 1); }

void Vocabulary::decode(int32_t id, bool skip_special_tokens, std::string& out) const {
  if (const auto it = added_by_id_.find(id); it != added_by_id_.end()) {
    const AddedToken& token = added_[it->second];
    if (!(skip_special_tokens && token.special)) out += byte_level::unspell(token.content);
  } else if (bpe_.has(id)) {
    out += byte_level::unspell(bpe_.token(id));
  }
}

TextMarks read_marks(const std::filesystem::path& folder, const Value& config, const Vocabulary& vocabulary) {
  const Value map = read_optional(folder / "special_tokens_map.json");
  const Value generation = read_optional(folder / "generation_config.json");
  const auto mark = [&](const char* name) -> std::optional<int32_t> {
    for (const Value* tree : {&config, &map}) {
      const auto text = mark_text(*tree, name);
      if (!text) continue;
      if (const auto id = vocabulary.find(*text)) return id;
      throw Error(ErrorKind::format, std::string(name) + " '" + *text + "' is not a token of tokenizer.json")
          .at((folder / (tree == &config ? "tokenizer_config.json" : "special_tokens_map.json")).string());
    }
    const Value* id = generation.find(std::string(name) + "_id");
    if (id && id->is_list() && !id->as_list().empty()) id = &id->as_list().front();
    return id && id->is_integer() ? std::optional(static_cast<int32_t>(id->as_integer())) : std::nullopt;
  };
  TextMarks marks{mark("bos_token"), mark("eos_token"), mark("pad_token"), {}};
  const auto add_stop = [&](int64_t id) {
    if (std::find(marks.stop.begin(), marks.stop.end(), id) == marks.stop.end())
      marks.stop.push_back(static_cast<int32_t>(id));
  };
  if (marks.eos) add_stop(*marks.eos);
  if (const Value* ids = generation.find("eos_token_id"); ids && ids->is_list()) {
    for (const Value& id : ids->as_list()) add_stop(id.as_integer());
  } else if (ids && ids->is_integer()) {
    add_stop(ids->as_integer());
  }
  return marks;
}

}  // namespace ft
