#pragma once
/// One parameter of the model: its name on disk, its shape, how it is stored, and its value while its unit is gathered.
/// Layers own parameters and read `value`; the shard unit that a parameter belongs to lays it out and fills `value`.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ft {

/// How a parameter lives on a rank and what travels when it is gathered.
enum class Storage {
  trainable,  ///< fp32 master on the owner; gathered in the parameter dtype; has a gradient and optimizer state
  frozen,     ///< gathered in the dtype of the file
  nf4,        ///< frozen NF4 group records (engine/quant/nf4.h): bytes, never seen as floats
};

/// Initial values of a parameter that no file holds, drawn from a counter-based generator keyed by (seed, name, flat
/// index): the same on every layout.
struct Init {
  enum class Kind { zeros, ones, normal, uniform };
  Kind kind = Kind::zeros;
  double scale = 0;  ///< normal: standard deviation; uniform: half width of the interval around 0
};

/// Which part of a whole tensor a parameter is, where the ranks of a tensor group share matrices: the `index`-th of
/// `parts` equal ones along `dim`. tensor_slice.h maps elements.
struct TensorSlice {
  size_t dim = 0;
  int64_t index = 0, parts = 1;
  /// Ranks of the tensor group that hold this same part, neighbours, and which of them this one is. Each makes a part
  /// of its gradient, as activations are split over tokens and heads: they are summed. The first one saves it.
  int64_t copies = 1, copy = 0;

  bool whole() const { return parts == 1; }
};

struct Parameter {
  std::string name;  ///< as on disk: "model.layers.0.mlp.up_proj.weight"; adapters: "….up_proj.lora_A.weight"
  std::vector<int64_t> shape;  ///< of what this rank's tensor group leaves it: that of `slice`
  TensorSlice slice;
  Storage storage = Storage::trainable;
  Init init;
  /// Where the initial value depends on other parameters of the unit (DoRA's magnitudes): makes it, [shape] fp32, the
  /// same on every rank; called once these are loaded, while the unit is gathered. Empty: `init` says it.
  std::function<at::Tensor()> derive;

  /// Valid while the unit is gathered. trainable and frozen: [shape], a view into the unit's flat storage (trainable:
  /// an autograd leaf). nf4: uint8 [groups, bytes of a record]; FT_CHECKed to be undefined or empty otherwise.
  at::Tensor value;
  /// nf4 with double quantisation: the mean of the whole tensor's absmax, the same on every rank.
  float nested_offset = 0;
  bool double_quant = true;
  /// nf4: a slice that does not consist of whole groups of the whole tensor. Its records are those without double
  /// quantisation, and hold the scales that the whole tensor's doubly quantized ones decode to.
  bool decoded_scales = false;

  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  std::vector<int64_t> full_shape() const {
    std::vector<int64_t> full = shape;
    if (!full.empty()) full[slice.dim] *= slice.parts;
    return full;
  }
  int64_t full_numel() const { return numel() * slice.parts; }
};

}  // namespace ft
