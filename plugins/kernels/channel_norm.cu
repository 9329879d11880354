// Layer normalisation over the channels of each position, then, where it is asked for, global
// response normalisation over the positions of each channel.
//
// A block has a tile of positions, whose channels its warps hold in registers. Where a response
// follows, it leaves the positions' statistics and each channel's sum of squares over the tile in
// the workspace, without atomics, so that the same inputs give the same bits. A second launch makes
// one scale and one shift for each channel of the sums, and a third, which reads x again, the
// result: three passes over the map, and one rounding.
//
// Sources: layer normalisation (arXiv 1607.06450); response normalisation, ConvNeXt V2 (arXiv
// 2301.00808), with the root mean square over the positions in place of the norm: their ratio is
// the same. Means and sums of squares of parts are joined as by Chan, Golub and LeVeque (1979).
#include <algorithm>
#include <cstdint>

#include "by_dtype.h"
#include "channel_norm.h"
#include "common.cuh"
#include "hopper.cuh"
#include "launch.cuh"
#include "plan_arithmetic.h"

namespace gspn2 {

// Of the channels of a position: the mean, and 1 / sqrt(variance + epsilon).
struct alignas(8) Statistics {
  float mean, scale;
};

// What a normalised channel is multiplied by, and what is added.
struct alignas(8) Affine {
  float scale, shift;
};

struct NormParams {
  const void *x, *scale, *shift, *responseScale, *responseShift;
  void* y;
  Statistics* statistics;  // (N, H W); null without a response normalisation, as all of the three
  Affine* affines;         // (N, C)
  float* squares;          // (N, tiles, C): sums over a tile
  int64_t plane;           // positions of a map
  int channels;
  int pitch;  // elements from one position to the next, GSPN2_NHWC8
  int tile;   // positions
  int tiles;  // of a batch item
  int lanes;  // that hold a position, GSPN2_NHWC8
  float epsilon, responseEpsilon;
};

namespace {

constexpr int kWarpsPerBlock = 32;
constexpr int kBlockThreads = 256;
constexpr int kResponseThreads = 512;
constexpr int kAtOnce = 8;               // channels whose loads are under way together
constexpr int kAccessBytes = 4;          // of a lane, GSPN2_NCHW
constexpr int kLaneChannels = 8;         // GSPN2_NCHW, as long as there are enough warps
constexpr int kMostHeld = 32;            // channels of a lane
constexpr int kMostPaired = 16;          // channels of a lane with more than one position
constexpr int64_t kLeastTile = 8;        // positions, GSPN2_NHWC8
constexpr int64_t kMostTile = 64;        // positions
constexpr int64_t kEnoughTiles = 264;    // to fill a device
constexpr size_t kRowSumsBytes = 32768;  // of shared memory

// The mean and the sum of squared differences from it, over `count` values.
struct Moments {
  float mean, squares;
};

// A tile of positions in shared memory: the moments by warp, then the statistics; and, where the
// channels are held in registers, their scales and shifts.
struct TileMoments {
  Moments warps[kWarpsPerBlock][kMostTile];
  Statistics positions[kMostTile];
  Affine affines[kWarpsPerBlock * kMostHeld];
};

__device__ __forceinline__ float warpSum(float value) {
#pragma unroll
  for (int other = kWarpSize / 2; other > 0; other /= 2) {
    value += __shfl_xor_sync(kFullMask, value, other);
  }
  return value;
}

// Of the `lanes` that hold a position, a power of two.
__device__ __forceinline__ float laneSum(float value, int lanes) {
  for (int other = lanes / 2; other > 0; other /= 2) {
    value += __shfl_xor_sync(kFullMask, value, other);
  }
  return value;
}

__device__ __forceinline__ float normalised(float value, const Statistics& position,
                                            const Affine& channel) {
  return fmaf((value - position.mean) * position.scale, channel.scale, channel.shift);
}

template <typename T>
__device__ __forceinline__ Affine affineOf(const NormParams& p, int channel) {
  return {toFloat(static_cast<const T*>(p.scale)[channel]),
          toFloat(static_cast<const T*>(p.shift)[channel])};
}

// How many of `channels` a warp has that takes every `warps`-th.
__device__ __forceinline__ int channelsOf(int warp, int warps, int channels) {
  return (channels - warp + warps - 1) / warps;
}

// Joins the warps' moments of each position.
__device__ __forceinline__ void joinMoments(TileMoments& tile, int warps, int positions,
                                            const NormParams& p) {
  for (int at = static_cast<int>(threadIdx.x); at < positions; at += static_cast<int>(blockDim.x)) {
    float mean = 0.0F;
    for (int warp = 0; warp < warps; ++warp) {
      const auto count = static_cast<float>(channelsOf(warp, warps, p.channels));
      mean = fmaf(count, tile.warps[warp][at].mean, mean);
    }
    mean /= static_cast<float>(p.channels);
    float squares = 0.0F;
    for (int warp = 0; warp < warps; ++warp) {
      const auto count = static_cast<float>(channelsOf(warp, warps, p.channels));
      const float apart = tile.warps[warp][at].mean - mean;
      squares += fmaf(count * apart, apart, tile.warps[warp][at].squares);
    }
    tile.positions[at] = {mean, rsqrtf(squares / static_cast<float>(p.channels) + p.epsilon)};
  }
}

}  // namespace

// GSPN2_NCHW. A lane has kPositions adjacent positions, a warp every so many-th channel: up to
// kChannels of them in registers, or, where that is 0, read anew for every pass.
template <typename T, int kPositions, int kChannels>
__global__ void __launch_bounds__(kWarpsPerBlock* kWarpSize)
    normPlanesKernel(const __grid_constant__ NormParams p) {
  using Access = AlignedVector<T, kPositions>;
  waitForPreviousKernel();
  auto& shared = *dynamicShared<TileMoments>();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  const int64_t n = static_cast<int64_t>(blockIdx.x) / p.tiles;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) - n * p.tiles;
  const int64_t position = tile * p.tile + lane * kPositions;
  const bool inside = position < p.plane;
  const int64_t first = (n * p.channels + warp) * p.plane + position;
  const int64_t stride = warps * p.plane;
  const T* const x = static_cast<const T*>(p.x) + first;
  const int count = channelsOf(warp, warps, p.channels);

