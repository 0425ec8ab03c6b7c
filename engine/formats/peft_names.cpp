#include "engine/formats/peft_names.h"

namespace ft {

std::string plain_name(std::string name) {
  if (!name.starts_with(kPeftPrefix)) return name;
  name.erase(0, kPeftPrefix.size());
  for (const std::string_view part : {".base_layer", ".modules_to_save", ".default"})
    if (const size_t at = (name + ".").find(std::string(part) + "."); at != std::string::npos)
      name.erase(at, part.size());
  constexpr std::string_view kMagnitude = ".lora_magnitude_vector";
  if (const size_t at = name.find(kMagnitude); at != std::string::npos) name.resize(at + kMagnitude.size());
  return name;
}

bool is_lora_name(std::string_view name) { return name.find(".lora_") != std::string_view::npos; }

bool is_original_module(std::string_view name) { return name.find(".original_module.") != std::string_view::npos; }

}  // namespace ft
