#pragma once
/// Text to token ids and back, as Hugging Face `tokenizers` does it: BPE, Unigram, WordPiece and WordLevel, with the
/// normalizers, pre-tokenizers, post-processors and decoders of decoder models. Owns the vocabulary and the compiled
/// patterns of one tokenizer.json. Built by plans, by `generate` and by `tokenize`; used by engine/data. Whatever the
/// file asks for and this engine lacks is refused by name when it is loaded, never skipped. Thread rule: const calls
/// may come from many threads at once. Ranks need not agree: nothing here is a collective.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

class Tokenizer {
 public:
  /// A token and the bytes [begin, end) of the input text that it stands for, widened to whole characters. Tokens a
  /// template adds have begin == end, at the end of the text they stand at.
  struct Token {
    int32_t id;
    uint32_t begin, end;
  };

  /// Reads tokenizer.json (a folder that holds it, or the file itself), in a folder without one a SentencePiece
  /// tokenizer.model, and, beside it, tokenizer_config.json, special_tokens_map.json and generation_config.json where
  /// they exist.
  /// @throws Error(io) for a file that cannot be read, Error(format) for one that is broken or needs a part that is not
  /// implemented, naming the file and the part ("pre_tokenizer: Metaspace").
  static std::shared_ptr<const Tokenizer> load(const std::filesystem::path& model_dir_or_file);
  ~Tokenizer();

  /// `add_special_tokens` applies the post-processor's template (Llama's <|begin_of_text|>); added tokens written out
  /// in the text are recognised either way.   @throws Error(format) when `text` is not UTF-8, with the byte's position.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;
  std::vector<Token> encode_with_offsets(std::string_view text, bool add_special_tokens) const;
  /// Moves offsets past the spaces around a token, where the file's post-processor does (trim_offsets). Training masks
  /// want them untrimmed.
  void trim_offsets(std::string_view text, std::vector<Token>& tokens) const;
  /// encode() with the file's `truncation` and `padding`, which all else here ignores: how long a row may be is the
  /// data set's affair. `tokenizers` does the same when it is used without transformers.
  std::vector<int32_t> encode_as_stated(std::string_view text, bool add_special_tokens) const;

  /// A text and its pair, as the file's template has them and its `truncation` cuts them. Offsets are places in the
  /// text that a token comes from, trimmed where the file says so; tokens of the template have none (0, 0).
  std::vector<Token> encode_pair(std::string_view text, std::string_view pair, bool add_special_tokens) const;
  /// The ids of encode_pair(), with the file's `padding`.
  std::vector<int32_t> encode_pair_as_stated(std::string_view text, std::string_view pair,
                                             bool add_special_tokens) const;

  /// encode() of many texts on several threads, in order.
  std::vector<std::vector<int32_t>> encode_batch(std::span<const std::string> texts, bool add_special_tokens,
                                                 int threads) const;

  /// The text of the ids. Bytes that form no character become U+FFFD; ids without a token are left out, as in
  /// `tokenizers`.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  int64_t vocab_size() const;  ///< highest id + 1, added tokens included
  /// The id of a token as the file spells it ("Ġthe", "<|im_end|>").
  std::optional<int32_t> token_id(std::string_view token) const;
  bool is_special(int32_t id) const;  ///< left out by decode(…, true)

  /// From tokenizer_config.json, else special_tokens_map.json, else generation_config.json.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  /// Ids that end an answer: eos_id() and generation_config.json's eos_token_id, each once.
  const std::vector<int32_t>& stop_ids() const;
  const std::filesystem::path& file() const;  ///< the file that was read

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ft