  constexpr int kHeld = kChannels > 0 ? kChannels : 1;
  Access held[kHeld];
  const auto read = [&](int i) { return *reinterpret_cast<const Access*>(x + i * stride); };
  // Calls `each` with the values of the warp's channels, in turn.
  const auto forEach = [&](const auto& each) {
    if constexpr (kChannels > 0) {
#pragma unroll
      for (int i = 0; i < kChannels; ++i) {
        if (i < count) each(i, held[i]);
      }
    } else {
      for (int i = 0; i < count; ++i) each(i, inside ? read(i) : Access{});
    }
  };
  if constexpr (kChannels > 0) {
#pragma unroll
    for (int i = 0; i < kChannels; ++i) held[i] = inside && i < count ? read(i) : Access{};
    for (int c = static_cast<int>(threadIdx.x); c < p.channels; c += static_cast<int>(blockDim.x)) {
      shared.affines[c] = affineOf<T>(p, c);
    }
  }

  Moments moments[kPositions] = {};
  forEach([&](int, const Access& values) {
#pragma unroll
    for (int j = 0; j < kPositions; ++j) moments[j].mean += toFloat(values.values[j]);
  });
#pragma unroll
  for (int j = 0; j < kPositions; ++j) moments[j].mean /= static_cast<float>(count);
  forEach([&](int, const Access& values) {
#pragma unroll
    for (int j = 0; j < kPositions; ++j) {
      const float apart = toFloat(values.values[j]) - moments[j].mean;
      moments[j].squares = fmaf(apart, apart, moments[j].squares);
    }
  });
#pragma unroll
  for (int j = 0; j < kPositions; ++j) shared.warps[warp][lane * kPositions + j] = moments[j];
  __syncthreads();
  joinMoments(shared, warps, kWarpSize * kPositions, p);
  __syncthreads();

