// Small kernels that hold the emulated machine to what a device does, and that break the rules it
// is meant to watch over. test_emulated_machine.py runs them.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "common.cuh"
#include "gspn2/kernels.h"
#include "hopper.cuh"
#include "launch.cuh"
#include "shared_memory.cuh"
#include "tensor_map.h"

namespace probes {

using namespace gspn2;

// What a probe is given; `variant` 0 keeps to the rules.
struct Call {
  const float* in;
  float* out;
  int variant, extent;
};

// ---- lanes -------------------------------------------------------------------------------------

// Rows of 32: by index, up, down, by exclusive or, each in segments of `extent` lanes; two halves
// that meet apart; votes.
__global__ void lanes(Call p) {
  const int lane = static_cast<int>(threadIdx.x);
  const float value = p.in[lane];
  p.out[lane] = __shfl_sync(kFullMask, value, 5, p.extent);
  p.out[32 + lane] = __shfl_up_sync(kFullMask, value, 3, p.extent);
  p.out[64 + lane] = __shfl_down_sync(kFullMask, value, 3, p.extent);
  p.out[96 + lane] = __shfl_xor_sync(kFullMask, value, 5, p.extent);
  if (lane < 16) {
    p.out[128 + lane] = __shfl_down_sync(0xffffU, value, 1);  // lane 15's source is not there
  } else {
    p.out[128 + lane] = static_cast<float>(__ballot_sync(0xffff0000U, lane % 3 == 0) >> 16);
  }
  p.out[160 + lane] =
      static_cast<float>(__any_sync(kFullMask, lane == 7) + 2 * __all_sync(kFullMask, lane < 31));
}

// Variant 1: lanes of a warp meet for different things. Variant 2: a mask without its caller.
__global__ void lanesApart(Call p) {
  const unsigned lane = threadIdx.x;
  if (p.variant == 2) {
    __syncwarp(1U);
  } else if (lane == 0) {
    __syncwarp();
  } else {
    p.out[lane] = __shfl_sync(kFullMask, p.in[lane], 0);
  }
}

// Four matrices of 8 x 8 from shared memory, whose rows are given in reverse. Variant 1 reads at an
// address that is no row's.
__global__ void matrices(Call p) {
  auto* const shared = dynamicShared<uint32_t>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 4; ++i) shared[4 * lane + i] = static_cast<uint32_t>(4 * lane + i);
  __syncwarp();
  uint32_t words[4];
  loadMatrices(sharedAddress(shared + 4 * (31 - lane)) + (p.variant == 1 ? 4 : 0), words);
  for (int i = 0; i < 4; ++i) p.out[4 * lane + i] = static_cast<float>(words[i]);
}

template <typename T>
__device__ uint32_t pairOf(const float* values) {
  const AlignedVector<T, 2> pair = {fromFloat<T>(values[0]), fromFloat<T>(values[1])};
  uint32_t word;
  memcpy(&word, &pair, sizeof(word));
  return word;
}

// in: a of 16 x 16, b of 16 x 8 transposed, c of 16 x 8; out: c + a b, where PTX has its places.
// Variant 1: a lane has ended. Variant 2: a lane is elsewhere.
template <typename T>
__global__ void product(Call p) {
  const int lane = static_cast<int>(threadIdx.x);
  if (p.variant == 1 && lane == 3) return;
  if (p.variant == 2 && lane == 3) {
    __syncwarp();
    return;
  }
  const int row = lane / 4;
  const int column = lane % 4 * 2;
  const float* const ofB = p.in + 16 * 16;
  const float* const ofC = ofB + 8 * 16;
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) {
    a[i] = pairOf<T>(p.in + (row + i % 2 * 8) * 16 + column + i / 2 * 8);
  }
  for (int i = 0; i < 2; ++i) b[i] = pairOf<T>(ofB + row * 16 + column + i * 8);
  float sums[4];
  const auto place = [&](int i) { return (row + i / 2 * 8) * 8 + column + i % 2; };
  for (int i = 0; i < 4; ++i) sums[i] = ofC[place(i)];
  multiplyAdd(sums, a, b, static_cast<const T*>(nullptr));
  for (int i = 0; i < 4; ++i) p.out[place(i)] = sums[i];
}

// ---- blocks ------------------------------------------------------------------------------------

// Turns a block's values round, by shared memory. Variant 1 forgets the barrier, variant 2 leaves
// half of a named barrier's threads out, variant 3 writes one value past the end, variant 4 far
// past it, variant 5 reads 8 bytes at an odd address.
__global__ void turnRound(Call p) {
  float* const shared = dynamicShared<float>();
  const unsigned count = blockDim.x;
  const unsigned at = blockIdx.x * count + threadIdx.x;
  shared[threadIdx.x] = p.in[at];
  if (p.variant == 2 && threadIdx.x < count / 2) namedBarrier(3, static_cast<int>(count));
  if (p.variant == 3 && threadIdx.x == 0) shared[count] = 1.0F;
  if (p.variant == 4 && threadIdx.x == 0) shared[count + 4096] = 1.0F;
  if (p.variant == 5) p.out[at] = reinterpret_cast<const volatile float2*>(shared + 1)->x;
  if (p.variant != 1) __syncthreads();
  p.out[at] = shared[count - 1 - threadIdx.x];
}

// Threads that have ended count as arrived; whole warps do in named barriers.
__global__ void someEnd(Call p) {
  float* const shared = dynamicShared<float>();
  if (threadIdx.x >= 64 && threadIdx.x % 32 >= 7) return;
  if (threadIdx.x >= 96) return;
  shared[threadIdx.x] = p.in[threadIdx.x];
  __syncthreads();
  p.out[threadIdx.x] = shared[threadIdx.x ^ 1U];
  namedBarrier(5, 96);
}

