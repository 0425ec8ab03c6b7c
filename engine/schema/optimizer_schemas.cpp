#include "engine/schema/optimizer_schemas.h"

namespace ft {
namespace {

/// What every optimizer takes, then its own.
Schema optimizer_schema(std::string name, std::string doc, double lr, std::vector<Option> own) {
  Schema schema{
      .name = std::move(name),
      .doc = std::move(doc),
      .options = {{.key = "lr", .kinds = kNumber, .doc = "peak learning rate", .fallback = lr, .above = 0},
                  {.key = "schedule",
                   .kinds = kBlock,
                   .doc = "ft.constant, ft.linear, ft.cosine, ft.inverse_sqrt or ft.wsd { … }, or a function (step, "
                          "total) -> factor",
                   .fallback = Value::map({{"kind", "constant"}, {"warmup", 0}}),
                   .schemas = {"constant", "linear", "cosine", "inverse_sqrt", "wsd", "schedule"}},
                  {.key = "groups",
                   .kinds = kList,
                   .doc = "parameters with a rate or decay of their own: { { pattern = \"lora_B\", lr = 1e-3 }, … }; "
                          "pattern: a regular expression found in the name, the first that fits holds; also lr_scale "
                          "(times lr) and weight_decay"}},
      .renames = {{"learning_rate", "lr", "is called lr here"},
                  {"lr_scheduler", "schedule", "is called schedule here"},
                  {"param_groups", "groups", "is called groups here"}}};
  for (Option& option : own) schema.options.push_back(std::move(option));
  return schema;
}

Option weight_decay_option(double fallback, const char* doc) {
  return {.key = "weight_decay", .kinds = kNumber, .doc = doc, .fallback = fallback, .at_least = 0};
}

Option number_option(const char* key, const char* doc, double fallback, bool zero = false) {
  Option option{.key = key, .kinds = kNumber, .doc = doc, .fallback = fallback};
  (zero ? option.at_least : option.above) = 0;
  return option;
}

Option momentum_option(const char* doc, double fallback) {
  Option option = number_option("momentum", doc, fallback, /*zero=*/true);
  option.below = 1;
  return option;
}

Option bits_option(const char* doc) {
  return {.key = "bits", .kinds = kInteger, .doc = doc, .fallback = 32, .allowed = {32, 8}};
}

/// Of the optimizers that look at each element alone.
Option overlap_option() {
  return {.key = "overlap",
          .kinds = kString,
          .doc =
              "what updates on the host run beside. forward: the next step's forward, which waits for a unit's update "
              "before it gathers the unit; backward: the step's last backward, a unit's update beginning as its "
              "gradients arrive, before their norm is known: run:clip is refused, one backward a micro batch, "
              "non_finite = \"stop\", not fp16; none: nothing; auto: forward where parameters are offloaded or state "
              "is paged, else none. No bit changes",
          .fallback = "auto",
          .allowed = {"auto", "none", "forward", "backward"}};
}

constexpr const char* kDecoupled = "decoupled, times the learning rate; matrices alone decay";

Schema adamw_schema() {
  Schema schema = optimizer_schema(
      "adamw", "AdamW on fp32 masters.", 2e-4,
      {{.key = "betas", .kinds = kList, .doc = "decay of the two averages", .fallback = Value::list({0.9, 0.999})},
       number_option("eps", "added to the root of the second average", 1e-8),
       weight_decay_option(0.01, kDecoupled),
       bits_option("of the optimizer's state; 8: block-wise, 2.06 bytes a parameter instead of 8"),
       overlap_option()});
  schema.renames.push_back({"adam_epsilon", "eps", "is called eps here"});
  return schema;
}

Schema sgd_schema() {
  return optimizer_schema(
      "sgd", "Gradient descent, as torch.optim.SGD.", 0.1,
      {momentum_option("of the running sum of gradients; above 0 it costs 4 bytes a parameter", 0),
       {.key = "nesterov", .kinds = kBoolean, .doc = "look ahead along the momentum", .fallback = false},
       weight_decay_option(0, "times the parameter, added to the gradient; matrices alone decay"),
       overlap_option()});
}

Schema lion_schema() {
  return optimizer_schema("lion", "Lion: steps of one size, by the sign of an average; 4 bytes of state a parameter.",
                          2e-5,
                          {{.key = "betas",
                            .kinds = kList,
                            .doc = "of the direction, and of the average that is kept",
                            .fallback = Value::list({0.9, 0.99})},
                           weight_decay_option(0, kDecoupled),
                           overlap_option()});
}

Schema adafactor_schema() {
  return optimizer_schema(
      "adafactor", "Adafactor, as transformers' with relative_step = False: state of rows and columns alone.", 1e-3,
      {{.key = "eps",
        .kinds = kList,
        .doc = "added to squared gradients, and least scale of a parameter",
        .fallback = Value::list({1e-30, 1e-3})},
       number_option("clip_threshold", "greatest root mean square of an update", 1),
       {.key = "decay_rate",
        .kinds = kNumber,
        .doc = "the second average forgets by 1 - step^decay_rate",
        .fallback = -0.8,
        .at_least = -1,
        .below = 0},
       {.key = "beta1",
        .kinds = kNumber,
        .doc = "decay of a first average; 0: none, else 4 bytes a parameter",
        .fallback = 0.0,
        .at_least = 0,
        .below = 1},
       weight_decay_option(0, kDecoupled),
       {.key = "scale_parameter",
        .kinds = kBoolean,
        .doc = "times the root mean square of the parameter",
        .fallback = false},
       {.key = "relative_step",
        .kinds = kBoolean,
        .doc = "false alone: lr and schedule state the rate; ft.inverse_sqrt falls as relative steps do",
        .fallback = false,
        .allowed = {false}}});
}

Schema muon_schema() {
  Schema schema = optimizer_schema(
      "muon", "Muon for the matrices of the hidden layers, as torch.optim.Muon; AdamW for the rest.", 2e-4,
      {momentum_option("of the running mean of gradients", 0.95),
       {.key = "nesterov", .kinds = kBoolean, .doc = "look ahead along the momentum", .fallback = true},
       weight_decay_option(0.1, kDecoupled),
       {.key = "ns_steps",
        .kinds = kInteger,
        .doc = "Newton-Schulz iterations: each costs three products of the matrix",
        .fallback = 5,
        .at_least = 1,
        .below = 100},
       number_option("eps", "least norm that a momentum is divided by", 1e-7),
       {.key = "adjust_lr_fn",
        .kinds = kString,
        .doc = "match_rms_adamw: steps as large as AdamW's, so that one lr serves both; original: times "
               "sqrt(max(1, rows / columns))",
        .fallback = "match_rms_adamw",
        .allowed = {"match_rms_adamw", "original"}},
       {.key = "adamw_lr",
        .kinds = kNumber,
        .doc = "peak rate of what AdamW updates: embedding, head, norms, biases; default: lr",
        .above = 0},
       {.key = "adamw_betas", .kinds = kList, .doc = "its averages' decay", .fallback = Value::list({0.9, 0.95})},
       number_option("adamw_eps", "added to the root of its second average", 1e-8),
       bits_option("of AdamW's state: 32 or 8")});
  return schema;
}

Schema schedule_schema(std::string name, std::string doc, std::vector<Option> own) {
  Schema schema{.name = std::move(name),
                .doc = std::move(doc),
                .options = {{.key = "warmup",
                             .kinds = kNumber,
                             .doc = "linear rise from 0: a share of all steps when below 1, else a number of steps",
                             .fallback = 0,
                             .at_least = 0}},
                .renames = {{"warmup_ratio", "warmup", "is called warmup here"},
                            {"warmup_steps", "warmup", "is called warmup here"},
                            {"num_warmup_steps", "warmup", "is called warmup here"},
                            {"min_lr_rate", "min_lr_ratio", "is called min_lr_ratio here"},
                            {"num_decay_steps", "decay", "is called decay here"}}};
  for (Option& option : own) schema.options.push_back(std::move(option));
  std::erase_if(schema.renames, [&](const Rename& rename) { return !schema.find(rename.to); });
  return schema;
}

Option least_option() {
  return {.key = "min_lr_ratio",
          .kinds = kNumber,
          .doc = "where it ends, as a share of lr",
          .fallback = 0.0,
          .at_least = 0,
          .at_most = 1};
}

}  // namespace

std::vector<Schema> optimizer_schemas() {
  return {adamw_schema(),
          sgd_schema(),
          lion_schema(),
          adafactor_schema(),
          muon_schema(),
          schedule_schema("constant", "The learning rate stays.", {}),
          schedule_schema("linear", "The learning rate falls in a line.", {least_option()}),
          schedule_schema("cosine", "The learning rate falls along half a cosine, once or several times.",
                          {least_option(),
                           {.key = "cycles",
                            .kinds = kInteger,
                            .doc = "half cosines, each from lr again (transformers' cosine_with_restarts)",
                            .fallback = 1,
                            .at_least = 1}}),
          schedule_schema("inverse_sqrt", "The learning rate falls with the root of the steps.",
                          {{.key = "timescale",
                            .kinds = kNumber,
                            .doc = "steps after which it has fallen by the root of 2; default: warmup, or 10,000",
                            .above = 0}}),
          schedule_schema("wsd", "Warm-up, stable, decay (transformers' warmup_stable_decay).",
                          {{.key = "decay",
                            .kinds = kNumber,
                            .doc = "length of the fall at the end: a share of all steps when below 1, else steps",
                            .fallback = 0.1,
                            .at_least = 0},
                           {.key = "decay_type",
                            .kinds = kString,
                            .doc = "shape of the fall",
                            .fallback = "cosine",
                            .allowed = {"cosine", "linear", "1-sqrt"}},
                           least_option()}),
          {.name = "schedule",
           .doc = "A function of the recipe's: ft.schedule(function(step, total) return factor end), or the function "
                  "itself. step: those done, 0 to total - 1; factor: 0 or more, times lr; it depends on nothing else.",
           .options = {{.key = "id", .kinds = kInteger, .doc = "which function; made by ft.schedule"},
                       {.key = "at", .kinds = kString, .doc = "where the recipe states it"}}}};
}

}  // namespace ft
