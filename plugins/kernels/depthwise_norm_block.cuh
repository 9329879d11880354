// gspn2_depthwise_norm in one launch: a cluster of blocks has a square tile of a map, each block
// some of its channels. Compute capability 9.0 and later.
//
// A block convolves its channels as in depthwise.cu, and leaves the results, rounded, in shared
// memory. Then its threads have whole vectors of eight channels, keep them in registers, and write
// them. Of each position they find the mean of a vector and the sum of the squared deviations from
// it; these are merged into the block's, which goes to every block of the cluster, and there into
// the cluster's. Each block merges in the same order: the same inputs give the same bits.
//
// At batch 1 the time is that of accesses far away which wait for each other: x and all parameters
// come at once by asynchronous copies, and the statistics of the other blocks behind them.
#ifndef GSPN2_KERNELS_DEPTHWISE_NORM_BLOCK_CUH_
#define GSPN2_KERNELS_DEPTHWISE_NORM_BLOCK_CUH_

#include <cstdint>

#include "depthwise_norm_tile.cuh"
#include "device.h"
#include "hopper.cuh"

namespace gspn2 {

// Of `count` groups of channels, up to kMost, in their order, as accurate as two passes: of(i) has
// those of the i-th. Groups have `size` channels, the last one has `last`; `share` is 1 / their
// sum.
// Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
// variances, 1979.
template <int kMost, typename Of>
__device__ __forceinline__ ChannelMoments mergeMoments(int count, float size, float last,
                                                       float share, const Of& of) {
  constexpr int kStep = 4;  // groups that there are or not take less than a branch at each
  const auto each = [&](auto&& use) {
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i % kStep == 0 && i >= count) break;
      use(i);
    }
  };
  ChannelMoments groups[kMost] = {};
  each([&](int i) {
    if (i < count) groups[i] = of(i);
  });
  const ChannelMoments lastGroup = of(count - 1);
  float means = 0.0F;
  each([&](int i) { means += groups[i].mean; });
  const float mean = fmaf(means, size, lastGroup.mean * (last - size)) * share;
  float squares = 0.0F;
  float apart = 0.0F;
  each([&](int i) {
    const float difference = i < count ? groups[i].mean - mean : 0.0F;
    squares += groups[i].squares;
    apart = fmaf(difference, difference, apart);
  });
  const float lastApart = lastGroup.mean - mean;
  apart = fmaf(apart, size, lastApart * lastApart * (last - size));
  return {mean, squares + apart};
}

template <typename T, int kVector>
__device__ __forceinline__ ChannelMoments momentsOf(const PackedVector<T, kVector>& values) {
  ChannelMoments moments{};
#pragma unroll
  for (int j = 0; j < kVector; ++j) moments.mean += values[j];
  moments.mean *= 1.0F / kVector;
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    const float apart = values[j] - moments.mean;
    moments.squares = fmaf(apart, apart, moments.squares);
  }
  return moments;
}

// A block's place, and what it does for its channels there.
template <typename T, int kVectors, int kTile>
struct NormedBlock : NormedTile<kVectors, kTile> {
  using Tile = NormedTile<kVectors, kTile>;
  using Shared = typename Tile::template Shared<T>;
  static constexpr int kVector = Tile::kVector;
  static constexpr int kPair = Tile::kPair;
  static constexpr int kStrip = Tile::kStrip;
  static constexpr int kReach = Tile::kReach;
  static constexpr int kTaps = Tile::kTaps;
  using Vector = PackedVector<T, kVector>;
  using Pair = AlignedVector<T, kPair>;

  const DepthwiseNormParams& p;
  Shared& shared;
  int thread, rank, left, top;
  int firstChannel, own;
  int64_t map;  // elements before this block's channels of the map

