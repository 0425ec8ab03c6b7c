#include "engine/text/edited_tokenizer.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/hex_digits.h"
#include "engine/formats/json.h"
#include "engine/formats/json_edit.h"
#include "engine/formats/model_directory.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecord = "edits.json";
constexpr const char* kMore = "additional_special_tokens";  // transformers 5 writes the other and reads both
constexpr const char* kExtra = "extra_special_tokens";

bool is_name(const std::string& key) {
  for (const char* known : {"bos_token", "eos_token", "pad_token", "unk_token"})
    if (key == known) return true;
  return false;
}

/// A token that is put into the vocabulary, or one that becomes a special one.
struct Wanted {
  std::string content;
  bool special = false;
};

std::string text_of(const Value& token, const std::string& key) {
  if (!token.is_string() || token.as_string().empty())
    throw Error(ErrorKind::config, "got " + describe(token) + ", want a token's text").key("model." + key);
  return token.as_string();
}

/// Special ones first, as transformers' users add them, each once.
std::vector<Wanted> wanted_tokens(const Value& edits) {
  std::vector<Wanted> wanted;
  const auto want = [&](const Value& token, const std::string& key, bool special) {
    const std::string text = text_of(token, key);
    const auto same = std::find_if(wanted.begin(), wanted.end(), [&](const Wanted& w) { return w.content == text; });
    if (same == wanted.end()) wanted.push_back({text, special});
  };
  if (const Value* special = edits.find("special_tokens"); special && special->is_map())
    for (const auto& [key, value] : special->as_map()) {
      if (key == kMore) {
        for (const Value& token : value.as_list()) want(token, "special_tokens." + key, true);
      } else if (is_name(key)) {
        want(value, "special_tokens." + key, true);
      } else {
        throw Error(ErrorKind::config, "unknown key '" + key + "'")
            .key("model.special_tokens")
            .help("keys: additional_special_tokens, bos_token, eos_token, pad_token, unk_token");
      }
    }
  if (const Value* added = edits.find("added_tokens"); added && added->is_list())
    for (const Value& token : added->as_list()) want(token, "added_tokens", false);
  return wanted;
}

/// The edited copy on its way.
class Copy {
 public:
  Copy(const fs::path& folder, const fs::path& to) : tokenizer_(Tokenizer::load(folder)), from_(folder), to_(to) {}

  void make(const Value& edits) {
    for (const fs::path& file : companion_files(from_)) copy_whole(file, to_ / file.filename());
    has("tokenizer.json") ? edit_json(edits) : edit_pieces(edits);
    write_names(edits);
    write_lists();
    write_text(to_ / kRecord, write_json(Value::map({{"edits", edits}, {"new", new_}}), 2) + "\n");
    Tokenizer::load(to_);  // ids are those that Hugging Face gives: it refuses any other
  }

 private:
  void edit_json(const Value& edits) {
    JsonEdit json = open("tokenizer.json");
    entries_ = json.get("added_tokens");
    if (entries_.is_null()) entries_ = Value::list();
    std::string text = json.text();
    rename(edits, [&](int64_t id, const std::string& old, const std::string& to) {
      rename_in_vocabulary(write_json(Value(old)), std::to_string(id), write_json(Value(to)), text);
    });
    add_wanted(edits);
    JsonEdit edited(std::move(text), (from_ / "tokenizer.json").string());
    edited.set("added_tokens", entries_);
    write_text(to_ / "tokenizer.json", edited.text());
  }

