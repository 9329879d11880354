// What the blocks that convolve and normalise in one launch agree on with their launch: parameters,
// the tile that a block has, and its shared memory.
#ifndef GSPN2_KERNELS_DEPTHWISE_NORM_TILE_CUH_
#define GSPN2_KERNELS_DEPTHWISE_NORM_TILE_CUH_

#include <cstddef>
#include <cstdint>

#include "channel_norm.h"
#include "common.cuh"
#include "depthwise_patch.cuh"
#include "norm_common.cuh"

namespace gspn2 {

struct DepthwiseNormParams {
  const void *x, *weight, *bias, *scale, *shift;
  void *y, *z;
  int height, width, channels;
  int down, across;  // tiles of a map
  int blocks;        // of a cluster
  int own;           // channels of a block, a multiple of kNormVector; the last one may have fewer
  float share;       // 1 / C
  float epsilon;
  bool silu, residual;
};

// The mean of some channels of a position, and the sum of their squared deviations from it.
struct alignas(8) ChannelMoments {
  float mean, squares;
};

// How many values to add to a row of `halves`, whole vectors of them, so that from `rows` of these
// to the next ones lanes move on by `banks` banks, or as nearly so as there is.
constexpr int bankPadding(int halves, int rows, int banks) {
  constexpr int kBanks = 32;
  constexpr int kBankHalves = 2;  // 16-bit values of a bank
  int best = 0;
  int least = kBanks;
  for (int padding = 0; padding < kBanks * kBankHalves; padding += static_cast<int>(kNormVector)) {
    const int apart = ((halves + padding) * rows / kBankHalves - banks) % kBanks;
    const int off = apart < kBanks - apart ? apart : kBanks - apart;
    if (off < least) {
      best = padding;
      least = off;
    }
  }
  return best;
}

// Of kTile x kTile results of up to kVectors vectors of channels.
template <int kVectors, int kTile>
struct NormedTile {
  static constexpr int kVector = static_cast<int>(kNormVector);
  static constexpr int kPair = kDepthwisePair;
  static constexpr int kStrip = kDepthwiseStrip;
  static constexpr int kSide = GSPN2_DEPTHWISE_NORM_KERNEL;
  static constexpr int kReach = kSide / 2;
  static constexpr int kTaps = kSide * kSide;
  static constexpr int kChannels = kVectors * kVector;
  static constexpr int kPairs = kChannels / kPair;
  static constexpr int kRows = kTile / kStrip;  // of a patch
  static constexpr int kStrips = kTile * kTile / kStrip;
  static constexpr int kThreads = kStrips / kRows * kPairs;
  static constexpr int kThreadsAtOnce = 1152;  // of a multiprocessor: 56 registers each
  static constexpr int kBlocksAtOnce =
      kThreadsAtOnce / ((kThreads + kWarpSize - 1) / kWarpSize * kWarpSize);
  static constexpr int kPositions = kTile * kTile;
  static constexpr int kInSide = kTile + 2 * kReach;
  // From a row of x to the next, and from a strip of results to the next: a warp's lanes have
  // channels side by side of patches one below the other, and all want banks of their own.
  static constexpr int kPitch =
      kInSide * kChannels + bankPadding(kInSide * kChannels, kRows, kPairs);
  static constexpr int kStripPitch =
      kStrip * kChannels + bankPadding(kStrip * kChannels, kRows, kPairs);
  static constexpr int kChunks = kInSide * kInSide * kVectors;  // of x, a vector each
  static constexpr int kThreadChunks = (kChunks + kThreads - 1) / kThreads;
  // Behind the convolution a thread has one vector of every kStep-th position.
  static constexpr int kStep = kThreads / kVectors;
  static constexpr int kThreadPositions = (kPositions + kStep - 1) / kStep;
  static_assert(kStep % kStrip == 0, "a thread's positions are in one column of their strips");
  static constexpr int kPartPitch = kVectors | 1;  // odd: positions side by side, in other banks
  static constexpr int kSenders = kThreads / kPositions;  // threads that share a position's blocks
  static_assert(kThreads >= kPositions, "a position has a thread that finds its statistics");
  static_assert((kTaps + 3) * kVectors <= kThreads, "a thread copies one vector of parameters");

  template <typename T>
  struct alignas(16) Shared {
    union {
      T values[kInSide * kPitch];
      ChannelMoments parts[kPositions * kPartPitch];  // of vectors, once nothing reads x any more
    };
    static_assert(sizeof(values) >= sizeof(parts), "the parts take no more room than x");
    static_assert(sizeof(values) % sizeof(PackedVector<T, kVector>) == 0, "vectors lie behind x");
    T weights[kChannels * kTaps];  // as they lie: (C, 1, 3, 3)
    T bias[kChannels], scale[kChannels], shift[kChannels];
    T results[kStrips * kStripPitch];
    Statistics statistics[kPositions];
    ChannelMoments received[1];  // of every block of the cluster, (blocks, kPositions)
  };
  template <typename T>
  static constexpr size_t sharedBytes(int blocks) {
    return sizeof(Shared<T>) + sizeof(ChannelMoments) * (blocks * kPositions - 1);
  }

  // Strips are counted down the tile, then across.
  __device__ __forceinline__ static int rowOf(int strip) {
    return strip < kTile ? strip : strip - kTile;
  }
  __device__ __forceinline__ static int columnOf(int strip) { return strip < kTile ? 0 : kStrip; }
};

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_NORM_TILE_CUH_