  Statistics statistics[kPositions];
#pragma unroll
  for (int j = 0; j < kPositions; ++j) {
    statistics[j] = shared.positions[lane * kPositions + j];
    if (p.squares != nullptr && warp == 0 && inside) {
      p.statistics[n * p.plane + position + j] = statistics[j];
    }
  }
  T* const y = static_cast<T*>(p.y) + first;
  forEach([&](int i, const Access& values) {
    const int channel = warp + i * warps;
    const Affine affine = kChannels > 0 ? shared.affines[channel] : affineOf<T>(p, channel);
    Access results;
    float squares = 0.0F;
#pragma unroll
    for (int j = 0; j < kPositions; ++j) {
      const float z = normalised(toFloat(values.values[j]), statistics[j], affine);
      results.values[j] = fromFloat<T>(z);
      squares = fmaf(z, z, squares);
    }
    if (p.squares == nullptr) {
      if (inside) *reinterpret_cast<Access*>(y + i * stride) = results;
    } else {
      squares = warpSum(inside ? squares : 0.0F);
      if (lane == 0) p.squares[int64_t{blockIdx.x} * p.channels + channel] = squares;
    }
  });
}

// GSPN2_NHWC8: a block's tile of rows, one for each position. `lanes` adjacent lanes, a group, hold
// a row, kVectors vectors of eight channels each, and the groups take the rows in turn, kRows at
// once.
template <typename T, int kVectors>
struct RowTile {
  static constexpr int kVector = static_cast<int>(kNormVector);
  using Vector = AlignedVector<T, kVector>;

  int lane, group, groups;
  int64_t n, begin, end;  // the batch item; positions

  __device__ __forceinline__ explicit RowTile(const NormParams& p)
      : lane(static_cast<int>(threadIdx.x) % p.lanes),
        group(static_cast<int>(threadIdx.x) / p.lanes),
        groups(static_cast<int>(blockDim.x) / p.lanes),
        n(static_cast<int64_t>(blockIdx.x) / p.tiles),
        begin((static_cast<int64_t>(blockIdx.x) - n * p.tiles) * p.tile),
        end(begin + p.tile < p.plane ? begin + p.tile : p.plane) {}

  // The first channel of this lane's i-th vector.
  __device__ __forceinline__ int channel(const NormParams& p, int i) const {
    return (lane + i * p.lanes) * kVector;
  }
  // Elements before that channel of a position.
  __device__ __forceinline__ int64_t offset(const NormParams& p, int64_t position, int i) const {
    return (n * p.plane + position) * p.pitch + channel(p, i);
  }
  __device__ __forceinline__ Vector read(const void* tensor, int64_t offset) const {
    return *reinterpret_cast<const Vector*>(static_cast<const T*>(tensor) + offset);
  }
  __device__ __forceinline__ void write(const NormParams& p, int64_t position, int i,
                                        const Vector& values) const {
    *reinterpret_cast<Vector*>(static_cast<T*>(p.y) + offset(p, position, i)) = values;
  }
};

