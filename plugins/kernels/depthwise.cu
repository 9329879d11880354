// Depthwise convolutions on GSPN2_NHWC8.
//
// A block has a square tile of a map and some channels, which it copies into shared memory with the
// border that its results need, 0 outside the map. A lane has two adjacent channels of a patch of
// rows x kStrip positions: it walks the rows that reach them, and keeps their sums in float32
// registers. Arithmetic bounds a 7x7 kernel, 49 multiplications to two bytes read and two written;
// half of all instructions are these.
//
// Where blocks of 32 channels and patches of two rows would be few, they have eight channels and
// patches of one row: more blocks, whose lanes have half as much to do. Where they are many,
// tensor cores multiply: depthwise_bands.cu.
#include <cstdint>

#include "by_dtype.h"
#include "channel_norm.h"
#include "common.cuh"
#include "depthwise.h"
#include "depthwise_bands.h"
#include "depthwise_patch.cuh"
#include "depthwise_tiles.h"
#include "hopper.cuh"
#include "launch.cuh"
#include "plan_arithmetic.h"
#include "tuning.h"

namespace gspn2 {

struct DepthwiseParams {
  const void *x, *weight, *bias;
  void* y;
  int height, width, channels;
  int pitch;          // from a position to the next: whole vectors
  int down, across;   // tiles of a map
  int channelBlocks;  // blocks of a tile
  bool wide;          // whether the weights are aligned vectors
  bool silu, residual;
};

namespace {

constexpr int kPair = kDepthwisePair;
constexpr int kStrip = kDepthwiseStrip;
constexpr int kVector = static_cast<int>(kNormVector);
constexpr int kBankHalves = 64;  // 16-bit values of a row of banks

constexpr int depthwiseChannels(bool few) { return few ? kVector : 32; }  // of a block

// Of a tile of kTile x kTile results.
template <int kKernel, int kTile, bool kFew>
struct DepthwiseTile {
  static constexpr int kChannels = depthwiseChannels(kFew);
  static constexpr int kRows = kFew ? 1 : 2;            // of a patch
  static constexpr int kVectors = kChannels / kVector;  // of a position
  static constexpr int kPairs = kChannels / kPair;
  static constexpr int kReach = kKernel / 2;
  static constexpr int kTaps = kKernel * kKernel;
  static constexpr int kStrips = kTile / kStrip;
  static constexpr int kPatches = kStrips * ((kTile + kRows - 1) / kRows);
  static constexpr int kThreads = kPatches * kPairs;
  static constexpr int kWeightVectors = kChannels * kTaps / kVector;
  static constexpr int kThreadVectors = (kWeightVectors + kThreads - 1) / kThreads;
  // Patches of two rows may reach a row further.
  static constexpr int kInRows = (kTile + kRows - 1) / kRows * kRows + kKernel - 1;
  static constexpr int kInColumns = kTile + kKernel - 1;
  // From a row to the next. The patches of a warp never want the same banks: two of 32 channels are
  // half a row of banks apart, and eight of eight channels a multiple of their width.
  static constexpr int kRowHalves = kInColumns * kChannels;
  static constexpr int kPitch =
      kFew ? (kRowHalves + kBankHalves - 1) / kBankHalves * kBankHalves + kStrips * kChannels
           : kRowHalves + kChannels / 2;

