#include "engine/parallel/mapped_range.h"

#include <ATen/ops/from_blob.h>

#include <system_error>

#include "engine/error/error.h"
#include "engine/formats/file.h"

namespace ft {

at::Tensor MappedRange::view(at::ScalarType dtype) const {
  void* data = const_cast<std::byte*>(map_->bytes().data()) + place_.offset;  // tensors know no const
  const auto count = static_cast<int64_t>(place_.bytes / c10::elementSize(dtype));
  return at::from_blob(
      data, {count}, [map = map_](void*) mutable { map.reset(); }, at::TensorOptions(dtype));
}

void MappedRange::check() {
  if (std::exchange(checked_, true)) return;
  if (checksum(map_->bytes().subspan(place_.offset, place_.bytes)) == place_.checksum) return;
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
  throw Error(ErrorKind::format, "the weight cache is damaged: " + std::to_string(place_.bytes) + " bytes from " +
                                     std::to_string(place_.offset) + " are not what was written")
      .at(path_.string())
      .help("start again, and it is made anew; if it comes back, look at the disk");
}

}  // namespace ft
