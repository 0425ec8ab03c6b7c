#pragma once
/// A stretch of text on its way through normalizers and pre-tokenizers, with the way back to the text it was made from:
/// for each byte, which bytes of the source it stands for. Everything that changes or cuts text does it through this
/// class, so that offsets are kept in one place (the rules are those of NormalizedString in Hugging Face
/// `tokenizers`). Used inside engine/text only. A value; slices share one buffer, which nobody writes to any more. An
/// untouched stretch is a view: the source must outlive it.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

/// Bytes [begin, end) of a text, and whether a pattern matched them.
struct TextMatch {
  size_t begin, end;
  bool match;
};

class AlignedText {
 public:
  /// Bytes [begin, end) of the source.
  struct Ends {
    uint32_t begin, end;
  };
  /// A character of a changed text. change 0: it takes the place of one character; -n: of that and the n behind it;
  /// above 0: it is put in behind what came before, and shares its place in the source.
  struct Change {
    uint32_t c;
    int32_t change;
  };

  AlignedText() = default;
  /// Untouched text.   @param begin where it stands in the source
  AlignedText(std::string_view text, uint32_t begin) : text_(text), base_(begin), source_begin_(begin) {}

  std::string_view text() const { return text_; }
  bool empty() const { return text_.empty(); }
  /// Where the stretch began in the source before it was changed.
  uint32_t source_begin() const { return source_begin_; }
  /// The bytes of the source that bytes [begin, end) stand for, widened to whole characters.
  Ends source(size_t begin, size_t end) const;
  AlignedText slice(size_t begin, size_t end) const;

  /// Replaces the whole text by `changes`, after leaving out the first `skipped` characters.
  void transform(const std::vector<Change>& changes, size_t skipped = 0);
  /// Puts `text` in front; it stands for the first character.
  void prepend(std::string_view text);
  /// Replaces each match by `content`, which stands for the match's last character.
  void replace(const std::vector<TextMatch>& matches, std::string_view content);
  /// Takes the place of the whole text. Byte i of it stands for what the old text has from starts[i] to the next place
  /// among them that is higher, or to `end`.
  void rewrite(std::string text, const std::vector<uint32_t>& starts, uint32_t end);
  /// Keeps the characters for which `keep` is true.
  template <typename Keep>
  void filter(const Keep& keep);

 private:
  struct Buffer {
    std::string text;
    std::vector<Ends> ends;
  };
  /// The ends of each byte, written out.
  std::vector<Ends> written_ends() const;
  void take(Buffer buffer);
  void filter_marked(const std::vector<bool>& kept);

  std::string_view text_;
  const Ends* ends_ = nullptr;  ///< of each byte; null: byte i stands for base_ + i
  uint32_t base_ = 0, source_begin_ = 0;
  std::shared_ptr<const Buffer> buffer_;  ///< holds text_ and ends_ when they are not the source's
};

/// The characters of a text.
std::vector<uint32_t> characters(std::string_view text);

template <typename Keep>
void AlignedText::filter(const Keep& keep) {
  std::vector<bool> kept;
  bool all = true;
  for (const uint32_t c : characters(text_)) {
    kept.push_back(keep(c));
    all &= kept.back();
  }
  if (!all) filter_marked(kept);
}

}  // namespace ft
