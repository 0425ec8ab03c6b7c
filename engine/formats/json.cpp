#include "engine/formats/json.h"

#include <charconv>
#include <cmath>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json_reader.h"

namespace ft {
namespace {

void write_string(const std::string& text, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += std::string("\\u00") + kHex[(c >> 4) & 0xF] + kHex[c & 0xF];
        else
          out += c;
    }
  }
  out += '"';
}

void write_number(double number, std::string& out) {
  if (std::isnan(number)) {
    out += "NaN";
  } else if (std::isinf(number)) {
    out += number < 0 ? "-Infinity" : "Infinity";
  } else {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, number).ptr;
    const std::string_view digits(text, static_cast<size_t>(end - text));
    out += digits;
    if (digits.find_first_of(".e") == std::string_view::npos) out += ".0";
  }
}

class Writer {
 public:
  explicit Writer(int indent) : indent_(indent) {}

  void write(const Value& value, int depth) {
    switch (value.kind()) {
      case Value::Kind::null:
        out += "null";
        break;
      case Value::Kind::boolean:
        out += value.as_bool() ? "true" : "false";
        break;
      case Value::Kind::integer:
        out += std::to_string(value.as_integer());
        break;
      case Value::Kind::number:
        write_number(value.as_number(), out);
        break;
      case Value::Kind::string:
        write_string(value.as_string(), out);
        break;
      case Value::Kind::list:
        write_items('[', ']', value.as_list(), depth, [&](const Value& item) { write(item, depth + 1); });
        break;
      case Value::Kind::map:
        write_items('{', '}', value.as_map(), depth, [&](const auto& entry) {
          write_string(entry.first, out);
          out += ": ";
          write(entry.second, depth + 1);
        });
        break;
    }
  }

  std::string out;

 private:
  template <class Items, class Write>
  void write_items(char open, char close, const Items& items, int depth, const Write& write_item) {
    out += open;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out += indent_ < 0 ? ", " : ",";
      first = false;
      new_line(depth + 1);
      write_item(item);
    }
    if (!items.empty()) new_line(depth);
    out += close;
  }

  void new_line(int depth) {
    if (indent_ < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent_ * depth), ' ');
  }

  int indent_;
};

}  // namespace

Value parse_json(std::string_view text, const std::string& file, const JsonOptions& options) {
  return JsonReader(text, file, options).read();
}

Value read_json(const std::filesystem::path& path, const JsonOptions& options) {
  return parse_json(read_text(path), path.string(), options);
}

std::string write_json(const Value& value, int indent) {
  Writer writer(indent);
  writer.write(value, 0);
  return std::move(writer.out);
}

}  // namespace ft
