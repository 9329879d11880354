// GspnProp2D with a block to a map: every device from compute capability 8.0 on.
//
// All threads turn the affinities of the four directions into weights in shared memory; then a warp
// to a direction walks its steps; then all threads gate and merge the states. A block takes one
// slice, or two channels that share their affinities. Nothing leaves the chip in between, and the
// directions are added up in their order.
#ifndef GSPN2_KERNELS_PROP2D_BLOCK_CUH_
#define GSPN2_KERNELS_PROP2D_BLOCK_CUH_

#include "onchip_scan.cuh"

namespace gspn2 {

// A vector of a map; `exists` says whether it is one.
struct OnchipVector {
  int row, column;
  bool exists;

  // The i-th in the map's order.
  __device__ __forceinline__ static OnchipVector inRows(const OnchipParams& p, int vector, int i) {
    const int vectors = p.width / vector;
    const int row = i / vectors;
    return {row, (i - row * vectors) * vector, row < p.height};
  }
  // The i-th, groups of a row's vectors row by row: threads that write columns of an array then
  // write to many rows of it, and still read some adjacent bytes.
  __device__ __forceinline__ static OnchipVector inGroups(const OnchipParams& p, int vector,
                                                          int i) {
    const int line = i / kOnchipGroup;
    const int group = line / p.height;
    const int column = (group * kOnchipGroup + i % kOnchipGroup) * vector;
    return {line - group * p.height, column, column < p.width};
  }
};

template <typename T, int kRows, int kVector, int kChannels>
struct OnchipBlock {
  using Elements = PackedVector<T, kVector>;
  using Inputs = OnchipInputs<T, kVector, kChannels>;
  static constexpr int kArrays = 3 + kChannels;
  static constexpr bool kPrefetchesGates = kChannels == 1;

  const OnchipParams& p;
  float* const arrays;
  const int elements;
  int64_t feature, gate, affinity;  // the map's in x; the first direction's in lam; in w

  __device__ __forceinline__ OnchipBlock(const OnchipParams& params, float* shared)
      : p(params), arrays(shared), elements(params.height * params.width) {
    const int groups = p.channels / kChannels;
    const int64_t n = static_cast<int64_t>(blockIdx.x) / groups;
    const int64_t c = (static_cast<int64_t>(blockIdx.x) - n * groups) * kChannels;
    feature = (n * p.featureBatch + c) * elements;
    gate = (n * p.gateBatch + c) * elements;
    affinity = (n * p.affinityBatch + (p.affinities == 1 ? 0 : c)) * elements;
  }

  // The map's in y, where maps lie one behind the other as blocks do.
  __device__ __forceinline__ int64_t slice() const {
    return static_cast<int64_t>(blockIdx.x) * kChannels * elements;
  }
  __device__ __forceinline__ int64_t gateOffset(int direction) const {
    return static_cast<int64_t>(direction) * p.channels * elements;
  }
  __device__ __forceinline__ float* arraysOf(int direction, int size) const {
    return arrays + direction * kArrays * size;
  }

  __device__ __forceinline__ Inputs load(int direction, const OnchipVector& vector) const {
    const OnchipSource<T, kVector, kChannels> source{
        static_cast<const T*>(p.x) + feature,
        static_cast<const T*>(p.lam) + gate + gateOffset(direction),
        static_cast<const T*>(p.w) + affinity +
            static_cast<int64_t>(direction) * 3 * p.affinities * elements,
        elements, static_cast<int64_t>(p.affinities) * elements};
    // Where there is no vector, the first one is as good to read as any.
    return source.load(vector.exists ? vector.row * p.width + vector.column : 0);
  }

  __device__ __forceinline__ void store(const Inputs& inputs, int direction,
                                        const OnchipVector& vector) const {
    if (!vector.exists) return;
    const OnchipScan scan(p, direction, kRows);
    const OnchipPlace place(scan, vector.row, vector.column, kVector);
    storeWeights(inputs, place, p.normalize, arraysOf(direction, scan.size), scan.size);
  }

