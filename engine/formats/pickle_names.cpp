#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "engine/formats/pickle.h"

namespace ft {
namespace {

struct Name {
  std::string_view name;
  PickleRole role;
};

// Everything that a checkpoint of weights may name, sorted. Nothing of it is ever imported or run here.
constexpr auto kNames = std::to_array<Name>({
    {"__builtin__.dict", PickleRole::dict},  // Python 2's spelling, which protocol 2 keeps
    {"__builtin__.list", PickleRole::constant},
    {"__builtin__.set", PickleRole::set},
    {"_codecs.encode", PickleRole::call},  // how protocol 2 writes bytes
    {"argparse.Namespace", PickleRole::call},
    {"builtins.dict", PickleRole::dict},
    {"builtins.frozenset", PickleRole::set},
    {"builtins.list", PickleRole::constant},
    {"builtins.set", PickleRole::set},
    {"collections.Counter", PickleRole::dict},
    {"collections.OrderedDict", PickleRole::dict},
    {"collections.defaultdict", PickleRole::dict},
    {"datetime.timedelta", PickleRole::call},
    {"deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler", PickleRole::call},
    {"deepspeed.runtime.fp16.loss_scaler.LossScaler", PickleRole::call},
    {"deepspeed.runtime.zero.config.ZeroStageEnum", PickleRole::call},
    {"deepspeed.utils.tensor_fragment.fragment_address", PickleRole::call},
    {"numpy._core.multiarray._reconstruct", PickleRole::call},
    {"numpy._core.multiarray.scalar", PickleRole::call},
    {"numpy.core.multiarray._reconstruct", PickleRole::call},
    {"numpy.core.multiarray.scalar", PickleRole::call},
    {"numpy.dtype", PickleRole::call},
    {"numpy.ndarray", PickleRole::constant},
    {"pathlib.PosixPath", PickleRole::call},
    {"pathlib._local.PosixPath", PickleRole::call},
    {"torch.BFloat16Storage", PickleRole::constant},
    {"torch.BoolStorage", PickleRole::constant},
    {"torch.ByteStorage", PickleRole::constant},
    {"torch.CharStorage", PickleRole::constant},
    {"torch.DoubleStorage", PickleRole::constant},
    {"torch.FloatStorage", PickleRole::constant},
    {"torch.HalfStorage", PickleRole::constant},
    {"torch.IntStorage", PickleRole::constant},
    {"torch.LongStorage", PickleRole::constant},
    {"torch.ShortStorage", PickleRole::constant},
    {"torch.Size", PickleRole::call},
    {"torch.Tensor", PickleRole::constant},
    {"torch._tensor._rebuild_from_type_v2", PickleRole::call},
    {"torch._utils._rebuild_parameter", PickleRole::call},
    {"torch._utils._rebuild_parameter_with_state", PickleRole::call},
    {"torch._utils._rebuild_tensor", PickleRole::call},
    {"torch._utils._rebuild_tensor_v2", PickleRole::call},
    {"torch._utils._rebuild_tensor_v3", PickleRole::call},
    {"torch.bfloat16", PickleRole::constant},
    {"torch.bool", PickleRole::constant},
    {"torch.device", PickleRole::call},
    {"torch.distributed.checkpoint.filesystem._StorageInfo", PickleRole::call},
    {"torch.distributed.checkpoint.metadata.BytesStorageMetadata", PickleRole::call},
    {"torch.distributed.checkpoint.metadata.ChunkStorageMetadata", PickleRole::call},
    {"torch.distributed.checkpoint.metadata.Metadata", PickleRole::call},
    {"torch.distributed.checkpoint.metadata.MetadataIndex", PickleRole::call},
    {"torch.distributed.checkpoint.metadata.StorageMeta", PickleRole::call},
    {"torch.distributed.checkpoint.metadata.TensorProperties", PickleRole::call},
    {"torch.distributed.checkpoint.metadata.TensorStorageMetadata", PickleRole::call},
    {"torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING", PickleRole::call},
    {"torch.float16", PickleRole::constant},
    {"torch.float32", PickleRole::constant},
    {"torch.float64", PickleRole::constant},
    {"torch.int16", PickleRole::constant},
    {"torch.int32", PickleRole::constant},
    {"torch.int64", PickleRole::constant},
    {"torch.int8", PickleRole::constant},
    {"torch.nn.parameter.Parameter", PickleRole::constant},
    {"torch.serialization._get_layout", PickleRole::call},
    {"torch.storage.UntypedStorage", PickleRole::constant},
    {"torch.uint8", PickleRole::constant},
});
static_assert(std::is_sorted(kNames.begin(), kNames.end(),
                             [](const Name& a, const Name& b) { return a.name < b.name; }));

}  // namespace

std::pair<PickleRole, std::string_view> pickle_role(std::string_view module, std::string_view name) {
  const std::string full = std::string(module) + "." + std::string(name);
  const auto found = std::lower_bound(kNames.begin(), kNames.end(), full,
                                      [](const Name& a, const std::string& b) { return a.name < b; });
  if (found == kNames.end() || found->name != full) return {PickleRole::refused, {}};
  return {found->role, found->name};
}

}  // namespace ft
