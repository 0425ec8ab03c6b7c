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

/// [CLS] text [SEP], as BertProcessing and RobertaProcessing have it.
PostProcessor parse_bert(const Value& tree) {
  const auto id = [&](const char* key) { return static_cast<int32_t>(tree.at(key).as_list().at(1).as_integer()); };
  for (const char* key : {"cls", "sep"})
    if (tree.at(key).as_list().size() != 2) refuse(std::string("a ") + key + " that is not [token, id],");
  return {{id("cls")}, {id("sep")}, {}};
}

void add_trim(const Value& tree, PostProcessor& out) {
  if (tree.get("trim_offsets", true)) out.trims.push_back({tree.get("add_prefix_space", true)});
}

}  // namespace

PostProcessor PostProcessor::parse(const Value& tree) {
  if (tree.is_null()) return {};
  const std::string type = tree.get("type", "");
  PostProcessor out;
  if (type == "TemplateProcessing") return parse_template(tree);
  if (type == "BertProcessing") return parse_bert(tree);
  if (type == "RobertaProcessing") out = parse_bert(tree);
  if (type == "ByteLevel" || type == "RobertaProcessing") return add_trim(tree, out), out;
  if (type != "Sequence") refuse(type.empty() ? "a post-processor without a type" : type);
  for (const Value& part : tree.at("processors").as_list()) {
    const PostProcessor outer = parse(part);
    out.before.insert(out.before.begin(), outer.before.begin(), outer.before.end());
    out.behind.insert(out.behind.end(), outer.behind.begin(), outer.behind.end());
    out.trims.insert(out.trims.end(), outer.trims.begin(), outer.trims.end());
  }
  return out;
}

PostProcessor PostProcessor::of_marks(std::optional<int32_t> bos, std::optional<int32_t> eos) {
  PostProcessor out;
  if (bos) out.before.push_back(*bos);
  if (eos) out.behind.push_back(*eos);
  return out;
}

}  // namespace ft
