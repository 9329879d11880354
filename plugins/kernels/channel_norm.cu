// Layer normalisation over the channels of each position, then, where it is asked for, global
// response normalisation over the positions of each channel.
//
// A block has a tile of positions. Where a response follows, it leaves the positions' statistics
// and each channel's sum of squares over the tile in the workspace, without atomics, so that the
// same inputs give the same bits. What they make of each channel's scale and shift comes next, and
// then the result, for which x is read again: three passes over the map, and one rounding, in three
// launches. Where a cluster's blocks hold a batch item (norm_held.cuh) it is read once, in one
// launch; few small maps in GSPN2_NCHW have one, which reads them again.
//
// A projection is added to x as rows are held, or else into y ahead of all, by one launch more.
//
// Sources: layer normalisation (arXiv 1607.06450); response normalisation, ConvNeXt V2 (arXiv
// 2301.00808), with the root mean square over the positions in place of the norm: their ratio is
// the same.
#include <algorithm>
#include <cstdint>

#include "by_dtype.h"
#include "channel_norm.h"
#include "launch.cuh"
#include "norm_held.cuh"
#include "norm_planes.cuh"
#include "norm_rows.cuh"
#include "plan_arithmetic.h"
#include "tuning.h"

namespace gspn2 {

// A block for each batch item.
template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    normAffinesKernel(const __grid_constant__ NormParams p) {
  waitForPreviousKernel();
  const int64_t n = blockIdx.x;
  respond<T>(p, squaresOf(p, n), affinesOf(p, n));
}

namespace {

using Kernel = void (*)(NormParams);

constexpr int kClusterBlocks = 8;      // to a batch item
constexpr int kLargeClusterTile = 64;  // positions of each of eight, for which sixteen are better
constexpr int64_t kMostLarge = 4;      // large clusters: fewer than an H100 has at once
constexpr int kSharedBeside = 1024;    // bytes of a block's shared memory that are not asked for
constexpr int kLeastHolders = 2;       // a block alone is no cluster, and sends nothing
constexpr int64_t kMostClusters = 16;
constexpr int64_t kPlanesOfCluster = 64;  // positions of a map, at most
constexpr int64_t kMostPlanes = 1024;     // for which a cluster is tried in tuning builds
constexpr int64_t kFewTiles = 66;         // half as many as a device has multiprocessors
constexpr int64_t kEnoughTiles = 264;     // to fill a device
constexpr int kNarrow = 8;                // lanes of a worker where there are few positions
constexpr int kLaneChannels = 8;          // of a worker, as long as there are enough
constexpr int kAccessBytes = 4;           // of a lane, GSPN2_NCHW
constexpr int kLeastTile = 8;             // positions, GSPN2_NHWC8
constexpr int kMostTile = 64;
constexpr size_t kRowSumsBytes = 32768;  // of shared memory

// The kernels of one shape of workers, and what they are launched with.
struct Kernels {
  Kernel plain, sums, scale;
  Kernel whole = nullptr;  // by a cluster
};

template <typename T, int kLanes, int kPositions, int kChannels>
Kernels planesKernels() {
  Kernels kernels{normPlanesKernel<T, kLanes, kPositions, kChannels, NormStage::kPlain>,
                  normPlanesKernel<T, kLanes, kPositions, kChannels, NormStage::kSums>,
                  scalePlanesKernel<T, kLanes, kPositions>};
  if constexpr (kLanes == kNarrow) {
    kernels.whole = normPlanesKernel<T, kLanes, kPositions, kChannels, NormStage::kWhole>;
  }
  return kernels;
}

// Those that hold `channels` in registers, or read them anew.
template <typename T, int kPositions>
Kernels planesKernels(int channels) {
  if (channels <= 8) return planesKernels<T, kWarpSize, kPositions, 8>();
  if (channels <= 16) return planesKernels<T, kWarpSize, kPositions, 16>();
  if constexpr (kPositions == 1) {
    if (channels <= 32) return planesKernels<T, kWarpSize, 1, 32>();
  }
  return planesKernels<T, kWarpSize, kPositions, 0>();
}

// kRows: that a lane takes at once where there are enough of them.
template <typename T, int kVectors, int kRows>
Kernels rowKernels(bool few) {
  constexpr int kFewer = kRows > 1 ? kRows / 2 : 1;  // sums take registers
  if (few) {
    return {normRowsKernel<T, kVectors, 1, NormStage::kPlain>,
            normRowsKernel<T, kVectors, 1, NormStage::kSums>, scaleRowsKernel<T, kVectors, 1>};
  }
  return {normRowsKernel<T, kVectors, kRows, NormStage::kPlain>,
          normRowsKernel<T, kVectors, kFewer, NormStage::kSums>,
          scaleRowsKernel<T, kVectors, kRows>};
}

int powerOfTwo(int least) {
  int power = 1;
  while (power < least) power *= 2;
  return power;
}

template <typename T>
class Launcher {
 public:
  Launcher(const ChannelNormCall& call, const DeviceInfo& device)
      : mCall(call), mDevice(device), mOverlaps(device.computeCapability >= kClusterCapability) {
    const gspn2_norm_t& norm = call.norm;
    mParams.x = call.x;
    mParams.scale = call.scale;
    mParams.shift = call.shift;
    mParams.responseScale = call.responseScale;
    mParams.responseShift = call.responseShift;
    mParams.y = call.y;
    mParams.proxy = call.projection.proxy;
    mParams.weight = call.projection.weight;
    mParams.bias = call.projection.bias;
    mParams.proxies = static_cast<int>(call.projection.c);
    mParams.plane = norm.h * norm.w;
    mParams.channels = static_cast<int>(norm.c);
    mParams.share = 1.0F / static_cast<float>(norm.c);
    mParams.pitch = planRoundUp(norm.c, kNormVector);
    mParams.epsilon = norm.epsilon;
    mParams.responseEpsilon = norm.response_epsilon;
    if (call.responseScale != nullptr) {
      mParams.affines = static_cast<float*>(call.workspace);
      mParams.statistics = reinterpret_cast<Statistics*>(mParams.affines + 2 * norm.n * norm.c);
      mParams.squares = reinterpret_cast<float*>(mParams.statistics + norm.n * mParams.plane);
    }
  }

