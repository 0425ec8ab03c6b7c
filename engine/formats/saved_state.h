#pragma once
/// The state of a training run as somebody saved it: masters, what the optimizer keeps of them, the count of steps. A
/// run goes on from one: a checkpoint of ours (checkpoint.h) or another engine's (foreign_checkpoint.h). Every rank
/// opens the same and reads the ranges that it needs; const members are safe from any thread.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/schema/value.h"
#include "engine/tensor/dtype.h"

namespace ft {

class SavedState {
 public:
  /// A tensor and the kind of what is kept of it.
  struct Tensor {
    std::string name;  ///< of the parameter: "model.layers.0.mlp.up_proj.lora_A.weight"
    std::string kind;  ///< "master", "exp_avg", "exp_avg_sq", …
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    bool trained = true;  ///< by whoever saved it; false where that is not known, or it is frozen

    int64_t numel() const;
  };

  virtual ~SavedState() = default;

  const std::filesystem::path& path() const { return path_; }
  const Value& header() const { return header_; }
  int64_t step() const { return header_.at("step").as_integer(); }
  /// What another engine's is, for messages ("a DeepSpeed checkpoint, ZeRO stage 2"); "" for ours.
  const std::string& engine() const { return engine_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }  ///< in the order in which they were written
  bool contains(const std::string& name, const std::string& kind) const { return find(name, kind) != nullptr; }
  const Tensor* find(const std::string& name, const std::string& kind) const;
  /// Reads elements [begin, begin + count) of the flattened tensor in its dtype.
  /// @throws Error(format) when there is no such tensor, or nothing holds a part of the range.
  virtual void read(const std::string& name, const std::string& kind, int64_t begin, int64_t count,
                    void* out) const = 0;

 protected:
  explicit SavedState(std::filesystem::path path) : path_(std::move(path)) {}
  /// The tensor's number, made with these values where the name and kind are new.
  std::pair<size_t, bool> add(Tensor tensor);
  /// @throws Error(format) when there is no such tensor.
  size_t number_of(const std::string& name, const std::string& kind) const;

  std::filesystem::path path_;
  Value header_;
  std::string engine_;
  std::vector<Tensor> tensors_;

 private:
  std::map<std::pair<std::string, std::string>, size_t> index_;
};

}  // namespace ft
