// Depthwise convolutions of 3x3 on GSPN2_NHWC8, and the layer normalisation of their results.
//
// In one launch a cluster of blocks has a square tile of a map, each block some of its channels. A
// block convolves them as in depthwise.cu, and leaves the results, rounded, in shared memory. Then
// its threads have whole vectors of eight channels, keep them in registers, and write them. Of each
// position they find the mean of a vector and the sum of the squared deviations from it; these are
// merged into the block's, which goes to every block of the cluster, and there into the cluster's.
// Each block merges in the same order: the same inputs give the same bits.
//
// At batch 1 the time is that of accesses far away which wait for each other: x and all parameters
// come at once by asynchronous copies, and the statistics of the other blocks behind them.
#include <algorithm>
#include <cstdint>

#include "channel_norm.h"
#include "common.cuh"
#include "depthwise.h"
#include "depthwise_norm.h"
#include "depthwise_patch.cuh"
#include "hopper.cuh"
#include "launch.cuh"
#include "norm_common.cuh"
#include "plan_arithmetic.h"
#include "tuning.h"

namespace gspn2 {

struct DepthwiseNormParams {
  const void *x, *weight, *bias, *scale, *shift;
  void *y, *z;
  int height, width, channels;
  int down, across;  // tiles of a map
  int blocks;        // of a cluster
  int own;           // channels of a block, a multiple of kVector; the last one may have fewer
  float share;       // 1 / C
  float epsilon;
  bool silu, residual;
};

namespace {

constexpr int kPair = kDepthwisePair;
constexpr int kStrip = kDepthwiseStrip;
constexpr int kVector = static_cast<int>(kNormVector);
constexpr int kSide = GSPN2_DEPTHWISE_NORM_KERNEL;
constexpr int kReach = kSide / 2;
constexpr int kTaps = kSide * kSide;
constexpr int kBanks = 32;
constexpr int kBankHalves = 2;          // 16-bit values of a bank
constexpr int kThreadsAtOnce = 1152;    // of a multiprocessor: 56 registers each
constexpr int kClusterCapability = 90;  // the compute capability that brought clusters

// The mean of some channels of a position, and the sum of their squared deviations from it.
struct alignas(8) Moments {
  float mean, squares;
};

// How many values to add to a row of `halves`, whole vectors of them, so that from `rows` of these
// to the next ones lanes move on by `banks` banks, or as nearly so as there is.
constexpr int bankPadding(int halves, int rows, int banks) {
  int best = 0;
  int least = kBanks;
  for (int padding = 0; padding < kBanks * kBankHalves; padding += kVector) {
    const int apart = ((halves + padding) * rows / kBankHalves - banks) % kBanks;
    const int off = apart < kBanks - apart ? apart : kBanks - apart;
    if (off < least) {
      best = padding;
      least = off;
    }
  }
  return best;
}

}  // namespace

// Of kTile x kTile results of up to kVectors vectors of channels.
template <int kVectors, int kTile>
struct NormedTile {
  static constexpr int kChannels = kVectors * kVector;
  static constexpr int kPairs = kChannels / kPair;
  static constexpr int kRows = kTile / kStrip;  // of a patch
  static constexpr int kStrips = kTile * kTile / kStrip;
  static constexpr int kThreads = kStrips / kRows * kPairs;
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
      Moments parts[kPositions * kPartPitch];  // of vectors, once nothing reads x any more
    };
    static_assert(sizeof(values) >= sizeof(parts), "the parts take no more room than x");
    static_assert(sizeof(values) % sizeof(PackedVector<T, kVector>) == 0, "vectors lie behind x");
    T weights[kChannels * kTaps];  // as they lie: (C, 1, 3, 3)
    T bias[kChannels], scale[kChannels], shift[kChannels];
    T results[kStrips * kStripPitch];
    Statistics statistics[kPositions];
    Moments received[1];  // of every block of the cluster, (blocks, kPositions)
  };
  template <typename T>
  static constexpr size_t sharedBytes(int blocks) {
    return sizeof(Shared<T>) + sizeof(Moments) * (blocks * kPositions - 1);
  }

  // Strips are counted down the tile, then across.
  __device__ __forceinline__ static int rowOf(int strip) {
    return strip < kTile ? strip : strip - kTile;
  }
  __device__ __forceinline__ static int columnOf(int strip) { return strip < kTile ? 0 : kStrip; }
};