  cudaError_t planes() {
    const bool cluster = useCluster() && mParams.channels <= kMostHeld;
    const bool narrow = cluster || tilesOf(kWarpSize) < kFewTiles;
    if (narrow && mParams.channels <= kMostHeld) {
      const int workers = planCeilDiv(mParams.channels, kLaneChannels);
      const int warps = planCeilDiv(workers, kWarpSize / kNarrow);
      return planes(planesKernels<T, kNarrow, 1, kLaneChannels>(), kNarrow, warps, cluster);
    }
    const int warps = std::min(kPlaneWarps, planCeilDiv(mParams.channels, kLaneChannels));
    const int channels = planCeilDiv(mParams.channels, warps);
    constexpr int kPairs = kAccessBytes / static_cast<int>(sizeof(T));
    const bool pairs = kPairs > 1 && channels <= 16 && mParams.plane % kPairs == 0 &&
                       isAccessAligned(mCall.x) && isAccessAligned(mCall.y);
    return pairs ? planes(planesKernels<T, kPairs>(channels), kWarpSize * kPairs, warps, false)
                 : planes(planesKernels<T, 1>(channels), kWarpSize, warps, false);
  }

  cudaError_t rows() {
    const int vectors = mParams.pitch / static_cast<int>(kNormVector);
    mParams.wide = mParams.channels == mParams.pitch;
    for (const void* tensor : {mParams.scale, mParams.shift, mParams.responseScale,
                               mParams.responseShift, mParams.weight, mParams.bias}) {
      mParams.wide = mParams.wide && isCopyAligned(tensor);  // null is
    }
    mParams.lanes = std::min(powerOfTwo(vectors), kWarpSize);
    while (1 << mParams.laneBits < mParams.lanes) ++mParams.laneBits;
    const int held = powerOfTwo(planCeilDiv(vectors, mParams.lanes));
    switch (held) {
      case 1:
        return rows<1>();
      case 2:
        return rows<2>();
      case 4:
        return rows<4>();
      default:
        return rows<8>();
    }
  }

 private:
  static bool isAccessAligned(const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % kAccessBytes == 0;
  }
  bool hasResponse() const { return mParams.squares != nullptr; }
  bool useCluster() const {
    if (int tuned[1]; hasResponse() && mOverlaps && readTuning("GSPN2_NORM_CLUSTER", 1, tuned)) {
      countTuned();
      return tuned[0] != 0 && mParams.plane <= kMostPlanes;
    }
    return hasResponse() && mOverlaps && mParams.plane <= kPlanesOfCluster &&
           mCall.norm.n <= kMostClusters;
  }
  int64_t tiles() const { return mCall.norm.n * mParams.tiles; }
  int64_t tilesOf(int positions) const {
    return mCall.norm.n * planCeilDiv(mParams.plane, positions);
  }

