#pragma once
/// The context axis as layers see it: the ranks that hold the other tokens of this rank's rows, and how attention
/// reaches them. Made by the model from the plan (parallel.context_parallel_size, context_method), handed on in the
/// Context of each forward.

namespace ft {

class ProcessGroup;

struct ContextAxis {
  enum class Method {
    ring,     ///< keys and values travel round the ranks: any number of heads, windows and documents
    ulysses,  ///< tokens are exchanged for heads: four all-to-alls a layer, heads divisible by the ranks
  };
  ProcessGroup* group = nullptr;  ///< null: rows are whole
  Method method = Method::ring;
};

}  // namespace ft
