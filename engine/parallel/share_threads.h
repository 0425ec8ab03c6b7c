#pragma once
/// How many threads a rank computes on, where several ranks share a machine's cores.

#include "engine/parallel/process_group.h"

namespace ft {

/// Gives every rank its part of the cores: those that it may use, shared out evenly among the ranks that may use the
/// same ones. A launcher that has bound ranks to cores of their own leaves each all of them. Nothing happens where
/// OMP_NUM_THREADS is set, or one rank is alone. Collective.
void share_threads(ProcessGroup& group);

}  // namespace ft
