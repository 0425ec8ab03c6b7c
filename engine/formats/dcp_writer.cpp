#include "engine/formats/dcp_writer.h"

#include <algorithm>
#include <utility>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr const char* kMetadataModule = "torch.distributed.checkpoint.metadata";

// Pickle opcodes of protocol 2, without a memo (Lib/pickletools.py).
class PickleText {
 public:
  std::string text = std::string("\x80\x02", 2);

  PickleText& raw(std::string_view opcodes) { return text += opcodes, *this; }
  PickleText& global(std::string_view module, std::string_view name) {
    text += 'c';
    text.append(module).append("\n").append(name).append("\n");
    return *this;
  }
  PickleText& string(std::string_view value) {
    text += 'X';
    little(static_cast<uint32_t>(value.size()));
    text += value;
    return *this;
  }
  PickleText& integer(uint64_t value) {
    text += "\x8a\x08";  // LONG1, eight bytes: sizes stay below 2^63
    little(value);
    return *this;
  }
  PickleText& sizes(const std::vector<int64_t>& values) {
    global("torch", "Size").raw("((");
    for (const int64_t value : values) integer(static_cast<uint64_t>(value));
    return raw("ttR");
  }
  PickleText& offsets(size_t dims) { return sizes(std::vector<int64_t>(dims, 0)); }
  // An object whose attributes follow, up to end_object.
  PickleText& object(std::string_view module, std::string_view name) { return global(module, name).raw(")\x81}("); }
  PickleText& end_object() { return raw("ub"); }

 private:
  template <typename T>
  void little(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
};

const char* storage_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "FloatStorage";
    case DType::f16:
      return "HalfStorage";
    case DType::bf16:
      return "BFloat16Storage";
    case DType::f64:
      return "DoubleStorage";
    case DType::u8:
      return "ByteStorage";
    case DType::i8:
      return "CharStorage";
    case DType::i16:
      return "ShortStorage";
    case DType::i32:
      return "IntStorage";
    case DType::i64:
      return "LongStorage";
    case DType::boolean:
      return "BoolStorage";
  }
  return "";
}

int64_t count_of(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

// data.pkl of one tensor.
std::string tensor_pickle(DType dtype, const std::vector<int64_t>& shape) {
  PickleText pickle;
  pickle.global("torch._utils", "_rebuild_tensor_v2").raw("((").string("storage").global("torch", storage_name(dtype));
  pickle.string("0").string("cpu").integer(static_cast<uint64_t>(count_of(shape))).raw("tQ").integer(0).raw("(");
  for (const int64_t dim : shape) pickle.integer(static_cast<uint64_t>(dim));
  pickle.raw("t(");
  std::vector<int64_t> stride(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) stride[d - 1] = stride[d] * std::max<int64_t>(shape[d], 1);
  for (const int64_t step : stride) pickle.integer(static_cast<uint64_t>(step));
  return pickle.raw("t\x89").global("collections", "OrderedDict").raw(")RtR.").text;
}

}  // namespace

DcpWriter::DcpWriter(std::filesystem::path directory, std::string group)
    : directory_(std::move(directory)), group_(std::move(group)) {}

void DcpWriter::begin_file() {
  if (file_) end_file();
  files_.push_back("__0_" + std::to_string(files_.size()) + ".distcp");
  file_ = std::make_unique<OutputFile>(directory_ / files_.back());
}

void DcpWriter::end_file() {
  file_->commit();
  file_.reset();
}

void DcpWriter::begin_tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
  if (!file_) begin_file();
  tensors_.push_back({name, files_.back(), dtype, shape, file_->size(), 0});
  archive_ = ZipStream();
  file_->write(archive_.member("archive/data.pkl", tensor_pickle(dtype, shape)));
  file_->write(archive_.member("archive/byteorder", "little"));
  constexpr uint64_t kAlign = 64;  // torch/csrc/inline_container: kFieldAlignment
  file_->write(
      archive_.begin_member("archive/data/0", static_cast<uint64_t>(count_of(shape)) * byte_size(dtype), kAlign));
}

void DcpWriter::append(std::span<const std::byte> bytes) {
  archive_.wrote(bytes);
  file_->write(bytes);
}

void DcpWriter::end_tensor() {
  file_->write(archive_.end_member());
  file_->write(archive_.member("archive/version", "3\n"));
  file_->write(archive_.finish());
  tensors_.back().length = file_->size() - tensors_.back().offset;
}

std::vector<std::string> DcpWriter::finish() {
  if (!file_) begin_file();
  end_file();
  write_text(directory_ / ".metadata", metadata());
  std::vector<std::string> names = files_;
  names.push_back(".metadata");
  return names;
}

// Metadata{state_dict_metadata, planner_data, storage_data, storage_meta, version}: which box of which tensor there is,
// the path of each key, and where each box lies.
std::string DcpWriter::metadata() const {
  PickleText pickle;
  pickle.object(kMetadataModule, "Metadata").string("state_dict_metadata").raw("}(");
  for (const Stored& tensor : tensors_) {
    pickle.string(group_ + "." + tensor.name).object(kMetadataModule, "TensorStorageMetadata");
    pickle.string("properties").global(kMetadataModule, "TensorProperties").raw(")\x81(");
    pickle.global("torch", torch_name(tensor.dtype)).global("torch.serialization", "_get_layout");
    pickle.string("torch.strided").raw("\x85R\x89").global(kMetadataModule, "_MEM_FORMAT_ENCODING").integer(0);
    pickle.raw("\x85R\x89tb").string("size").sizes(tensor.shape).string("chunks").raw("]");
    pickle.object(kMetadataModule, "ChunkStorageMetadata").string("offsets").offsets(tensor.shape.size());
    pickle.string("sizes").sizes(tensor.shape).end_object().raw("a").end_object();
  }
  pickle.raw("u").string("planner_data").raw("}(");
  for (const Stored& tensor : tensors_)
    pickle.string(group_ + "." + tensor.name).raw("(").string(group_).string(tensor.name).raw("t");
  pickle.raw("u").string("storage_data").raw("}(");
  for (const Stored& tensor : tensors_) {
    pickle.object(kMetadataModule, "MetadataIndex").string("fqn").string(group_ + "." + tensor.name).string("offset");
    pickle.offsets(tensor.shape.size()).string("index").integer(0).end_object();
    pickle.object("torch.distributed.checkpoint.filesystem", "_StorageInfo")
        .string("relative_path")
        .string(tensor.file);
    pickle.string("offset").integer(tensor.offset).string("length").integer(tensor.length);
    pickle.string("transform_descriptors").raw("N").end_object();
  }
  return pickle.raw("u").string("storage_meta").raw("N").string("version").string("1.0.0").end_object().raw(".").text;
}

}  // namespace ft
