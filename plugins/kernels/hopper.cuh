// What the fast kernels use beyond CUDA C++: mbarriers, asynchronous copies and tensor cores, and
// of compute capability 9.0 the bulk tensor copy engine and distributed shared memory, as thin
// wrappers over PTX. All of the kernels' PTX is here: tests/emulation puts functions of the same
// names in its place.
//
// Source: PTX ISA, sections on mbarrier, ldmatrix, mma, cp.async.bulk.tensor, st.async and mapa.
#ifndef GSPN2_KERNELS_HOPPER_CUH_
#define GSPN2_KERNELS_HOPPER_CUH_

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace gspn2 {

// Whether the device that is compiled for has clusters and the bulk copy engine. What needs them
// stands behind this.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr bool kHopper = true;
#else
constexpr bool kHopper = false;
#endif

// Cache policies of bulk copies, as createpolicy encodes a fraction of 1.0.
constexpr uint64_t kEvictFirst = 0x12f0000000000000ULL;
constexpr uint64_t kEvictNormal = 0x1000000000000000ULL;

__device__ __forceinline__ uint32_t sharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 bytes of shared memory, at this place of the instruction stream: the compiler likes to move a
// load next to its use, which exposes its latency where one warp works alone.
__device__ __forceinline__ uint4 loadSharedWordsNow(uint32_t address) {
  uint4 value;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(address)
               : "memory");
  return value;
}

// 16 bytes of global memory, at this place of the instruction stream, of a line whose other bytes
// blocks beside this one want.
__device__ __forceinline__ uint4 loadGlobalWordsNow(const void* source) {
  uint4 value;
  asm volatile("ld.global.L2::128B.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(__cvta_generic_to_global(source))
               : "memory");
  return value;
}

// The same for a few adjacent floats.
__device__ __forceinline__ void loadSharedFloatsNow(uint32_t address, float (&values)[1]) {
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(values[0]) : "r"(address) : "memory");
}
__device__ __forceinline__ void loadSharedFloatsNow(uint32_t address, float (&values)[2]) {
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(values[0]), "=f"(values[1])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void loadSharedFloatsNow(uint32_t address, float (&values)[4]) {
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(values[0]), "=f"(values[1]), "=f"(values[2]), "=f"(values[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void loadSharedFloatsNow(uint32_t address, float (&values)[6]) {
  loadSharedFloatsNow(address, reinterpret_cast<float (&)[2]>(values[0]));
  loadSharedFloatsNow(address + 8, reinterpret_cast<float (&)[2]>(values[2]));
  loadSharedFloatsNow(address + 16, reinterpret_cast<float (&)[2]>(values[4]));
}
__device__ __forceinline__ void loadSharedFloatsNow(uint32_t address, float (&values)[8]) {
  loadSharedFloatsNow(address, reinterpret_cast<float (&)[4]>(values[0]));
  loadSharedFloatsNow(address + 16, reinterpret_cast<float (&)[4]>(values[4]));
}

__device__ __forceinline__ void storeSharedFloats(uint32_t address, const float (&values)[1]) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(values[0]) : "memory");
}
__device__ __forceinline__ void storeSharedFloats(uint32_t address, const float (&values)[2]) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(values[0]), "f"(values[1])
               : "memory");
}
__device__ __forceinline__ void storeSharedFloats(uint32_t address, const float (&values)[4]) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(values[0]),
               "f"(values[1]), "f"(values[2]), "f"(values[3])
               : "memory");
}

__device__ __forceinline__ void storeSharedFloats(uint32_t address, const float (&values)[6]) {
  storeSharedFloats(address, reinterpret_cast<const float (&)[2]>(values[0]));
  storeSharedFloats(address + 8, reinterpret_cast<const float (&)[2]>(values[2]));
  storeSharedFloats(address + 16, reinterpret_cast<const float (&)[2]>(values[4]));
}
__device__ __forceinline__ void storeSharedFloats(uint32_t address, const float (&values)[8]) {
  storeSharedFloats(address, reinterpret_cast<const float (&)[4]>(values[0]));
  storeSharedFloats(address + 16, reinterpret_cast<const float (&)[4]>(values[4]));
}

// ---- words -------------------------------------------------------------------------------------
// A value and a number that says which value it is, in one 8-byte access: whoever finds the number
// has the value, and no barrier is needed.

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define GSPN2_CLUSTER_SCOPE "cluster"
#else
#define GSPN2_CLUSTER_SCOPE "cta"
#endif

__device__ __forceinline__ uint64_t wordOf(float value, uint32_t number) {
  return static_cast<uint64_t>(number) << 32 | __float_as_uint(value);
}

