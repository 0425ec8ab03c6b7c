#include "engine/text/tokenizer_file.h"

#include <limits>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/text/json_events.h"

namespace ft {
namespace {

/// Keeps model.vocab and model.merges out of the tree. While inside one of them, events go to `out_`, not to the base.
class TokenizerEvents : public JsonEvents {
 public:
  TokenizerEvents(TokenizerFile& out, Origin origin) : JsonEvents(std::move(origin)), out_(out) {}

  bool key(std::string& name) override {
    if (part_ == Part::vocab && depth_ == kPartDepth) {
      key_ = append(name);
      return true;
    }
    if (part_ != Part::none) return fail("a map inside");
    if (depth_ == 1) in_model_ = name == "model";
    if (depth_ == 2 && in_model_) next_ = name == "vocab" ? Part::vocab : name == "merges" ? Part::merges : Part::none;
    return JsonEvents::key(name);
  }

  bool start_object(size_t n) override {
    if (part_ != Part::none) return fail("a map inside");
    ++depth_;
    if (next_ == Part::vocab) return enter(Part::vocab);
    next_ = Part::none;
    return JsonEvents::start_object(n);
  }

  bool end_object() override {
    --depth_;
    return part_ == Part::vocab ? leave() : JsonEvents::end_object();
  }

  bool start_array(size_t n) override {
    ++depth_;
    if (part_ == Part::merges && depth_ == kPartDepth + 1) return pair_.clear(), true;
    if (part_ != Part::none) return fail("a list inside");
    if (next_ == Part::merges) return enter(Part::merges);
    next_ = Part::none;
    return JsonEvents::start_array(n);
  }

  bool end_array() override {
    --depth_;
    if (part_ != Part::merges) return JsonEvents::end_array();
    if (depth_ < kPartDepth) return leave();
    if (pair_.size() != 2) return fail("a merge that is not a pair in");
    out_.merges.push_back({pair_[0], pair_[1]});
    return true;
  }

  bool string(std::string& v) override {
    if (part_ == Part::none) return next_ = Part::none, JsonEvents::string(v);
    if (part_ == Part::vocab) return fail("a string as an id in");
    if (depth_ > kPartDepth) return pair_.push_back(append(v)), true;
    const size_t space = v.find(' ');
    if (space == std::string::npos || v.find(' ', space + 1) != std::string::npos)
      return fail("a merge that is not two tokens, '" + v + "', in");
    const Text whole = append(v);
    const auto left = static_cast<uint32_t>(space);
    out_.merges.push_back({{whole.begin, left}, {whole.begin + left + 1, whole.size - left - 1}});
    return true;
  }

  bool number_unsigned(uint64_t v) override {
    if (part_ == Part::none) return next_ = Part::none, JsonEvents::number_unsigned(v);
    constexpr uint64_t kMostIds = 1u << 24;  // ids index arrays; the largest vocabularies known have 2^18
    if (part_ != Part::vocab || v >= kMostIds) return fail("an id that is too large in");
    out_.vocab.push_back({key_, static_cast<int32_t>(v)});
    return true;
  }

  bool number_integer(int64_t v) override { return plain() ? JsonEvents::number_integer(v) : fail("a negative id in"); }
  bool number_float(double v, const std::string& s) override {
    return plain() ? JsonEvents::number_float(v, s) : fail("a fraction in");
  }
  bool null() override { return plain() ? JsonEvents::null() : fail("null in"); }
  bool boolean(bool v) override { return plain() ? JsonEvents::boolean(v) : fail("a boolean in"); }

  std::string fault;

 private:
  using Text = TokenizerFile::Text;
  enum class Part { none, vocab, merges };
  static constexpr int kPartDepth = 3;  // root, model, vocab or merges

  bool plain() { return next_ = Part::none, part_ == Part::none; }

  bool enter(Part part) {
    part_ = part;
    next_ = Part::none;
    if (part == Part::vocab) out_.has_vocab_map = true;
    return true;
  }

  bool leave() {
    part_ = Part::none;
    return JsonEvents::null();  // stands in the tree where the part was
  }

  bool fail(const std::string& what) {
    fault = what + (part_ == Part::vocab ? " model.vocab" : " model.merges");
    return false;
  }

  Text append(const std::string& v) {
    const Text t{static_cast<uint32_t>(out_.text.size()), static_cast<uint32_t>(v.size())};
    out_.text += v;
    return t;
  }

  TokenizerFile& out_;
  Part part_ = Part::none, next_ = Part::none;
  int depth_ = 0;
  bool in_model_ = false;
  Text key_{0, 0};
  std::vector<Text> pair_;
};

}  // namespace

TokenizerFile read_tokenizer_file(const std::filesystem::path& file) {
  const std::string text = read_text(file);
  const Origin origin{file.string(), 0};
  if (text.size() > std::numeric_limits<uint32_t>::max())
    throw Error(ErrorKind::format, "is larger than 4 GiB").at(file.string());
  TokenizerFile out;
  out.text.reserve(text.size() / 2);
  TokenizerEvents events(out, origin);
  if (!events.run(text)) {
    if (!events.fault.empty()) throw Error(ErrorKind::format, "has " + events.fault).at(file.string());
    throw_json_error(events, text, origin);
  }
  out.tree = std::move(events.result);
  if (!out.tree.is_map()) throw Error(ErrorKind::format, "is not a JSON object").at(file.string());
  return out;
}

}  // namespace ft
