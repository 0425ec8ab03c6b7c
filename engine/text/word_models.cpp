// WordPiece and WordLevel: whole words, and longest pieces first.
#include "engine/error/error.h"
#include "engine/text/model.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

class WordModel : public Model {
 protected:
  WordModel(TokenizerFile& file, const char* unk_default) : Model(file) {
    unk_token_ = file.tree.at("model").get("unk_token", unk_default);
    unk_id_ = tokens_.find(unk_token_);
  }
  void append_unknown(std::string_view word, std::vector<Symbol>& out) const {
    if (unk_id_ < 0)
      throw Error(ErrorKind::format, "the word '" + std::string(word) + "' has no token, and the model's unk_token '" +
                                         unk_token_ + "' is not in the vocabulary");
    out.push_back({unk_id_, 0, static_cast<uint32_t>(word.size())});
  }

 private:
  std::string unk_token_;
  int32_t unk_id_;
};

class WordLevel : public WordModel {
 public:
  explicit WordLevel(TokenizerFile& file) : WordModel(file, "<unk>") {}

 protected:
  void encode_word(std::string_view word, std::vector<Symbol>& out) const override {
    const int32_t id = tokens_.find(word);
    if (id < 0) return append_unknown(word, out);
    out.push_back({id, 0, static_cast<uint32_t>(word.size())});
  }
};

class WordPiece : public WordModel {
 public:
  explicit WordPiece(TokenizerFile& file) : WordModel(file, "[UNK]") {
    const Value& model = file.tree.at("model");
    prefix_ = model.get("continuing_subword_prefix", "##");
    longest_ = static_cast<size_t>(model.get("max_input_chars_per_word", 100));
  }

 protected:
  void encode_word(std::string_view word, std::vector<Symbol>& out) const override {
    size_t length = 0;
    for (size_t at = 0; at < word.size(); ++length) unicode::next_char(word, at);
    if (length > longest_) return append_unknown(word, out);
    const size_t first = out.size();
    std::string piece;
    for (size_t begin = 0; begin < word.size();) {
      size_t end = word.size();
      int32_t id = -1;
      while (begin < end) {
        piece = begin > 0 ? prefix_ : "";
        piece += word.substr(begin, end - begin);
        id = tokens_.find(piece);
        if (id >= 0) break;
        unicode::previous_char(word, end);
      }
      if (id < 0) {
        out.resize(first);
        return append_unknown(word, out);
      }
      out.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      begin = end;
    }
  }

 private:
  std::string prefix_;
  size_t longest_;
};

}  // namespace

std::unique_ptr<const Model> parse_word_piece(TokenizerFile& file) { return std::make_unique<WordPiece>(file); }
std::unique_ptr<const Model> parse_word_level(TokenizerFile& file) { return std::make_unique<WordLevel>(file); }

}  // namespace ft