template <typename T, int kVectors, int kRows>
__global__ void __launch_bounds__(kBlockThreads)
    normRowsKernel(const __grid_constant__ NormParams p) {
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;
  constexpr int kVector = Tile::kVector;
  waitForPreviousKernel();
  const Tile tile(p);
  const auto channels = static_cast<float>(p.channels);
  Vector scales[kVectors];
  Vector shifts[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const int channel = tile.channel(p, i) + j;
      scales[i].values[j] =
          channel < p.channels ? static_cast<const T*>(p.scale)[channel] : fromFloat<T>(0.0F);
      shifts[i].values[j] =
          channel < p.channels ? static_cast<const T*>(p.shift)[channel] : fromFloat<T>(0.0F);
    }
  }
  float squares[kVectors][kVector] = {};
  // Whole warps: they meet in shuffles.
  for (int64_t base = tile.begin; base < tile.end; base += tile.groups * kRows) {
    Vector values[kRows][kVectors];
    const auto positionOf = [&](int r) { return base + r * tile.groups + tile.group; };
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        values[r][i] = Vector{};
        if (positionOf(r) < tile.end && tile.channel(p, i) < p.pitch) {
          values[r][i] = tile.read(p.x, tile.offset(p, positionOf(r), i));
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // Calls `each` with a vector, an element of it and the element's value.
      const auto forEach = [&](const auto& each) {
#pragma unroll
        for (int i = 0; i < kVectors; ++i) {
#pragma unroll
          for (int j = 0; j < kVector; ++j) {
            if (tile.channel(p, i) + j < p.channels) each(i, j, toFloat(values[r][i].values[j]));
          }
        }
      };
      float sum = 0.0F;
      forEach([&](int, int, float value) { sum += value; });
      const float mean = laneSum(sum, p.lanes) / channels;
      float apart = 0.0F;
      forEach([&](int, int, float value) { apart = fmaf(value - mean, value - mean, apart); });
      const Statistics position = {mean, rsqrtf(laneSum(apart, p.lanes) / channels + p.epsilon)};
      if (positionOf(r) >= tile.end) continue;
      if (p.squares != nullptr && tile.lane == 0) {
        p.statistics[tile.n * p.plane + positionOf(r)] = position;
      }
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        Vector results;
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          float z = 0.0F;  // behind the last channel, where a NaN may lie
          if (tile.channel(p, i) + j < p.channels) {
            z = normalised(toFloat(values[r][i].values[j]), position,
                           Affine{toFloat(scales[i].values[j]), toFloat(shifts[i].values[j])});
          }
          results.values[j] = fromFloat<T>(z);
          squares[i][j] = fmaf(z, z, squares[i][j]);
        }
        if (p.squares == nullptr && tile.channel(p, i) < p.pitch) {
          tile.write(p, positionOf(r), i, results);
        }
      }
    }
  }
  if (p.squares == nullptr) return;
  float* const shared = dynamicShared<float>();  // (groups, pitch)
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (tile.channel(p, i) >= p.pitch) break;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      shared[tile.group * p.pitch + tile.channel(p, i) + j] = squares[i][j];
    }
  }
  __syncthreads();
  float* const sums = p.squares + int64_t{blockIdx.x} * p.channels;
  for (int c = static_cast<int>(threadIdx.x); c < p.channels; c += static_cast<int>(blockDim.x)) {
    float sum = 0.0F;
    for (int g = 0; g < tile.groups; ++g) sum += shared[g * p.pitch + c];
    sums[c] = sum;
  }
}

