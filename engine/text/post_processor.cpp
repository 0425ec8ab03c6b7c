#include "engine/text/post_processor.h"

#include "engine/error/error.h"

namespace ft {
namespace {

[[noreturn]] void refuse(const std::string& part) {
  throw Error(ErrorKind::format, part + " is not implemented").key("post_processor");
}

void append_ids(const Value& tree, const std::string& token, std::vector<int32_t>& out) {
  for (const Value& id : tree.at("special_tokens").at(token).at("ids").as_list())
    out.push_back(static_cast<int32_t>(id.as_integer()));
}

/// A `single` template: special tokens, the text ($A) once, special tokens.
PostProcessor parse_template(const Value& tree) {
  PostProcessor out;
  bool seen_text = false;
  for (const Value& piece : tree.at("single").as_list()) {
    if (const Value* special = piece.find("SpecialToken")) {
      append_ids(tree, special->at("id").as_string(), seen_text ? out.behind : out.before);
    } else if (const Value* text = piece.find("Sequence"); text && !seen_text && text->get("id", "") == "A") {
      seen_text = true;
    } else {
      refuse("TemplateProcessing with " + describe(piece));
    }
  }
  if (!seen_text) refuse("TemplateProcessing without the text");
  return out;
}

PostProcessor parse_roberta(const Value& tree) {
  const auto id = [&](const char* key) { return static_cast<int32_t>(tree.at(key).as_list().at(1).as_integer()); };
  return {{id("cls")}, {id("sep")}};
}

}  // namespace

PostProcessor PostProcessor::parse(const Value& tree) {
  if (tree.is_null()) return {};
  const std::string type = tree.get("type", "");
  if (type == "ByteLevel") return {};  // moves offsets only; ours are those of the untouched text
  if (type == "TemplateProcessing") return parse_template(tree);
  if (type == "RobertaProcessing") return parse_roberta(tree);
  if (type != "Sequence") refuse(type.empty() ? "a post-processor without a type" : type);
  PostProcessor out;
  for (const Value& part : tree.at("processors").as_list()) {
    const PostProcessor outer = parse(part);
    out.before.insert(out.before.begin(), outer.before.begin(), outer.before.end());
    out.behind.insert(out.behind.end(), outer.behind.begin(), outer.behind.end());
  }
  return out;
}

}  // namespace ft
