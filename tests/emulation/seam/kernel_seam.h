// Compiled ahead of every kernel source: stands in for plugins/kernels/hopper.cuh and
// shared_memory.cuh, whose include guards it takes. The functions and their contracts are theirs.
#ifndef GSPN2_KERNELS_HOPPER_CUH_
#define GSPN2_KERNELS_HOPPER_CUH_
#define GSPN2_KERNELS_SHARED_MEMORY_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace gspn2 {

// ---- shared_memory.cuh -------------------------------------------------------------------------

template <typename T>
T* dynamicShared() {
  return static_cast<T*>(emulation::dynamicShared());
}

template <typename T>
T& staticShared() {
  static const char key = 0;
  return *static_cast<T*>(emulation::staticShared(&key, sizeof(T), alignof(T)));
}

// ---- hopper.cuh --------------------------------------------------------------------------------

constexpr bool kHopper = true;  // what the calls do not use is compiled all the same

constexpr uint64_t kEvictFirst = 0x12f0000000000000ULL;
constexpr uint64_t kEvictNormal = 0x1000000000000000ULL;

inline uint32_t sharedAddress(const void* pointer) { return emulation::sharedAddress(pointer); }

inline uint4 loadSharedWordsNow(uint32_t address) {
  return *static_cast<const uint4*>(emulation::ownShared(address, sizeof(uint4)));
}
inline uint4 loadGlobalWordsNow(const void* source) {
  emulation::checkAligned(source, sizeof(uint4));
  return *static_cast<const uint4*>(source);
}
// Floats of one access of `count`.
constexpr int accessFloats(int count) { return count % 4 == 0 ? 4 : count % 2 == 0 ? 2 : 1; }

template <int kCount>
void loadSharedFloatsNow(uint32_t address, float (&values)[kCount]) {
  constexpr int kAccess = accessFloats(kCount);
  for (int i = 0; i < kCount; i += kAccess) {
    std::memcpy(values + i, emulation::ownShared(address + 4 * i, 4 * kAccess), 4 * kAccess);
  }
}
template <int kCount>
void storeSharedFloats(uint32_t address, const float (&values)[kCount]) {
  constexpr int kAccess = accessFloats(kCount);
  for (int i = 0; i < kCount; i += kAccess) {
    std::memcpy(emulation::ownShared(address + 4 * i, 4 * kAccess), values + i, 4 * kAccess);
  }
}
template <int kCount>
void storeWords(uint32_t address, const float (&values)[kCount], uint32_t number) {
  emulation::ownShared(address, 8);
  for (int i = 0; i < kCount; ++i) {
    emulation::storeWord(address + 8 * i, __float_as_uint(values[i]), number);
  }
}
template <int kCount>
void storeWordsRemote(uint64_t pointer, const float (&values)[kCount], uint32_t number) {
  for (int i = 0; i < kCount; ++i) {
    emulation::storeWord(static_cast<uint32_t>(pointer) + 8 * i, __float_as_uint(values[i]),
                         number);
  }
}
template <int kCount>
void awaitWords(uint32_t address, uint32_t number, float (&values)[kCount]) {
  for (int i = 0; i < kCount; ++i) {
    values[i] = __uint_as_float(emulation::awaitWord(address + 8 * i, number));
  }
}
inline void storeWordGlobal(uint64_t* target, float value, uint32_t number) {
  emulation::storeWordGlobal(target, __float_as_uint(value), number);
}
inline float awaitWordGlobal(const uint64_t* source, uint32_t number) {
  return __uint_as_float(emulation::awaitWordGlobal(source, number));
}
inline void storeSharedVector(uint32_t address, uint4 value) {
  *static_cast<uint4*>(emulation::ownShared(address, sizeof(value))) = value;
}

inline uint32_t keepInRegister(uint32_t value) { return value; }
template <typename T>
T* keepInRegister(T* pointer) {
  return pointer;
}

// Subnormal operands and results of the hardware's approximations count as 0.
inline float flushed(float x) { return fabsf(x) < 0x1p-126F ? copysignf(0.0F, x) : x; }
inline float exp2Approximate(float x) { return flushed(exp2f(flushed(x))); }
inline float reciprocalHardware(float x) {
  const float exact = flushed(1.0F / flushed(x));
  // Off by one unit in the last place now and then, always to the same side.
  const unsigned bits = __float_as_uint(exact);
  const bool off = (bits & 3U) == 0 && exact != 0.0F && isfinite(exact);
  return off ? __uint_as_float(bits + 1) : exact;
}
inline float minKeepNan(float x, float limit) {
  if (isnan(x)) return x;
  return limit < x ? limit : x;
}

