/// RMSNorm, RoPE, SwiGLU and dropout on the CPU: rows dealt to threads, the arithmetic in fused_kernels.h.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "engine/error/error.h"
#include "engine/layers/cpu_ops.h"
#include "engine/layers/fused_kernels.h"

namespace ft::cpu {
namespace {

constexpr int64_t kElementsAThread = 16384;  // below this a second thread costs more than it brings

int64_t rows_a_thread(int64_t width) { return std::max<int64_t>(1, kElementsAThread / std::max<int64_t>(1, width)); }

// Calls f with a null pointer of the row type that belongs to the tensor's dtype.
template <class F>
void with_row_type(const at::Tensor& x, const char* op, const F& f) {
  if (x.scalar_type() == at::kFloat) return f(static_cast<float*>(nullptr));
  if (x.scalar_type() == at::kBFloat16) return f(static_cast<Bf16*>(nullptr));
  if (x.scalar_type() == at::kHalf) return f(static_cast<Fp16*>(nullptr));
  throw Error(ErrorKind::shape, std::string("got ") + c10::toString(x.scalar_type()) + ", want fp32, bf16 or fp16")
      .key(op);
}

template <class T>
T* data(const at::Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> rms_norm_forward(const at::Tensor& x_in, const at::Tensor& weight, double eps) {
  const at::Tensor x = x_in.contiguous(), w = weight.to(at::kFloat).contiguous();
  const int64_t n = x.size(-1), rows = x.numel() / std::max<int64_t>(1, n);
  if (w.numel() != n)
    throw Error(ErrorKind::shape,
                "got weight " + std::to_string(w.numel()) + ", want x's last dim " + std::to_string(n))
        .key("ft::rms_norm");
  at::Tensor y = at::empty_like(x), rstd = at::empty({rows}, x.options().dtype(at::kFloat));
  with_row_type(x, "ft::rms_norm", [&]<class T>(T*) {
    const auto& kernels = row_kernels<T>();
    at::parallel_for(0, rows, rows_a_thread(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        data<float>(rstd)[r] =
            kernels.rms_norm(data<T>(x) + r * n, data<float>(w), n, static_cast<float>(eps), data<T>(y) + r * n);
    });
  });
  return {y, rstd};
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad_in, const at::Tensor& x_in,
                                                     const at::Tensor& weight, const at::Tensor& rstd, bool want_x,
                                                     bool want_weight) {
  constexpr int64_t kChunkRows = 64;  // the weight's gradient is summed chunk by chunk, whatever the threads
  const at::Tensor x = x_in.contiguous(), grad = grad_in.contiguous(), w = weight.to(at::kFloat).contiguous();
  const int64_t n = x.size(-1), rows = rstd.numel(), chunks = (rows + kChunkRows - 1) / kChunkRows;
  at::Tensor gx, partial;
  if (want_x) gx = at::empty_like(x);
  if (want_weight) partial = at::zeros({chunks, n}, w.options());
  with_row_type(x, "ft::rms_norm", [&]<class T>(T*) {
    const auto& kernels = row_kernels<T>();
    at::parallel_for(0, chunks, std::max<int64_t>(1, rows_a_thread(n) / kChunkRows), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin * kChunkRows; r < std::min(rows, end * kChunkRows); ++r)
        kernels.rms_norm_backward(data<T>(grad) + r * n, data<T>(x) + r * n, data<float>(w), data<float>(rstd)[r], n,
                                  want_x ? data<T>(gx) + r * n : nullptr,
                                  want_weight ? data<float>(partial) + r / kChunkRows * n : nullptr);
    });
  });
  return {gx, want_weight ? partial.sum(0) : at::Tensor()};
}

at::Tensor rope_forward(const at::Tensor& x_in, const at::Tensor& cos, const at::Tensor& sin,
                        const at::Tensor& positions_in, bool inverse) {
  const at::Tensor x = x_in.contiguous(), positions = positions_in.contiguous();
  const int64_t heads = x.size(2), width = x.size(3), half = width / 2, tokens = x.size(0) * x.size(1);
  if (cos.size(1) != half || positions.numel() != tokens)
    throw Error(ErrorKind::shape, "got x [.., " + std::to_string(heads) + ", " + std::to_string(width) +
                                      "], tables of " + std::to_string(cos.size(1)) + ", " +
                                      std::to_string(positions.numel()) +
                                      " positions, want half of x's last dim and a position a token")
        .key("ft::rope");
  at::Tensor y = at::empty_like(x);
  const float sign = inverse ? -1.f : 1.f;
  with_row_type(x, "ft::rope", [&]<class T>(T*) {
    const auto& kernels = row_kernels<T>();
    at::parallel_for(0, tokens, rows_a_thread(heads * width), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t at = positions.data_ptr<int64_t>()[t] * half;
        for (int64_t h = t * heads; h < (t + 1) * heads; ++h)
          kernels.rope(data<T>(x) + h * width, data<float>(cos) + at, data<float>(sin) + at, sign, half,
                       data<T>(y) + h * width);
      }
    });
  });
  return y;
}

