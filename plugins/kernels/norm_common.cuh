// What the kernels of gspn2_channel_norm share: channel_norm.cu has the whole.
#ifndef GSPN2_KERNELS_NORM_COMMON_CUH_
#define GSPN2_KERNELS_NORM_COMMON_CUH_

#include <cstdint>

#include "common.cuh"
#include "hopper.cuh"

namespace gspn2 {

// Of the channels of a position: the mean, and 1 / sqrt(variance + epsilon).
struct alignas(8) Statistics {
  float mean, scale;
};

// What a normalised channel is multiplied by, and what is added.
struct alignas(8) Affine {
  float scale, shift;
};

// The same of channels, one array behind the other: lanes that have several channels each read
// adjacent ones at once.
struct Affines {
  float *scales, *shifts;

  __device__ __forceinline__ Affine operator[](int channel) const {
    return {scales[channel], shifts[channel]};
  }
  __device__ __forceinline__ void set(int channel, const Affine& affine) const {
    scales[channel] = affine.scale;
    shifts[channel] = affine.shift;
  }
};

struct NormParams {
  const void *x, *scale, *shift, *responseScale, *responseShift;
  const void *proxy, *weight, *bias;  // of the projection
  void* y;
  Statistics* statistics;  // (N, H W); null without a response normalisation, as all of the three
  float* affines;          // (N, 2, C): scales, then shifts
  float* squares;          // (N, tiles, C): sums over a tile
  int64_t plane;           // positions of a map
  int channels;
  int pitch;     // elements from one position to the next, GSPN2_NHWC8
  int tile;      // positions
  int tiles;     // of a batch item
  int lanes;     // that hold a position, a power of two, GSPN2_NHWC8
  int laneBits;  // its logarithm
  int proxies;   // channels that are projected; 0 without a projection
  bool wide;     // whether C and every tensor of it are whole aligned vectors, GSPN2_NHWC8
  float share;   // 1 / C
  float epsilon, responseEpsilon;
};

constexpr int kNormThreads = 1024;  // of a block, at most

// A block's positions.
struct NormTile {
  int64_t n, begin, end;

  __device__ __forceinline__ explicit NormTile(const NormParams& p)
      : n(static_cast<int64_t>(blockIdx.x) / p.tiles),
        begin((static_cast<int64_t>(blockIdx.x) - n * p.tiles) * p.tile),
        end(begin + p.tile < p.plane ? begin + p.tile : p.plane) {}
};

// How a kernel goes on behind the statistics.
enum class NormStage {
  kPlain,  // writes the result
  kSums,   // leaves the tile's sums of squares to later launches
  kWhole   // the blocks of a cluster share a batch item: they exchange the sums and go on
};

__device__ __forceinline__ float normalised(float value, const Statistics& position,
                                            const Affine& channel) {
  return fmaf((value - position.mean) * position.scale, channel.scale, channel.shift);
}

template <typename T>
__device__ __forceinline__ Affine affineOf(const NormParams& p, int channel) {
  return {toFloat(static_cast<const T*>(p.scale)[channel]),
          toFloat(static_cast<const T*>(p.shift)[channel])};
}

__device__ __forceinline__ Affines affinesOf(const NormParams& p, int64_t n) {
  float* const scales = p.affines + 2 * n * p.channels;
  return {scales, scales + p.channels};
}

// The sums of squares that the blocks of a batch item have left.
__device__ __forceinline__ const float* squaresOf(const NormParams& p, int64_t n) {
  return p.squares + n * p.tiles * p.channels;
}

// Each value over `lanes` adjacent lanes, a power of two; every lane of the warp takes part. A
// shuffle takes long, and the values do not wait for each other.
template <int kCount>
__device__ __forceinline__ void laneSums(float (&values)[kCount], int lanes) {
  for (int other = lanes / 2; other > 0; other /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += __shfl_xor_sync(kFullMask, values[i], other);
  }
}
// Over kLanes adjacent lanes; those of `mask` take part.
template <int kLanes>
__device__ __forceinline__ float laneSum(float value, unsigned mask = kFullMask) {
#pragma unroll
  for (int other = kLanes / 2; other > 0; other /= 2) {
    value += __shfl_xor_sync(mask, value, other);
  }
  return value;
}

// A channel's response: the root of its mean square over the positions.
__device__ __forceinline__ float responseOf(const NormParams& p, float squares) {
  return sqrtf(squares / static_cast<float>(p.plane) + p.responseEpsilon);
}

// A channel's scale and shift, with a response behind them that multiplies by `factor` and adds
// `shift`.
__device__ __forceinline__ Affine responded(const Affine& channel, float factor, float shift) {
  return {channel.scale * factor, fmaf(channel.shift, factor, shift)};
}

// Turns the sums of squares of a batch item, (tiles, C), into what each channel's response and the
// mean one make of its scale and shift. Every thread of the block takes part; `affines` (C) are
// there for all of them behind it.
template <typename T>
__device__ __forceinline__ void respond(const NormParams& p, const float* squares,
                                        const Affines& affines) {
  struct Parts {
    float sums[kNormThreads];
  };
  auto& parts = staticShared<Parts>();
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  // Threads side by side have channels side by side; the tiles are dealt out among rows of them.
  const int rounded = (p.channels + kWarpSize - 1) / kWarpSize * kWarpSize;
  const int columns = rounded < threads ? rounded : threads;
  const int rows = threads / columns;
  const int row = thread / columns;
  float total = 0.0F;
  for (int begin = 0; begin < p.channels; begin += columns) {
    const int c = begin + thread - row * columns;
    float sum = 0.0F;
    if (row < rows && c < p.channels) {
#pragma unroll 8
      for (int tile = row; tile < p.tiles; tile += rows) {
        sum += squares[static_cast<int64_t>(tile) * p.channels + c];
      }
    }
    parts.sums[thread] = sum;
    __syncthreads();
    if (row == 0 && c < p.channels) {
      for (int other = 1; other < rows; ++other) sum += parts.sums[other * columns + thread];
      const float response = responseOf(p, sum);
      affines.scales[c] = response;
      total += response;
    }
    __syncthreads();
  }
  total = laneSum<kWarpSize>(total);
  if (thread % kWarpSize == 0) parts.sums[thread / kWarpSize] = total;
  __syncthreads();
  float mean = thread % kWarpSize < threads / kWarpSize ? parts.sums[thread % kWarpSize] : 0.0F;
  mean = laneSum<kWarpSize>(mean) / static_cast<float>(p.channels);
  for (int c = thread; row == 0 && c < p.channels; c += columns) {  // this thread's own
    const float scale = toFloat(static_cast<const T*>(p.responseScale)[c]);
    const float shift = toFloat(static_cast<const T*>(p.responseShift)[c]);
    const float factor = fmaf(scale, affines.scales[c] / mean, 1.0F);
    affines.set(c, responded(affineOf<T>(p, c), factor, shift));
  }
  __syncthreads();
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_COMMON_CUH_
