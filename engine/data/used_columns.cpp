#include "engine/data/used_columns.h"

#include <algorithm>
#include <set>

#include "engine/template/chat_template.h"

namespace ft {
namespace {

std::set<std::string> fields_of(const Value& split) {
  const std::string kind = split.get("kind", "");
  if (kind == "tokenized") return {"input_ids", "labels", "attention_mask"};
  if (kind == "segments") return {"segments"};
  if (kind == "completion") return {split.get("field", "text")};
  if (kind == "alpaca")
    return {"instruction", "question", "query",  "prompt",   "input",
            "system",      "output",   "answer", "response", "completion"};
  if (kind == "preference")
    return {"prompt", "chosen", "rejected", "system", "prompt_ids", "chosen_ids", "rejected_ids", "messages", "tools"};
  // Of a conversation also what tells its form (detect_form), and what would be lost if it were not asked for.
  return {"messages",    "conversations", "conversation", "system", "tools",    "documents",
          "instruction", "input",         "output",       "text",   "segments", "input_ids"};
}

/// Whether a text in the plan is the name, or a format that has it.
bool names(const Value& plan, const std::string& name) {
  const auto told = [&](const Value& value) { return names(value, name); };
  if (plan.is_string()) return plan.as_string() == name || plan.as_string().find("{" + name + "}") != std::string::npos;
  if (plan.is_list()) return std::any_of(plan.as_list().begin(), plan.as_list().end(), told);
  if (!plan.is_map()) return false;
  return std::any_of(plan.as_map().begin(), plan.as_map().end(), [&](const auto& entry) { return told(entry.second); });
}

}  // namespace

UsesColumn used_columns(const Value& split, std::shared_ptr<const ChatTemplate> chat) {
  return [split, chat = std::move(chat), fields = fields_of(split)](const std::string& name) {
    return fields.contains(name) || names(split, name) || (chat && chat->reads(name));
  };
}

}  // namespace ft
