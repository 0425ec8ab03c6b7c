// GPUs as compute_device.h has them. Part of the CUDA plugin.
#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "engine/error/error.h"
#include "engine/parallel/compute_device.h"

namespace ft {
namespace {

constexpr int kOldestCapability = 8;  // tools/cmake/Cuda.cmake compiles for sm_80 and newer

// "13.0" of 13000.
std::string release(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

cudaDeviceProp properties(int index) {
  cudaDeviceProp of{};
  C10_CUDA_CHECK(cudaGetDeviceProperties(&of, index));
  return of;
}

class CudaDevice final : public ComputeDevice {
 public:
  CudaDevice(int index, const std::string& name)
      : ComputeDevice(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)),
                      "cuda:" + std::to_string(index) + " " + name),
        copies_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, where().index())),
        saving_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, where().index())) {}

  Mark mark() override {
    auto event = std::make_shared<c10::cuda::CUDAEvent>(cudaEventDisableTiming);
    event->record(current());
    return event;
  }
  void wait(const Mark& mark) override {
    if (mark) static_cast<c10::cuda::CUDAEvent*>(mark.get())->block(current());
  }
  std::shared_ptr<void> enter(Queue queue) override {
    return std::make_shared<c10::cuda::CUDAStreamGuard>(queue == Queue::copies ? copies_ : saving_);
  }
  DeviceMemory memory() override {
    using c10::CachingAllocator::StatType;
    const auto held = c10::cuda::CUDACachingAllocator::getDeviceStats(where().index())
                          .allocated_bytes[static_cast<size_t>(StatType::AGGREGATE)];
    const c10::cuda::CUDAGuard guard(where());
    size_t free = 0, total = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return {held.current, held.peak, static_cast<int64_t>(free), static_cast<int64_t>(total)};
  }
  std::optional<PageLocking> page_locking() override {
    return PageLocking{.lock =
                           [](void* data, size_t bytes) {
                             const bool locked = cudaHostRegister(data, bytes, cudaHostRegisterPortable) == cudaSuccess;
                             if (!locked) (void)cudaGetLastError();
                             return locked;
                           },
                       .unlock =
                           [](void* data, size_t) {
                             if (cudaHostUnregister(data) != cudaSuccess) (void)cudaGetLastError();
                           }};
  }

 private:
  c10::cuda::CUDAStream current() const { return c10::cuda::getCurrentCUDAStream(where().index()); }

  c10::cuda::CUDAStream copies_, saving_;
};

class Devices final : public CudaDevices {
 public:
  int count(std::string& problem) override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return count;
    (void)cudaGetLastError();  // it would meet the next call
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0) {
      problem = "NVIDIA's driver is not installed, or not visible here (libcuda.so.1)";
    } else if (error == cudaErrorInsufficientDriver) {
      problem = "the driver is of CUDA " + release(driver) + ", this build wants " + release(runtime) + " or newer";
    } else {
      problem = error == cudaSuccess || error == cudaErrorNoDevice
                    ? "the driver shows no device (it may be hidden by CUDA_VISIBLE_DEVICES)"
                    : std::string("CUDA finds no device: ") + cudaGetErrorString(error);
    }
    return 0;
  }

  std::shared_ptr<ComputeDevice> open(int index) override {
    const cudaDeviceProp of = properties(index);
    if (of.major < kOldestCapability)
      throw Error(ErrorKind::config, std::string(of.name) + " has compute capability " + std::to_string(of.major) +
                                         "." + std::to_string(of.minor) + ", the kernels want " +
                                         std::to_string(kOldestCapability) + ".0 or newer");
    if (!at::globalContext().hasCUDA())  // what LibTorch has found once, it keeps
      throw Error(ErrorKind::internal, "LibTorch was asked about CUDA before the plugin was opened");
    at::globalContext().lazyInitDevice(c10::kCUDA);
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
    return std::make_shared<CudaDevice>(index, of.name);
  }
};

}  // namespace
}  // namespace ft

extern "C" __attribute__((visibility("default"))) ft::CudaDevices* ft_cuda_devices() {
  static_assert(std::is_same_v<decltype(&ft_cuda_devices), ft::CudaDevicesFunction>);
  static ft::Devices devices;
  return &devices;
}