  __device__ __forceinline__ NormedBlock(const DepthwiseNormParams& params, Shared& memory)
      : p(params), shared(memory), thread(static_cast<int>(threadIdx.x)) {
    unsigned block = blockIdx.x;
    rank = static_cast<int>(block % p.blocks);
    block /= p.blocks;
    left = static_cast<int>(block % p.across) * kTile;
    block /= p.across;
    top = static_cast<int>(block % p.down) * kTile;
    firstChannel = rank * p.own;
    own = min(p.own, p.channels - firstChannel);
    map = static_cast<int64_t>(block / p.down) * p.height * p.width * p.channels + firstChannel;
  }

  // Where a position of the map lies, in elements behind `map`.
  __device__ __forceinline__ int64_t offset(int row, int column) const {
    return static_cast<int64_t>(row * p.width + column) * p.channels;  // fewer than 2^30 positions
  }

  // The vector of parameters that this thread copies: where it lies, where it goes, and whether it
  // is one; without a bias 0 goes there.
  struct ParameterChunk {
    const T* source;
    uint32_t target;
    bool exists;
  };
  __device__ __forceinline__ ParameterChunk parameterChunk() const {
    constexpr int kWeights = kTaps * kVectors;
    if (thread < kWeights) {
      return {static_cast<const T*>(p.weight) + firstChannel * kTaps + thread * kVector,
              sharedAddress(shared.weights + thread * kVector), thread * kVector < own * kTaps};
    }
    const int which = (thread - kWeights) / kVectors;
    const int at = (thread - kWeights) % kVectors * kVector;
    const void* const tensor = which == 0 ? p.bias : which == 1 ? p.scale : p.shift;
    return {tensor == nullptr ? nullptr : static_cast<const T*>(tensor) + firstChannel + at,
            sharedAddress(shared.bias + which * Tile::kChannels + at), which < 3 && at < own};
  }

  // A vector of x that this thread copies.
  struct Chunk {
    int row, column, channel;  // in the block's part of x

    __device__ __forceinline__ Chunk(unsigned index)
        : row(static_cast<int>(index / (kVectors * Tile::kInSide))),
          column(static_cast<int>(index / kVectors % Tile::kInSide)),
          channel(static_cast<int>(index % kVectors) * kVector) {}
  };
  // Calls `use` with each, and which of this thread's it is.
  template <typename Use>
  __device__ __forceinline__ void eachChunk(const Use& use) const {
#pragma unroll
    for (int i = 0; i < Tile::kThreadChunks; ++i) {
      const int index = thread + i * Tile::kThreads;
      if (index < Tile::kChunks) use(i, Chunk(static_cast<unsigned>(index)));
    }
  }
  // Where each of them lies, null outside the map: ahead of waitForPreviousKernel().
  __device__ __forceinline__ void findChunks(const T* (&sources)[Tile::kThreadChunks]) const {
    eachChunk([&](int i, const Chunk& chunk) {
      const int row = top + chunk.row - kReach;
      const int column = left + chunk.column - kReach;
      const bool inside = row >= 0 && row < p.height && column >= 0 && column < p.width;
      sources[i] = inside && chunk.channel < own
                       ? static_cast<const T*>(p.x) + map + offset(row, column) + chunk.channel
                       : nullptr;
    });
  }
  __device__ __forceinline__ void copyChunks(const T* const (&sources)[Tile::kThreadChunks]) const {
    eachChunk([&](int i, const Chunk& chunk) {
      const T* const target =
          shared.values + chunk.row * Tile::kPitch + chunk.column * Tile::kChannels + chunk.channel;
      copyOrClear(sharedAddress(target), sources[i]);
    });
  }
  // A vector, or 0 where `source` is null.
  __device__ __forceinline__ void copyOrClear(uint32_t target, const T* source) const {
    const bool exists = source != nullptr;
    copyChunk(target, exists ? static_cast<const void*>(source) : p.x,
              exists ? static_cast<int>(sizeof(Vector)) : 0);
  }

