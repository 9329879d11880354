// Device helpers that every kernel shares: dtype conversion, normalisation, the recurrence.
#ifndef GSPN2_KERNELS_COMMON_CUH_
#define GSPN2_KERNELS_COMMON_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "gspn2/kernels.h"
#include "shared_memory.cuh"

namespace gspn2 {

constexpr float kSigmoidSumMin = 1e-7F;
constexpr int kWarpSize = 32;
constexpr unsigned kFullMask = 0xffffffffU;

// ---- dtypes ------------------------------------------------------------------------------------

__device__ __forceinline__ float toFloat(float value) { return value; }
__device__ __forceinline__ float toFloat(__half value) { return __half2float(value); }
__device__ __forceinline__ float toFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ __forceinline__ T fromFloat(float value);
template <>
__device__ __forceinline__ float fromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half fromFloat<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 fromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// Elements that are read or written at once.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) AlignedVector {
  T values[kCount];
};

// The same for 16-bit values, which stay in words until each is used. Of an AlignedVector that is
// read under a condition the compiler makes a register for each value right behind the load, and so
// waits for every load ahead of the next one.
template <typename T, int kCount>
struct PackedVector {
  static constexpr int kPerWord = 2;
  static constexpr int kWords = kCount / kPerWord;
  static_assert(sizeof(T) == 2 && kWords % 4 == 0, "whole loads of 16 bytes");
  using Words = AlignedVector<uint32_t, 4>;

  uint32_t words[kWords] = {};

  __device__ __forceinline__ void read(const T* source) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const Words part = reinterpret_cast<const Words*>(source)[i / 4];
#pragma unroll
      for (int k = 0; k < 4; ++k) words[i + k] = part.values[k];
    }
  }
  // The first `count` values alone, of a source that need not be aligned; the others are 0.
  __device__ __forceinline__ void read(const T* source, int count) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      if (j < count) set(j, source[j]);
    }
  }
  __device__ __forceinline__ void write(T* target) const {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      reinterpret_cast<Words*>(target)[i / 4] = {
          {words[i], words[i + 1], words[i + 2], words[i + 3]}};
    }
  }
  __device__ __forceinline__ T at(int j) const {
    const auto bits = static_cast<uint16_t>(words[j / kPerWord] >> (j % kPerWord * 16));
    T value;
    memcpy(&value, &bits, sizeof(value));
    return value;
  }
  __device__ __forceinline__ void set(int j, T value) {
    uint16_t bits;
    memcpy(&bits, &value, sizeof(bits));
    const int shift = j % kPerWord * 16;
    uint32_t& word = words[j / kPerWord];
    word = (word & ~(0xffffU << shift)) | static_cast<uint32_t>(bits) << shift;
  }
};

// The merge weight of a direction; m may be null.
template <typename T>
__device__ __forceinline__ float mergeWeight(const void* m, int direction) {
  return m == nullptr ? 1.0F : toFloat(static_cast<const T*>(m)[direction]);
}

// ---- normalisation -----------------------------------------------------------------------------

// The weights of the neighbours p-1, p and p+1. A missing neighbour's weight is exactly 0.
struct Weights {
  float minus, centre, plus;
};

// 1 / x to half a unit in the last place for normal x: the hardware's approximation and one Newton
// step. The approximation alone is biased, and a bias in the sum of the weights compounds with
// every step of a scan.
__device__ __forceinline__ float reciprocal(float x) {
  const float guess = __fdividef(1.0F, x);
  return fmaf(guess, fmaf(-x, guess, 1.0F), guess);
}

// 1 / (1 + exp(-x)); 0 where exp(-x) overflows. Relative error of a few units in the last place.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0F, 1.0F + __expf(-x)); }

// Turns raw affinities into weights. What a missing neighbour's affinity holds is selected away
// before any arithmetic that reaches the result, so that NaN and Inf there cannot spread.
// Source: GSPN (arXiv 2501.12381), the Stability-Context condition; the clamp as in its code.
template <gspn2_normalize_t kNormalize>
__device__ __forceinline__ Weights normalise(float minus, float centre, float plus, bool hasMinus,
                                             bool hasPlus) {
  if constexpr (kNormalize == GSPN2_NORMALIZE_SIGMOID) {
    const float sMinus = hasMinus ? sigmoid(minus) : 0.0F;
    const float sCentre = sigmoid(centre);
    const float sPlus = hasPlus ? sigmoid(plus) : 0.0F;
    const float scale = reciprocal(fmaxf(sMinus + sCentre + sPlus, kSigmoidSumMin));
    return {sMinus * scale, sCentre * scale, sPlus * scale};
  } else if constexpr (kNormalize == GSPN2_NORMALIZE_SOFTMAX) {
    const float top = fmaxf(centre, fmaxf(hasMinus ? minus : centre, hasPlus ? plus : centre));
    const float eMinus = hasMinus ? __expf(minus - top) : 0.0F;
    const float eCentre = __expf(centre - top);
    const float ePlus = hasPlus ? __expf(plus - top) : 0.0F;
    const float scale = reciprocal(eMinus + eCentre + ePlus);
    return {eMinus * scale, eCentre * scale, ePlus * scale};
  } else {
    static_assert(kNormalize == GSPN2_NORMALIZE_NONE, "unsupported normalisation");
    return {hasMinus ? minus : 0.0F, centre, hasPlus ? plus : 0.0F};
  }
}

// The same with the mode known at run time only; every thread of a launch takes the same branch.
__device__ __forceinline__ Weights normalise(gspn2_normalize_t mode, float minus, float centre,
                                             float plus, bool hasMinus, bool hasPlus) {
  switch (mode) {
    case GSPN2_NORMALIZE_SIGMOID:
      return normalise<GSPN2_NORMALIZE_SIGMOID>(minus, centre, plus, hasMinus, hasPlus);
    case GSPN2_NORMALIZE_SOFTMAX:
      return normalise<GSPN2_NORMALIZE_SOFTMAX>(minus, centre, plus, hasMinus, hasPlus);
    case GSPN2_NORMALIZE_NONE:
      break;  // the host has refused every other value
  }
  return normalise<GSPN2_NORMALIZE_NONE>(minus, centre, plus, hasMinus, hasPlus);
}

// One step of the recurrence. The previous line's values of a missing neighbour must be finite
// (0), since their weight is 0; `restart` drops the previous line whatever it and the weights hold.
__device__ __forceinline__ float stepState(const Weights& weights, float minus, float centre,
                                           float plus, float input, bool restart) {
  const float carried =
      fmaf(weights.minus, minus, fmaf(weights.centre, centre, weights.plus * plus));
  return restart ? input : input + carried;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_COMMON_CUH_
