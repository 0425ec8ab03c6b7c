#include "engine/data/chat_labels.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "engine/data/examples.h"
#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

constexpr const char* kSpace = " \t\r\n";
/// What a template that does not know it leaves out without a word.
constexpr const char* kEasilyLost[] = {"reasoning_content", "thinking", "reasoning", "tool_calls"};

[[noreturn]] void refuse(const Value& row, const std::string& message, const std::string& help = "") {
  Error error(ErrorKind::format, message);
  error.at(row.origin.str());
  if (!help.empty()) error.help(help);
  throw error;
}

/// A row as the template sees it, and which of its messages are learned.
struct Conversation {
  Value row;
  std::vector<bool> chosen;
  const Value::List& messages() const { return row.at("messages").as_list(); }
  std::string role(size_t i) const { return messages()[i].get("role", ""); }
};

/// What a message says of itself: `train`, or `weight` as fine-tuning services have it.
std::optional<bool> own_choice(const Value& row, const Value& message, size_t number) {
  if (const Value* train = message.find("train"); train && !train->is_null()) {
    if (!train->is_bool())
      refuse(row, fmt::format("message {}: train is {}, want true or false", number, describe(*train)));
    return train->as_bool();
  }
  if (const Value* weight = message.find("weight"); weight && !weight->is_null()) {
    const bool known = weight->is_number() && (weight->as_number() == 0 || weight->as_number() == 1);
    if (!known) refuse(row, fmt::format("message {}: weight is {}, want 0 or 1", number, describe(*weight)));
    return weight->as_number() == 1;
  }
  return std::nullopt;
}

Value::List messages_of(const Value& row) {
  const Value* given = row.find("messages");
  if (!given) return to_messages(row, detect_form(row)).as_list();
  if (!given->is_list() || given->as_list().empty()) refuse(row, "'messages' is " + describe(*given) + ", want turns");
  for (const Value& message : given->as_list()) {
    const Value* role = message.find("role");
    if (!role || !role->is_string()) refuse(row, "a message is " + describe(message) + ", want a role and content");
  }
  return given->as_list();
}

Conversation conversation_of(const ChatTemplate& chat, const Value& row, const ChatChoice& choice) {
  Conversation out;
  Value::List messages = messages_of(row);
  if (!choice.system.empty() && messages.front().get("role", "") != "system")
    messages.insert(messages.begin(), Value::map({{"role", "system"}, {"content", choice.system}}));
  size_t last = messages.size();
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::optional<bool> own = own_choice(row, messages[i], i + 1);
    const bool role = choice.roles.contains(messages[i].get("role", ""));
    out.chosen.push_back(own.value_or(role));
    if (role) last = i;
    std::erase_if(messages[i].as_map(),
                  [](const auto& entry) { return entry.first == "train" || entry.first == "weight"; });
    for (const char* name : kEasilyLost)
      if (const Value* given = messages[i].find(name);
          given && !given->is_null() && !(given->is_list() && given->as_list().empty()) && !chat.reads(name))
        refuse(row,
               fmt::format("message {} has '{}', which the chat template does not read: it would be lost", i + 1, name),
               "name it as the template does, or remove it from the data");
  }
  if (choice.last_turn)
    for (size_t i = 0; i < messages.size(); ++i) out.chosen[i] = out.chosen[i] && i == last;
  Value::Map variables = choice.variables;
  out.row = Value(std::move(variables));
  for (const auto& [name, value] : row.as_map()) out.row.set(name, value);
  out.row.set("messages", Value(std::move(messages)));
  out.row.set("add_generation_prompt", false);
  out.row.origin = row.origin;
  return out;
}

Rendered rendered(const ChatTemplate& chat, const Value& row) {
  Rendered out = chat.render(row);
  if (!out.error) return out;
  std::string message = "the chat template refuses the row: " + out.error->type + ": " + out.error->message;
  Error error(ErrorKind::format, message);
  error.at(row.origin.str()).context(fmt::format("line {} of {}", out.error->line, chat.file()));
  throw error;
}