// kCount adjacent words of one number; `address` is aligned to all of them, or to 16 bytes.
template <int kCount>
__device__ __forceinline__ void storeWords(uint32_t address, const float (&values)[kCount],
                                           uint32_t number) {
  if constexpr (kCount == 1) {
    asm volatile("st.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(address),
                 "l"(wordOf(values[0], number))
                 : "memory");
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i += 2) {
      asm volatile("st.relaxed.cta.shared::cta.v2.b64 [%0], {%1, %2};" ::"r"(address + 8 * i),
                   "l"(wordOf(values[i], number)), "l"(wordOf(values[i + 1], number))
                   : "memory");
    }
  }
}

// The same into another block of the cluster, at a pointer of clusterPointer.
template <int kCount>
__device__ __forceinline__ void storeWordsRemote(uint64_t pointer, const float (&values)[kCount],
                                                 uint32_t number) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("st.relaxed." GSPN2_CLUSTER_SCOPE ".b64 [%0], %1;" ::"l"(pointer + 8 * i),
                 "l"(wordOf(values[i], number))
                 : "memory");
  }
}

// Whether the words at `address` carry `number` for every lane of the warp; then their values.
template <int kCount>
__device__ __forceinline__ bool findWords(uint32_t address, uint32_t number,
                                          float (&values)[kCount]) {
  bool found = true;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    uint64_t word;
    asm volatile("ld.relaxed." GSPN2_CLUSTER_SCOPE ".shared::cta.b64 %0, [%1];"
                 : "=l"(word)
                 : "r"(address + 8 * i)
                 : "memory");
    found = found && static_cast<uint32_t>(word >> 32) == number;
    values[i] = __uint_as_float(static_cast<uint32_t>(word));
  }
  return __all_sync(0xffffffffU, found) != 0;
}

// Waits until findWords. A loop that may spin costs thirty cycles a turn more than what stands in a
// row, so the first turns do.
template <int kCount>
__device__ __forceinline__ void awaitWords(uint32_t address, uint32_t number,
                                           float (&values)[kCount]) {
  if (findWords(address, number, values)) return;
  if (findWords(address, number, values)) return;
  while (!findWords(address, number, values)) {
  }
}
#undef GSPN2_CLUSTER_SCOPE

// A word in global memory, for any block of the grid.
__device__ __forceinline__ void storeWordGlobal(uint64_t* target, float value, uint32_t number) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(__cvta_generic_to_global(target)),
               "l"(wordOf(value, number))
               : "memory");
}

// Waits until it carries `number`, for every lane of the warp; then its value.
__device__ __forceinline__ float awaitWordGlobal(const uint64_t* source, uint32_t number) {
  uint64_t word;
  do {
    asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];"
                 : "=l"(word)
                 : "l"(__cvta_generic_to_global(source))
                 : "memory");
  } while (!__all_sync(0xffffffffU, static_cast<uint32_t>(word >> 32) == number));
  return __uint_as_float(static_cast<uint32_t>(word));
}

__device__ __forceinline__ void storeSharedVector(uint32_t address, uint4 value) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

// A value that stays in a register: the compiler would compute it anew from constant memory at each
// use, which takes longer than what a walking warp has to do between two waits.
__device__ __forceinline__ uint32_t keepInRegister(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

// The same for a pointer to global memory.
template <typename T>
__device__ __forceinline__ T* keepInRegister(T* pointer) {
  size_t address = __cvta_generic_to_global(pointer);
  asm volatile("" : "+l"(address));
  return static_cast<T*>(__cvta_global_to_generic(address));
}

// ---- arithmetic --------------------------------------------------------------------------------

__device__ __forceinline__ float exp2Approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1 / x to within one unit in the last place, with a bias.
__device__ __forceinline__ float reciprocalHardware(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// min(x, limit) that keeps a NaN.
__device__ __forceinline__ float minKeepNan(float x, float limit) {
  float y;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(limit));
  return y;
}

// ---- tensor cores ------------------------------------------------------------------------------
// All lanes of a warp take part. g is lane / 4 and q is lane % 4; a word holds two adjacent values.

// Four matrices of 8 x 8 values of 16 bits. Lane 8 i + j has the address of the i-th one's row j,
// and gets of each of them the q-th word of row g.
__device__ __forceinline__ void loadMatrices(uint32_t address, uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// sums += a b, of 16 x 16 and 16 x 8 values, added up in float32. A lane has the rows g and g + 8
// of a in columns 2 q and 2 q + 1, then in columns 8 further; of b the rows where these are a's
// columns, in column g; of the sums rows g and g + 8, in columns 2 q and 2 q + 1 each.
__device__ __forceinline__ void multiplyAdd(float (&sums)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], const __half*) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiplyAdd(float (&sums)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], const __nv_bfloat16*) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- sums in global memory ----------------------------------------------------------------------

