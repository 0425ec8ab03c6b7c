#include "engine/schema/registry.h"

#include "engine/schema/optimizer_schemas.h"
#include "engine/schema/parallel_schemas.h"

namespace ft {
namespace {

const std::vector<std::string> kDataKinds = {"chat", "alpaca", "completion", "tokenized", "segments", "preference"};

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
          .options = {{.key = "dir",
                       .kinds = kPath,
                       .doc = "directory with config.json, *.safetensors and tokenizer.json",
                       .required = true},
                      quantize_option("how the decoder's linears are kept; nf4: 4.1 bits a weight, frozen"),
                      {.key = "double_quant",
                       .kinds = kBoolean,
                       .doc = "quantize NF4's block scales as well: 0.37 bits a weight less",
                       .fallback = true},
                      compute_option(),
                      {.key = "tokenizer",
                       .kinds = kPath,
                       .doc = "directory with tokenizer.json, when it is not the model's"}},
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

std::vector<Option> data_options() {
  return {
      {.key = "path",
       .kinds = kPath | kList,
       .doc = "a file, a glob or a directory; or a list of them, { path = …, weight = 2 } among them (docs/data.md)",
       .required = true},
      {.key = "seq_len",
       .kinds = kInteger,
       .doc = "tokens a row, by default 2048, of val and test the training data's; activations grow with it",
       .at_least = 2},
      {.key = "pack",
       .kinds = kBoolean,
       .doc = "put several samples into a row (attention stays inside each)",
       .fallback = true},
      {.key = "split",
       .kinds = kString | kNumber,
       .doc = "a share such as 0.05: that part of the file, drawn by the seed; \"train\": what the shares of other "
              "splits of the same file leave over",
       .above = 0,
       .below = 1},
      {.key = "too_long",
       .kinds = kString,
       .doc = "what becomes of samples longer than seq_len",
       .fallback = "truncate",
       .allowed = {"truncate", "drop", "error"}},
      {.key = "remainder",
       .kinds = kString,
       .doc = "rows left over when an epoch does not fill its last step: fill up with rows of no weight (pad), leave "
              "them out (drop), or fill up from the epoch's first rows (wrap)",
       .fallback = "pad",
       .allowed = {"pad", "drop", "wrap"}},
      {.key = "shuffle", .kinds = kBoolean, .doc = "a new order of rows in each epoch", .fallback = true},
      {.key = "limit", .kinds = kInteger, .doc = "samples to take from the start of the files", .at_least = 1},
      {.key = "sample_by",
       .kinds = kString,
       .doc = "what a row of a plain text file is",
       .fallback = "line",
       .allowed = {"line", "document"}},
      {.key = "streaming",
       .kinds = kBoolean,
       .doc = "keep tokens on the disk, in `cache`, and not in memory: for data that is larger than it; they are made "
              "once, as by ftengine preprocess",
       .fallback = false},
      {.key = "cache",
       .kinds = kPath,
       .doc = "folder of tokens that ftengine preprocess and streaming keep; default: data in FTENGINE_CACHE, or in "
              "~/.cache/ftengine"}};
}

Schema data_schema(std::string name, std::string doc, std::vector<Option> more) {
  Schema schema{.name = std::move(name), .doc = std::move(doc), .options = data_options(), .positional = "path"};
  for (Option& option : more) schema.options.push_back(std::move(option));
  schema.renames = {{"max_seq_length", "seq_len", "is called seq_len here"},
                    {"sequence_len", "seq_len", "is called seq_len here"},
                    {"packing", "pack", "is called pack here"},
                    {"sample_packing", "pack", "is called pack here"},
                    {"excess_length_strategy", "too_long", "is called too_long here"}};
  schema.replacements = {{"too_long", "raise", "write too_long = \"error\""}};
  return schema;
}

std::vector<Option> chat_options() {
  return {
      {.key = "format",
       .kinds = kString,
       .doc = "template: the model's own chat template; chatml; llama3; auto: its template, else the one whose "
              "special tokens the tokenizer has",
       .fallback = "auto",
       .allowed = {"auto", "template", "chatml", "llama3"}},
      {.key = "chat_template", .kinds = kPath, .doc = "a Jinja file in place of the model's template"},
      {.key = "template_name", .kinds = kString, .doc = "which of a model's several templates, such as tool_use"},
      {.key = "template_variables",
       .kinds = kMap,
       .doc = "what the template may read beside the row: { enable_thinking = false }"},
      {.key = "mask_prompts",
       .kinds = kBoolean,
       .doc = "learn the turns of roles_to_train alone; false: every token",
       .fallback = true},
      {.key = "roles_to_train", .kinds = kList, .doc = "whose turns are learned; a message's own train or weight wins"},
      {.key = "train_turns",
       .kinds = kString,
       .doc = "all: every turn of these roles; last: the conversation's last one alone",
       .fallback = "all",
       .allowed = {"all", "last"}},
      {.key = "system", .kinds = kString, .doc = "system message for conversations that have none"},
      {.key = "field_messages", .kinds = kString, .doc = "a row's list of messages, where it is called otherwise"},
      {.key = "message_field_role", .kinds = kString, .doc = "a message's role, where it is not role or from"},
      {.key = "message_field_content", .kinds = kString, .doc = "a message's text, where it is not content or value"},
      {.key = "message_field_training", .kinds = kString, .doc = "a message's own choice, where it is not train"},
      {.key = "field_tools", .kinds = kString, .doc = "a row's tools, where they are called otherwise"},
      {.key = "roles",
       .kinds = kMap,
       .doc = "what rows call roles: { user = { \"human\" }, assistant = { \"bot\" } }"}};
}

std::vector<Option> alpaca_options() {
  return {
      {.key = "mask_prompts", .kinds = kBoolean, .doc = "learn the outputs alone", .fallback = true},
      {.key = "field_instruction",
       .kinds = kString,
       .doc = "the request, where it is not instruction, question, query or prompt"},
      {.key = "field_input", .kinds = kString, .doc = "what the request is about, where it is not input"},
      {.key = "field_output",
       .kinds = kString,
       .doc = "the answer, where it is not output, answer, response or completion"},
      {.key = "field_system", .kinds = kString, .doc = "the system text, where it is not system"},
      {.key = "system_prompt", .kinds = kString, .doc = "the system text of rows that have none"},
      {.key = "format",
       .kinds = kString,
       .doc = "a prompt of one's own: \"Q: {instruction}\\n{input}\\nA: \", with {anything} for a field of the row; "
              "without it Stanford Alpaca's"},
      {.key = "no_input_format", .kinds = kString, .doc = "the same for rows without input"}};
}

Schema splits_schema() {
  const auto split = [](const char* key, const char* doc, bool required) {
    return Option{.key = key, .kinds = kBlock, .doc = doc, .required = required, .schemas = kDataKinds};
  };
  return {.name = "data",
          .doc = "A data set for each split.",
          .options = {split("train", "what is learned: ft.chat, ft.alpaca, ft.completion or ft.tokenized", true),
                      split("val", "run:evaluate(\"val\")", false), split("test", "run:evaluate(\"test\")", false)},
          .renames = {{"validation", "val", "is called val here"}, {"eval", "val", "is called val here"}}};
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
                .kinds = kInteger,
                .doc = "steps between checkpoints; 0: only at the end",
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
        splits_schema(),
        data_schema("chat", "Conversations: messages, ShareGPT conversations, or Alpaca rows.", chat_options()),
        data_schema("alpaca", "Rows of instruction, input and output, in Alpaca's prompt or one's own.",
                    alpaca_options()),
        data_schema("completion", "Plain text, learned whole.",
                    {{.key = "field", .kinds = kString, .doc = "the key that holds the text", .fallback = "text"}}),
        data_schema("tokenized", "Rows of input_ids and labels.", {}),
        data_schema("segments", "Rows of segments [{label, text}], learned where label is true; nothing is added.", {}),
        data_schema("preference", "Pairs for DPO: prompt, chosen and rejected, as texts, messages or tokens.",
                    {{.key = "chat_template", .kinds = kPath, .doc = "a Jinja file in place of the model's template"},
                     {.key = "template_name", .kinds = kString, .doc = "which of a model's several templates"},
                     {.key = "template_variables", .kinds = kMap, .doc = "what the template may read beside the row"},
                     {.key = "system", .kinds = kString, .doc = "system message for conversations that have none"}}),
        fsdp2_schema(),
        mesh_schema(),
        batch_schema(),
        loss_scale_schema(),
        save_schema()};
    const std::vector<Schema> optimizers = optimizer_schemas();
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