at::Tensor swiglu_forward(const at::Tensor& gate_in, const at::Tensor& up_in) {
  const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor y = at::empty_like(gate);
  with_row_type(gate, "ft::swiglu", [&]<class T>(T*) {
    at::parallel_for(0, gate.numel(), kElementsAThread, [&](int64_t begin, int64_t end) {
      row_kernels<T>().swiglu(data<T>(gate) + begin, data<T>(up) + begin, end - begin, data<T>(y) + begin);
    });
  });
  return y;
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& grad_in, const at::Tensor& gate_in,
                                                   const at::Tensor& up_in) {
  const at::Tensor grad = grad_in.contiguous(), gate = gate_in.contiguous(), up = up_in.contiguous();
  at::Tensor ggate = at::empty_like(gate), gup = at::empty_like(up);
  with_row_type(gate, "ft::swiglu", [&]<class T>(T*) {
    at::parallel_for(0, gate.numel(), kElementsAThread, [&](int64_t begin, int64_t end) {
      row_kernels<T>().swiglu_backward(data<T>(grad) + begin, data<T>(gate) + begin, data<T>(up) + begin, end - begin,
                                       data<T>(ggate) + begin, data<T>(gup) + begin);
    });
  });
  return {ggate, gup};
}

namespace {

template <class F>
void dropout_rows(const at::Tensor& x, const at::Tensor& keys, double p, const F& row) {
  const int64_t n = x.size(-1), rows = x.numel() / std::max<int64_t>(1, n);
  if (keys.numel() != rows || p < 0 || p >= 1)
    throw Error(ErrorKind::shape, "got " + std::to_string(keys.numel()) + " keys and p = " + std::to_string(p) +
                                      ", want a key a token (" + std::to_string(rows) + ") and p in [0, 1)")
        .key("ft::counter_dropout");
  const auto* key = keys.data_ptr<int64_t>();
  DropoutRow common{.threshold = static_cast<uint32_t>(p * 4294967296.0),
                    .keep_scale = static_cast<float>(1 / (1 - p))};
  at::parallel_for(0, rows, rows_a_thread(n), [&](int64_t begin, int64_t end) {
    DropoutRow mine = common;
    for (int64_t r = begin; r < end; ++r) {
      mine.key = static_cast<uint64_t>(key[r]);
      row(r * n, n, mine);
    }
  });
}

}  // namespace

at::Tensor dropout_forward(const at::Tensor& x_in, const at::Tensor& keys, double p) {
  const at::Tensor x = x_in.contiguous();
  at::Tensor y = at::empty_like(x);
  with_row_type(x, "ft::counter_dropout", [&]<class T>(T*) {
    dropout_rows(x, keys.contiguous(), p, [&](int64_t at, int64_t n, const DropoutRow& row) {
      row_kernels<T>().dropout(data<T>(x) + at, n, row, data<T>(y) + at);
    });
  });
  return y;
}

void dropout_add(at::Tensor into, const at::Tensor& x_in, const at::Tensor& keys, double p) {
  const at::Tensor x = x_in.contiguous();
  FT_CHECK(into.is_contiguous() && into.scalar_type() == x.scalar_type(), "dropout_add: dense, of one dtype");
  with_row_type(x, "ft::counter_dropout", [&]<class T>(T*) {
    dropout_rows(x, keys.contiguous(), p, [&](int64_t at, int64_t n, const DropoutRow& row) {
      row_kernels<T>().dropout_add(data<T>(x) + at, n, row, data<T>(into) + at);
    });
  });
}

}  // namespace ft::cpu
