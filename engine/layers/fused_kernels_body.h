/// The kernels' source, included once by each fused_kernels*.cpp inside a namespace of that instruction set. Plain
/// loops over 16 lanes that GCC and Clang turn into vectors; no calls of the C library in the loops.

namespace {

constexpr int64_t kLanes = 16;

inline float load(float x) { return x; }
inline float load(Bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16); }
inline float load(Fp16 x) { return static_cast<float>(__builtin_bit_cast(_Float16, x.bits)); }
inline void store(float value, float& out) { out = value; }
inline void store(float value, Bf16& out) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x0040u;
  out.bits = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

inline void store(float value, Fp16& out) { out.bits = __builtin_bit_cast(uint16_t, static_cast<_Float16>(value)); }

struct Lanes {
  float v[kLanes] = {};
  float sum() const {
    float s[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) s[i] = v[i];
    for (int64_t width = kLanes / 2; width > 0; width /= 2)
      for (int64_t i = 0; i < width; ++i) s[i] += s[i + width];
    return s[0];
  }
};

// Calls term(i, lane) for every i in [0, n), the lanes in an order that does not depend on the instruction set.
template <class F>
inline void for_lanes(int64_t n, const F& term) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) term(i + l, l);
  for (int64_t l = 0; i < n; ++i, ++l) term(i, l);
}

// exp by 2^n·e^r with |r| <= ln(2)/2 and the degree-6 polynomial of Cephes' expf (1 ulp); clamped to the normal range.
inline float exp_fp32(float x) {
  x = x < -87.33f ? -87.33f : x;
  x = x > 88.37f ? 88.37f : x;
  constexpr float kRound = 12582912.f;  // 1.5·2^23: adding it rounds to an integer that stands in the low bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.f;
  const int32_t exponent = __builtin_bit_cast(int32_t, shifted) - __builtin_bit_cast(int32_t, kRound) + 127;
  return p * __builtin_bit_cast(float, static_cast<uint32_t>(exponent) << 23);
}

template <class T>
float rms_norm(const T* x, const float* w, int64_t n, float eps, T* y) {
  Lanes squares;
  for_lanes(n, [&](int64_t i, int64_t l) {
    const float v = load(x[i]);
    squares.v[l] += v * v;
  });
  const float rstd = 1.f / __builtin_sqrtf(squares.sum() / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) store(load(x[i]) * rstd * w[i], y[i]);
  return rstd;
}

template <class T>
void rms_norm_backward(const T* gy, const T* x, const float* w, float rstd, int64_t n, T* gx, float* gw) {
  if (gw)
    for (int64_t i = 0; i < n; ++i) gw[i] += load(gy[i]) * (load(x[i]) * rstd);
  if (!gx) return;
  Lanes dots;
  for_lanes(n, [&](int64_t i, int64_t l) { dots.v[l] += load(gy[i]) * w[i] * (load(x[i]) * rstd); });
  const float mean = dots.sum() / static_cast<float>(n);
  for (int64_t i = 0; i < n; ++i) store(rstd * (load(gy[i]) * w[i] - load(x[i]) * rstd * mean), gx[i]);
}

template <class T>
void rope(const T* x, const float* cos, const float* sin, float sign, int64_t half, T* y) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = load(x[i]), b = load(x[i + half]), c = cos[i], s = sign * sin[i];
    store(a * c - b * s, y[i]);
    store(b * c + a * s, y[i + half]);
  }
}

template <class T>
void swiglu(const T* gate, const T* up, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = load(gate[i]);
    store(g / (1.f + exp_fp32(-g)) * load(up[i]), y[i]);
  }
}

template <class T>
void swiglu_backward(const T* gy, const T* gate, const T* up, int64_t n, T* ggate, T* gup) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = load(gate[i]), d = load(gy[i]);
    const float sigmoid = 1.f / (1.f + exp_fp32(-g));
    store(d * load(up[i]) * sigmoid * (1.f + g * (1.f - sigmoid)), ggate[i]);
    store(d * g * sigmoid, gup[i]);
  }
}

template <class T>
double cross_entropy(T* logits, int64_t n, int64_t target, float scale) {
  Lanes largest;
  for (int64_t l = 0; l < kLanes; ++l) largest.v[l] = load(logits[0]);
  for_lanes(n, [&](int64_t i, int64_t l) {
    const float v = load(logits[i]);
    largest.v[l] = v > largest.v[l] ? v : largest.v[l];
  });
  float max = largest.v[0];
  for (int64_t l = 1; l < kLanes; ++l) max = largest.v[l] > max ? largest.v[l] : max;
  // Short runs in fp32 lanes, their sums in fp64: a vocabulary of 150,000 loses nothing.
  constexpr int64_t kRun = 1024;
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    Lanes exps;
    const T* run = logits + begin;
    for_lanes(n - begin < kRun ? n - begin : kRun,
              [&](int64_t i, int64_t l) { exps.v[l] += exp_fp32(load(run[i]) - max); });
    sum += static_cast<double>(exps.sum());
  }
  const double nll = static_cast<double>(max) + __builtin_log(sum) - static_cast<double>(load(logits[target]));
  if (scale != 0) {
    const float factor = static_cast<float>(static_cast<double>(scale) / sum);
    const float onehot = exp_fp32(load(logits[target]) - max) * factor - scale;
    for (int64_t i = 0; i < n; ++i) store(exp_fp32(load(logits[i]) - max) * factor, logits[i]);
    store(onehot, logits[target]);
  }
  return nll;
}

// A 32-bit finaliser ("lowbias32" of Wellons' hash prospector), twice, so that both halves of the key reach every bit.
inline uint32_t scramble(uint32_t h) {
  h = (h ^ (h >> 16)) * 0x7FEB352Du;
  h = (h ^ (h >> 15)) * 0x846CA68Bu;
  return h ^ (h >> 16);
}
inline bool keeps(uint32_t threshold, uint32_t low, uint32_t high, int32_t feature) {
  const uint32_t counter = static_cast<uint32_t>(feature) * 0x9E3779B9u;
  return scramble(scramble(low + counter) ^ high) >= threshold;
}

// Every element is loaded and scaled, kept or not, and the scale is a local: only then does the compiler see vectors.
template <class T>
void dropout(const T* x, int64_t n, const DropoutRow& row, T* y) {
  const auto low = static_cast<uint32_t>(row.key), high = static_cast<uint32_t>(row.key >> 32);
  const uint32_t threshold = row.threshold;
  const float scale = row.keep_scale;
#pragma GCC ivdep
  for (int32_t i = 0; i < static_cast<int32_t>(n); ++i) {
    const float scaled = load(x[i]) * scale;
    store(keeps(threshold, low, high, i) ? scaled : 0.f, y[i]);
  }
}

template <class T>
void dropout_add(const T* x, int64_t n, const DropoutRow& row, T* y) {
  const auto low = static_cast<uint32_t>(row.key), high = static_cast<uint32_t>(row.key >> 32);
  const uint32_t threshold = row.threshold;
  const float scale = row.keep_scale;
#pragma GCC ivdep
  for (int32_t i = 0; i < static_cast<int32_t>(n); ++i) {
    const float scaled = load(x[i]) * scale;
    store(load(y[i]) + (keeps(threshold, low, high, i) ? scaled : 0.f), y[i]);
  }
}

template <class T>
constexpr RowKernels<T> kKernels{rms_norm<T>,        rms_norm_backward<T>, rope<T>,    swiglu<T>,
                                 swiglu_backward<T>, cross_entropy<T>,     dropout<T>, dropout_add<T>};

}  // namespace