  // The horizontal directions take their vectors in groups, the vertical ones in rows; two
  // directions' inputs are in flight.
  __device__ __forceinline__ void weigh() const {
    const int vectors = p.width / kVector;
    const int groups = (vectors + kOnchipGroup - 1) / kOnchipGroup;
    const int turns = groups * kOnchipGroup * p.height;  // no fewer than there are vectors
    for (int i = static_cast<int>(threadIdx.x); i < turns; i += static_cast<int>(blockDim.x)) {
      OnchipVector vector = OnchipVector::inGroups(p, kVector, i);
      Inputs inputs[2] = {load(0, vector), load(1, vector)};
#pragma unroll 1
      for (int first = 0; first < kOnchipDirections; first += 2) {
        const OnchipVector next = OnchipVector::inRows(p, kVector, i);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          store(inputs[j], first + j, vector);
          if (first == 0) inputs[j] = load(2 + j, next);
        }
        vector = next;
      }
    }
  }

  // The gates of a vector: u and d of the four directions, and x.
  struct Gates {
    Elements u[kOnchipDirections], d[kOnchipDirections], x;
  };
  __device__ __forceinline__ Gates loadGates(const OnchipVector& vector, int channel) const {
    const int offset =
        channel * elements + (vector.exists ? vector.row * p.width + vector.column : 0);
    Gates gates;
#pragma unroll
    for (int k = 0; k < kOnchipDirections; ++k) {
      const int64_t at = gate + gateOffset(k) + offset;
      gates.u[k] = Elements::read(static_cast<const T*>(p.u) + at);
      if (p.d != nullptr) {
        gates.d[k] = Elements::read(static_cast<const T*>(p.d) + at);
      }
    }
    if (p.d != nullptr) {
      gates.x = Elements::read(static_cast<const T*>(p.x) + feature + offset);
    }
    return gates;
  }

  __device__ __forceinline__ void merge(const OnchipVector& vector, int channel, const Gates& gates,
                                        const float (&weights)[kOnchipDirections]) const {
    float sums[kVector];
#pragma unroll
    for (int k = 0; k < kOnchipDirections; ++k) {
      const OnchipScan scan(p, k, kRows);
      const OnchipPlace place(scan, vector.row, vector.column, kVector);
      float states[kVector];
      loadPlaces(arraysOf(k, scan.size) + (3 + channel) * scan.size, place, states);
      gateStates(gates.u[k], p.d != nullptr, gates.d[k], gates.x, states);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        sums[v] = k == 0 ? weights[k] * states[v] : sums[v] + weights[k] * states[v];
      }
    }
    AlignedVector<T, kVector> rounded;
#pragma unroll
    for (int v = 0; v < kVector; ++v) rounded.values[v] = fromFloat<T>(sums[v]);
    const int offset = channel * elements + vector.row * p.width + vector.column;
    *reinterpret_cast<AlignedVector<T, kVector>*>(static_cast<T*>(p.y) + slice() + offset) =
        rounded;
  }

  __device__ __forceinline__ void run() const {
    weigh();
    const OnchipVector first = OnchipVector::inRows(p, kVector, static_cast<int>(threadIdx.x));
    Gates gates;
    if constexpr (kPrefetchesGates) gates = loadGates(first, 0);
    float weights[kOnchipDirections];
#pragma unroll
    for (int k = 0; k < kOnchipDirections; ++k) weights[k] = mergeWeight<T>(p.m, k);
    __syncthreads();
    const int direction = static_cast<int>(threadIdx.x) / kWarpSize;
    if (direction < kOnchipDirections) {
      const OnchipScan scan(p, direction, kRows);
      OnchipWalker<kRows, kChannels>(scan, sharedAddress(arraysOf(direction, scan.size)), p.chunk,
                                     static_cast<int>(threadIdx.x) % kWarpSize)
          .walk(scan.steps);
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x);; i += static_cast<int>(blockDim.x)) {
      const OnchipVector vector = OnchipVector::inRows(p, kVector, i);
      if (!vector.exists) return;
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        if (!kPrefetchesGates || i != static_cast<int>(threadIdx.x)) gates = loadGates(vector, c);
        merge(vector, c, gates, weights);
      }
    }
  }
};

template <typename T, int kRows, int kVector, int kChannels>
__global__ void __launch_bounds__(kOnchipMaxThreads, 1)
    prop2dBlockKernel(const __grid_constant__ OnchipParams p) {
  waitForPreviousKernel();
  OnchipBlock<T, kRows, kVector, kChannels>(p, dynamicShared<float>()).run();
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PROP2D_BLOCK_CUH_
