#include "engine/quant/block8_kernels.h"
#include "engine/quant/block8_loops.h"

namespace ft::block8 {

const Kernels kAvx512Kernels{quantize, dequantize};

}  // namespace ft::block8
