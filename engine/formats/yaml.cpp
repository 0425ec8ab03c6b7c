#include "engine/formats/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "engine/error/error.h"
#include "engine/formats/file.h"

namespace ft {
namespace {

constexpr int64_t kMaxValues = 1'000'000;
constexpr int kMaxDepth = 200;
constexpr size_t kMaxBytes = 4 << 20;  // a thousand times what people write; yaml-cpp takes 100 bytes for each

std::string line_of(const std::string& name, const YAML::Mark& mark) {
  return Origin{name, mark.is_null() ? 0 : mark.line + 1}.str();
}

bool all_of(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

std::optional<int64_t> integer(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789", kHex = "0123456789abcdefABCDEF", kOctal = "01234567";
  int base = 10;
  if (text.substr(0, 2) == "0x" && all_of(text.substr(2), kHex)) {
    base = 16, text.remove_prefix(2);
  } else if (text.substr(0, 2) == "0o" && all_of(text.substr(2), kOctal)) {
    base = 8, text.remove_prefix(2);
  } else {
    const std::string_view digits = text.substr(!text.empty() && (text[0] == '-' || text[0] == '+'));
    if (!all_of(digits, kDigits)) return std::nullopt;
    if (text[0] == '+') text = digits;
  }
  int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value, base).ec != std::errc()) return std::nullopt;
  return value;
}

// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?   YAML 1.2.2, section 10.3.2
bool looks_like_number(std::string_view text) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - begin;
  };
  const auto sign = [&] { at += at < text.size() && (text[at] == '-' || text[at] == '+'); };
  sign();
  size_t mantissa = digits();
  if (at < text.size() && text[at] == '.') ++at, mantissa += digits();
  if (mantissa == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    sign();
    if (digits() == 0) return false;
  }
  return at == text.size();
}

Value plain_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return Value();
  if (text == "true" || text == "True" || text == "TRUE") return Value(true);
  if (text == "false" || text == "False" || text == "FALSE") return Value(false);
  if (const auto whole = integer(text)) return Value(*whole);
  if (looks_like_number(text)) return Value(std::strtod(text.c_str(), nullptr));
  const std::string_view unsigned_text = std::string_view(text).substr(text[0] == '-' || text[0] == '+');
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (unsigned_text == ".inf" || unsigned_text == ".Inf" || unsigned_text == ".INF")
    return Value(text[0] == '-' ? -kInfinity : kInfinity);
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return Value(std::numeric_limits<double>::quiet_NaN());
  return Value(text);
}

class Converter {
 public:
  explicit Converter(const std::string& name) : name_(name) {}

  Value convert(const YAML::Node& node, int depth) {
    if (++values_ > kMaxValues) fail(node, "its aliases grow past a million values");
    if (depth > kMaxDepth)
      fail(node, "is nested deeper than " + std::to_string(kMaxDepth) + " levels, or its anchor holds itself");
    Value value = content(node, depth);
    value.origin = {name_, node.Mark().is_null() ? 0 : node.Mark().line + 1};
    return value;
  }

 private:
  Value content(const YAML::Node& node, int depth) {
    // yaml-cpp gives "?" to plain values, "!" to quoted ones, "" to aliases' and null nodes without either.
    if (const std::string& tag = node.Tag(); !tag.empty() && tag != "?" && tag != "!")
      fail(node, "got the tag " + tag + ", want a value without one");
    if (node.IsMap()) return map(node, depth);
    if (node.IsSequence()) {
      Value::List items;
      for (const YAML::Node& item : node) items.push_back(convert(item, depth + 1));
      return Value(std::move(items));
    }
    if (!node.IsScalar()) return Value();
    return node.Tag() == "!" ? Value(node.Scalar()) : plain_scalar(node.Scalar());
  }

  Value map(const YAML::Node& node, int depth) {
    Value::Map entries;
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) fail(entry.first, "got a key that is no scalar, want a name");
      const std::string& key = entry.first.Scalar();
      if (key == "<<" && entry.first.Tag() != "!")
        fail(entry.first, "merge keys (<<) are not read; write the keys out");
      if (!seen.insert(key).second) fail(entry.first, "key '" + key + "' stands twice");
      Value value = convert(entry.second, depth + 1);
      // A block is blamed at its key; yaml-cpp marks an absent value at whatever comes next.
      if (value.is_null() || value.is_map() || value.is_list()) value.origin.line = entry.first.Mark().line + 1;
      entries.emplace_back(key, std::move(value));
    }
    return Value(std::move(entries));
  }

  [[noreturn]] void fail(const YAML::Node& node, const std::string& message) const {
    throw Error(ErrorKind::format, message).at(line_of(name_, node.Mark()));
  }

  const std::string& name_;
  int64_t values_ = 0;
};

/// Whether the line of an error begins with a tab.
bool indented_by_tab(std::string_view text, const YAML::Mark& mark) {
  if (mark.is_null()) return false;
  for (int line = 0; line < mark.line; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return false;
    text.remove_prefix(end + 1);
  }
  const size_t begin = text.find_first_not_of(' ');
  return begin != std::string_view::npos && text[begin] == '\t';
}

/// Refuses bytes that no configuration has, with the line they stand on.
void check_bytes(std::string_view text, const std::string& name) {
  const auto fail = [&](size_t at, const std::string& message) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    throw Error(ErrorKind::format, message).at(Origin{name, static_cast<int>(line)}.str());
  };
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) fail(zero, "holds a NUL byte: is no text");
  if (text.size() > kMaxBytes)
    fail(kMaxBytes, "is longer than 4 MiB (" + std::to_string(text.size()) + " bytes): is no configuration");
}

/// Hears where documents begin.
struct Documents : YAML::EventHandler {
  void OnDocumentStart(const YAML::Mark& mark) override { start = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
  YAML::Mark start;
};

/// Refuses a second document. YAML::LoadAll would go on: to it, text such as `, x` is documents without an end.
void check_documents(std::string_view text, const std::string& name) {
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  Documents documents;
  if (parser.HandleNextDocument(documents) && parser.HandleNextDocument(documents))
    throw Error(ErrorKind::format, "got more than one YAML document, want one").at(line_of(name, documents.start));
}

}  // namespace

Value parse_yaml(std::string_view text, const std::string& name) try {
  check_bytes(text, name);
  check_documents(text, name);
  const YAML::Node document = YAML::Load(std::string(text));
  if (!document.IsDefined() || document.IsNull()) {
    Value nothing;
    nothing.origin = {name, 1};
    return nothing;
  }
  return Converter(name).convert(document, 0);
} catch (const YAML::Exception& error) {
  Error wrong(ErrorKind::format, "is not YAML: " + error.msg);
  wrong.at(line_of(name, error.mark));
  if (indented_by_tab(text, error.mark)) wrong.help("indent by spaces: YAML takes no tabs");
  throw wrong;
}

Value read_yaml(const std::filesystem::path& path) { return parse_yaml(read_text(path), path.string()); }

}  // namespace ft