/// What add_generation_prompt adds behind the first `count` messages; nullopt where it cannot be told.
std::optional<std::string> generation_prompt(const ChatTemplate& chat, const Value& row, size_t count) {
  Value::List messages = row.at("messages").as_list();
  messages.resize(count);
  Value shorter = row;
  shorter.set("messages", Value(std::move(messages)));
  const Rendered without = chat.render(shorter);
  shorter.set("add_generation_prompt", true);
  const Rendered with = chat.render(shorter);
  if (without.error || with.error || !with.text.starts_with(without.text)) return std::nullopt;
  return with.text.substr(without.text.size());
}

size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(a.size(), b.size())), b.begin()).first -
      a.begin());
}

/// The bytes that the template printed for a message, as one text a piece.
std::vector<TextRange> pieces_of(const Rendered& text, size_t message) {
  std::vector<TextRange> out;
  for (const MessagePiece& piece : text.pieces)
    if (piece.message == static_cast<int>(message)) out.push_back({piece.begin, piece.end});
  return out;
}

class Marker {
 public:
  Marker(const ChatTemplate& chat, const Tokenizer& tokenizer, const Conversation& conversation)
      : chat_(chat), tokenizer_(tokenizer), conversation_(conversation), full_(rendered(chat, conversation.row)) {}

  ChatText run() {
    ChatText out;
    if (chat_.has_generation_blocks())
      out.trained = marked();
    else
      out.trained = printed();
    out.text = std::move(full_.text);
    return out;
  }

  const Rendered& full() const { return full_; }

 private:
  const Value& row() const { return conversation_.row; }

  /// The message that was being printed, or the last one before: an end token may stand behind the loop.
  int message_at(size_t place) const {
    int message = -1;
    for (const MessagePiece& piece : full_.pieces)
      if (piece.begin <= place && piece.message >= 0) message = piece.message;
    return message;
  }

  /// {% generation %} blocks of the chosen messages.
  std::vector<TextRange> marked() const {
    if (!full_.generations_exact)
      refuse(row(),
             "a {% generation %} block of the chat template stands in a macro or a set block, and its text is printed "
             "elsewhere");
    std::vector<TextRange> out;
    std::vector<bool> found(conversation_.chosen.size());
    for (const TextRange& block : full_.generations) {
      if (block.begin == block.end) continue;
      const int message = message_at(block.begin);
      if (message < 0) refuse(row(), "a {% generation %} block of the chat template belongs to no message");
      found[static_cast<size_t>(message)] = true;
      if (conversation_.chosen[static_cast<size_t>(message)]) out.push_back(block);
    }
    for (size_t i = 0; i < found.size(); ++i)
      if (conversation_.chosen[i] && !found[i] && conversation_.role(i) != "assistant")
        refuse(row(),
               fmt::format("message {} ({}) shall be learned, and the chat template marks no tokens of it", i + 1,
                           conversation_.role(i)),
               "its {% generation %} blocks say what may be learned; choose format = \"chatml\" or a template without "
               "them");
    return out;
  }

  std::vector<TextRange> printed() {
    std::vector<TextRange> out;
    for (size_t i = 0; i < conversation_.chosen.size(); ++i) {
      if (!conversation_.chosen[i]) continue;
      std::vector<TextRange> pieces = pieces_of(full_, i);
      if (pieces.empty())
        refuse(row(),
               fmt::format(
                   "message {} ({}) shall be learned, and the chat template does not print it in a turn of its own",
                   i + 1, conversation_.role(i)),
               "choose format = \"chatml\", or a template with {% generation %} blocks");
      pieces.front().begin += head_size(i, pieces.front());
      settle_end(pieces.back());
      for (const TextRange& piece : pieces)
        if (piece.begin < piece.end) out.push_back(piece);
    }
    check_foreign_text(out);
    return out;
  }

