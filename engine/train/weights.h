#pragma once
/// Fills a rank's own ranges: from a Hugging Face directory, reading only the bytes that the rank will own, or from the
/// seed. NF4 ranges are quantized on the way; no rank ever holds a whole tensor of the model.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/layers/model.h"
#include "engine/parallel/shard_unit.h"

namespace ft {

class BnbWeight;
class ModelDirectory;
class PeftAdapter;
class SavedState;
struct TensorEntry;

/// Where values come from: a checkpoint's masters of what is trained first, then an adapter that the run goes on from,
/// then the directory; what none of them holds (a new adapter) is drawn from the parameter's Init.
class WeightSource {
 public:
  /// @param directory,checkpoint,adapter may be null.
  WeightSource(const ModelDirectory* directory, uint64_t seed, const SavedState* checkpoint = nullptr,
               const PeftAdapter* adapter = nullptr);

  /// What parameters of the base are taken to be stored in where there is no directory: for plans of models whose
  /// weights are not there. Without it they are drawn, in fp32.
  void assume(DType stored) { assumed_ = stored; }
  const ModelDirectory* directory() const { return directory_; }  ///< of the base; may be null
  uint64_t seed() const { return seed_; }
  /// Whether neither a checkpoint nor an adapter holds the parameter.
  bool from_base(const Parameter& parameter) const { return !in_checkpoint(parameter) && !in_adapter(parameter); }
  /// Whether a file has the parameter's values; else they are drawn.
  bool holds(const Parameter& parameter) const;
  /// dtype in which a parameter's values are stored; fp32 for those that are drawn.
  DType stored_dtype(const Parameter& parameter) const;
  /// Reads elements [begin, begin + count) of the flattened parameter, of its slice where it is one, in its stored
  /// dtype.
  void read(const Parameter& parameter, int64_t begin, int64_t count, void* out) const;
  /// The four-bit weight that bitsandbytes made of a parameter, where the directory holds one and no checkpoint has
  /// trained it, or nullptr. Its values as read() gives them are what it is dequantized to.
  const BnbWeight* quantized(const Parameter& parameter) const;
  /// Fills NF4 group records [begin, begin + count) of it, counted in the whole weight.
  void read_records(const BnbWeight& weight, int64_t begin, int64_t count, uint8_t* records) const;
  /// The same as fp32.
  void read_fp32(const Parameter& parameter, int64_t begin, int64_t count, float* out) const;

 private:
  bool in_checkpoint(const Parameter& parameter) const;
  const TensorEntry* in_adapter(const Parameter& parameter) const;
  const TensorEntry* on_disk(const Parameter& parameter) const;
  void draw(const Parameter& parameter, int64_t begin, int64_t count, float* out) const;
  void read_whole(const Parameter& parameter, int64_t begin, int64_t count, std::byte* out) const;

  const ModelDirectory* directory_;
  const SavedState* checkpoint_;
  const PeftAdapter* adapter_;
  uint64_t seed_;
  std::optional<DType> assumed_;
};

/// Compares a directory's tensors with the model's parameters; adapters are nobody's on disk.
/// @throws Error(shape) listing what is missing, unexpected and of another shape.
void check_weights(const ModelDirectory& directory, Model& model);
void check_weights(const PeftAdapter& adapter, Model& model);

/// Streams one unit's own ranges in. Collective where the unit has double-quantized NF4 parameters: each one's offset
/// is the mean of the whole tensor's absmax, summed from every group's fp64 sum in order, so that it is the same to the
/// bit on every layout.
/// @param rank among those that the unit is split over   @param holders all ranks that together hold the unit's whole
/// tensors once: those, and where matrices are shared their tensor groups   @param progress is told the bytes read.
void load_unit(ShardUnit& unit, const WeightSource& source, int rank, ProcessGroup& holders,
               const std::function<void(int64_t)>& progress);

/// The same of one range. Parts of a map are left as they are.
void load_range(FlatRange& range, const WeightSource& source, int rank, ProcessGroup& holders,
                const std::function<void(int64_t)>& progress);

/// Bytes that load_unit will report for this rank: what a progress bar counts to.
int64_t bytes_to_read(ShardUnit& unit, const WeightSource& source, int rank);

}  // namespace ft