  // Of a lane's two channels and its patch: from x in shared memory to the results there.
  __device__ __forceinline__ void convolve() const {
    const int pair = thread % Tile::kPairs;
    const int patch = thread / Tile::kPairs;
    const int channel = pair * kPair;
    if (channel >= own) return;
    const int strip = patch * Tile::kRows;  // the first of the patch
    uint32_t weights[kTaps];                // those of the second channel behind those of the first
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      weights[i] = reinterpret_cast<const uint32_t*>(shared.weights)[pair * kTaps + i];
    }
    const auto weight = [&](int c, int tap) {
      const int element = c * kTaps + tap;
      return unpackFloat(weights[element / 2], element % 2, static_cast<const T*>(nullptr));
    };
    float sums[Tile::kRows][kStrip][kPair];
#pragma unroll
    for (int c = 0; c < kPair; ++c) {
      const float bias = toFloat(shared.bias[channel + c]);
#pragma unroll
      for (int r = 0; r < Tile::kRows; ++r) {
#pragma unroll
        for (int o = 0; o < kStrip; ++o) sums[r][o][c] = bias;
      }
    }
    const T* const reach = shared.values + Tile::rowOf(strip) * Tile::kPitch +
                           Tile::columnOf(strip) * Tile::kChannels + channel;
    convolvePatch<Tile::kSide, Tile::kPitch, Tile::kChannels>(
        reach, p.residual, sums,
        [&](int tap, const float (*values)[kPair], float (&row)[kStrip][kPair]) {
#pragma unroll
          for (int c = 0; c < kPair; ++c) {
            const float factor = weight(c, tap);
#pragma unroll
            for (int o = 0; o < kStrip; ++o) row[o][c] = fmaf(values[o][c], factor, row[o][c]);
          }
        });
#pragma unroll
    for (int r = 0; r < Tile::kRows; ++r) {
#pragma unroll
      for (int o = 0; o < kStrip; ++o) {
        Pair result;
#pragma unroll
        for (int c = 0; c < kPair; ++c) {
          const float sum = sums[r][o][c];
          result.values[c] = fromFloat<T>(p.silu ? sum * sigmoid(sum) : sum);
        }
        *reinterpret_cast<Pair*>(shared.results + (strip + r) * Tile::kStripPitch +
                                 o * Tile::kChannels + channel) = result;
      }
    }
  }

  // Calls `use` with each vector of results that this thread has: which it is, its position in the
  // tile, where it is in `results`, and where in the map behind `map`, -1 outside.
  template <typename Use>
  __device__ __forceinline__ void eachVector(const Use& use) const {
    const int channel = vector() * kVector;
    if (channel >= own) return;
    const auto first = static_cast<int>(static_cast<unsigned>(thread) / kVectors);
    const int firstStrip = first / kStrip;
    const int o = first - firstStrip * kStrip;
#pragma unroll
    for (int i = 0; i < Tile::kThreadPositions; ++i) {
      const int position = first + i * Tile::kStep;
      if (position >= Tile::kPositions) break;
      const int strip = firstStrip + i * (Tile::kStep / kStrip);
      const int row = top + Tile::rowOf(strip);
      const int column = left + Tile::columnOf(strip) + o;
      const bool inside = row < p.height && column < p.width;
      use(i, position, strip * Tile::kStripPitch + o * Tile::kChannels + channel,
          inside ? offset(row, column) + channel : -1);
    }
  }
  __device__ __forceinline__ int vector() const {
    return static_cast<int>(static_cast<unsigned>(thread) % kVectors);
  }

  // Of the block's channels, to every block of the cluster; counted on their `collected`.
  __device__ __forceinline__ void sendMoments(uint32_t collected) const {
    const int position = thread % Tile::kPositions;
    const int sender = thread / Tile::kPositions;
    if (sender >= Tile::kSenders) return;
    const ChannelMoments* const parts = shared.parts + position * Tile::kPartPitch;
    const ChannelMoments moments =
        mergeMoments<kVectors>(own / kVector, kVector, kVector, reciprocal(static_cast<float>(own)),
                               [&](int i) { return parts[i]; });
    if (p.blocks == 1) {  // of no cluster: it has no remote memory, and its own thread reads it
      if (sender == 0) shared.received[position] = moments;
      return;
    }
    const uint32_t target = sharedAddress(shared.received + rank * Tile::kPositions + position);
    for (int block = sender; block < p.blocks; block += Tile::kSenders) {
      storeRemote(clusterAddress(target, block), make_float2(moments.mean, moments.squares),
                  clusterAddress(collected, block));
    }
  }
  // Of all channels of a position, from what the blocks have sent.
  __device__ __forceinline__ void findStatistics(int position) const {
    const ChannelMoments moments = mergeMoments<kLargeClusterBlocks>(
        p.blocks, static_cast<float>(p.own),
        static_cast<float>(p.channels - (p.blocks - 1) * p.own), p.share,
        [&](int i) { return shared.received[i * Tile::kPositions + position]; });
    shared.statistics[position] = {moments.mean, rsqrtf(fmaf(moments.squares, p.share, p.epsilon))};
  }
};