__device__ __forceinline__ void addToGlobal(float* target, float value) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(target)), "f"(value)
               : "memory");
}
__device__ __forceinline__ void addToGlobal(float* target, float2 value) {
  if constexpr (kHopper) {
    asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(target)),
                 "f"(value.x), "f"(value.y)
                 : "memory");
  } else {
    addToGlobal(target, value.x);
    addToGlobal(target + 1, value.y);
  }
}
__device__ __forceinline__ void addToGlobal(float* target, float4 value) {
  if constexpr (kHopper) {
    asm volatile(
        "red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(target)),
        "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
        : "memory");
  } else {
    addToGlobal(target, make_float2(value.x, value.y));
    addToGlobal(target + 2, make_float2(value.z, value.w));
  }
}

// ---- mbarriers ---------------------------------------------------------------------------------

__device__ __forceinline__ void barrierInit(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to the copy engine and to the rest of the cluster.
__device__ __forceinline__ void barrierInitFence() {
  if constexpr (kHopper) asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrierArrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void barrierArriveExpect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Waits for a phase; before compute capability 9.0 by asking again and again.
__device__ __forceinline__ void barrierWait(uint32_t barrier, uint32_t parity) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define GSPN2_BARRIER_ASK "try_wait"
#else
#define GSPN2_BARRIER_ASK "test_wait"
#endif
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier." GSPN2_BARRIER_ASK
      ".parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
#undef GSPN2_BARRIER_ASK
}

// Copies 16 bytes, or fills them with zeros where `bytes` is 0, behind the thread's back.
__device__ __forceinline__ void copyChunk(uint32_t target, const void* source, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
               "r"(bytes)
               : "memory");
}

// Arrives once this thread's copies so far have landed.
__device__ __forceinline__ void barrierArriveCopies(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// barrierWait where other blocks of the cluster complete the barrier: their writes become visible.
__device__ __forceinline__ void barrierWaitCluster(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// A barrier among `threads` threads of the block, where the others go their own way.
__device__ __forceinline__ void namedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- the bulk tensor copy engine ---------------------------------------------------------------

__device__ __forceinline__ void loadTile(uint32_t target, const CUtensorMap* map, int column,
                                         int row, int plane, uint32_t barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(target),
      "l"(map), "r"(column), "r"(row), "r"(plane), "r"(barrier), "l"(policy)
      : "memory");
}

// Copies a multiple of 16 bytes between addresses that are multiples of 16.
__device__ __forceinline__ void copyBulk(uint32_t target, const void* source, int bytes,
                                         uint32_t barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(target),
      "l"(__cvta_generic_to_global(source)), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

// ---- launches ----------------------------------------------------------------------------------

// Behind this, what the kernel before it on the stream has written is there, and nothing of it runs
// any more: see launchClusters.
__device__ __forceinline__ void waitForPreviousKernel() {
  if constexpr (kHopper) asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Has the L2 cache fetch the line of an address. Nothing is read into this multiprocessor: ahead of
// waitForPreviousKernel() it may be of what the kernel before this one writes.
__device__ __forceinline__ void prefetch(const void* pointer) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(pointer)));
}

// The kernel behind this one may start, and wait in its turn, once all blocks of this one have come
// here. It takes their multiprocessors' room as that comes free: for kernels of few blocks.
__device__ __forceinline__ void letNextKernelStart() {
  if constexpr (kHopper) asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// ---- clusters ----------------------------------------------------------------------------------

__device__ __forceinline__ uint32_t clusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// Arrival and wait apart, for what lies between; barriers initialised before are visible after.
__device__ __forceinline__ void clusterArrive() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void clusterWait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ void clusterSync() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The same shared-memory address in another block of the cluster.
__device__ __forceinline__ uint32_t clusterAddress(uint32_t address, uint32_t rank) {
  uint32_t remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
  return remote;
}

// As a generic pointer.
__device__ __forceinline__ uint64_t clusterPointer(uint32_t address, uint32_t rank) {
  uint64_t remote;
  asm volatile("mapa.u64 %0, %1, %2;"
               : "=l"(remote)
               : "l"(__cvta_shared_to_generic(address)), "r"(rank));
  return remote;
}

// Writes one value into another block and counts its bytes on that block's barrier.
__device__ __forceinline__ void storeRemote(uint32_t address, float value, uint32_t barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
          address),
      "r"(__float_as_uint(value)), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void storeRemote(uint32_t address, float2 value, uint32_t barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::
          "r"(address),
      "r"(__float_as_uint(value.x)), "r"(__float_as_uint(value.y)), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void storeRemote(uint32_t address, float4 value, uint32_t barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(address),
      "r"(__float_as_uint(value.x)), "r"(__float_as_uint(value.y)), "r"(__float_as_uint(value.z)),
      "r"(__float_as_uint(value.w)), "r"(barrier)
      : "memory");
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_HOPPER_CUH_