  /// tokenizer_config.json gets all that has to be said beside a tokenizer.model: transformers passes over
  /// special_tokens_map.json and added_tokens.json where it lists added tokens, and its versions have other defaults.
  void edit_pieces(const Value& edits) {
    Value config = has("tokenizer_config.json") ? read_json(from_ / "tokenizer_config.json") : Value::map();
    const TokenizerFile file = read_sentencepiece_file(from_ / "tokenizer.model", config);
    entries_ = file.tree.at("added_tokens");
    std::string model = read_text(from_ / "tokenizer.model");
    rename(edits, [&](int64_t id, const std::string&, const std::string& to) {
      if (id < static_cast<int64_t>(file.vocab.size())) model = rename_piece(model, id, to);
    });
    add_wanted(edits);
    write_text(to_ / "tokenizer.model", model);
    JsonEdit json = open("tokenizer_config.json");
    for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens",
                            "add_bos_token", "tokenizer_class", "legacy"})
      if (const Value* said = config.find(key); said && json.get(key).is_null()) json.set(key, *said);
    json.set("added_tokens_decoder", Value::map());
    write_text(to_ / "tokenizer_config.json", json.text());
    changed_ = entries_.as_list();
    own_ids_ = static_cast<int64_t>(file.vocab.size());
  }

  /// The file in the copy.
  JsonEdit open(const char* name) const {
    const fs::path file = to_ / name;
    return JsonEdit(fs::exists(file) ? read_text(file) : "{\n}\n", file.string());
  }
  bool has(const char* name) const { return fs::exists(from_ / name); }

  Value* entry(int64_t id) {
    for (Value& one : entries_.as_list())
      if (one.at("id").as_integer() == id) return &one;
    return nullptr;
  }

  void add(const Wanted& token) {
    for (Value& one : entries_.as_list())
      if (one.at("content").as_string() == token.content) {
        if (token.special && !one.get("special", false)) {
          one.set("special", true);
          changed_.push_back(one);
        }
        return;
      }
    const std::optional<int32_t> known = tokenizer_->token_id(token.content);
    const int64_t id = known ? *known : next_id_++;
    Value made = Value::map({{"id", id},
                             {"content", token.content},
                             {"single_word", false},
                             {"lstrip", false},
                             {"rstrip", false},
                             {"normalized", false},
                             {"special", token.special}});
    entries_.as_list().push_back(made);
    changed_.push_back(made);
    if (!known) new_.as_list().push_back(Value::map({{"id", id}, {"content", token.content}}));
  }

  void add_wanted(const Value& edits) {
    for (const Wanted& token : wanted_tokens(edits)) add(token);
    std::stable_sort(entries_.as_list().begin(), entries_.as_list().end(),
                     [](const Value& a, const Value& b) { return a.at("id").as_integer() < b.at("id").as_integer(); });
  }

  /// @param in_vocabulary (id, old, new): a reserved token may stand in the model's vocabulary, too
  template <typename InVocabulary>
  void rename(const Value& edits, const InVocabulary& in_vocabulary) {
    const Value* renamed = edits.find("renamed_tokens");
    if (!renamed || !renamed->is_map()) return;
    for (const auto& [key, value] : renamed->as_map()) {
      const std::string content = text_of(value, "renamed_tokens." + key);
      int64_t id = -1;
      const auto read = std::from_chars(key.data(), key.data() + key.size(), id);
      Value* found = read.ec == std::errc() && read.ptr == key.data() + key.size() ? entry(id) : nullptr;
      if (!found)
        throw Error(ErrorKind::config, "the tokenizer has no added token of id " + key)
            .key("model.renamed_tokens")
            .help(
                "ids of reserved tokens stand in tokenizer.json's added_tokens, or in tokenizer_config.json's "
                "added_tokens_decoder");
      if (tokenizer_->token_id(content))
        throw Error(ErrorKind::config, "the tokenizer has '" + content + "' already, as id " +
                                           std::to_string(*tokenizer_->token_id(content)))
            .key("model.renamed_tokens." + key);
      const std::string old = found->at("content").as_string();
      in_vocabulary(id, old, content);
      renamed_[old] = content;
      found->set("content", content);
      changed_.push_back(*found);
      new_.as_list().push_back(Value::map({{"id", id}, {"content", content}}));
    }
  }

  static void rename_in_vocabulary(const std::string& old, const std::string& id, const std::string& to,
                                   std::string& text) {
    for (size_t at = text.find(old); at != std::string::npos; at = text.find(old, at + 1)) {
      size_t behind = text.find_first_not_of(" \t\r\n", at + old.size());
      if (behind == std::string::npos || text[behind] != ':') continue;
      behind = text.find_first_not_of(" \t\r\n", behind + 1);
      if (behind == std::string::npos || text.compare(behind, id.size(), id) != 0) continue;
      const char end = behind + id.size() < text.size() ? text[behind + id.size()] : '\0';
      if (end >= '0' && end <= '9') continue;
      text.replace(at, old.size(), to);
      return;
    }
  }

  /// Puts the new name in the place of a renamed token's.   @return whether it is one
  bool call_otherwise(Value& token) const {
    Value* text = token.is_map() ? token.find("content") : &token;
    const auto found = text && text->is_string() ? renamed_.find(text->as_string()) : renamed_.end();
    if (found == renamed_.end()) return false;
    *text = found->second;
    return true;
  }

  void call_names_otherwise(JsonEdit& json) const {
    for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"})
      if (Value token = json.get(key); call_otherwise(token)) json.set(key, token);
    for (const char* key : {kMore, kExtra}) {
      Value tokens = json.get(key);
      bool changed = false;
      if (tokens.is_list())
        for (Value& token : tokens.as_list()) changed |= call_otherwise(token);
      if (changed) json.set(key, tokens);
    }
  }

  static void add_names(const Value& special, JsonEdit& json) {
    for (const auto& [key, value] : special.as_map()) {
      if (is_name(key)) {
        json.set(key, value);
        continue;
      }
      const char* list = json.get(kExtra).is_list() ? kExtra : kMore;
      Value tokens = json.get(list);
      if (!tokens.is_list()) tokens = Value::list();
      for (const Value& token : value.as_list()) {
        const auto same = [&](const Value& one) { return one == token || one.get("content", "") == token.as_string(); };
        if (std::none_of(tokens.as_list().begin(), tokens.as_list().end(), same)) tokens.as_list().push_back(token);
      }
      json.set(list, tokens);
    }
  }

  /// bos_token and its kin, where tokenizer_config.json and special_tokens_map.json say them.
  void write_names(const Value& edits) const {
    const Value* special = edits.find("special_tokens");
    const bool adds = special && special->is_map();
    if (!adds && renamed_.empty()) return;
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
      const bool is_new = !fs::exists(to_ / name);
      if (is_new && !(adds && std::string_view(name) == "tokenizer_config.json")) continue;
      JsonEdit json = open(name);
      call_names_otherwise(json);
      if (adds) add_names(*special, json);
      write_text(to_ / name, json.text());
    }
  }

  /// Where older transformers keep added tokens a second time.
  void write_lists() {
    const fs::path config = to_ / "tokenizer_config.json";
    if (fs::exists(config)) {
      JsonEdit json(read_text(config), config.string());
      if (Value decoder = json.get("added_tokens_decoder"); decoder.is_map()) {
        for (const Value& token : changed_) {
          Value entry = token;
          std::erase_if(entry.as_map(), [](const auto& part) { return part.first == "id"; });
          decoder.set(std::to_string(token.at("id").as_integer()), std::move(entry));
        }
        json.set("added_tokens_decoder", decoder);
        write_text(config, json.text());
      }
    }
    if (!has("added_tokens.json")) return;
    Value older = read_json(from_ / "added_tokens.json");
    for (const Value& token : changed_)
      std::erase_if(older.as_map(), [&](const auto& part) { return part.second == token.at("id"); });
    for (const Value& token : changed_)
      if (token.at("id").as_integer() >= own_ids_) older.set(token.at("content").as_string(), token.at("id"));
    write_text(to_ / "added_tokens.json", write_json(older, 2) + "\n");
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
  fs::path from_, to_;
  Value entries_;
  std::vector<Value> changed_;
  std::map<std::string, std::string> renamed_;
  Value new_ = Value::list();
  int64_t own_ids_ = 0;  // of a tokenizer.model: what added_tokens.json does not list
  int64_t next_id_ = tokenizer_->vocab_size();
};