// Of `count` groups of channels, up to kMost, in their order, as accurate as two passes: of(i) has
// those of the i-th. Groups have `size` channels, the last one has `last`; `share` is 1 / their
// sum.
// Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
// variances, 1979.
template <int kMost, typename Of>
__device__ __forceinline__ Moments mergeMoments(int count, float size, float last, float share,
                                                const Of& of) {
  constexpr int kStep = 4;  // groups that there are or not take less than a branch at each
  const auto each = [&](auto&& use) {
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i % kStep == 0 && i >= count) break;
      use(i);
    }
  };
  Moments groups[kMost] = {};
  each([&](int i) {
    if (i < count) groups[i] = of(i);
  });
  const Moments lastGroup = of(count - 1);
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

template <typename T>
__device__ __forceinline__ Moments momentsOf(const PackedVector<T, kVector>& values) {
  Moments moments{};
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
    convolvePatch<kSide, Tile::kPitch, Tile::kChannels>(
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
    const Moments* const parts = shared.parts + position * Tile::kPartPitch;
    const Moments moments =
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
    const Moments moments = mergeMoments<kLargeClusterBlocks>(
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
      barrierArriveExpect(collected,
                          static_cast<uint32_t>(p.blocks * Block::kPositions * sizeof(Moments)));
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
    shared.parts[position * Block::kPartPitch + block.vector()] = momentsOf<T>(values[i]);
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

namespace {

// How one launch takes a call: the vectors that a block may have, and its tile. None is two
// launches.
struct ClusterPlan {
  int vectors, tile;
};
constexpr int kFewVectors = 5, kManyVectors = 10;
constexpr int kSmallTile = 7, kLargeTile = 14;

bool isPlan(const ClusterPlan& plan) {
  if (plan.vectors == 0) return plan.tile == 0;
  return (plan.vectors == kFewVectors || plan.vectors == kManyVectors) &&
         (plan.tile == kSmallTile || plan.tile == kLargeTile);
}

int64_t tilesOf(const gspn2_depthwise_t& conv, int tile) {
  return conv.n * planCeilDiv(conv.h, tile) * planCeilDiv(conv.w, tile);
}
int blocksOf(const gspn2_depthwise_t& conv, int vectors) {
  return planCeilDiv(conv.c, vectors * kVector);
}

template <typename T, int kVectors, int kTile>
cudaError_t launchTiles(const DepthwiseNormCall& call) {
  using Tile = NormedTile<kVectors, kTile>;
  const gspn2_depthwise_t& conv = call.conv;
  DepthwiseNormParams params{};
  params.x = call.x;
  params.weight = call.weight;
  params.bias = call.bias;
  params.scale = call.scale;
  params.shift = call.shift;
  params.y = call.y;
  params.z = call.z;
  params.height = static_cast<int>(conv.h);
  params.width = static_cast<int>(conv.w);
  params.channels = static_cast<int>(conv.c);
  params.down = planCeilDiv(conv.h, kTile);
  params.across = planCeilDiv(conv.w, kTile);
  params.own = planCeilDiv(conv.c / kVector, blocksOf(conv, kVectors)) * kVector;
  params.blocks = planCeilDiv(conv.c, params.own);
  params.share = 1.0F / static_cast<float>(conv.c);
  params.epsilon = call.epsilon;
  params.silu = conv.activation == GSPN2_SILU;
  params.residual = conv.residual != 0;
  return launchClusters(depthwiseNormKernel<T, kVectors, kTile>,
                        static_cast<unsigned>(tilesOf(conv, kTile) * params.blocks), Tile::kThreads,
                        static_cast<unsigned>(params.blocks),
                        Tile::template sharedBytes<T>(params.blocks), call.stream, params, true);
}

template <typename T>
cudaError_t launchPlan(const DepthwiseNormCall& call, const ClusterPlan& plan) {
  if (plan.vectors == kFewVectors) {
    return plan.tile == kSmallTile ? launchTiles<T, kFewVectors, kSmallTile>(call)
                                   : launchTiles<T, kFewVectors, kLargeTile>(call);
  }
  return plan.tile == kSmallTile ? launchTiles<T, kManyVectors, kSmallTile>(call)
                                 : launchTiles<T, kManyVectors, kLargeTile>(call);
}

cudaError_t launchTwo(const DepthwiseNormCall& call, const DeviceInfo& device) {
  const gspn2_depthwise_t& conv = call.conv;
  const cudaError_t status =
      launchDepthwise({conv, call.x, call.weight, call.bias, call.y, call.stream}, device);
  if (status != cudaSuccess) return status;
  ChannelNormCall norm{};
  norm.norm.n = conv.n;
  norm.norm.c = conv.c;
  norm.norm.h = conv.h;
  norm.norm.w = conv.w;
  norm.norm.dtype = conv.dtype;
  norm.norm.layout = GSPN2_NHWC8;
  norm.norm.epsilon = call.epsilon;
  norm.x = call.y;
  norm.scale = call.scale;
  norm.shift = call.shift;
  norm.y = call.z;
  norm.stream = call.stream;
  return launchChannelNorm(norm, device);
}

// Where large blocks leave half of the multiprocessors without one, as at batch 1, small ones do:
// what counts there is a launch less. Where blocks are many, their lanes and what they copy count:
// blocks whose lanes mostly have channels, of maps of more than a tile, or two launches (64 x 320 x
// 14 x 14 on an H200: 17.7 us, and 19.2 by one).
ClusterPlan findPlan(const DepthwiseNormCall& call, const DeviceInfo& device) {
  const gspn2_depthwise_t& conv = call.conv;
  if (device.computeCapability < kClusterCapability) return {};
  for (const void* parameter : {call.weight, call.bias, call.scale, call.shift}) {
    if (!isCopyAligned(parameter)) return {};  // null is
  }
  const int most =
      device.largeClusters > 0 ? kLargeClusterBlocks : static_cast<int>(kPortableClusterBlocks);
  const auto fits = [&](int vectors) { return blocksOf(conv, vectors) <= most; };
  if (int tuned[2]; readTuning("GSPN2_DEPTHWISE_NORM", 2, tuned)) {
    // One that there is not, or that does not fit, is left, and not counted.
    const ClusterPlan plan{tuned[0], tuned[1]};
    if (!isPlan(plan) || (plan.vectors != 0 && !fits(plan.vectors))) return {};
    countTuned();
    return plan;
  }
  const int64_t longest = std::max(conv.h, conv.w);
  const int tile = longest <= kSmallTile ? kSmallTile : kLargeTile;
  const auto room = [&](int vectors) { return blocksOf(conv, vectors) * vectors * kVector; };
  ClusterPlan plan{kFewVectors, kSmallTile};
  const bool few = tilesOf(conv, tile) * blocksOf(conv, kManyVectors) <= device.multiprocessors / 2;
  if (!few) {
    if (longest <= kLargeTile) return {};
    plan = {room(kManyVectors) <= room(kFewVectors) ? kManyVectors : kFewVectors, kLargeTile};
    if (4 * conv.c < 3 * room(plan.vectors)) return {};
  }
  if (!fits(plan.vectors)) plan.vectors = kManyVectors;
  return fits(plan.vectors) ? plan : ClusterPlan{};
}

}  // namespace

cudaError_t launchDepthwiseNorm(const DepthwiseNormCall& call, const DeviceInfo& device) {
  const ClusterPlan plan = findPlan(call, device);
  if (plan.vectors == 0) return launchTwo(call, device);
  return call.conv.dtype == GSPN2_FLOAT16 ? launchPlan<__half>(call, plan)
                                          : launchPlan<__nv_bfloat16>(call, plan);
}

}  // namespace gspn2
