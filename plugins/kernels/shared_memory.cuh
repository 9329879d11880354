// A block's shared memory. Kernels take it from here rather than declare it themselves, so that
// tests/emulation can give every block of a cluster its own on a machine without a GPU.
#ifndef GSPN2_KERNELS_SHARED_MEMORY_CUH_
#define GSPN2_KERNELS_SHARED_MEMORY_CUH_

namespace gspn2 {

// The memory whose size the launch says, aligned to 1024 bytes: more than the copy engine needs.
template <typename T>
__device__ __forceinline__ T* dynamicShared() {
  extern __shared__ __align__(1024) char dynamicSharedMemory[];
  return reinterpret_cast<T*>(dynamicSharedMemory);
}

// One object for each block: every call for a type gives the same one.
template <typename T>
__device__ __forceinline__ T& staticShared() {
  __shared__ T object;
  return object;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_SHARED_MEMORY_CUH_