template <typename T, int kVectors, int kTile>
__global__ void __launch_bounds__(NormedTile<kVectors, kTile>::kThreads,
                                  NormedTile<kVectors, kTile>::kBlocksAtOnce)
    depthwiseNormKernel(const __grid_constant__ DepthwiseNormParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  using Block = NormedBlock<T, kVectors, kTile>;
  using Vector = typename Block::Vector;
  constexpr int kVector = Block::kVector;
  struct Barriers {
    uint64_t copied, collected;  // all that this block reads; every block's moments
  };
  auto& barriers = staticShared<Barriers>();
  const uint32_t copied = sharedAddress(&barriers.copied);
  const uint32_t collected = sharedAddress(&barriers.collected);
  const Block block(p, *dynamicShared<typename Block::Shared>());
  auto& shared = block.shared;
  if (block.thread == 0) {
    barrierInit(copied, Block::kThreads);
    if (p.blocks > 1) {
      barrierInit(collected, 1);
      barrierArriveExpect(
          collected, static_cast<uint32_t>(p.blocks * Block::kPositions * sizeof(ChannelMoments)));
    }
    barrierInitFence();
  }
  __syncthreads();
  clusterArrive();  // the others send only after this block's barriers exist
  const auto parameters = block.parameterChunk();
  if (static_cast<int>(blockIdx.x) < p.blocks && parameters.exists &&  // once is enough
      parameters.source != nullptr) {
    prefetch(parameters.source);
  }
  const T* sources[Block::kThreadChunks];
  block.findChunks(sources);
  waitForPreviousKernel();
  if (parameters.exists) block.copyOrClear(parameters.target, parameters.source);
  block.copyChunks(sources);
  barrierArriveCopies(copied);
  barrierWait(copied, 0);

  block.convolve();
  __syncthreads();
  Vector values[Block::kThreadPositions];
  block.eachVector([&](int i, int position, int at, int64_t target) {
    values[i] = Vector::read(shared.results + at);
    if (target >= 0) values[i].write(static_cast<T*>(p.y) + block.map + target);
    shared.parts[position * Block::kPartPitch + block.vector()] = momentsOf(values[i]);
  });
  __syncthreads();
  clusterWait();
  block.sendMoments(collected);
  if (block.thread < Block::kPositions) {
    if (p.blocks > 1) barrierWaitCluster(collected, 0);
    block.findStatistics(block.thread);
  }
  __syncthreads();
  const auto scales = Vector::read(shared.scale + block.vector() * kVector);
  const auto shifts = Vector::read(shared.shift + block.vector() * kVector);
  block.eachVector([&](int i, int position, int, int64_t target) {
    if (target < 0) return;
    const Statistics statistics = shared.statistics[position];
    Vector result;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      result.set(j, normalised(values[i][j], statistics, Affine{scales[j], shifts[j]}));
    }
    result.write(static_cast<T*>(p.z) + block.map + target);
  });
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_NORM_BLOCK_CUH_