// A block for each batch item: what each channel's response and the mean one make of its scale and
// shift.
template <typename T>
__global__ void __launch_bounds__(kResponseThreads)
    normAffinesKernel(const __grid_constant__ NormParams p) {
  waitForPreviousKernel();
  struct Shared {
    float parts[kResponseThreads];
    float total;
  };
  auto& shared = staticShared<Shared>();
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t n = blockIdx.x;
  // Threads side by side have channels side by side; the tiles are dealt out among rows of them.
  const int rounded = (p.channels + kWarpSize - 1) / kWarpSize * kWarpSize;
  const int columns = rounded < kResponseThreads ? rounded : kResponseThreads;
  const int parts = kResponseThreads / columns;
  const int part = thread / columns;
  const float* const squares = p.squares + n * p.tiles * p.channels;
  Affine* const affines = p.affines + n * p.channels;
  float total = 0.0F;
  for (int begin = 0; begin < p.channels; begin += columns) {
    const int c = begin + thread - part * columns;
    float sum = 0.0F;
    if (part < parts && c < p.channels) {
#pragma unroll 8
      for (int tile = part; tile < p.tiles; tile += parts) {
        sum += squares[static_cast<int64_t>(tile) * p.channels + c];
      }
    }
    shared.parts[thread] = sum;
    __syncthreads();
    if (part == 0 && c < p.channels) {
      for (int other = 1; other < parts; ++other) sum += shared.parts[other * columns + thread];
      const float response = sqrtf(sum / static_cast<float>(p.plane) + p.responseEpsilon);
      affines[c].scale = response;
      total += response;
    }
    __syncthreads();
  }
  shared.parts[thread] = total;
  __syncthreads();
  if (thread < kWarpSize) {
    float sum = 0.0F;
    for (int at = thread; at < kResponseThreads; at += kWarpSize) sum += shared.parts[at];
    sum = warpSum(sum);
    if (thread == 0) shared.total = sum;
  }
  __syncthreads();
  const float mean = shared.total / static_cast<float>(p.channels);
  if (part != 0) return;
  for (int c = thread; c < p.channels; c += columns) {  // what this thread has written
    const float scale = toFloat(static_cast<const T*>(p.responseScale)[c]);
    const float factor = fmaf(scale, affines[c].scale / mean, 1.0F);
    const Affine affine = affineOf<T>(p, c);
    affines[c] = {affine.scale * factor,
                  fmaf(affine.shift, factor, toFloat(static_cast<const T*>(p.responseShift)[c]))};
  }
}

// GSPN2_NCHW: the tiles and the lanes of normPlanesKernel.
template <typename T, int kPositions>
__global__ void __launch_bounds__(kWarpsPerBlock* kWarpSize)
    scalePlanesKernel(const __grid_constant__ NormParams p) {
  using Access = AlignedVector<T, kPositions>;
  waitForPreviousKernel();
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  const int64_t n = static_cast<int64_t>(blockIdx.x) / p.tiles;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) - n * p.tiles;
  const int64_t position = tile * p.tile + threadIdx.x % kWarpSize * kPositions;
  if (position >= p.plane) return;
  Statistics statistics[kPositions];
#pragma unroll
  for (int j = 0; j < kPositions; ++j) {
    statistics[j] = p.statistics[n * p.plane + position + j];
  }
  const Affine* const affines = p.affines + n * p.channels;
  const int64_t first = n * p.channels * p.plane + position;
  const T* const x = static_cast<const T*>(p.x) + first;
  T* const y = static_cast<T*>(p.y) + first;
  for (int begin = warp; begin < p.channels; begin += kAtOnce * warps) {
    // All loads ahead of the stores, which the compiler does not move them over.
    Access values[kAtOnce];
    Affine channels[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int channel = begin + i * warps;
      if (channel < p.channels) {
        values[i] = *reinterpret_cast<const Access*>(x + channel * p.plane);
        channels[i] = affines[channel];
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int channel = begin + i * warps;
      if (channel >= p.channels) break;
#pragma unroll
      for (int j = 0; j < kPositions; ++j) {
        values[i].values[j] =
            fromFloat<T>(normalised(toFloat(values[i].values[j]), statistics[j], channels[i]));
      }
      *reinterpret_cast<Access*>(y + channel * p.plane) = values[i];
    }
  }
}

