// Device helpers that every kernel shares: dtype conversion, normalisation, the recurrence.
#ifndef GSPN2_KERNELS_COMMON_CUH_
#define GSPN2_KERNELS_COMMON_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

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

// Of the elements in a word, by a null pointer to the elements' type.
__device__ __forceinline__ float unpackFloat(float word, int, const float*) { return word; }
__device__ __forceinline__ float unpackFloat(uint32_t word, int index, const __half*) {
  return toFloat(__ushort_as_half(static_cast<unsigned short>(word >> (16 * index))));
}
__device__ __forceinline__ float unpackFloat(uint32_t word, int index, const __nv_bfloat16*) {
  return __uint_as_float(index == 0 ? word << 16 : word & 0xffff0000U);
}

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

// The same as they lie in memory, in words of 32 bits. Of 16-bit values the compiler takes an
// AlignedVector apart right behind its load, and so waits for each load ahead of the next one:
// where loads are to be in flight, their vectors stay packed.
template <typename T, int kCount>
struct PackedVector {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4, "unsupported element");
  using Word = std::conditional_t<sizeof(T) == 4, T, uint32_t>;
  static constexpr int kPerWord = 4 / sizeof(T);
  static constexpr int kWords = (kCount + kPerWord - 1) / kPerWord;
  using Words = AlignedVector<Word, kWords>;

  Word words[kWords] = {};

  __device__ __forceinline__ static PackedVector read(const T* source) {
    PackedVector vector;
    if constexpr (kCount % kPerWord == 0) {
      const auto loaded = *reinterpret_cast<const Words*>(source);
#pragma unroll
      for (int i = 0; i < kWords; ++i) vector.words[i] = loaded.values[i];
    } else {
      static_assert(kCount == 1, "unsupported vector");
      vector.words[0] = *reinterpret_cast<const uint16_t*>(source);
    }
    return vector;
  }
  // The first `count` values, of a source that is aligned to no more than T; the others are 0.
  __device__ __forceinline__ static PackedVector read(const T* source, int count) {
    PackedVector vector;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) vector.set(i, toFloat(source[i]));
    }
    return vector;
  }
  __device__ __forceinline__ void write(T* target) const {
    static_assert(kCount % kPerWord == 0, "unsupported vector");
    Words stored;
#pragma unroll
    for (int i = 0; i < kWords; ++i) stored.values[i] = words[i];
    *reinterpret_cast<Words*>(target) = stored;
  }

  __device__ __forceinline__ float operator[](int i) const {
    return unpackFloat(words[i / kPerWord], i % kPerWord, static_cast<const T*>(nullptr));
  }
  __device__ __forceinline__ PackedVector masked(const PackedVector& mask) const {
    static_assert(kPerWord > 1, "no bits of such words");
    PackedVector vector;
#pragma unroll
    for (int i = 0; i < kWords; ++i) vector.words[i] = words[i] & mask.words[i];
    return vector;
  }
  // Rounds.
  __device__ __forceinline__ void set(int i, float value) {
    const T rounded = fromFloat<T>(value);
    if constexpr (kPerWord == 1) {
      words[i] = rounded;
    } else {
      uint16_t bits;
      memcpy(&bits, &rounded, sizeof(bits));
      const int shift = i % kPerWord * 16;
      uint32_t& word = words[i / kPerWord];
      word = (word & ~(0xffffU << shift)) | static_cast<uint32_t>(bits) << shift;
    }
  }
};

// The merge weight of a direction; m may be null. Past the L1 cache, as kernels that start while
// another one runs read it, too: see strip_exchange.cuh.
template <typename T>
__device__ __forceinline__ float mergeWeight(const void* m, int direction) {
  return m == nullptr ? 1.0F : toFloat(__ldcg(static_cast<const T*>(m) + direction));
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
