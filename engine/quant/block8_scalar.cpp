#include "engine/quant/block8_kernels.h"
#include "engine/quant/block8_loops.h"

namespace ft::block8 {

const Kernels kScalarKernels{quantize, dequantize};

}  // namespace ft::block8