template <typename T, int kVectors, int kRows>
__global__ void __launch_bounds__(kBlockThreads)
    scaleRowsKernel(const __grid_constant__ NormParams p) {
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;
  constexpr int kVector = Tile::kVector;
  waitForPreviousKernel();
  const Tile tile(p);
  Affine affines[kVectors][kVector];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const int channel = tile.channel(p, i) + j;
      affines[i][j] =
          channel < p.channels ? p.affines[tile.n * p.channels + channel] : Affine{0.0F, 0.0F};
    }
  }
  for (int64_t base = tile.begin + tile.group; base < tile.end; base += tile.groups * kRows) {
    // All loads ahead of the stores, which the compiler does not move them over.
    Vector values[kRows][kVectors];
    Statistics positions[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t position = base + r * tile.groups;
      if (position >= tile.end) break;
      positions[r] = p.statistics[tile.n * p.plane + position];
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        if (tile.channel(p, i) < p.pitch) {
          values[r][i] = tile.read(p.x, tile.offset(p, position, i));
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t position = base + r * tile.groups;
      if (position >= tile.end) break;
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        if (tile.channel(p, i) >= p.pitch) break;
        Vector results;
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          float z = 0.0F;  // behind the last channel, where a NaN may lie
          if (tile.channel(p, i) + j < p.channels) {
            z = normalised(toFloat(values[r][i].values[j]), positions[r], affines[i][j]);
          }
          results.values[j] = fromFloat<T>(z);
        }
        tile.write(p, position, i, results);
      }
    }
  }
}

namespace {

using Kernel = void (*)(NormParams);

bool isAccessAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kAccessBytes == 0;
}

// The instance that holds `channels` in registers.
template <typename T, int kPositions>
Kernel planesKernel(int channels) {
  if (channels <= 8) return normPlanesKernel<T, kPositions, 8>;
  if (channels <= kMostPaired) return normPlanesKernel<T, kPositions, kMostPaired>;
  if constexpr (kPositions == 1) {
    return channels <= kMostHeld ? normPlanesKernel<T, 1, kMostHeld> : normPlanesKernel<T, 1, 0>;
  }
  return nullptr;
}

// The kernels whose lanes have `vectors`, and the rows that they take at once.
struct RowKernels {
  Kernel norm, scale;
  int rows;
};

template <typename T>
RowKernels rowKernels(int vectors) {
  if (vectors <= 1) return {normRowsKernel<T, 1, 4>, scaleRowsKernel<T, 1, 4>, 4};
  if (vectors <= 2) return {normRowsKernel<T, 2, 2>, scaleRowsKernel<T, 2, 2>, 2};
  if (vectors <= 4) return {normRowsKernel<T, 4, 1>, scaleRowsKernel<T, 4, 1>, 1};
  return {normRowsKernel<T, 8, 1>, scaleRowsKernel<T, 8, 1>, 1};
}

// The largest tile that leaves enough of them, from `least` on.
int chooseTile(const gspn2_norm_t& norm, int64_t least) {
  int64_t tile = kMostTile;
  while (tile > least && norm.n * planCeilDiv(norm.h * norm.w, tile) < kEnoughTiles) tile /= 2;
  return static_cast<int>(tile);
}

template <typename T>
class Launcher {
 public:
  Launcher(const ChannelNormCall& call, const DeviceInfo& device)
      : mCall(call), mOverlaps(device.computeCapability >= 90) {
    const gspn2_norm_t& norm = call.norm;
    mParams.x = call.x;
    mParams.scale = call.scale;
    mParams.shift = call.shift;
    mParams.responseScale = call.responseScale;
    mParams.responseShift = call.responseShift;
    mParams.y = call.y;
    mParams.plane = norm.h * norm.w;
    mParams.channels = static_cast<int>(norm.c);
    mParams.pitch = static_cast<int>(planRoundUp(norm.c, kNormVector));
    mParams.epsilon = norm.epsilon;
    mParams.responseEpsilon = norm.response_epsilon;
    if (call.responseScale != nullptr) {
      mParams.statistics = static_cast<Statistics*>(call.workspace);
      mParams.affines = reinterpret_cast<Affine*>(mParams.statistics + norm.n * mParams.plane);
      mParams.squares = reinterpret_cast<float*>(mParams.affines + norm.n * norm.c);
    }
  }

  cudaError_t planes() {
    constexpr int kPairs = kAccessBytes / static_cast<int>(sizeof(T));
    const bool pairs = mParams.plane % kPairs == 0 && isAccessAligned(mCall.x) &&
                       isAccessAligned(mCall.y) &&
                       mParams.channels <= kWarpsPerBlock * kMostPaired &&
                       chooseTile(mCall.norm, kWarpSize) == kMostTile;
    return pairs ? planes<kPairs>() : planes<1>();
  }

