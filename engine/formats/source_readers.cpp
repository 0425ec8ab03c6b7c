#include "engine/formats/source_readers.h"

#include <algorithm>
#include <set>

#include "engine/error/error.h"

namespace ft {

namespace fs = std::filesystem;

std::string unwrapped_name(std::string name) {
  for (const std::string part : {"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."})
    for (size_t at = name.find(part); at != std::string::npos; at = name.find(part, at))
      if (at == 0 || name[at - 1] == '.')
        name.erase(at, part.size());
      else
        at += part.size();
  while (name.starts_with("module.")) name.erase(0, 7);
  return name;
}

std::vector<std::string> model_names(std::vector<std::vector<std::string>> paths) {
  for (;;) {
    std::set<std::string> tops;
    bool nested = true;
    for (const auto& path : paths) {
      if (path.empty()) continue;
      tops.insert(path[0]);
      nested = nested && path.size() > 1;
    }
    if (!nested || tops.empty()) break;
    std::string top = *tops.begin();
    if (tops.size() > 1) top = tops.contains("model") ? "model" : tops.contains("module") ? "module" : "";
    if (top.empty()) break;
    for (auto& path : paths)
      if (!path.empty() && path[0] == top)
        path.erase(path.begin());
      else
        path.clear();
  }
  std::vector<std::string> names;
  for (const auto& path : paths) {
    std::string name;
    for (const std::string& part : path) name += (name.empty() ? "" : ".") + part;
    names.push_back(unwrapped_name(std::move(name)));
  }
  return names;
}

SourceTensor whole_tensor(std::string name, const TorchTensor& tensor, size_t file) {
  SourceTensor result{.name = std::move(name), .dtype = tensor.dtype, .shape = tensor.shape};
  result.pieces.push_back(
      {std::vector<int64_t>(tensor.shape.size(), 0), tensor.shape, tensor.stride, file, tensor.offset});
  return result;
}

void add_steps(TensorSourceBuilder& builder, size_t file, const TorchFile& archive, const PickleNode& node) {
  const std::string name = builder.file(file).path().filename().string();
  if (node.is(PickleNode::Kind::integer)) return builder.add_steps(name, static_cast<double>(node.integer));
  const std::optional<TorchTensor> number = archive.tensor(node);
  if (!number || number->numel() != 1)
    throw Error(ErrorKind::format, "counts its steps by " + describe(node)).at(builder.file(file).path().string());
  builder.add_steps(name, builder.number(file, number->dtype, number->offset));
}

std::vector<std::string> optimizer_names(const std::vector<std::vector<std::string>>& paths) {
  constexpr std::string_view kState = "state.";
  std::vector<std::string> names;
  for (const auto& path : paths) {
    std::string name;
    for (const std::string& part : path) name += (name.empty() ? "" : ".") + part;
    // Keys that were flattened before they were saved have it all in one part.
    size_t begin = name.starts_with(kState) ? kState.size() : std::string::npos;
    for (const std::string_view owner : {"optimizer.state.", "optim.state."})
      if (const size_t at = name.find(owner); at != std::string::npos && (at == 0 || name[at - 1] == '.'))
        begin = std::min(begin, at + owner.size());
    names.push_back(begin == std::string::npos ? "" : unwrapped_name(name.substr(begin)));
  }
  return names;
}

SourceKind source_kind(const fs::path& path) {
  if (is_dcp(path)) return SourceKind::dcp;
  if (is_zero(path)) return SourceKind::zero;
  if (is_sharded_safetensors(path)) return SourceKind::sharded_safetensors;
  if (is_pytorch_bin(path)) return SourceKind::pytorch_bin;
  return SourceKind::none;
}

std::optional<fs::path> find_tensor_source(const fs::path& path) {
  if (source_kind(path) != SourceKind::none) return path;
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& folder : fs::directory_iterator(path, ignored))
    if (folder.path().filename().string().starts_with("pytorch_model_fsdp_") &&
        source_kind(folder.path()) != SourceKind::none)
      found.push_back(folder.path());
  return found.size() == 1 ? std::optional(found[0]) : std::nullopt;
}

TensorSource open_tensor_source(const fs::path& path) {
  switch (source_kind(path)) {
    case SourceKind::dcp:
      return open_dcp(path);
    case SourceKind::zero:
      return open_zero(path);
    case SourceKind::sharded_safetensors:
      return open_sharded_safetensors(path);
    case SourceKind::pytorch_bin:
      return open_pytorch_bin(path);
    case SourceKind::none:
      break;
  }
  throw Error(ErrorKind::config, "holds no checkpoint of a kind that is read here").at(path.string());
}

std::optional<TensorSource> open_optimizer_source(const fs::path& path) {
  std::optional<TensorSource> source;
  if (fs::is_regular_file(path))
    source = open_bin_optimizer(path);
  else if (is_dcp(path))
    source = open_dcp(path, SourcePart::optimizer);
  else if (is_zero(path))
    source = open_zero(path, SourcePart::optimizer);
  if (source && source->tensors().empty()) source.reset();
  return source;
}

}  // namespace ft
