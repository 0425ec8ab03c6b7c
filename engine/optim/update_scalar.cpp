#include "engine/optim/update_kernels.h"
#include "engine/optim/update_loops.h"

namespace ft::update {

const Kernels kScalarKernels{adamw, sgd_momentum, sgd, lion};

}  // namespace ft::update
