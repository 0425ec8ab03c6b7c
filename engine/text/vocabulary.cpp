#include "engine/text/vocabulary.h"

#include <algorithm>

#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

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

/// What the configuration calls a special token: `eos_token`, `image_token`, …, and those of its lists.
std::vector<AddedToken> named_tokens(const Value& config) {
  std::vector<AddedToken> out;
  const auto take = [&](const Value& named) {
    if (!named.is_string() && !named.find("content")) return;
    AddedToken token;
    if (named.is_map()) token = parse_added(named);
    if (named.is_map() && !named.find("normalized")) token.normalized = false;
    if (named.is_string()) token.content = named.as_string();
    token.special = true;
    out.push_back(std::move(token));
  };
  if (!config.is_map()) return out;
  for (const auto& [key, named] : config.as_map())
    if (key.ends_with("_token")) take(named);
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const Value* listed = config.find(key);
    if (listed && listed->is_list())
      for (const Value& named : listed->as_list()) take(named);
    if (listed && listed->is_map())
      for (const auto& [name, named] : listed->as_map()) take(named);
  }
  return out;
}

}  // namespace

std::optional<std::string> mark_text(const Value& tree, const char* key) {
  const Value* mark = tree.find(key);
  if (mark && mark->is_map()) mark = mark->find("content");
  return mark && mark->is_string() ? std::optional(mark->as_string()) : std::nullopt;
}

Value read_optional(const std::filesystem::path& file) {
  return std::filesystem::exists(file) ? read_json(file) : Value();
}

void Vocabulary::add_tokens(const Value& added_tokens, const Value& config) {
  if (!added_tokens.is_null())
    for (const Value& tree : added_tokens.as_list()) add(parse_added(tree), tree.at("id").as_integer());
  const Value* more = config.find("added_tokens_decoder");
  if (!more || !more->is_map()) return;
  std::vector<std::pair<int64_t, const Value*>> by_id;
  for (const auto& [id, tree] : more->as_map()) by_id.emplace_back(std::strtoll(id.c_str(), nullptr, 10), &tree);
  std::sort(by_id.begin(), by_id.end());
  for (const auto& [id, tree] : by_id) {
    AddedToken token = parse_added(*tree);
    if (const auto known = added_by_text_.find(token.content); known == added_by_text_.end()) {
      add(std::move(token), id);
    } else {  // its flags count, not those of tokenizer.json
      AddedToken& old = added_[known->second];
      token.id = old.id;
      token.special = token.special || old.special;
      old = std::move(token);
    }
  }
}

void Vocabulary::add_named_tokens(const Value& config) {
  for (AddedToken& token : named_tokens(config)) {
    if (const auto known = added_by_text_.find(token.content); known != added_by_text_.end())
      added_[known->second].special = true;
    else if (model_->tokens().find(token.content) >= 0)
      add(std::move(token), std::nullopt);
    else if (!token.content.empty()) {
      token.id = AddedToken::kNoId;
      without_id_.push_back(std::move(token));
    }
  }
}

/// Gives a token the id that `tokenizers` gives it (added_vocabulary.rs, add_tokens): its own where the vocabulary has
/// it, else the next free one. The file's id is only a statement there; one that differs would mean other ids than the
/// model was trained with.
void Vocabulary::add(AddedToken token, std::optional<int64_t> stated_id) {
  if (token.content.empty() || added_by_text_.contains(token.content)) return;
  const int32_t known = model_->tokens().find(token.content);
  token.id = known >= 0 ? known : std::max(model_->tokens().count(), highest_added_ + 1);
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
  const int32_t id = model_->tokens().find(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

bool Vocabulary::is_special(int32_t id) const {
  const auto it = added_by_id_.find(id);
  return it != added_by_id_.end() && added_[it->second].special;
}

int64_t Vocabulary::size() const { return std::max<int64_t>(model_->tokens().size(), highest_added_ + 1); }

std::optional<std::string_view> Vocabulary::token(int32_t id) const {
  if (const auto it = added_by_id_.find(id); it != added_by_id_.end()) return added_[it->second].content;
  return model_->tokens().has(id) ? std::optional(model_->tokens().token(id)) : std::nullopt;
}

Value complete_config(const std::filesystem::path& folder, const Value& added_tokens, Value config) {
  const auto refuse = [&](const char* file, const std::string& what) {
    throw Error(ErrorKind::format, what).at((folder / file).string());
  };
  if (config.get("split_special_tokens", false))
    refuse("tokenizer_config.json", "split_special_tokens is not implemented");
  if (const Value map = read_optional(folder / "special_tokens_map.json"); map.is_map())
    for (const auto& [key, named] : map.as_map())
      if (!config.find(key)) config.set(key, named);
  const Value more = read_optional(folder / "added_tokens.json");
  if (more.is_null() || config.find("added_tokens_decoder")) return config;
  if (!more.is_map()) refuse("added_tokens.json", "is " + describe(more) + ", want a map of tokens to ids");
  Value::Map listed;
  for (const auto& [text, id] : more.as_map()) {
    const auto is_it = [&text = text](const Value& one) {  // named again: clang 14 captures no binding
      return one.find("content") && one.get("content", "") == text;
    };
    if (added_tokens.is_list() && std::any_of(added_tokens.as_list().begin(), added_tokens.as_list().end(), is_it))
      continue;
    if (!id.is_integer()) refuse("added_tokens.json", "gives '" + text + "' " + describe(id) + ", want an id");
    listed.emplace_back(std::to_string(id.as_integer()), Value::map({{"content", text}}));
  }
  if (!listed.empty()) config.set("added_tokens_decoder", Value(std::move(listed)));
  return config;
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
