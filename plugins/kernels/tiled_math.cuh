// Normalisation of many affinities at once, with few special-function instructions.
#ifndef GSPN2_KERNELS_TILED_MATH_CUH_
#define GSPN2_KERNELS_TILED_MATH_CUH_

#include "common.cuh"
#include "hopper.cuh"

namespace gspn2 {

constexpr float kLog2E = 1.4426950408889634F;
constexpr float kExponentialMax = 0x1p62F;  // see normaliseSigmoid
constexpr float kExponentialScale = 0x1p-20F;

// With a Newton step: the hardware's approximation is biased, and a bias in the sum of the weights
// compounds with every step of a scan (measured: 5e-5 of the state after 4096 steps).
__device__ __forceinline__ float reciprocalApproximate(float x) {
  const float y = reciprocalHardware(x);
  return fmaf(y, fmaf(-x, y, 1.0F), y);
}

// A sigmoid's denominator, times kExponentialScale.
__device__ __forceinline__ float scaledDenominator(float x) {
  const float exponential = minKeepNan(exp2Approximate(-kLog2E * x), kExponentialMax);
  return fmaf(exponential, kExponentialScale, kExponentialScale);
}

// s(w_j) / max(sum s(w_j), 1e-7) with four special-function instructions instead of seven: with
// a_j = 1 + exp(-w_j), s(w_j) is the product of the other two a over that of all three. Clamping
// exp(-w_j) to 2^62 and taking 2^-20 of every a keeps that product finite; a sigmoid below 2^-62
// then counts as 2^-62, which moves a weight by at most 2^-62 / 1e-7 = 2.2e-12. A missing
// neighbour comes in as -Inf; its weight of 2^-62 meets a state of exactly 0.
__device__ __forceinline__ void normaliseSigmoid(float& minus, float& centre, float& plus) {
  constexpr float kScaledSumMin = kSigmoidSumMin / kExponentialScale;
  const float a = scaledDenominator(minus);
  const float b = scaledDenominator(centre);
  const float c = scaledDenominator(plus);
  const float ab = a * b;
  const float sum = fmaf(c, a + b, ab);
  const float scale = reciprocalApproximate(fmaxf(sum, ab * (kScaledSumMin * c)));
  const float cScale = c * scale;
  minus = b * cScale;
  centre = a * cScale;
  plus = ab * scale;
}

__device__ __forceinline__ void normaliseSoftmax(float& minus, float& centre, float& plus) {
  const float top = fmaxf(centre, fmaxf(minus, plus));
  const float a = exp2Approximate(kLog2E * (minus - top));
  const float b = exp2Approximate(kLog2E * (centre - top));
  const float c = exp2Approximate(kLog2E * (plus - top));
  const float scale = reciprocalApproximate(a + b + c);
  minus = a * scale;
  centre = b * scale;
  plus = c * scale;
}

template <gspn2_normalize_t kNormalize>
__device__ __forceinline__ void normaliseFast(float& minus, float& centre, float& plus) {
  if constexpr (kNormalize == GSPN2_NORMALIZE_SIGMOID) {
    normaliseSigmoid(minus, centre, plus);
  } else if constexpr (kNormalize == GSPN2_NORMALIZE_SOFTMAX) {
    normaliseSoftmax(minus, centre, plus);
  } else {
    static_assert(kNormalize == GSPN2_NORMALIZE_NONE, "unsupported normalisation");
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_MATH_CUH_
