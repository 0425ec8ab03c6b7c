#pragma once
/// The tokens of one tokenizer.json: the model's and the added ones, and which mean the beginning and
/// the end of a text. Used inside engine/text only; const calls may come from many threads.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/schema/value.h"
#include "engine/text/added_tokens.h"
#include "engine/text/model.h"

namespace ft {

/// Beginning, end and padding of texts, as the files beside tokenizer.json name them.
struct TextMarks {
  std::optional<int32_t> bos, eos, pad;
  std::vector<int32_t> stop;
};

class Vocabulary {
 public:
  /// Takes the model and its vocabulary.   @throws Error(format) naming what is not implemented
  Vocabulary(TokenizerFile& file, bool raw_bytes) : model_(parse_model(file, raw_bytes)) {}

  /// Adds the tokens of `added_tokens`, then those of tokenizer_config.json, whose flags count where both have a token
  /// (as transformers has it).
  /// @param config tokenizer_config.json or null
  /// @throws Error(format) for an id other than the one `tokenizers` would give
  void add_tokens(const Value& added_tokens, const Value& config);

  /// Makes added tokens of those that the configuration calls special (as transformers does): a model's own token is
  /// then found in texts as it stands. One that is no token has kNoId: CodeLlama's `fill_token` is, and no text of
  /// most data sets has it.
  void add_named_tokens(const Value& config);

  const Model& model() const { return *model_; }
  const std::vector<AddedToken>& added() const { return added_; }  ///< in the order of their ids
  const std::vector<AddedToken>& without_id() const { return without_id_; }
  std::optional<int32_t> find(std::string_view token) const;
  /// An added token, or nullptr.
  const AddedToken* added_token(int32_t id) const {
    const auto it = added_by_id_.find(id);
    return it == added_by_id_.end() ? nullptr : &added_[it->second];
  }
  bool is_special(int32_t id) const;
  int64_t size() const;  ///< highest id + 1
  /// A token as the file spells it, or nothing for an id without one.
  std::optional<std::string_view> token(int32_t id) const;

 private:
  void add(AddedToken token, std::optional<int64_t> stated_id);

  std::unique_ptr<const Model> model_;
  std::vector<AddedToken> added_, without_id_;
  std::unordered_map<std::string, size_t> added_by_text_;
  std::unordered_map<int32_t, size_t> added_by_id_;
  int32_t highest_added_ = -1;
};

/// A mark as tokenizer_config.json or special_tokens_map.json writes it: its text, or an added token with `content`.
std::optional<std::string> mark_text(const Value& tree, const char* key);
/// A JSON file, or null where there is none.
Value read_optional(const std::filesystem::path& file);

/// tokenizer_config.json with what older folders have beside it: special_tokens_map.json, and the tokens of
/// added_tokens.json that are not in `added_tokens` of tokenizer.json.
/// @throws Error(format) naming what is not implemented
Value complete_config(const std::filesystem::path& folder, const Value& added_tokens, Value config);

/// Reads the marks from tokenizer_config.json, special_tokens_map.json and generation_config.json in `folder`.
/// @throws Error(format) for a mark that is no token
TextMarks read_marks(const std::filesystem::path& folder, const Value& config, const Vocabulary& vocabulary);

}  // namespace ft