  void cut(int tile) {
    mParams.tile = tile;
    mParams.tiles = planCeilDiv(mParams.plane, tile);
  }
  void cutForCluster(int blocks, int unit) {
    mParams.tile = planRoundUp(planCeilDiv(mParams.plane, blocks), unit);
    mParams.tiles = blocks;  // the last ones may be empty
  }

  // `step`: positions that a block has at once.
  cudaError_t planes(const Kernels& kernels, int step, int warps, bool cluster) {
    const int threads = warps * kWarpSize;
    if (cluster) {
      cutForCluster(kClusterBlocks, step);
      return run(kernels.whole, tiles(), threads, sizeof(PlaneShared), kClusterBlocks);
    }
    cut(step);
    if (!hasResponse()) return run(kernels.plain, tiles(), threads, sizeof(PlaneShared));
    return runInTurn(kernels, threads, sizeof(PlaneShared));
  }

  // What holds a batch item: a cluster of blocks, none where they cannot.
  struct Holders {
    int blocks = 0;
    int threads = 0;  // of each
    size_t sharedBytes = 0;
  };

  size_t roomOfHolder() const { return mDevice.sharedBytesPerBlock - kSharedBeside; }
  bool leavesRoomForSecond(const Holders& block) const {
    return 2 * (block.sharedBytes + kSharedBeside) <=
           static_cast<size_t>(mDevice.sharedBytesPerBlock);
  }
  // Cuts the positions for so many blocks.
  Holders holders(int blocks) {
    cutForCluster(blocks, 1);
    const auto of = [&](int threads) {
      return Holders{blocks, threads, sizeof(float) * HeldLayout(mParams, threads).size};
    };
    const Holders most = of(kHeldThreads);
    if (blocks * mCall.norm.n <= mDevice.multiprocessors) return most;
    const Holders least = of(kHeldLeastThreads);
    return leavesRoomForSecond(least) || most.sharedBytes > roomOfHolder() ? least : most;
  }
  Holders findHolders() {
    int tuned[1];
    const size_t room = roomOfHolder();
    if (!hasResponse() || !mOverlaps) return {};
    if (mParams.plane * mParams.pitch > kLargeClusterBlocks * static_cast<int64_t>(room)) {
      return {};  // too much by far, and more than a layout's integers hold
    }
    if (readTuning("GSPN2_NORM_CLUSTER", 1, tuned)) {
      countTuned();
      if (tuned[0] == 0) return {};
    }
    // A block for every multiprocessor, or as few of them as leave room for a second one there.
    Holders few = holders(kLeastHolders);
    while (
        few.blocks < kClusterBlocks &&
        (!leavesRoomForSecond(few) || 2 * few.blocks * mCall.norm.n <= mDevice.multiprocessors)) {
      few = holders(2 * few.blocks);
    }
    if (few.blocks == kClusterBlocks && mParams.tile >= kLargeClusterTile &&
        mCall.norm.n <= kMostLarge && mCall.norm.n <= largeClusters(mDevice)) {
      const Holders many = holders(kLargeClusterBlocks);
      if (many.sharedBytes <= room) return many;
    }
    return few.sharedBytes <= room ? few : Holders{};
  }

  template <int kVectors, bool kWide>
  Kernel heldKernel() const {
    return mParams.proxies > 0 ? normHeldKernel<T, kVectors, true, kWide>
                               : normHeldKernel<T, kVectors, false, kWide>;
  }

  // Into y, which is normalised where it lies.
  template <int kVectors>
  cudaError_t project() {
    const int groups = kRowThreads / mParams.lanes;
    cut(groups);
    const size_t shared = sizeof(float) * mParams.proxies * groups;
    const cudaError_t status = run(projectRowsKernel<T, kVectors>, tiles(), kRowThreads, shared);
    mParams.x = mParams.y;
    return status;
  }

