#include "engine/text/post_processor.h"

#include <utility>

#include "engine/error/error.h"

namespace ft {
namespace {

using Part = PostProcessor::Part;
using Parts = PostProcessor::Parts;

[[noreturn]] void refuse(const std::string& part) {
  throw Error(ErrorKind::format, part + " is not implemented").key("post_processor");
}

/// One after another, as a Sequence has them; what `tokenizers` calls encodings are Parts here.
class Arranger {
 public:
  explicit Arranger(bool special) : special_(special) {}

  std::vector<Parts> arrange(const Value& tree, std::vector<Parts> texts) const {
    if (tree.is_null()) return texts;
    const std::string type = tree.get("type", "");
    if (type == "ByteLevel") return texts;
    if (type == "TemplateProcessing") return fill_template(tree, texts);
    if (type == "BertProcessing") return put_marks(tree, std::move(texts), false);
    if (type == "RobertaProcessing") return put_marks(tree, std::move(texts), true);
    if (type != "Sequence") refuse(type.empty() ? "a post-processor without a type" : type);
    for (const Value& part : tree.at("processors").as_list()) texts = arrange(part, std::move(texts));
    return texts;
  }

 private:
  /// `single` or `pair`: special tokens and the texts $A and $B, each a part of its own.
  std::vector<Parts> fill_template(const Value& tree, const std::vector<Parts>& texts) const {
    if (texts.size() > 2) refuse("TemplateProcessing behind TemplateProcessing");
    const Value* pieces = tree.find(texts.size() == 2 ? "pair" : "single");
    if (!pieces && texts.size() == 2) return texts;
    std::vector<Parts> out;
    for (const Value& piece : (pieces ? *pieces : tree.at("single")).as_list()) {
      const Value* text = piece.find("Sequence");
      const std::string id = text ? text->get("id", "") : "";
      if (const Value* special = piece.find("SpecialToken")) {
        if (special_) out.push_back({{Part::kSpecial, ids_of(tree, special->at("id").as_string())}});
      } else if (const size_t place = id == "B"; id == "A" || (place == 1 && texts.size() == 2)) {
        out.push_back(texts[place]);
      } else {
        refuse("TemplateProcessing with " + describe(piece));
      }
    }
    return out;
  }

  static std::vector<int32_t> ids_of(const Value& tree, const std::string& token) {
    std::vector<int32_t> out;
    for (const Value& id : tree.at("special_tokens").at(token).at("ids").as_list())
      out.push_back(static_cast<int32_t>(id.as_integer()));
    return out;
  }

  /// [CLS] text [SEP] text [SEP]; RoBERTa has another [SEP] before the second text.
  std::vector<Parts> put_marks(const Value& tree, std::vector<Parts> texts, bool twice) const {
    const auto mark = [&](const char* key) {
      if (tree.at(key).as_list().size() != 2) refuse(std::string("a ") + key + " that is not [token, id],");
      return Part{Part::kSpecial, {static_cast<int32_t>(tree.at(key).as_list()[1].as_integer())}};
    };
    const Part begin = mark("cls"), end = mark("sep");
    if (!special_) return texts;
    for (size_t i = 0; i < texts.size(); ++i) {
      if (i == 0 || twice) texts[i].insert(texts[i].begin(), i == 0 ? begin : end);
      texts[i].push_back(end);
    }
    return texts;
  }

  bool special_;
};

Parts joined(const Value& tree, size_t texts, bool special) {
  std::vector<Parts> start{{{0}}};
  if (texts == 2) start.push_back({{1}});
  Parts out;
  for (const Parts& parts : Arranger(special).arrange(tree, std::move(start)))
    out.insert(out.end(), parts.begin(), parts.end());
  return out;
}

void find_trims(const Value& tree, std::vector<PostProcessor::Trim>& out) {
  const std::string type = tree.get("type", "");
  if (type == "Sequence")
    for (const Value& part : tree.at("processors").as_list()) find_trims(part, out);
  if ((type == "ByteLevel" || type == "RobertaProcessing") && tree.get("trim_offsets", true))
    out.push_back({tree.get("add_prefix_space", true)});
}

}  // namespace

PostProcessor PostProcessor::parse(const Value& tree) {
  PostProcessor out;
  if (tree.is_null()) return out;
  size_t seen = 0;
  for (const Part& part : joined(tree, 1, true)) {
    if (part.text == 0) ++seen;
    std::vector<int32_t>& ids = seen == 0 ? out.before : out.behind;
    ids.insert(ids.end(), part.ids.begin(), part.ids.end());
  }
  if (seen != 1) refuse(seen == 0 ? "TemplateProcessing without the text" : "TemplateProcessing with the text twice");
  out.pair = joined(tree, 2, true);
  out.plain_pair = joined(tree, 2, false);
  find_trims(tree, out.trims);
  return out;
}

PostProcessor PostProcessor::of_marks(std::optional<int32_t> bos, std::optional<int32_t> eos) {
  PostProcessor out;
  if (bos) out.before.push_back(*bos);
  if (eos) out.behind.push_back(*eos);
  out.pair.clear();
  for (const int text : {0, 1}) {
    out.pair.push_back({Part::kSpecial, out.before});
    out.pair.push_back({text});
    out.pair.push_back({Part::kSpecial, out.behind});
  }
  return out;
}

}  // namespace ft