  std::string_view text_of(const TextRange& range) const {
    return std::string_view(full_.text).substr(range.begin, range.end - range.begin);
  }

  /// How much of a message's text stands before what the model would write.
  size_t head_size(size_t message, const TextRange& piece) {
    const std::string_view text = text_of(piece);
    if (conversation_.role(message) != "assistant") return probed_head(message, text);
    if (!prompt_) prompt_ = generation_prompt(chat_, row(), conversation_.messages().size()).value_or("");
    if (const size_t head = head_like(text, *prompt_, true); head > 0) return head;
    const std::string own = message > 0 ? generation_prompt(chat_, row(), message).value_or(*prompt_) : *prompt_;
    if (own.find_first_not_of(kSpace) == std::string::npos) return probed_head(message, text);
    if (const size_t head = head_like(text, own, true); head > 0) return head;
    if (std::string_view(full_.text).substr(0, piece.begin).ends_with(own)) return 0;
    if (const size_t head = head_like(text, own, false); head > 0) return head;
    // what stands before any answer, where the prompt begins with it
    if (const size_t head = probed_head(message, text); head_like(own, text.substr(0, head), true) > 0) return head;
    refuse(row(),
           fmt::format("message {}: the chat template begins an assistant's turn otherwise than "
                       "add_generation_prompt does, and it cannot be told where the answer begins",
                       message + 1),
           "choose format = \"chatml\", or a template with {% generation %} blocks");
  }

  /// The part of `text` that a prompt spells, white space before either left out of the comparison: the whole prompt,
  /// or as much as ends where a special token or a line does. 0 where there is none.
  size_t head_like(std::string_view text, std::string_view prompt, bool whole) const {
    const size_t skipped = text.find_first_not_of(kSpace), from = prompt.find_first_not_of(kSpace);
    if (skipped == std::string_view::npos || from == std::string_view::npos) return 0;
    prompt.remove_prefix(from);
    const size_t same = common_prefix(text.substr(skipped), prompt);
    if (same == prompt.size()) return skipped + same;
    const size_t head = whole ? 0 : boundary(text.substr(skipped), same);
    return head > 0 ? skipped + head : 0;
  }

  /// Where a template has no generation prompt: what it prints before a message whatever the message says.
  size_t probed_head(size_t message, std::string_view text) const {
    std::string heads[2];
    for (int k = 0; k < 2; ++k) {
      const Value probe = Value::map({{"role", conversation_.role(message)}, {"content", k == 0 ? "x" : "Q"}});
      std::optional<std::string> made = probed(message, probe);
      if (!made)
        refuse(row(), fmt::format("message {}: it cannot be told where its text begins: the chat template has no "
                                  "generation prompt, and takes no other text in its place",
                                  message + 1));
      heads[k] = std::move(*made);
    }
    const size_t head = common_prefix(heads[0], heads[1]), same = common_prefix(text, heads[0].substr(0, head));
    return same == head ? head : boundary(text, same);
  }

  /// What the template prints for a message put in another's place; or, where that breaks the conversation (its tool
  /// results would answer nothing), as the answer to a question.
  std::optional<std::string> probed(size_t message, const Value& probe) const {
    Value::List in_place = conversation_.messages();
    in_place[message] = probe;
    const Value::List alone{Value::map({{"role", "user"}, {"content", "q"}}), probe};
    for (const auto& [messages, at] : {std::pair{in_place, message}, std::pair{alone, size_t{1}}}) {
      Value changed = row();
      changed.set("messages", Value(messages));
      const Rendered made = chat_.render(changed);
      const std::vector<TextRange> pieces = made.error ? std::vector<TextRange>() : pieces_of(made, at);
      if (!pieces.empty()) return made.text.substr(pieces[0].begin, pieces[0].end - pieces[0].begin);
    }
    return std::nullopt;
  }