inline void loadMatrices(uint32_t address, uint32_t (&words)[4]) {
  emulation::loadMatrices(address, words);
}
inline float halfOf(uint32_t word, int index, const __half*) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> (16 * index))));
}
inline float halfOf(uint32_t word, int index, const __nv_bfloat16*) {
  return __uint_as_float(index == 0 ? word << 16 : word & 0xffff0000U);
}
template <typename T>
void multiplyAdd(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const T* type) {
  float ofA[8], ofB[4];
  for (int i = 0; i < 8; ++i) ofA[i] = halfOf(a[i / 2], i % 2, type);
  for (int i = 0; i < 4; ++i) ofB[i] = halfOf(b[i / 2], i % 2, type);
  emulation::multiplyAdd(ofA, ofB, sums);
}

// The order in which threads' sums meet is the scheduler's, as on a device.
inline void addToGlobal(float* target, float value) {
  emulation::checkAligned(target, sizeof(value));
  emulation::mayYield();
  *target += value;
}
inline void addToGlobal(float* target, float2 value) {
  emulation::checkAligned(target, sizeof(value));
  addToGlobal(target, value.x);
  addToGlobal(target + 1, value.y);
}
inline void addToGlobal(float* target, float4 value) {
  emulation::checkAligned(target, sizeof(value));
  addToGlobal(target, make_float2(value.x, value.y));
  addToGlobal(target + 2, make_float2(value.z, value.w));
}

inline void barrierInit(uint32_t barrier, uint32_t arrivals) {
  emulation::initBarrier(barrier, arrivals);
}
inline void barrierInitFence() {}
inline void barrierArrive(uint32_t barrier) { emulation::arriveBarrier(barrier); }
inline void barrierArriveExpect(uint32_t barrier, uint32_t bytes) {
  emulation::arriveBarrierExpecting(barrier, bytes);
}
inline void barrierWait(uint32_t barrier, uint32_t parity) {
  emulation::waitBarrier(barrier, parity);
}
inline void barrierWaitCluster(uint32_t barrier, uint32_t parity) {
  emulation::waitBarrier(barrier, parity);
}
inline void namedBarrier(int id, int threads) { emulation::syncNamed(id, threads); }

inline void copyChunk(uint32_t target, const void* source, int bytes) {
  emulation::copyChunk(target, source, bytes);
}
inline void barrierArriveCopies(uint32_t barrier) { emulation::arriveAfterCopies(barrier); }

inline void loadTile(uint32_t target, const CUtensorMap* map, int column, int row, int plane,
                     uint32_t barrier, uint64_t) {
  emulation::loadTile(target, *map, column, row, plane, barrier);
}
inline void copyBulk(uint32_t target, const void* source, int bytes, uint32_t barrier, uint64_t) {
  emulation::copyBulk(target, source, bytes, barrier);
}

inline void prefetch(const void* pointer) {
  (void)*static_cast<const volatile char*>(pointer);  // which has to be there
}
inline void waitForPreviousKernel() {}  // kernels run one after the other
inline void letNextKernelStart() {}

inline uint32_t clusterRank() { return emulation::clusterRank(); }
inline void clusterArrive() { emulation::arriveCluster(); }
inline void clusterWait() { emulation::waitCluster(); }
inline void clusterSync() {
  emulation::arriveCluster();
  emulation::waitCluster();
}
inline uint32_t clusterAddress(uint32_t address, uint32_t rank) {
  return emulation::clusterAddress(address, rank);
}
inline uint64_t clusterPointer(uint32_t address, uint32_t rank) {
  return emulation::clusterAddress(address, rank);
}
inline void storeRemote(uint32_t address, float value, uint32_t barrier) {
  emulation::storeRemote(address, &value, sizeof(value), barrier);
}
inline void storeRemote(uint32_t address, float2 value, uint32_t barrier) {
  emulation::storeRemote(address, &value, sizeof(value), barrier);
}
inline void storeRemote(uint32_t address, float4 value, uint32_t barrier) {
  emulation::storeRemote(address, &value, sizeof(value), barrier);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_HOPPER_CUH_
