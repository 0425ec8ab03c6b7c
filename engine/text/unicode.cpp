#include "engine/text/unicode.h"

#include <algorithm>

namespace ft::unicode {
namespace {

bool contains(const Range* ranges, size_t count, uint32_t c) {
  const Range* end = ranges + count;
  const Range* it = std::upper_bound(ranges, end, c, [](uint32_t value, const Range& r) { return value < r.first; });
  return it != ranges && c <= (it - 1)->last;
}

constexpr const char* kCategoryNames[] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl",
                                          "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc",
                                          "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn", "Cs"};

bool category_matches(Category category, std::string_view name) {
  const std::string_view own = kCategoryNames[static_cast<size_t>(category)];
  if (name == "L&" || name == "LC") return own == "Lu" || own == "Ll" || own == "Lt";
  return name.size() == 1 ? own[0] == name[0] : own == name;
}

/// Length of the valid sequence at `at`; 0 when it is invalid, and then `bad` is the length of the maximal invalid part
/// (Unicode 3.9, table 3-7).
size_t sequence_length(std::string_view s, size_t at, size_t& bad) {
  const auto byte = [&](size_t i) { return at + i < s.size() ? static_cast<unsigned char>(s[at + i]) : 0u; };
  const unsigned b0 = byte(0);
  if (b0 < 0x80) return 1;
  bad = 1;
  size_t length = 0;
  unsigned low = 0x80, high = 0xBF;
  if (b0 >= 0xC2 && b0 <= 0xDF) {
    length = 2;
  } else if (b0 >= 0xE0 && b0 <= 0xEF) {
    length = 3;
    if (b0 == 0xE0) low = 0xA0;
    if (b0 == 0xED) high = 0x9F;
  } else if (b0 >= 0xF0 && b0 <= 0xF4) {
    length = 4;
    if (b0 == 0xF0) low = 0x90;
    if (b0 == 0xF4) high = 0x8F;
  }
  if (length == 0 || byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    bad = i;
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

bool is_white_space(uint32_t c) { return contains(kWhiteRanges, kNumWhiteRanges, c); }
bool is_word(uint32_t c) { return contains(kWordRanges, kNumWordRanges, c); }
bool is_numeric(uint32_t c) { return contains(kNumericRanges, kNumNumericRanges, c); }
bool is_late_mark(uint32_t c) { return contains(kLateMarkRanges, kNumLateMarkRanges, c); }
bool is_late_compatible(uint32_t c) { return contains(kLateCompatibleRanges, kNumLateCompatibleRanges, c); }
bool is_combining_mark(uint32_t c) { return contains(kCombiningMarkRanges, kNumCombiningMarkRanges, c); }
bool is_bert_mark(uint32_t c) { return contains(kBertMarkRanges, kNumBertMarkRanges, c); }
bool is_bert_control(uint32_t c) { return contains(kBertControlRanges, kNumBertControlRanges, c); }
bool is_punctuation(uint32_t c) { return contains(kPunctuationRanges, kNumPunctuationRanges, c); }

uint32_t lower(uint32_t c) {
  const Pair* end = kLowerPairs + kNumLowerPairs;
  const Pair* it =
      std::lower_bound(kLowerPairs, end, c, [](const Pair& pair, uint32_t value) { return pair.from < value; });
  return it != end && it->from == c ? it->to : c;
}

uint8_t script(uint32_t c) {
  const ScriptRun* it = std::upper_bound(kScriptRuns, kScriptRuns + kNumScriptRuns, c,
                                         [](uint32_t value, const ScriptRun& run) { return value < run.first; });
  return (it - 1)->script;
}

std::vector<Range> category_ranges(std::string_view name) {
  std::vector<Range> out;
  for (size_t i = 0; i < kNumCategoryRuns; ++i) {
    const Category category = kCategoryRuns[i].category;
    if (category == Category::Cs || !category_matches(category, name)) continue;  // no UTF-8 holds surrogates
    const uint32_t last = i + 1 < kNumCategoryRuns ? kCategoryRuns[i + 1].first - 1 : kLastCodePoint;
    out.push_back({kCategoryRuns[i].first, last});
  }
  merge_ranges(out);
  return out;
}

std::vector<Range> property_ranges(std::string_view name) {
  struct LongName {
    std::string_view folded;
    const char* category;
  };
  constexpr LongName kLongNames[] = {{"letter", "L"},
                                     {"casedletter", "LC"},
                                     {"uppercaseletter", "Lu"},
                                     {"lowercaseletter", "Ll"},
                                     {"titlecaseletter", "Lt"},
                                     {"modifierletter", "Lm"},
                                     {"otherletter", "Lo"},
                                     {"mark", "M"},
                                     {"nonspacingmark", "Mn"},
                                     {"spacingmark", "Mc"},
                                     {"enclosingmark", "Me"},
                                     {"number", "N"},
                                     {"decimalnumber", "Nd"},
                                     {"letternumber", "Nl"},
                                     {"othernumber", "No"},
                                     {"punctuation", "P"},
                                     {"symbol", "S"},
                                     {"mathsymbol", "Sm"},
                                     {"currencysymbol", "Sc"},
                                     {"modifiersymbol", "Sk"},
                                     {"othersymbol", "So"},
                                     {"separator", "Z"},
                                     {"spaceseparator", "Zs"},
                                     {"lineseparator", "Zl"},
                                     {"other", "C"},
                                     {"paragraphseparator", "Zp"},
                                     {"control", "Cc"},
                                     {"format", "Cf"},
                                     {"privateuse", "Co"},
                                     {"dashpunctuation", "Pd"},
                                     {"openpunctuation", "Ps"},
                                     {"closepunctuation", "Pe"},
                                     {"unassigned", "Cn"},
                                     {"initialpunctuation", "Pi"},
                                     {"finalpunctuation", "Pf"},
                                     {"otherpunctuation", "Po"},
                                     {"digit", "Nd"},
                                     {"punct", "P"},
                                     {"connectorpunctuation", "Pc"}};
  std::string folded;
  for (const char c : name)
    if (c != ' ' && c != '-' && c != '_') folded += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (size_t i = 0; i < kNumProperties; ++i)
    if (folded == kProperties[i].name)
      return {kPropertyRanges + kProperties[i].begin, kPropertyRanges + kProperties[i].end};
  for (const LongName& known : kLongNames)
    if (folded == known.folded) return category_ranges(known.category);
  if (folded.size() > 2 || folded.empty()) return {};
  folded[0] = static_cast<char>(folded[0] - 'a' + 'A');
  return category_ranges(folded == "Lc" ? "LC" : folded);
}

std::vector<Range> white_space_ranges() { return {kWhiteRanges, kWhiteRanges + kNumWhiteRanges}; }

void merge_ranges(std::vector<Range>& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  size_t kept = 0;
  for (const Range& r : ranges) {
    if (kept > 0 && r.first <= ranges[kept - 1].last + 1) {
      ranges[kept - 1].last = std::max(ranges[kept - 1].last, r.last);
    } else {
      ranges[kept++] = r;
    }
  }
  ranges.resize(kept);
}

std::vector<Range> intersection(const std::vector<Range>& a, const std::vector<Range>& b) {
  std::vector<Range> out;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const uint32_t first = std::max(a[i].first, b[j].first), last = std::min(a[i].last, b[j].last);
    if (first <= last) out.push_back({first, last});
    a[i].last < b[j].last ? ++i : ++j;
  }
  return out;
}

std::vector<Range> complement(const std::vector<Range>& ranges) {
  constexpr uint32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF;  // not characters: no UTF-8 holds them
  std::vector<Range> taken = ranges;
  taken.push_back({kFirstSurrogate, kLastSurrogate});
  merge_ranges(taken);
  std::vector<Range> out;
  uint32_t next = 0;
  for (const Range& r : taken) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return out;
}

uint32_t next_char(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])); };
  const uint32_t b0 = byte(0);
  if (b0 < 0x80) return ++at, b0;
  uint32_t c;
  if (b0 < 0xE0) {
    c = (b0 & 0x1F) << 6 | (byte(1) & 0x3F);
    at += 2;
  } else if (b0 < 0xF0) {
    c = (b0 & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    at += 3;
  } else {
    c = (b0 & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    at += 4;
  }
  return c;
}

uint32_t previous_char(std::string_view text, size_t& end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  size_t at = end;
  return next_char(text, at);
}

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

size_t find_invalid(std::string_view text) {
  size_t bad = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t length = sequence_length(text, at, bad);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::string to_valid(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  size_t bad = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = sequence_length(bytes, at, bad);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      at += bad;
    } else {
      out.append(bytes, at, length);
      at += length;
    }
  }
  return out;
}

}  // namespace ft::unicode
