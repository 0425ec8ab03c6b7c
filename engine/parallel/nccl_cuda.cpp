// c10d's NCCL, for the CUDA plugin: found there by dlsym (nccl_backend.cpp), since the engine itself is not linked to
// LibTorch's CUDA libraries.

#include <c10/cuda/CUDAFunctions.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "engine/parallel/c10d_backend.h"

extern "C" __attribute__((visibility("default"))) void ft_make_nccl_backend(
    const c10::intrusive_ptr<c10d::Store>& store, const ft::BackendPlace& place,
    c10::intrusive_ptr<c10d::Backend>& backend) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(place.device));
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = place.timeout;
  backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, place.rank, place.size, options);
  // The device is said now, so that the communicator is made here and not within the first collective.
  backend->setBoundDeviceId(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(place.device)));
}
