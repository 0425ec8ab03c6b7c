#pragma once
/// Python's str, on UTF-8: characters are code points, white space and case are Python's. Pure functions.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ft::jinja {

bool is_space(uint32_t c);  ///< str.isspace of one character, and \s of `re`
bool is_printable(uint32_t c);
bool is_identifier_char(uint32_t c, bool first);
int64_t count_chars(std::string_view text);
/// Byte positions of every character, and the end.
std::vector<size_t> char_starts(std::string_view text);

enum class Strip { left = 1, right = 2, both = 3 };
/// str.strip: of white space for chars == nullptr, else of the characters in it.
std::string_view strip(std::string_view text, Strip side, const std::string_view* chars = nullptr);
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);
std::string swapcase(std::string_view text);
std::vector<std::string_view> split_space(std::string_view text, int64_t most);
std::vector<std::string_view> rsplit_space(std::string_view text, int64_t most);
std::vector<std::string_view> split_at(std::string_view text, std::string_view separator, int64_t most);
std::vector<std::string_view> rsplit_at(std::string_view text, std::string_view separator, int64_t most);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t most);
std::string repr(std::string_view text);
std::string repr(double number);

/// str.isupper and the like. `what`: "alpha", "digit", "decimal", "numeric", "alnum", "space", "upper", "lower",
/// "title"
bool is_all(std::string_view text, std::string_view what);

}  // namespace ft::jinja