  cudaError_t rows() {
    const int vectors = mParams.pitch / static_cast<int>(kNormVector);
    mParams.lanes = 1;
    while (mParams.lanes < std::min(vectors, kWarpSize)) mParams.lanes *= 2;
    const RowKernels kernels = rowKernels<T>(planCeilDiv(vectors, mParams.lanes));
    const auto rowBytes = sizeof(float) * static_cast<size_t>(mParams.pitch);
    int threads = kBlockThreads;
    while (threads > kWarpSize && threads / mParams.lanes * rowBytes > kRowSumsBytes) threads /= 2;
    const int groups = threads / mParams.lanes;
    if (!hasResponse()) {
      cut(groups * kernels.rows);  // one pass
      return run(kernels.norm, tiles(), threads, 0);
    }
    cut(chooseTile(mCall.norm, kLeastTile));
    const cudaError_t status = run(kernels.norm, tiles(), threads, groups * rowBytes);
    return status == cudaSuccess ? finish(kernels.scale, threads) : status;
  }

 private:
  bool hasResponse() const { return mParams.squares != nullptr; }
  int64_t tiles() const { return mCall.norm.n * mParams.tiles; }

  void cut(int tile) {
    mParams.tile = tile;
    mParams.tiles = static_cast<int>(planCeilDiv(mParams.plane, int64_t{tile}));
  }

  template <int kPositions>
  cudaError_t planes() {
    cut(kWarpSize * kPositions);
    const int warps = std::min(kWarpsPerBlock, planCeilDiv(mParams.channels, kLaneChannels));
    const Kernel kernel = planesKernel<T, kPositions>(planCeilDiv(mParams.channels, warps));
    const cudaError_t status = run(kernel, tiles(), warps * kWarpSize, sizeof(TileMoments));
    if (status != cudaSuccess || !hasResponse()) return status;
    return finish(scalePlanesKernel<T, kPositions>, warps * kWarpSize);
  }

  // What the responses make of the channels, and the result.
  cudaError_t finish(Kernel scale, int threads) {
    const cudaError_t status = run(normAffinesKernel<T>, mCall.norm.n, kResponseThreads, 0);
    return status == cudaSuccess ? run(scale, tiles(), threads, 0) : status;
  }

  cudaError_t run(Kernel kernel, int64_t blocks, int threads, size_t shared) {
    return launchClusters(kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(threads), 1,
                          shared, mCall.stream, mParams, mOverlaps);
  }

  const ChannelNormCall& mCall;
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

int64_t channelNormElements(const gspn2_norm_t& norm) {
  const bool rows = norm.layout == GSPN2_NHWC8;
  const int64_t channels = rows ? (norm.c + kNormVector - 1) / kNormVector * kNormVector : norm.c;
  return norm.n * channels * norm.h * norm.w;
}

int64_t channelNormTiles(const gspn2_norm_t& norm) {
  // Tiles below those of GSPN2_NCHW, 32 positions or more, are taken only where there are few.
  const int64_t tiles = norm.n * ((norm.h * norm.w + kWarpSize - 1) / kWarpSize);
  return std::max(tiles, 2 * kEnoughTiles);
}

size_t channelNormWorkspace(const gspn2_norm_t& norm, bool hasResponse) {
  if (!hasResponse) return 0;
  const int64_t squares = channelNormTiles(norm) * norm.c;
  return sizeof(Statistics) * static_cast<size_t>(norm.n * norm.h * norm.w) +
         sizeof(Affine) * static_cast<size_t>(norm.n * norm.c) +
         sizeof(float) * static_cast<size_t>(squares);
}

cudaError_t launchChannelNorm(const ChannelNormCall& call, const DeviceInfo& device) {
  return launchByDtype(call.norm.dtype, launch<float>, launch<__half>, launch<__nv_bfloat16>, call,
                       device);
}

}  // namespace gspn2