std::string key_of(const fs::path& folder, const Value& edits) {
  constexpr const char* kFormat = "2";  // of what is written
  std::string text = kFormat + write_json(edits);
  for (const fs::path& file : companion_files(folder))
    text += '\0' + file.filename().string() + '\0' + std::to_string(file_checksum(file));
  return hex_digits(checksum(std::as_bytes(std::span(text))));
}

}  // namespace

fs::path edited_tokenizer(const fs::path& folder, const Value& edits, const fs::path& cache) {
  if (!fs::exists(folder / "tokenizer.json") && !fs::exists(folder / "tokenizer.model"))
    throw Error(ErrorKind::config, "has neither tokenizer.json nor tokenizer.model, which tokens could be added to")
        .at(folder.string());
  const fs::path made = cache / (fs::weakly_canonical(folder).filename().string() + "-" + key_of(folder, edits));
  if (fs::exists(made / kRecord)) return made;
  const fs::path temporary = made.string() + ".tmp-" + std::to_string(::getpid());
  std::error_code failed;
  fs::remove_all(temporary, failed);
  if (!fs::create_directories(temporary, failed))
    throw Error(ErrorKind::io, "cannot be made: " + failed.message()).at(temporary.string());
  try {
    Copy(folder, temporary).make(edits);
  } catch (...) {
    fs::remove_all(temporary, failed);
    throw;
  }
  fs::rename(temporary, made, failed);
  if (!failed) return made;
  // Another process was sooner.
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  if (!fs::exists(made / kRecord)) throw Error(ErrorKind::io, "cannot be made: " + failed.message()).at(made.string());
  return made;
}

}  // namespace ft
