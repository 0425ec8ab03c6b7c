#pragma once
/// Cosines and sines of the rotary positions, as transformers computes them (modeling_rope_utils.py): fp32 throughout.
/// Shared by the attention layers of a model that rotate alike; grows to the largest position seen. One thread.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

struct Context;

/// How positions become angles. stdlib/ft/models resolves a config into these numbers.
struct RopeOptions {
  /// "default": 1/theta^(2i/width). "linear": all divided by factor. "dynamic": a longer base for documents longer than
  /// `original`. "llama3": long waves divided by factor, a smooth passage between. "yarn": Peng et al., 2023.
  /// "longrope" (Ding et al., 2024): each feature divided by a factor of its own, one for documents up to `original`,
  /// one for longer ones.
  std::string type = "default";
  double theta = 10000;
  double factor = 1;
  int64_t original = 0;  ///< tokens that the model was trained to, before scaling (dynamic: max_position_embeddings)
  std::vector<double> short_factor, long_factor;     ///< longrope: [width/2]
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
  double beta_fast = 32, beta_slow = 1;              ///< yarn
  bool truncate = true;                              ///< yarn: its range of features is cut to whole ones
  double attention_factor = 1;                       ///< yarn, longrope: cosines and sines are multiplied by it

  /// @throws Error(config) for a type that is none of these, or numbers that no angle can come of; `path` names the
  /// module.
  static RopeOptions read(const Value& description, const std::string& path);
  bool operator==(const RopeOptions&) const = default;
};

/// What ops::rope takes.
struct Rotation {
  at::Tensor cos, sin;   ///< fp32 [rows, width/2]
  at::Tensor positions;  ///< int64 [B, T]: the row of each token
};

class RopeTable {
 public:
  RopeTable(RopeOptions options, int64_t width) : options_(std::move(options)), width_(width) {}

  const RopeOptions& options() const { return options_; }
  int64_t width() const { return width_; }
  /// Tables that reach the context's positions, on `device`. Under "dynamic" and "longrope" a document longer than
  /// `original` has angles of its own, so that none depends on its neighbours in the batch; with a KV cache the longest
  /// row decides for all, as in transformers.
  Rotation rotation(const Context& context, at::Device device);

 private:
  at::Tensor inverse_frequencies(int64_t seen) const;
  void append(int64_t positions, int64_t seen);
  void reach(int64_t last);
  Rotation by_length(const Context& context, at::Device device);

  RopeOptions options_;
  int64_t width_;
  at::Tensor cos_, sin_;                         // on the device last asked for
  std::vector<std::vector<int64_t>> documents_;  // by_length: those that the tables and rows_ were made for
  at::Tensor rows_;
};

}  // namespace ft