  template <typename T>
  struct alignas(16) Shared {
    T values[kInRows * kPitch];
    float weights[kTaps][kChannels];
  };
};

}  // namespace

template <typename T, int kKernel, int kTile, bool kFew>
__global__ void __launch_bounds__(DepthwiseTile<kKernel, kTile, kFew>::kThreads)
    depthwiseKernel(const __grid_constant__ DepthwiseParams p) {
  using Tile = DepthwiseTile<kKernel, kTile, kFew>;
  using Shared = typename Tile::template Shared<T>;
  using Vector = PackedVector<T, kVector>;
  using Pair = AlignedVector<T, kPair>;
  using Floats = AlignedVector<float, kPair>;
  constexpr int kReach = Tile::kReach;
  constexpr int kTaps = Tile::kTaps;
  constexpr int kChannels = Tile::kChannels;
  constexpr int kRows = Tile::kRows;
  constexpr int kVectors = Tile::kVectors;
  constexpr int kPairs = Tile::kPairs;
  auto& shared = *dynamicShared<Shared>();
  const uint32_t copied = sharedAddress(&staticShared<uint64_t>());
  const int thread = static_cast<int>(threadIdx.x);
  int64_t block = blockIdx.x;
  const int firstChannel = static_cast<int>(block % p.channelBlocks) * kChannels;
  block /= p.channelBlocks;
  const int left = static_cast<int>(block % p.across) * kTile;
  block /= p.across;
  const int top = static_cast<int>(block % p.down) * kTile;
  const int64_t n = block / p.down;
  const int64_t map = n * p.height * p.width * p.pitch + firstChannel;
  const int own = min(kChannels, p.channels - firstChannel);
  const int channel = thread % kPairs * kPair;
  const bool hasChannels = channel < own;

  // All that is far away is asked for at once: weights into registers, x into shared memory.
  const T* const weight = static_cast<const T*>(p.weight) + int64_t{firstChannel} * kTaps;
  const int ownWeights = own * kTaps;
  const auto eachOwn = [&](auto&& use) {  // of the weights' vectors
#pragma unroll
    for (int i = 0; i < Tile::kThreadVectors; ++i) {
      const int at = (thread + i * Tile::kThreads) * kVector;
      if (at < ownWeights) use(i, at);
    }
  };
  if (static_cast<int>(blockIdx.x) < p.channelBlocks) {  // once is enough
    eachOwn([&](int, int at) { prefetch(weight + at); });
  }
  if (thread == 0) barrierInit(copied, Tile::kThreads);
  __syncthreads();
  waitForPreviousKernel();
  Vector weights[Tile::kThreadVectors];
  if (p.wide) {
    eachOwn([&](int i, int at) { weights[i] = Vector::read(weight + at); });
  } else {
    eachOwn([&](int i, int at) {
      weights[i] = Vector::read(weight + at, min(kVector, ownWeights - at));
    });
  }
  T biases[kPair] = {};
  if (p.bias != nullptr && hasChannels) {
    const T* const bias = static_cast<const T*>(p.bias) + firstChannel + channel;
#pragma unroll
    for (int c = 0; c < kPair; ++c) {
      if (channel + c < own) biases[c] = bias[c];
    }
  }
  const T* const x = static_cast<const T*>(p.x) + map;
#pragma unroll 4
  for (int i = thread; i < Tile::kInRows * Tile::kInColumns * kVectors; i += Tile::kThreads) {
    const int vector = i % kVectors;
    const int position = i / kVectors;
    const int y = position / Tile::kInColumns;
    const int column = left + position - y * Tile::kInColumns - kReach;
    const int row = top + y - kReach;
    const bool isInside =
        row >= 0 && row < p.height && column >= 0 && column < p.width && vector * kVector < own;
    const int64_t offset = (static_cast<int64_t>(row) * p.width + column) * p.pitch;
    T* const target = shared.values + y * Tile::kPitch +
                      (position - y * Tile::kInColumns) * kChannels + vector * kVector;
    copyChunk(sharedAddress(target), isInside ? x + offset + vector * kVector : x,
              isInside ? static_cast<int>(sizeof(Vector)) : 0);
  }
  barrierArriveCopies(copied);
  eachOwn([&](int i, int at) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const int of = (at + j) / kTaps;
      shared.weights[at + j - of * kTaps][of] = weights[i][j];
    }
  });
  __syncthreads();
  barrierWait(copied, 0);

  const int patch = thread / kPairs;
  const int patchTop = patch / Tile::kStrips * kRows;
  const int patchLeft = patch % Tile::kStrips * kStrip;
  if (channel >= p.pitch - firstChannel) return;
  float sums[kRows][kStrip][kPair];
#pragma unroll
  for (int c = 0; c < kPair; ++c) {
    const float bias = toFloat(biases[c]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int o = 0; o < kStrip; ++o) sums[r][o][c] = bias;
    }
  }
  const T* const reach = shared.values + patchTop * Tile::kPitch + patchLeft * kChannels + channel;
  convolvePatch<kKernel, Tile::kPitch, kChannels>(
      reach, p.residual, sums,
      [&](int tap, const float (*values)[kPair], float (&row)[kStrip][kPair]) {
        const auto weight = *reinterpret_cast<const Floats*>(&shared.weights[tap][channel]);
#pragma unroll
        for (int o = 0; o < kStrip; ++o) {
#pragma unroll
          for (int c = 0; c < kPair; ++c) {
            row[o][c] = fmaf(values[o][c], weight.values[c], row[o][c]);
          }
        }
      });
  T* const y = static_cast<T*>(p.y) + map + channel;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = top + patchTop + r;
    if (patchTop + r >= kTile || row >= p.height) break;
