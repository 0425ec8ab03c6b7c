// Part of the CUDA plugin: c10d's NCCL for ranks on GPUs. Opened and called by nccl_backend.cpp.
#include <ATen/DeviceGuard.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "engine/parallel/c10d_backend.h"

extern "C" __attribute__((visibility("default"))) void ft_make_nccl_backend(
    const c10::intrusive_ptr<c10d::Store>& store, const ft::BackendPlace& place,
    c10::intrusive_ptr<c10d::Backend>& backend) {
  static_assert(std::is_same_v<decltype(&ft_make_nccl_backend), ft::NcclFactory>);
  using Nccl = c10d::ProcessGroupNCCL;
  auto options = Nccl::Options::create();
  options->timeout = place.timeout;
  // NCCL binds to the current device when its communicator is made.
  const at::DeviceGuard guard(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(place.device)));
  auto nccl = c10::make_intrusive<Nccl>(store, place.rank, place.size, options);
  nccl->setBoundDeviceId(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(place.device)));
  backend = std::move(nccl);
}
