#include "engine/schema/parallel_schemas.h"

namespace ft {
namespace {

Option ranks_option(std::string key, std::string doc) {
  return {.key = std::move(key), .kinds = kInteger, .doc = std::move(doc), .at_least = 1, .at_most = 1 << 16};
}

}  // namespace

Schema mesh_schema() {
  return {.name = "mesh",
          .doc = "The ranks as a grid: replicate × shard × context × tensor, the last one moving fastest.",
          .options = {ranks_option("replicate", "groups that each hold the whole state; default 1"),
                      ranks_option("shard",
                                   "ranks that a group's state is split over, each with rows of its own; default: what "
                                   "the other axes leave of the ranks"),
                      ranks_option("context", "ranks that share the positions of a row; default 1"),
                      ranks_option("tensor", "ranks that share each layer's matrices; default 1")}};
}

Schema fsdp2_schema() {
  return {
      .name = "fsdp2",
      .doc = "Parameters, gradients and optimizer state split over all ranks.",
      .options =
          {{.key = "profile", .kinds = kString, .doc = "the file of configs/profiles that this block was read from"},
           {.key = "fsdp_version", .kinds = kInteger, .doc = "2 is the only one", .fallback = 2},
           {.key = "mesh",
            .kinds = kBlock,
            .doc = "ranks along each axis; default: all on the shard axis",
            .schemas = {"mesh"}},
           ranks_option("dp_replicate_size", "another name of mesh.replicate"),
           ranks_option("dp_shard_size", "another name of mesh.shard"),
           ranks_option("context_parallel_size", "another name of mesh.context"),
           ranks_option("tensor_parallel_size", "another name of mesh.tensor"),
           {.key = "context_method",
            .kinds = kString,
            .doc = "how attention reaches the tokens of a row that other ranks of the context axis hold; ring: "
                   "keys and values go round; ulysses: tokens are exchanged for heads, of which every rank "
                   "needs as many",
            .fallback = "ring",
            .allowed = {"ring", "ulysses"}},
           {.key = "zero_stage",
            .kinds = kInteger,
            .doc = "what is split over the ranks of shard × context: 0 nothing (DDP), 1 optimizer state and "
                   "masters, 2 gradients too, 3 parameters too",
            .fallback = 3,
            .at_least = 0,
            .at_most = 3},
           {.key = "reshard_after_forward",
            .kinds = kBoolean | kInteger,
            .doc = "of zero_stage 3: release a unit's parameters between forward and backward; false keeps "
                   "them: less traffic, the whole model in memory; a number keeps them split over so many "
                   "neighbouring ranks",
            .fallback = true},
           {.key = "auto_wrap_policy",
            .kinds = kString,
            .doc = "what is gathered, used and released together: each of the model's layers, the embedding and the "
                   "head by themselves; units joined until they have min_num_params; or the whole model",
            .fallback = "TRANSFORMER_BASED_WRAP",
            .allowed = {"TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP"}},
           {.key = "transformer_layer_cls_to_wrap",
            .kinds = kString | kList,
            .doc = "the class of the layers to wrap, as transformers names it: Qwen3DecoderLayer; it must be the "
                   "model's; default: the model's own layers"},
           {.key = "min_num_params",
            .kinds = kInteger,
            .doc = "of SIZE_BASED_WRAP: the fewest parameters that are gathered together",
            .fallback = 100'000'000,
            .at_least = 1},
           {.key = "offload_params",
            .kinds = kBoolean,
            .doc = "keep each rank's range of parameters, gradients and optimizer state in host memory of its own, "
                   "copied from and to as units are gathered and reduced; on a CPU too",
            .fallback = false},
           {.key = "cpu_offload_pin_memory",
            .kinds = kBoolean,
            .doc = "with offload_params: page-lock that memory; false lets the system swap it out",
            .fallback = true},
           {.key = "optimizer_state",
            .kinds = kString,
            .doc =
                "where it is kept: with_params, on the device or with offload_params on the host; paged: it and the "
                "fp32 "
                "masters in nameless files, which the system writes out when memory is short, so that they may exceed "
                "RAM, at the disk's speed; on a GPU only with offload_params",
            .fallback = "with_params",
            .allowed = {"with_params", "paged"}},
           {.key = "page_directory",
            .kinds = kString,
            .doc = "of optimizer_state = \"paged\": a directory on a local disk; default: save.dir"},
           {.key = "frozen_weights",
            .kinds = kString,
            .doc =
                "split: over the ranks, gathered by a collective; mmap: whole, in a file on each machine's disk that "
                "its ranks map and share, made at the first run; memory need not hold it",
            .fallback = "split",
            .allowed = {"split", "mmap"}},
           {.key = "weight_cache",
            .kinds = kString,
            .doc = "of frozen_weights = \"mmap\": the directory of that file, on a local disk; default: "
                   "ftengine/weights in $XDG_CACHE_HOME or ~/.cache"},
           {.key = "prefetch",
            .kinds = kBoolean,
            .doc = "gather the next unit while this one runs: one unit's buffer more",
            .fallback = true},
           {.key = "param_dtype",
            .kinds = kString,
            .doc = "dtype in which trained parameters are gathered; auto: the compute dtype",
            .fallback = "auto",
            .allowed = {"auto", "fp32", "bf16"}},
           {.key = "reduce_dtype",
            .kinds = kString,
            .doc = "dtype in which gradients are summed over ranks",
            .fallback = "fp32",
            .allowed = {"fp32"}},
           {.key = "device",
            .kinds = kString,
            .doc = "what ranks compute on; auto: NVIDIA GPUs where there are any that can be used, else the CPU; "
                   "FTENGINE_DEVICE comes before it",
            .fallback = "auto",
            .allowed = {"auto", "cpu", "cuda"}},
           {.key = "timeout",
            .kinds = kInteger,
            .doc = "seconds to wait for a rank that is not heard of, before all stop",
            .fallback = 600,
            .at_least = 1},
           {.key = "nproc",
            .kinds = kInteger,
            .doc = "ranks on a machine without a GPU; with GPUs one each, but 1 stays one rank; --nproc, or a "
                   "launcher's WORLD_SIZE, come before it; default 1",
            .at_least = 1}},
      .renames = {{"version", "fsdp_version", "is called fsdp_version here"},
                  {"sequence_parallel_degree", "context_parallel_size", "is called context_parallel_size here"},
                  {"fsdp_reshard_after_forward", "reshard_after_forward", "renamed in FSDP2"},
                  {"fsdp_auto_wrap_policy", "auto_wrap_policy", "renamed in FSDP2"},
                  {"fsdp_transformer_layer_cls_to_wrap", "transformer_layer_cls_to_wrap", "renamed in FSDP2"},
                  {"fsdp_min_num_params", "min_num_params", "renamed in FSDP2"},
                  {"fsdp_offload_params", "offload_params", "renamed in FSDP2"},
                  {"fsdp_cpu_offload_pin_memory", "cpu_offload_pin_memory", "renamed in FSDP2"}},
      .replacements = {// fp16 parameters go with compute in fp16, which scales the loss
                       {"param_dtype", "fp16", "write \"auto\", and compute = \"fp16\" in the model"},
                       {"reduce_dtype", "bf16", "write \"fp32\": ranks always add gradients in fp32"}}};
}

}  // namespace ft