#pragma unroll
    for (int o = 0; o < kStrip; ++o) {
      const int column = left + patchLeft + o;
      if (column >= p.width) break;
      Pair result;
#pragma unroll
      for (int c = 0; c < kPair; ++c) {
        const float sum = sums[r][o][c];
        const float value = p.silu ? sum * sigmoid(sum) : sum;
        result.values[c] = fromFloat<T>(channel + c < own ? value : 0.0F);
      }
      *reinterpret_cast<Pair*>(y + (static_cast<int64_t>(row) * p.width + column) * p.pitch) =
          result;
    }
  }
}

namespace {

int64_t blocksOf(const gspn2_depthwise_t& conv, int tile, bool few) {
  return depthwiseTiles(conv, tile) * planCeilDiv(conv.c, depthwiseChannels(few));
}

template <typename T, int kKernel, int kTile, bool kFew>
cudaError_t launchTiles(const DepthwiseCall& call, const DeviceInfo& device) {
  using Tile = DepthwiseTile<kKernel, kTile, kFew>;
  const gspn2_depthwise_t& conv = call.conv;
  DepthwiseParams params{};
  params.x = call.x;
  params.weight = call.weight;
  params.bias = call.bias;
  params.y = call.y;
  setDepthwiseTiles(conv, kTile, &params);
  params.pitch = planRoundUp(conv.c, kVector);
  params.channelBlocks = planCeilDiv(conv.c, Tile::kChannels);
  params.wide = isCopyAligned(call.weight) && conv.c % kVector == 0;
  return launchClusters(depthwiseKernel<T, kKernel, kTile, kFew>,
                        static_cast<unsigned>(blocksOf(conv, kTile, kFew)), Tile::kThreads, 1,
                        sizeof(typename Tile::template Shared<T>), call.stream, params,
                        device.computeCapability >= kClusterCapability);
}

template <typename T, int kKernel, int kTile>
cudaError_t launchTiles(const DepthwiseCall& call, const DeviceInfo& device) {
  bool few = blocksOf(call.conv, kTile, false) <= 2 * device.multiprocessors;
  if (int tuned[1]; readTuning("GSPN2_DEPTHWISE_FEW", 1, tuned)) {
    few = tuned[0] != 0;
    countTuned();
  }
  return few ? launchTiles<T, kKernel, kTile, true>(call, device)
             : launchTiles<T, kKernel, kTile, false>(call, device);
}

template <typename T, int kKernel>
cudaError_t launchKernelOf(const DepthwiseCall& call, const DeviceInfo& device) {
  return depthwiseTile(call.conv) == kDepthwiseSmallTile
             ? launchTiles<T, kKernel, kDepthwiseSmallTile>(call, device)
             : launchTiles<T, kKernel, kDepthwiseLargeTile>(call, device);
}

template <typename T>
cudaError_t launch(const DepthwiseCall& call, const DeviceInfo& device) {
  return withDepthwiseWidth(call.conv.kernel, [&](auto width) {
    return launchKernelOf<T, decltype(width)::value>(call, device);
  });
}

// Whether tensor cores take a call: of 5x5 and more, where they have enough blocks and not much
// more room for results than the blocks here, of which each result takes several times as long.
bool takesBands(const gspn2_depthwise_t& conv, const DeviceInfo& device) {
  const int64_t blocks = depthwiseBandBlocks(conv);
  if (blocks == 0) return false;
  if (int tuned[1]; readTuning("GSPN2_DEPTHWISE_MMA", 1, tuned)) {
    countTuned();
    return tuned[0] != 0;
  }
  if (int tuned[1]; readTuning("GSPN2_DEPTHWISE_FEW", 1, tuned)) return false;
  const int tile = depthwiseTile(conv);
  const int64_t others = blocksOf(conv, tile, false);
  const int64_t room = others * tile * tile * depthwiseChannels(false);
  return conv.kernel > 3 && others > 2 * device.multiprocessors &&
         4 * blocks >= 3 * device.multiprocessors && 2 * blocks * kDepthwiseBandRoom <= 3 * room;
}

}  // namespace

int64_t depthwiseElements(const gspn2_depthwise_t& conv) {
  return rowsElements(conv.n, conv.c, conv.h, conv.w);
}

int64_t depthwiseBlocks(const gspn2_depthwise_t& conv) {
  return blocksOf(conv, depthwiseTile(conv), false);  // smaller ones are taken where these are few
}

cudaError_t launchDepthwise(const DepthwiseCall& call, const DeviceInfo& device) {
  if (takesBands(call.conv, device)) return launchDepthwiseBands(call, device);
  return call.conv.dtype == GSPN2_FLOAT16 ? launch<__half>(call, device)
                                          : launch<__nv_bfloat16>(call, device);
}

}  // namespace gspn2