// ---- copies ------------------------------------------------------------------------------------

// Through shared memory by 16-byte copies. Variant 1 does not wait, variant 2 arrives once too
// often, variant 3 never arrives.
__global__ void chunks(Call p) {
  float* const shared = dynamicShared<float>();
  auto& barrier = staticShared<uint64_t>();
  const uint32_t address = sharedAddress(&barrier);
  const int chunk = static_cast<int>(threadIdx.x);
  if (chunk == 0) barrierInit(address, blockDim.x);
  __syncthreads();
  copyChunk(sharedAddress(shared + 4 * chunk), p.in + 4 * chunk, chunk % 2 == 0 ? 16 : 0);
  if (p.variant != 3) barrierArriveCopies(address);
  if (p.variant != 1) barrierWait(address, 0);
  if (p.variant == 2 && chunk == 0) {
    for (unsigned i = 0; i <= blockDim.x; ++i) barrierArriveExpect(address, 16);
  }
  const int other = static_cast<int>(blockDim.x) - 1 - chunk;
  for (int i = 0; i < 4; ++i) p.out[4 * chunk + i] = shared[4 * other + i];
}

constexpr int kTileRows = 16;

struct TileCall {
  CUtensorMap source;
  float* out;
  int columns, fromColumn, fromRow;
};

// Brings a tile of `columns` x 16 and hands it out.
__global__ void tile(const __grid_constant__ TileCall p) {
  float* const shared = dynamicShared<float>();
  auto& barrier = staticShared<uint64_t>();
  const uint32_t address = sharedAddress(&barrier);
  const int thread = static_cast<int>(threadIdx.x);
  const int count = p.columns * kTileRows;
  if (thread == 0) {
    barrierInit(address, 1);
    barrierArriveExpect(address, static_cast<uint32_t>(count * 4));
    loadTile(sharedAddress(shared), &p.source, p.fromColumn, p.fromRow, 0, address, kEvictFirst);
  }
  __syncthreads();
  barrierWait(address, 0);
  for (int i = thread; i < count; i += static_cast<int>(blockDim.x)) p.out[i] = shared[i];
}

// ---- clusters ----------------------------------------------------------------------------------

// Every block of a cluster gives its values to the next one. Variant 1 does not wait for the peers'
// barriers to exist, variant 2 not for the values.
__global__ void passOn(Call p) {
  float* const shared = dynamicShared<float>();
  auto& barrier = staticShared<uint64_t>();
  const uint32_t address = sharedAddress(&barrier);
  const uint32_t count = blockDim.x;
  const uint32_t next = (clusterRank() + 1) % static_cast<uint32_t>(p.extent);
  if (threadIdx.x == 0) {
    barrierInit(address, 1);
    barrierArriveExpect(address, count * 4);
    barrierInitFence();
  }
  if (p.variant != 1) clusterSync();
  storeRemote(clusterAddress(sharedAddress(shared + threadIdx.x), next),
              p.in[blockIdx.x * count + threadIdx.x], clusterAddress(address, next));
  if (p.variant != 2) barrierWaitCluster(address, 0);
  p.out[blockIdx.x * count + threadIdx.x] = shared[threadIdx.x];
  clusterSync();
}

}  // namespace probes

extern "C" {

// 0, or a cudaError_t whose text gspn2_probe_error() has.
GSPN2_API int gspn2_probe(const char* name, int variant, const float* in, float* out, int extent) {
  const probes::Call call{in, out, variant, extent};
  const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
  using gspn2::launchKernel;
  if (is("lanes")) return launchKernel(probes::lanes, 1, 32, 0, nullptr, call);
  if (is("lanesApart")) return launchKernel(probes::lanesApart, 1, 32, 0, nullptr, call);
  if (is("matrices")) return launchKernel(probes::matrices, 1, 32, 512, nullptr, call);
  if (is("product16")) return launchKernel(probes::product<__half>, 1, 32, 0, nullptr, call);
  if (is("productB16")) {
    return launchKernel(probes::product<__nv_bfloat16>, 1, 32, 0, nullptr, call);
  }
  if (is("turnRound")) return launchKernel(probes::turnRound, 3, 96, 96 * 4, nullptr, call);
  if (is("someEnd")) return launchKernel(probes::someEnd, 1, 128, 512, nullptr, call);
  if (is("chunks")) return launchKernel(probes::chunks, 1, 64, 1024, nullptr, call);
  if (is("passOn")) {
    const auto cluster = static_cast<unsigned>(extent);
    return gspn2::launchClusters(probes::passOn, 2 * cluster, 64, cluster, 256, nullptr, call);
  }
  return cudaErrorInvalidValue;
}

// A box of `source` (rows, columns) to `out` (16, box columns).
GSPN2_API int gspn2_probe_tile(const float* source, float* out, int rows, int columns,
                               int boxColumns, int fromColumn, int fromRow) {
  probes::TileCall call{};
  const cudaError_t error = gspn2::encodeTensorMap(
      &call.source, GSPN2_FLOAT32, source, {1, rows, columns, probes::kTileRows, boxColumns});
  if (error != cudaSuccess) return error;
  call.out = out;
  call.columns = boxColumns;
  call.fromColumn = fromColumn;
  call.fromRow = fromRow;
  return gspn2::launchKernel(probes::tile, 1, 64, 64 * 1024 / 4, nullptr, call);
}

GSPN2_API const char* gspn2_probe_error(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // extern "C"
