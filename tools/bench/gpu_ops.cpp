// See tools/bench/gpu_ops. Needs a GPU; says so where there is none.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "engine/layers/device_op.h"
#include "engine/layers/op_signatures.h"
#include "engine/optim/adamw8bit.h"
#include "engine/quant/block8.h"

namespace {

using ft::DeviceOp;
namespace signature = ft::signature;

// Qwen3-8B
constexpr int64_t kDim = 4096, kHidden = 12288, kHeads = 32, kKvHeads = 8, kHeadDim = 128, kVocab = 151936;

struct Bench {
  int64_t tokens = 8192;
  int repeats = 20;
  double bytes_a_second = 0, flops_a_second = 0;

  // Seconds a call, after three to warm up.
  double time(const std::function<void()>& f) const {
    const c10::impl::VirtualGuardImpl device(c10::DeviceType::CUDA);
    for (int i = 0; i < 3; ++i) f();
    device.synchronizeDevice(0);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; ++i) f();
    device.synchronizeDevice(0);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / repeats;
  }
  void by_memory(const char* name, double bytes, const std::function<void()>& f) const {
    const double seconds = time(f);
    std::printf("%-44s %10.1f us %8.0f GB/s %11.0f%%\n", name, seconds * 1e6, bytes / seconds / 1e9,
                100 * bytes / seconds / bytes_a_second);
  }
  void by_flops(const char* name, double flops, const std::function<void()>& f) const {
    const double seconds = time(f);
    std::printf("%-44s %10.1f us %8.0f TFLOP/s %8.0f%%\n", name, seconds * 1e6, flops / seconds / 1e12,
                100 * flops / seconds / flops_a_second);
  }
};

at::Tensor half(at::IntArrayRef shape) { return at::randn(shape, at::TensorOptions(at::kBFloat16).device(at::kCUDA)); }

void measure_light_speed(Bench& bench) {
  const at::Tensor from = at::zeros({int64_t{1} << 30}, at::TensorOptions(at::kByte).device(at::kCUDA));
  const at::Tensor to = at::empty(from.sizes(), from.options()), a = half({8192, 8192}), b = half({8192, 8192});
  bench.bytes_a_second = 2.0 * (int64_t{1} << 30) / bench.time([&] { to.copy_(from); });
  bench.flops_a_second = 2.0 * 8192 * 8192 * 8192 / bench.time([&] { at::mm(a, b); });
  std::printf("memory %.0f GB/s (copy), matrix units %.0f TFLOP/s (bf16)\n", bench.bytes_a_second / 1e9,
              bench.flops_a_second / 1e12);
}

void element_wise(const Bench& bench) {
  const auto t = static_cast<double>(bench.tokens);
  const DeviceOp<signature::RmsNormForward> norm("ft::rms_norm_forward");
  const DeviceOp<signature::RmsNormBackward> norm_back("ft::rms_norm_backward");
  const DeviceOp<signature::RopeForward> rope("ft::rope_forward");
  const DeviceOp<signature::SwigluForward> swiglu("ft::swiglu_forward");
  const DeviceOp<signature::SwigluBackward> swiglu_back("ft::swiglu_backward");
  const DeviceOp<signature::DropoutForward> dropout("ft::dropout_forward");
  const at::Tensor x = half({bench.tokens, kDim}), w = half({kDim}), g = half({bench.tokens, kDim});
  const at::Tensor rstd = std::get<1>(norm(x, w, 1e-6));
  bench.by_memory("rms_norm", 4 * t * kDim, [&] { norm(x, w, 1e-6); });
  bench.by_memory("rms_norm backward, x", 6 * t * kDim, [&] { norm_back(g, x, w, rstd, true, false); });
  bench.by_memory("rms_norm backward, weight", 4 * t * kDim, [&] { norm_back(g, x, w, rstd, false, true); });
  const at::Tensor q = half({1, bench.tokens, kHeads, kHeadDim}), of_head = half({kHeadDim});
  bench.by_memory("rms_norm of heads", 4 * t * kHeads * kHeadDim, [&] { norm(q, of_head, 1e-6); });
  const at::Tensor table = at::ones({bench.tokens, kHeadDim / 2}, at::TensorOptions(at::kFloat).device(at::kCUDA));
  const at::Tensor positions = at::zeros({1, bench.tokens}, at::TensorOptions(at::kLong).device(at::kCUDA));
  bench.by_memory("rope", 4 * t * kHeads * kHeadDim, [&] { rope(q, table, table, positions, false); });
  bench.by_memory("dropout", 4 * t * kDim, [&] { dropout(x, positions, 0.05); });
  const at::Tensor gate = half({bench.tokens, kHidden}), up = half({bench.tokens, kHidden});
  bench.by_memory("swiglu", 6 * t * kHidden, [&] { swiglu(gate, up); });
  bench.by_memory("swiglu backward", 10 * t * kHidden, [&] { swiglu_back(gate, gate, up); });
}

