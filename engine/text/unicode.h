#pragma once
/// UTF-8 and the Unicode classes that `tokenizers` uses (engine/text/unicode_tables.cpp, generated). Pure functions
/// over constant tables; no thread rules. Used by engine/text and engine/template.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace ft::unicode {

/// General categories; Cn is unassigned, Cs the surrogates.
enum class Category : uint8_t {
  // clang-format off
  Lu, Ll, Lt, Lm, Lo, Mn, Mc, Me, Nd, Nl, No, Pc, Pd, Ps, Pe, Pi, Pf, Po, Sm, Sc, Sk, So, Zs, Zl, Zp, Cc, Cf, Co, Cn, Cs
  // clang-format on
};
struct CategoryRun {
  uint32_t first;
  Category category;
};
/// Code points first to last, both included.
struct Range {
  uint32_t first, last;
};

extern const CategoryRun kCategoryRuns[];
extern const size_t kNumCategoryRuns;
struct Pair {
  uint32_t from, to;
};
struct ScriptRun {
  uint32_t first;
  uint8_t script;
};
extern const Range kWhiteRanges[], kWordRanges[], kNumericRanges[], kLateMarkRanges[], kLateCompatibleRanges[],
    kCombiningMarkRanges[], kBertMarkRanges[], kBertControlRanges[], kPunctuationRanges[];
extern const size_t kNumWhiteRanges, kNumWordRanges, kNumNumericRanges, kNumLateMarkRanges, kNumLateCompatibleRanges,
    kNumCombiningMarkRanges, kNumBertMarkRanges, kNumBertControlRanges, kNumPunctuationRanges;
extern const Pair kLowerPairs[];
extern const size_t kNumLowerPairs;
extern const ScriptRun kScriptRuns[];
extern const size_t kNumScriptRuns;
/// What a property of Oniguruma's has (engine/text/unicode_properties.cpp, generated): [begin, end) of kPropertyRanges.
struct NamedRanges {
  const char* name;  ///< as fold_name makes it
  uint32_t begin, end;
};
extern const NamedRanges kProperties[];
extern const size_t kNumProperties;
extern const Range kPropertyRanges[];

constexpr uint32_t kLastCodePoint = 0x10FFFF;

bool is_white_space(uint32_t c);      ///< \s of Rust's regex and of Oniguruma
bool is_word(uint32_t c);             ///< \w of Rust's regex
bool is_numeric(uint32_t c);          ///< Rust's char::is_numeric
bool is_late_mark(uint32_t c);        ///< a combining mark that the NFC of `tokenizers` does not know yet
bool is_late_compatible(uint32_t c);  ///< a character that `tokenizers` does not take apart yet
bool is_combining_mark(uint32_t c);   ///< what StripAccents takes away
bool is_bert_mark(uint32_t c);        ///< what BertNormalizer takes away as an accent
bool is_bert_control(uint32_t c);     ///< what BertNormalizer takes away as a control character
bool is_punctuation(uint32_t c);      ///< what Punctuation and BertPreTokenizer cut at
uint32_t lower(uint32_t c);           ///< lower case of one character, as Rust's
/// The script of a character as UnicodeScripts sees it, kana taken for Han; 0 for what goes with any script.
uint8_t script(uint32_t c);

/// Code points of \p{name} for a general category or its first letter ("Lu", "L", "L&"); empty when the name is
/// another.
std::vector<Range> category_ranges(std::string_view name);
/// Code points of \p{name} for a general category, also by its long name, a script or its four letters, and a few
/// properties more; spelled in any case, with spaces, hyphens and underscores wherever. Empty for another name.
std::vector<Range> property_ranges(std::string_view name);
std::vector<Range> white_space_ranges();
/// Sorts and joins ranges that touch.
void merge_ranges(std::vector<Range>& ranges);
/// What is in both (each sorted and joined).
std::vector<Range> intersection(const std::vector<Range>& a, const std::vector<Range>& b);
/// What is in none of `ranges` (sorted and joined), surrogates left out.
std::vector<Range> complement(const std::vector<Range>& ranges);

/// Reads the character at `at` (of valid UTF-8) and moves `at` behind it.
uint32_t next_char(std::string_view text, size_t& at);
/// Reads the character that ends at `end` (of valid UTF-8) and moves `end` before it.
uint32_t previous_char(std::string_view text, size_t& end);
void append_utf8(std::string& out, uint32_t c);
/// Position of the first byte that is not UTF-8, or npos.
size_t find_invalid(std::string_view text);
/// The text with each maximal invalid part replaced by U+FFFD, as Rust's from_utf8_lossy and the WHATWG decoder do.
std::string to_valid(std::string_view bytes);

}  // namespace ft::unicode
