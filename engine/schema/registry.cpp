#include "engine/schema/registry.h"

#include "engine/schema/data_schemas.h"
#include "engine/schema/optimizer_schemas.h"
#include "engine/schema/parallel_schemas.h"

namespace ft {
namespace {

Option compute_option() {
  return {.key = "compute",
          .kinds = kString,
          .doc =
              "dtype of activations and GEMMs; auto takes the one that this processor is fast in; fp16 scales the loss "
              "(loss_scale)",
          .fallback = "auto",
          .allowed = {"auto", "fp32", "bf16", "fp16"}};
}

Option quantize_option(std::string doc) {
  return {.key = "quantize", .kinds = kString, .doc = std::move(doc), .fallback = "none", .allowed = {"none", "nf4"}};
}

Schema plan_schema() {
  return {
      .name = "plan",
      .doc = "Describes a training run; loads nothing.",
      .options =
          {{.key = "model",
            .kinds = kBlock,
            .doc = "ft.hf { dir } or ft.scratch { config }",
            .required = true,
            .schemas = {"hf", "scratch"}},
           {.key = "adapter",
            .kinds = kBlock,
            .doc = "ft.lora { … }; without it every parameter is trained",
            .schemas = {"lora"}},
           {.key = "data",
            .kinds = kBlock,
            .doc = "a data set for each split: { train = ft.chat { … }, val = … }",
            .required = true,
            .schemas = {"data"}},
           {.key = "parallel",
            .kinds = kProfile | kBlock,
            .doc = "a name of configs/profiles, a YAML file, or ft.fsdp2 { … }",
            .fallback = "fsdp2",
            .schemas = {"fsdp2"}},
           {.key = "activation_checkpointing",
            .kinds = kBoolean | kInteger,
            .doc = "keep only each layer's input and run the layer again before its backward: about a third more "
                   "compute; a number n: of every n-th layer, the first one included",
            .fallback = false,
            .at_least = 0},
           {.key = "activation_offload",
            .kinds = kBoolean,
            .doc = "with activation_checkpointing: keep these inputs in memory of the host, page-locked as "
                   "cpu_offload_pin_memory says; a copy each way, and on a CPU nothing else",
            .fallback = false},
           {.key = "unfrozen_parameters",
            .kinds = kList,
            .doc = "of full fine-tuning: patterns that match the start of parameters' names; all others are frozen. "
                   "Without it all are trained",
            .fallback = {}},
           {.key = "optimizer",
            .kinds = kBlock,
            .doc = "ft.adamw, ft.sgd, ft.lion, ft.adafactor or ft.muon { … }",
            .required = true,
            .schemas = {"adamw", "sgd", "lion", "adafactor", "muon"}},
           {.key = "batch", .kinds = kBlock, .doc = "rows a step", .fallback = Value::map(), .schemas = {"batch"}},
           {.key = "epochs",
            .kinds = kNumber,
            .doc = "passes over the training data; a part of one will do",
            .fallback = 1,
            .above = 0},
           {.key = "max_steps",
            .kinds = kInteger,
            .doc = "stop after so many steps, whatever epochs says",
            .at_least = 1},
           {.key = "seed",
            .kinds = kInteger,
            .doc = "of initial values, dropout and shuffling; the same on every layout",
            .fallback = 42,
            .at_least = 0},
           {.key = "non_finite",
            .kinds = kString,
            .doc =
                "what becomes of a step whose loss or gradient norm is infinite or no number: stop names the unit it "
                "began in; skip leaves the weights as they are and goes on",
            .fallback = "stop",
            .allowed = {"stop", "skip"}},
           {.key = "loss_scale",
            .kinds = kBlock,
            .doc = "of compute = \"fp16\": how the loss is scaled, and when that changes",
            .fallback = Value::map(),
            .schemas = {"loss_scale"}},
           {.key = "save",
            .kinds = kBlock,
            .doc = "where and how often checkpoints are written",
            .fallback = Value::map(),
            .schemas = {"save"}}},
      .renames = {{"num_epochs", "epochs", "is called epochs here"},
                  {"steps", "max_steps", "is called max_steps here"},
                  {"gradient_checkpointing", "activation_checkpointing", "is called activation_checkpointing here"}}};
}

Schema hf_schema() {
  return {.name = "hf",
          .doc = "A model in a Hugging Face directory.",
          .options =
              {{.key = "dir",
                .kinds = kPath,
                .doc = "directory with config.json, *.safetensors and tokenizer.json",
                .required = true},
               quantize_option("how the decoder's linears are kept; nf4: 4.1 bits a weight, frozen"),
               {.key = "double_quant",
                .kinds = kBoolean,
                .doc = "quantize NF4's block scales as well: 0.37 bits a weight less",
                .fallback = true},
               compute_option(),
               {.key = "tokenizer", .kinds = kPath, .doc = "directory with tokenizer.json, when it is not the model's"},
               {.key = "added_tokens",
                .kinds = kList,
                .doc = "tokens that the tokenizer lacks, each found whole in texts: { \"<think>\" }; embedding and "
                       "head grow where they have too few rows. The model's folder stays as it is"},
               {.key = "special_tokens",
                .kinds = kMap,
                .doc = "tokens by role, new ones too: { pad_token = \"<pad>\" }; also bos_token, eos_token, "
                       "unk_token, additional_special_tokens"},
               {.key = "renamed_tokens",
                .kinds = kMap,
                .doc = "reserved tokens called otherwise, by their ids: { [\"128002\"] = \"<think>\" }"},
               {.key = "vocab_multiple",
                .kinds = kInteger,
                .doc = "rows of embedding and head are a multiple of it; 1: as many as the tokenizer has ids, "
                       "where the model has fewer",
                .at_least = 1},
               {.key = "new_rows",
                .kinds = kString,
                .doc = "how rows for new tokens begin: mean, that of the old rows, or normal, as config.json's "
                       "initializer_range says; by default mean",
                .allowed = {"mean", "normal"}}},
          .renames = {{"load_in_4bit", "quantize", "is quantize = \"nf4\" here"}},
          .replacements = {{"quantize", "fp4", "write quantize = \"nf4\""},
                           {"quantize", "4bit", "write quantize = \"nf4\""}},
          .positional = "dir"};
}

Schema scratch_schema() {
  return {.name = "scratch",
          .doc = "A model of a config alone, with seeded random weights.",
          .options = {{.key = "config",
                       .kinds = kMap | kPath,
                       .doc = "ft.config { model_type = …, hidden_size = …, … }, or a config.json",
                       .required = true},
                      quantize_option("as in ft.hf: what QLoRA on a model of this shape takes, without its weights"),
                      compute_option(),
                      {.key = "tokenizer",
                       .kinds = kPath,
                       .doc = "directory with tokenizer.json; not needed for tokenized data"}},
          .positional = "config"};
}

Schema lora_schema() {
  return {
      .name = "lora",
      .doc = "LoRA adapters as PEFT defines them.",
      .options =
          {{.key = "r", .kinds = kInteger, .doc = "rank: trained parameters grow with it", .fallback = 16, .above = 0},
           {.key = "alpha", .kinds = kNumber, .doc = "the update is scaled by alpha / r", .fallback = 32, .above = 0},
           {.key = "dropout",
            .kinds = kNumber,
            .doc = "share of the adapter's inputs that training sets to zero",
            .fallback = 0.0,
            .at_least = 0,
            .below = 1},
           {.key = "use_rslora", .kinds = kBoolean, .doc = "scale by alpha / sqrt(r) instead", .fallback = false},
           {.key = "target_modules",
            .kinds = kString | kList,
            .doc = "\"all-linear\", a list of names, or a pattern for whole module paths",
            .fallback = "all-linear"},
           {.key = "exclude_modules",
            .kinds = kString | kList,
            .doc = "modules without an adapter, named as in target_modules"},
           {.key = "layers_to_transform",
            .kinds = kInteger | kList,
            .doc = "index of the layer whose modules get adapters, or a list of them; without it all do"},
           {.key = "layers_pattern",
            .kinds = kString | kList,
            .doc = "name of the list of layers that layers_to_transform counts in, where a model has several"},
           {.key = "rank_pattern",
            .kinds = kMap,
            .doc = "ranks of their own: { [\"layers.0.mlp.up_proj\"] = 32 }; a key is a pattern for the end of a path"},
           {.key = "alpha_pattern", .kinds = kMap, .doc = "alphas of their own, as in rank_pattern"},
           {.key = "use_dora",
            .kinds = kBoolean,
            .doc = "train a magnitude for each row beside its direction (DoRA); each forward takes the norms of its "
                   "weights' rows, about r / (tokens of a micro batch) of its compute more",
            .fallback = false},
           {.key = "lora_bias", .kinds = kBoolean, .doc = "lora_B has a bias, trained with it", .fallback = false},
           {.key = "init_lora_weights",
            .kinds = kBoolean | kString,
            .doc = "true: A by Kaiming, B of zeros. \"loftq\": as what NF4 takes away from each weight, as well as a "
                   "matrix of rank r can say it; the adapter then goes with the quantized base alone. Costs each "
                   "matrix's eigenvectors at the start: about 10 n³ operations in fp64 for n the smaller side",
            .fallback = true,
            .allowed = {true, "loftq"}},
           {.key = "modules_to_save",
            .kinds = kList,
            .doc = "modules that are trained whole beside the adapters and written with them: { \"embed_tokens\", "
                   "\"lm_head\" }; each costs masters, gradients and optimizer state of its size"},
           {.key = "ensure_weight_tying",
            .kinds = kBoolean,
            .doc = "where the head is tied to the embedding, what is trained of one is trained of both",
            .fallback = false},
           {.key = "from",
            .kinds = kPath,
            .doc =
                "a folder that PEFT or `ftengine merge --adapter-only` wrote: training goes on from its matrices, and "
                "all that its configuration says of them holds"}},
      .renames = {{"rank", "r", "is called r here"},
                  {"lora_r", "r", "is called r here"},
                  {"lora_alpha", "alpha", "is called alpha here"},
                  {"lora_dropout", "dropout", "is called dropout here"},
                  {"lora_target_modules", "target_modules", "is called target_modules here"},
                  {"peft_use_rslora", "use_rslora", "is called use_rslora here"}}};
}

Schema batch_schema() {
  return {
      .name = "batch",
      .doc = "Rows a step: two of total, micro and accumulation fix the third.",
      .options = {{.key = "total",
                   .kinds = kInteger,
                   .doc =
                       "rows a step over all ranks; default: micro × accumulation on every rank with rows of its own",
                   .above = 0},
                  {.key = "micro",
                   .kinds = kInteger,
                   .doc = "rows in one forward and backward of a rank; activations grow with it; default 1",
                   .above = 0},
                  {.key = "accumulation",
                   .kinds = kInteger,
                   .doc = "micro batches of a rank in a step; default: what total asks for, or 1",
                   .above = 0}},
      .renames = {{"micro_batch_size", "micro", "is called micro here"},
                  {"gradient_accumulation_steps", "accumulation", "is called accumulation here"},
                  {"batch_size", "total", "is called total here"}},
      .replacements = {}};
}

/// torch.amp.GradScaler's constants.
Schema loss_scale_schema() {
  return {.name = "loss_scale",
          .doc = "Dynamic loss scaling, as torch.amp.GradScaler does it: acts with compute = \"fp16\" alone.",
          .options = {{.key = "init",
                       .kinds = kNumber,
                       .doc = "what the loss is multiplied by at first",
                       .fallback = 65536.0,
                       .above = 0},
                      {.key = "growth",
                       .kinds = kNumber,
                       .doc = "the scale is multiplied by it after growth_interval steps without an overflow",
                       .fallback = 2.0,
                       .at_least = 1},
                      {.key = "backoff",
                       .kinds = kNumber,
                       .doc = "the scale is multiplied by it when gradients overflow; that step is skipped",
                       .fallback = 0.5,
                       .above = 0,
                       .below = 1},
                      {.key = "growth_interval",
                       .kinds = kInteger,
                       .doc = "finite steps in a row before the scale grows",
                       .fallback = 2000,
                       .at_least = 1}}};
}

Schema save_schema() {
  return {.name = "save",
          .doc = "Where and how often checkpoints are written.",
          .options =
              {{.key = "dir",
                .kinds = kPath,
                .doc = "each run makes a fresh numbered directory of this name",
                .fallback = "runs/run"},
               {.key = "out", .kinds = kPath, .doc = "exactly this run directory; what --out gives"},
               {.key = "every",
                .kinds = kInteger | kNumber,
                .doc = "steps between checkpoints; below 1 the share of all steps; 0: only at the end",
                .fallback = 0,
                .at_least = 0},
               {.key = "per_epoch",
                .kinds = kInteger,
                .doc = "checkpoints an epoch, in place of every; the last one at its end",
                .at_least = 1},
               {.key = "every_minutes",
                .kinds = kNumber,
                .doc = "minutes from one checkpoint to the next, beside those that every or per_epoch ask for",
                .above = 0},
               {.key = "keep",
                .kinds = kInteger,
                .doc = "newest checkpoints that stay on the disk; the one that best names stays, too",
                .fallback = 2,
                .at_least = 1},
               {.key = "on_error",
                .kinds = kString,
                .doc = "when a checkpoint cannot be written, for a full disk: stop, or continue with a warning "
                       "and try again at the next one; the last good one stands, and the end of the run is an "
                       "error either way",
                .fallback = "stop",
                .allowed = {"stop", "continue"}},
               {.key = "state_dict_type",
                .kinds = kString,
                .doc = "SHARDED_STATE_DICT: each rank writes its own shard, behind the steps; FULL_STATE_DICT: rank 0 "
                       "writes whole tensors in one file, which come to it one by one while training waits",
                .fallback = "SHARDED_STATE_DICT",
                .allowed = {"SHARDED_STATE_DICT", "FULL_STATE_DICT"}},
               {.key = "save_only_model",
                .kinds = kBoolean,
                .doc = "checkpoints without the optimizer's state: smaller, to be merged or measured; no run goes on "
                       "from one",
                .fallback = false},
               {.key = "final",
                .kinds = kString,
                .doc = "what the run ends with; huggingface: also merged at once",
                .fallback = "sharded",
                .allowed = {"sharded", "huggingface"}}},
          .renames = {{"save_steps", "every", "is called every here"},
                      {"save_total_limit", "keep", "is called keep here"},
                      {"output_dir", "dir", "is called dir here"}},
          .replacements = {{"state_dict_type", "LOCAL_STATE_DICT", "FSDP2 has none; write \"SHARDED_STATE_DICT\""}}};
}

}  // namespace

const std::vector<Schema>& schemas() {
  static const std::vector<Schema> all = [] {
    std::vector<Schema> made = {
        plan_schema(),
        hf_schema(),
        scratch_schema(),
        {.name = "config",
         .doc = "A model's config.json as a table.",
         .options = {{.key = "model_type",
                      .kinds = kString,
                      .doc = "\"llama\", \"qwen3\", or a module ft.models.<model_type> of one's own",
                      .required = true}},
         .open = true},
        lora_schema(),
        fsdp2_schema(),
        mesh_schema(),
        batch_schema(),
        loss_scale_schema(),
        save_schema()};
    const std::vector<Schema> data = data_schemas(), optimizers = optimizer_schemas();
    made.insert(made.end() - 5, data.begin(), data.end());
    made.insert(made.end() - 3, optimizers.begin(), optimizers.end());
    return made;
  }();
  return all;
}

const Schema* find_schema(std::string_view name) {
  for (const Schema& schema : schemas())
    if (schema.name == name) return &schema;
  return nullptr;
}

}  // namespace ft