  template <int kVectors>
  cudaError_t rows() {
    constexpr int kRows = kVectors < 4 ? 4 / kVectors : 1;
    if constexpr (kVectors <= kHeldMostVectors) {
      const Holders found = findHolders();
      if (found.blocks > 0) {
        cutForCluster(found.blocks, 1);
        return run(mParams.wide ? heldKernel<kVectors, true>() : heldKernel<kVectors, false>(),
                   tiles(), found.threads, found.sharedBytes, found.blocks);
      }
    }
    if (mParams.proxies > 0) {
      const cudaError_t status = project<kVectors>();
      if (status != cudaSuccess) return status;
    }
    const auto rowBytes = sizeof(float) * static_cast<size_t>(mParams.pitch);
    int threads = kRowThreads;
    const auto bytes = [&] { return threads / mParams.lanes * rowBytes; };
    if (hasResponse()) {
      while (threads > kWarpSize && bytes() > kRowSumsBytes) threads /= 2;
    }
    const int groups = threads / mParams.lanes;
    const bool few = tilesOf(groups * kRows) < kEnoughTiles;
    const Kernels kernels = rowKernels<T, kVectors, kRows>(few);
    if (!hasResponse()) {
      cut(groups * (few ? 1 : kRows));  // one pass
      return run(kernels.plain, tiles(), threads, 0);
    }
    int tile = kMostTile;
    while (tile > std::max(kLeastTile, groups) && tilesOf(tile) < kEnoughTiles) tile /= 2;
    cut(tile);
    return runInTurn(kernels, threads, bytes());
  }

  cudaError_t runInTurn(const Kernels& kernels, int threads, size_t shared) {
    cudaError_t status = run(kernels.sums, tiles(), threads, shared);
    if (status != cudaSuccess) return status;
    status = run(normAffinesKernel<T>, mCall.norm.n, kNormThreads, 0);
    return status == cudaSuccess ? run(kernels.scale, tiles(), threads, 0) : status;
  }

  cudaError_t run(Kernel kernel, int64_t blocks, int threads, size_t shared, int cluster = 1) {
    return launchClusters(kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(threads),
                          static_cast<unsigned>(cluster), shared, mCall.stream, mParams, mOverlaps);
  }

  const ChannelNormCall& mCall;
  const DeviceInfo& mDevice;
  bool mOverlaps;
  NormParams mParams{};
};

template <typename T>
cudaError_t launch(const ChannelNormCall& call, const DeviceInfo& device) {
  Launcher<T> launcher(call, device);
  if constexpr (sizeof(T) == 2) {  // checkNorm refuses float32 in this layout
    if (call.norm.layout == GSPN2_NHWC8) return launcher.rows();
  }
  return launcher.planes();
}

}  // namespace

cudaError_t countLargeClusters(int sharedBytes, int* clusters) {
  const auto kernel = normHeldKernel<__half, 1, false, true>;  // any would do
  const size_t asked = sharedBytes - kSharedBeside;
  return maxActiveClusters(kernel, kHeldThreads, kLargeClusterBlocks, asked, clusters);
}

int64_t channelNormElements(const gspn2_norm_t& norm) {
  return norm.layout == GSPN2_NHWC8 ? rowsElements(norm.n, norm.c, norm.h, norm.w)
                                    : norm.n * norm.c * norm.h * norm.w;
}

int64_t channelNormTiles(const gspn2_norm_t& norm) {
  // Tiles below 32 positions are taken only where larger ones are few, or eight to a batch item.
  const auto cut = [&](int64_t tile) { return (norm.h * norm.w + tile - 1) / tile; };
  const int64_t few = std::min(norm.n * cut(kLeastTile), kEnoughTiles * kMostTile / kLeastTile);
  return std::max({norm.n * cut(kWarpSize), norm.n * kClusterBlocks, few});
}

size_t channelNormWorkspace(const gspn2_norm_t& norm, bool hasResponse) {
  if (!hasResponse) return 0;
  const int64_t squares = channelNormTiles(norm) * norm.c;
  return sizeof(Affine) * static_cast<size_t>(norm.n * norm.c) +
         sizeof(Statistics) * static_cast<size_t>(norm.n * norm.h * norm.w) +
         sizeof(float) * static_cast<size_t>(squares);
}

cudaError_t launchChannelNorm(const ChannelNormCall& call, const DeviceInfo& device) {
  return launchByDtype(call.norm.dtype, launch<float>, launch<__half>, launch<__nv_bfloat16>, call,
                       device);
}

}  // namespace gspn2