void weights(const Bench& bench) {
  const DeviceOp<signature::Nf4Quantize> quantize("ft::nf4_quantize");
  const DeviceOp<signature::Nf4Dequantize> dequantize("ft::nf4_dequantize");
  const at::Tensor w = half({kHidden, kDim});
  const double n = static_cast<double>(w.numel());
  const auto [records, offset] = quantize(w, true);
  bench.by_memory("nf4_quantize 12288 x 4096", 2.5 * n, [&] { quantize(w, true); });
  bench.by_memory("nf4_dequantize 12288 x 4096", 2.5 * n,
                  [&, &r = records, &o = offset] { dequantize(r, kHidden, kDim, o, true, at::kBFloat16); });

  const int64_t count = int64_t{1} << 26, blocks = count / ft::kBlock8;
  const auto on_gpu = [](at::ScalarType type) { return at::TensorOptions(type).device(at::kCUDA); };
  const at::Tensor master = at::randn({count}, on_gpu(at::kFloat)), grad = at::randn({count}, on_gpu(at::kFloat));
  const at::Tensor mean = at::zeros({count}, on_gpu(at::kByte)), square = at::zeros({count}, on_gpu(at::kByte));
  const at::Tensor mean_scale = at::zeros({blocks}, on_gpu(at::kFloat)), square_scale = mean_scale.clone();
  bench.by_memory("adamw8bit_ of 67 M", 16.0 * static_cast<double>(count), [&] {
    ft::ops::adamw8bit_({master}, {grad}, {mean}, {square}, {mean_scale}, {square_scale}, {1e-3}, {0.01}, 0.9, 0.999,
                        1e-8, 5);
  });
}

void products(const Bench& bench) {
  const auto t = static_cast<double>(bench.tokens);
  const DeviceOp<signature::AttentionForward> attention("ft::attention_forward");
  const DeviceOp<signature::AttentionBackward> back("ft::attention_backward");
  const DeviceOp<signature::LinearCrossEntropyForward> loss("ft::linear_cross_entropy_forward");
  const at::Tensor q = half({1, bench.tokens, kHeads, kHeadDim});
  const at::Tensor k = half({1, bench.tokens, kKvHeads, kHeadDim}), v = half({1, bench.tokens, kKvHeads, kHeadDim});
  for (const int64_t length : {bench.tokens, bench.tokens / 8}) {
    const std::vector<int64_t> documents(static_cast<size_t>(bench.tokens / length), length);
    const double flops = 2 * t * static_cast<double>(length) * kHeads * kHeadDim;  // half of the scores count
    const std::string name = "attention, documents of " + std::to_string(length);
    const auto [out, lse] = attention(q, k, v, documents, 0);
    bench.by_flops(name.c_str(), flops, [&] { attention(q, k, v, documents, 0); });
    bench.by_flops((name + ", backward").c_str(), 2.5 * flops,
                   [&, &o = out, &l = lse] { back(o, q, k, v, o, l, documents, 0); });
  }
  const at::Tensor x = half({bench.tokens, kDim}), w = half({kVocab, kDim}).mul_(0.02);
  const at::Tensor targets = at::ones({bench.tokens}, at::TensorOptions(at::kLong).device(at::kCUDA));
  bench.by_flops("linear_cross_entropy, gradient of x", 4 * t * kDim * kVocab,
                 [&] { loss(x, w, targets, std::nullopt, std::nullopt, 1, true, false); });
}

bool open_plugin() {
  const char* named = std::getenv("FTENGINE_CUDA_PLUGIN");
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libftengine_cuda.so";
  if (dlopen(named ? named : beside.c_str(), RTLD_NOW | RTLD_GLOBAL)) return at::globalContext().hasCUDA();
  std::fprintf(stderr, "gpu_ops: %s\n", dlerror());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  Bench bench;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--tokens") bench.tokens = std::atoll(argv[i + 1]);
    if (std::string(argv[i]) == "--repeats") bench.repeats = std::atoi(argv[i + 1]);
  }
  if (bench.tokens < 8 || bench.tokens % 8 != 0 || bench.repeats < 1) {
    std::fprintf(stderr, "gpu_ops: --tokens wants a multiple of 8, --repeats 1 or more\n");
    return 2;
  }
  if (!open_plugin()) {
    std::fprintf(stderr, "gpu_ops: no GPU\n");
    return 1;
  }
  c10::AutoGradMode no_graph(false);
  measure_light_speed(bench);
  element_wise(bench);
  weights(bench);
  products(bench);
  return 0;
}
