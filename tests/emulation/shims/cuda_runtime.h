// CUDA C++ for g++: the keywords, types and intrinsics that the kernels use, for the emulation.
#ifndef GSPN2_EMULATION_CUDA_RUNTIME_H_
#define GSPN2_EMULATION_CUDA_RUNTIME_H_

#include <cuda_runtime_api.h>
#include <limits.h>
#include <math.h>

#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "machine/device.h"

#define __CUDA_ARCH__ \
  900  // whichever device the host code sees: it does not launch what that lacks
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// One OS thread runs every block: a variable cannot tell them apart. See shared_memory.cuh.
#define __shared__ take_it_from_dynamicShared_or_staticShared_of_shared_memory_cuh

constexpr int warpSize = 32;

// ---- vector types ------------------------------------------------------------------------------

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// ---- arithmetic --------------------------------------------------------------------------------

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long min(long a, long b) { return b < a ? b : a; }
inline long max(long a, long b) { return a < b ? b : a; }

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline int __float_as_int(float value) { return static_cast<int>(__float_as_uint(value)); }
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }
// Bytes of low, then of high, by four digits of the selector.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned from = selector >> (4 * i) & 7U;
    result |= static_cast<unsigned>(bytes >> (8 * from) & 0xffU) << (8 * i);
  }
  return result;
}

// Source: CUDA C++ Programming Guide, "Intrinsic Functions": 0 where 2^126 < |y| < 2^128.
inline float __fdividef(float x, float y) {
  if (fabsf(y) > 0x1p126F && !isinf(y)) return isinf(x) ? NAN : copysignf(0.0F, x) * y;
  return x / y;
}
// The hardware has 2^x only; its product with log2(e) is rounded.
inline float rsqrtf(float value) { return 1.0F / std::sqrt(value); }
inline float __expf(float x) { return exp2f(1.4426950408889634F * x); }

// ---- memory ------------------------------------------------------------------------------------

template <typename T>
T __ldg(const T* source) {
  ::emulation::checkAligned(source, sizeof(T));
  return *source;
}
template <typename T>
T __ldcs(const T* source) {
  return __ldg(source);
}
template <typename T>
T __ldcg(const T* source) {
  return __ldg(source);
}
template <typename T>
void __stcs(T* target, T value) {
  ::emulation::checkAligned(target, sizeof(T));
  *target = value;
}
template <typename T>
void __stcg(T* target, T value) {
  __stcs(target, value);
}
inline void __threadfence() { ::emulation::mayYield(); }
inline void __threadfence_block() { ::emulation::mayYield(); }
// ---- blocks and warps --------------------------------------------------------------------------

inline void __syncthreads() { ::emulation::syncBlock(); }
inline void __syncwarp(unsigned mask = 0xffffffffU) { ::emulation::syncWarp(mask); }
inline unsigned __ballot_sync(unsigned mask, int value) {
  return ::emulation::ballot(mask, value != 0);
}
inline int __any_sync(unsigned mask, int value) {
  return ::emulation::ballot(mask, value != 0) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int value) {
  return ::emulation::ballot(mask, value == 0) == 0 ? 1 : 0;
}
inline unsigned __activemask() { return ::emulation::liveLanes(); }

namespace emulation {

inline int laneId() {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  return static_cast<int>(thread % warpSize);
}

template <typename T>
T shuffleValue(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "unsupported type of a shuffle");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, bits, source);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulation

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
  const int lane = ::emulation::laneId();
  return ::emulation::shuffleValue(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = ::emulation::laneId();
  const bool inside = (lane & (width - 1)) >= static_cast<int>(delta);
  return ::emulation::shuffleValue(mask, value, inside ? lane - static_cast<int>(delta) : lane);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = ::emulation::laneId();
  const bool inside = (lane & (width - 1)) + static_cast<int>(delta) < width;
  return ::emulation::shuffleValue(mask, value, inside ? lane + static_cast<int>(delta) : lane);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int other, int width = warpSize) {
  const int lane = ::emulation::laneId();
  const int source = lane ^ other;
  return ::emulation::shuffleValue(mask, value, source < (lane | (width - 1)) + 1 ? source : lane);
}

// ---- launches ----------------------------------------------------------------------------------

namespace emulation {

// Runs the whole grid before it returns. `run(body)` is what a thread does; `signature` names the
// kernel where its symbol does not.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const char* signature,
                   void (*run)(const void*), const void* body);

}  // namespace emulation

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  using Values = std::tuple<std::remove_cv_t<Parameters>...>;
  const std::pair<void (*)(Parameters...), Values> body(
      kernel, Values(std::forward<Arguments>(arguments)...));
  using Body = decltype(body);
  const auto run = [](const void* opaque) {
    const Body& self = *static_cast<const Body*>(opaque);
    std::apply(self.first, self.second);
  };
  return ::emulation::launch(*config, reinterpret_cast<const void*>(kernel), __PRETTY_FUNCTION__,
                             run, &body);
}

template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(Parameters...)) {
  return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <typename... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks,
                                                          void (*kernel)(Parameters...),
                                                          int threads, size_t sharedBytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      blocks, reinterpret_cast<const void*>(kernel), threads, sharedBytes);
}
template <typename... Parameters>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, void (*kernel)(Parameters...),
                                           const cudaLaunchConfig_t* config) {
  return cudaOccupancyMaxActiveClusters(clusters, reinterpret_cast<const void*>(kernel), config);
}

#endif  // GSPN2_EMULATION_CUDA_RUNTIME_H_