  /// The last place in text[0, most] where a token that stands alone, or a line, ends.
  size_t boundary(std::string_view text, size_t most) const {
    size_t best = 0;
    if (const size_t line = text.substr(0, most).rfind('\n'); line != std::string_view::npos) best = line + 1;
    for (const Tokenizer::Token& token : tokenizer_.encode_with_offsets(text, false))
      if (token.end <= most && token.end > token.begin && tokenizer_.is_special(token.id))
        best = std::max<size_t>(best, token.end);
    return best;
  }

  /// Ends a turn at the token that ends it: white space behind it belongs to the next turn, and a stop token that the
  /// template prints right behind it (after its loop, say) belongs to it.
  void settle_end(TextRange& piece) const {
    const std::string_view text = text_of(piece);
    size_t end = 0;
    for (const Tokenizer::Token& token : tokenizer_.encode_with_offsets(text, false))
      if (token.end > token.begin && tokenizer_.is_special(token.id)) end = token.end;
    if (end > 0 && text.find_first_not_of(kSpace, end) == std::string_view::npos) {
      piece.end = piece.begin + end;
      return;
    }
    for (const int32_t id : tokenizer_.stop_ids()) {
      const std::string stop = tokenizer_.decode(std::vector<int32_t>{id}, false);
      if (!stop.empty() && std::string_view(full_.text).substr(piece.end).starts_with(stop)) {
        piece.end += stop.size();
        return;
      }
    }
  }

  /// Renders once more with a mark in every message that is not learned, and looks for it in what is.
  void check_foreign_text(const std::vector<TextRange>& trained) const {
    static const std::string kMark = "\xEF\xA3\xBF";  // U+F8FF, for private use
    if (trained.empty() || full_.text.find(kMark) != std::string::npos) return;
    Value::List messages = conversation_.messages();
    for (size_t i = 0; i < messages.size(); ++i)
      if (Value* content = messages[i].find("content");
          content && content->is_string() && !conversation_.chosen[i] && !content->as_string().empty())
        *content = Value(content->as_string() + kMark);
    Value changed = row();
    changed.set("messages", Value(std::move(messages)));
    const Rendered made = chat_.render(changed);
    if (made.error) return;  // the template looks into the text: it cannot be marked
    for (const MessagePiece& piece : made.pieces)
      if (piece.message >= 0 && conversation_.chosen[static_cast<size_t>(piece.message)] &&
          made.text.substr(piece.begin, piece.end - piece.begin).find(kMark) != std::string::npos)
        refuse(row(),
               fmt::format(
                   "message {}: the chat template prints another message's text in its turn, which would be learned",
                   piece.message + 1),
               "choose format = \"chatml\", or a template with {% generation %} blocks");
  }

  const ChatTemplate& chat_;
  const Tokenizer& tokenizer_;
  const Conversation& conversation_;
  Rendered full_;
  std::optional<std::string> prompt_;
};

}  // namespace

ChatText chat_text(const ChatTemplate& chat, const Tokenizer& tokenizer, const Value& row, const ChatChoice& choice) {
  const Conversation conversation = conversation_of(chat, row, choice);
  if (choice.everything) {
    Rendered made = rendered(chat, conversation.row);
    const size_t size = made.text.size();
    return {std::move(made.text), {{0, size}}};
  }
  return Marker(chat, tokenizer, conversation).run();
}

ChatTokens chat_tokens(const ChatTemplate& chat, const Tokenizer& tokenizer, const Value& row,
                       const ChatChoice& choice) {
  const ChatText text = chat_text(chat, tokenizer, row, choice);
  ChatTokens out;
  size_t range = 0;
  for (const Tokenizer::Token& token : tokenizer.encode_with_offsets(text.text, false)) {
    while (range < text.trained.size() && text.trained[range].end <= token.begin) ++range;
    const bool trained =
        range < text.trained.size() && token.end > text.trained[range].begin && token.end > token.begin;
    out.ids.push_back(token.id);
    out.labels.push_back(trained ? token.id : kIgnoreLabel);
  }
  return out;
}

}  // namespace ft
