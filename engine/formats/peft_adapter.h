#pragma once
/// A LoRA adapter as PEFT writes it: adapter_config.json and adapter_model.safetensors. Opened by a run that goes on
/// from one, on every rank; reads are by ranges, so no rank holds more than its own part. What of PEFT's LoRA the
/// engine does not do is refused by name. Source: peft.LoraConfig, peft.utils.save_and_load.

#include <filesystem>
#include <span>
#include <string>

#include "engine/formats/lora_options.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/peft_names.h"
#include "engine/formats/safetensors.h"
#include "engine/schema/value.h"

namespace ft {

/// @throws Error(config) naming the first key of an adapter_config.json that asks for what the engine does not do.
void check_peft_config(const Value& config);

/// What an adapter_config.json says of LoRA, in the plan's spelling (LoraOptions::read): r, alpha and use_rslora, by
/// PEFT's defaults where it is silent, and of the other keys those that it has and that ask for something.
Value plan_options(const Value& config);

/// Whether an adapter of ours began by LoftQ and so goes with its base in NF4 alone: our adapter_config.json keeps
/// loftq_config, at which PEFT warns and which it passes over, beside the default init_lora_weights.
bool goes_with_nf4(const Value& config);

class PeftAdapter {
 public:
  /// Reads the configuration and the header of the tensors.
  /// @throws Error(io), Error(format) for files, Error(config) for what is not supported.
  explicit PeftAdapter(const std::filesystem::path& directory);

  /// plan_options of its configuration, each with the line it was read from.
  const Value& options() const { return options_; }

  /// A parameter's tensor ("model.layers.0.mlp.up_proj.lora_A.weight"), or nullptr.
  const TensorEntry* find(const std::string& parameter) const;
  /// The table of the base that PEFT wrote inside of an adapter on it ("X.weight" as "X.base_layer.weight"), or
  /// nullptr: read where the base's has fewer rows.
  const TensorEntry* base_table(const std::string& parameter) const;
  /// Fills `out` with a tensor's bytes from `byte_offset`.
  void read(const TensorEntry& entry, uint64_t byte_offset, std::span<std::byte> out) const {
    file_.read(entry, byte_offset, out);
  }
  /// @throws Error(shape) listing what is missing, unexpected and of another shape.
  void check_tensors(std::span<const ExpectedTensor> parameters) const;

 private:
  SafetensorsFile file_;
  Value options_;
};

}  // namespace ft
