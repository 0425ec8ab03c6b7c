#include "engine/train/out_of_memory.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "engine/device/figures.h"
#include "engine/device/memory.h"

namespace ft {
namespace {

constexpr size_t kKindsShown = 4;

// The number that follows `phrase`, with its unit: "5368709120 bytes" of the host's allocator, "2.00 GiB" of CUDA's.
std::optional<double> bytes_after(const std::string& text, const std::string& phrase) {
  const size_t at = text.find(phrase);
  if (at == std::string::npos) return std::nullopt;
  char* end = nullptr;
  const char* begin = text.c_str() + at + phrase.size();
  const double number = std::strtod(begin, &end);
  if (end == begin) return std::nullopt;
  const std::string unit(end, std::min<size_t>(4, text.c_str() + text.size() - end));
  constexpr double kKib = 1024;
  if (unit == " GiB") return number * kKib * kKib * kKib;
  if (unit == " MiB") return number * kKib * kKib;
  if (unit == " KiB") return number * kKib;
  return number;
}

std::string bytes_or(const std::optional<double>& bytes) { return bytes ? bytes_text(*bytes) : "an unknown amount"; }

// @param held bytes in all, of what is out
std::string biggest(std::vector<std::pair<std::string, int64_t>> kinds, int64_t held) {
  for (const auto& [name, bytes] : kinds) held -= bytes;
  if (held > 0) kinds.emplace_back("activations and the rest", held);
  std::erase_if(kinds, [](const auto& kind) { return kind.second <= 0; });
  std::sort(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  if (kinds.size() > kKindsShown) kinds.resize(kKindsShown);
  std::string text;
  for (const auto& [name, bytes] : kinds)
    text += (text.empty() ? "" : ", ") + name + " " + bytes_text(static_cast<double>(bytes));
  return text;
}

}  // namespace

std::optional<Error> out_of_memory(const std::exception& exception, const MemoryUse& use) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&exception);
  const std::string text = torch_error ? torch_error->what_without_backtrace() : exception.what();
  const bool device = dynamic_cast<const c10::OutOfMemoryError*>(&exception) != nullptr;
  const bool host = !device && (dynamic_cast<const std::bad_alloc*>(&exception) ||
                                text.find("can't allocate memory") != std::string::npos);
  if (!device && !host) return std::nullopt;
  const auto wanted = bytes_after(text, device ? "Tried to allocate " : "you tried to allocate ");
  const auto available =
      device ? bytes_after(text, "of which ") : std::optional(static_cast<double>(available_host_bytes()));
  std::string said = std::string(device ? "device" : "host") + " memory is out: wanted " + bytes_or(wanted) + ", " +
                     bytes_or(available) + " free";
  const std::string kinds = biggest(use.by_kind, device ? use.on_device : read_host_memory().anonymous);
  if (!kinds.empty()) said += "; held: " + kinds;
  Error error(ErrorKind::memory, said);
  error.key(use.unit).help(memory_advice());
  return error;
}

}  // namespace ft
