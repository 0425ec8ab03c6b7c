#include "engine/schema/fault.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <tuple>

namespace ft {

std::optional<std::string> line_of_file(const std::string& file, int line) {
  std::ifstream in(file);
  std::string text;
  for (int i = 0; i < line; ++i)
    if (!std::getline(in, text)) return std::nullopt;
  if (line < 1) return std::nullopt;
  while (!text.empty() && (text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

std::string render(const Fault& fault, const SourceLine& source) {
  std::string out;
  if (const std::string where = fault.origin.str(); !where.empty()) out += where + ": ";
  if (!fault.path.empty()) out += fault.path + ": ";
  out += fault.message;
  if (fault.warning) out += " (warning)";
  if (fault.origin.line > 0 && source)
    if (const auto line = source(fault.origin.file, fault.origin.line))
      out += "\n   " + std::to_string(fault.origin.line) + " | " + *line;
  if (!fault.rule.empty() || !fault.help.empty()) out += "\n   ";
  if (!fault.rule.empty()) out += "rule: " + fault.rule + (fault.help.empty() ? "" : "   ");
  if (!fault.help.empty()) out += "help: " + fault.help;
  return out;
}

std::string render(std::vector<Fault> faults, const SourceLine& source) {
  std::stable_sort(faults.begin(), faults.end(), [](const Fault& a, const Fault& b) {
    return std::tie(a.origin.file, a.origin.line) < std::tie(b.origin.file, b.origin.line);
  });
  std::set<std::string> said;
  std::string out;
  for (const Fault& fault : faults) {
    const std::string text = render(fault, source);
    if (!said.insert(text).second) continue;
    out += (out.empty() ? "" : "\n\n") + text;
  }
  return out;
}

Value as_value(const Fault& fault) {
  Value out = Value::map();
  const auto set = [&](const char* key, const std::string& text) {
    if (!text.empty()) out.set(key, text);
  };
  set("rule", fault.rule);
  set("key", fault.path);
  set("where", fault.origin.str());
  set("message", fault.message);
  set("help", fault.help);
  return out;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

std::string enumerate(const std::vector<std::string>& names, size_t columns) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    if (out.size() + names[i].size() + 2 > columns) return out + ", …";
    out += (i ? ", " : "") + names[i];
  }
  return out;
}

}  // namespace ft
