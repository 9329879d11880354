// Depthwise convolutions on GSPN2_NHWC8.
//
// A lane has two adjacent channels of a patch: kStrip adjacent columns of kRows rows, whose sums it
// keeps in float32 registers while it walks the rows of x that reach them; adjacent lanes have
// adjacent channels. Arithmetic bounds a 7x7 kernel: 49 multiplications to two bytes read and two
// written. Of x each row is read from the L1 cache by every row of patches that it reaches. A block
// keeps the weights of its channels in shared memory, as float32, and takes patches until none is
// left.
#include <algorithm>
#include <cstdint>

#include "by_dtype.h"
#include "common.cuh"
#include "depthwise.h"
#include "hopper.cuh"
#include "launch.cuh"
#include "plan_arithmetic.h"

namespace gspn2 {

struct DepthwiseParams {
  const void *x, *weight, *bias;
  void* y;
  int64_t patches;    // of all batch items
  int height, width;  // of a map
  int down, across;   // patches of a map
  int channels;
  int blockChannels;  // of a block; even
  int channelBlocks;  // of a patch
  bool silu, residual;
};

namespace {

constexpr int kPair = 2;   // channels of a lane
constexpr int kStrip = 7;  // columns of a patch: maps of 7, 14, 28 and 56 have no odd one out
constexpr int kRows = 2;   // of a patch
constexpr int kThreads = 256;
constexpr int kMostChannels = 128;  // of a block
constexpr int kBlocksPerMultiprocessor = 2;

}  // namespace

template <typename T, int kKernel>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    depthwiseKernel(const __grid_constant__ DepthwiseParams p) {
  using Pair = AlignedVector<T, kPair>;
  constexpr int kReach = kKernel / 2;
  constexpr int kTaps = kKernel * kKernel;
  constexpr int kColumns = kStrip + kKernel - 1;
  waitForPreviousKernel();
  float* const weights = dynamicShared<float>();  // (kTaps, blockChannels)
  const int threads = static_cast<int>(blockDim.x);
  const int channelBlock = static_cast<int>(blockIdx.x) % p.channelBlocks;
  const int firstChannel = channelBlock * p.blockChannels;
  const int own = min(p.blockChannels, p.channels - firstChannel);
  for (int i = static_cast<int>(threadIdx.x); i < own * kTaps; i += threads) {
    const int channel = i / kTaps;
    weights[(i - channel * kTaps) * p.blockChannels + channel] =
        toFloat(static_cast<const T*>(p.weight)[int64_t{firstChannel} * kTaps + i]);
  }
  __syncthreads();
  const int pairs = p.blockChannels / kPair;
  const int channel = static_cast<int>(threadIdx.x) % pairs * kPair;
  if (channel >= own) return;
  float bias[kPair] = {};
  if (p.bias != nullptr) {
#pragma unroll
    for (int c = 0; c < kPair; ++c) {
      bias[c] = toFloat(static_cast<const T*>(p.bias)[firstChannel + channel + c]);
    }
  }
  const int patchesAtOnce = threads / pairs;
  const int64_t step = static_cast<int64_t>(gridDim.x / p.channelBlocks) * patchesAtOnce;
  for (int64_t patch = static_cast<int64_t>(blockIdx.x / p.channelBlocks) * patchesAtOnce +
                       static_cast<int>(threadIdx.x) / pairs;
       patch < p.patches; patch += step) {
    const int64_t line = patch / p.across;
    const int left = static_cast<int>(patch - line * p.across) * kStrip;
    const int64_t n = line / p.down;
    const int top = static_cast<int>(line - n * p.down) * kRows;
    const int64_t map = n * p.height * p.width * p.channels + firstChannel + channel;
    const T* const x = static_cast<const T*>(p.x) + map;
    T* const y = static_cast<T*>(p.y) + map;
    float sums[kRows][kStrip][kPair];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int o = 0; o < kStrip; ++o) {
#pragma unroll
        for (int c = 0; c < kPair; ++c) sums[r][o][c] = bias[c];
      }
    }
#pragma unroll
    for (int i = 0; i < kRows + kKernel - 1; ++i) {
      const int row = top + i - kReach;
      const bool isRow = row >= 0 && row < p.height;
      const int64_t start = (static_cast<int64_t>(row) * p.width + left - kReach) * p.channels;
      float values[kColumns][kPair];
#pragma unroll
      for (int k = 0; k < kColumns; ++k) {
        const int column = left + k - kReach;
        Pair read{};
        if (isRow && column >= 0 && column < p.width) {
          read = *reinterpret_cast<const Pair*>(x + start + int64_t{k} * p.channels);
        }
#pragma unroll
        for (int c = 0; c < kPair; ++c) values[k][c] = toFloat(read.values[c]);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int ky = i - r;  // of the kernel
        if (ky < 0 || ky >= kKernel) continue;
#pragma unroll
        for (int kx = 0; kx < kKernel; ++kx) {
          const auto weight = *reinterpret_cast<const AlignedVector<float, kPair>*>(
              weights + (ky * kKernel + kx) * p.blockChannels + channel);
#pragma unroll
          for (int o = 0; o < kStrip; ++o) {
#pragma unroll
            for (int c = 0; c < kPair; ++c) {
              sums[r][o][c] = fmaf(values[o + kx][c], weight.values[c], sums[r][o][c]);
            }
          }
        }
        if (ky == kReach && p.residual) {
#pragma unroll
          for (int o = 0; o < kStrip; ++o) {
#pragma unroll
            for (int c = 0; c < kPair; ++c) sums[r][o][c] += values[o + kReach][c];
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (top + r >= p.height) break;
#pragma unroll
      for (int o = 0; o < kStrip; ++o) {
        if (left + o >= p.width) break;
        Pair result;
#pragma unroll
        for (int c = 0; c < kPair; ++c) {
          const float sum = sums[r][o][c];
          result.values[c] = fromFloat<T>(p.silu ? sum * sigmoid(sum) : sum);
        }
        *reinterpret_cast<Pair*>(y + (static_cast<int64_t>(top + r) * p.width + left + o) *
                                         p.channels) = result;
      }
    }
  }
}

namespace {

using Kernel = void (*)(DepthwiseParams);

template <typename T>
Kernel depthwiseKernelOf(int kernel) {
  if (kernel == 3) return depthwiseKernel<T, 3>;
  return kernel == 5 ? depthwiseKernel<T, 5> : depthwiseKernel<T, 7>;
}

template <typename T>
cudaError_t launch(const DepthwiseCall& call, const DeviceInfo& device) {
  const gspn2_depthwise_t& conv = call.conv;
  DepthwiseParams params{};
  params.x = call.x;
  params.weight = call.weight;
  params.bias = call.bias;
  params.y = call.y;
  params.height = static_cast<int>(conv.h);
  params.width = static_cast<int>(conv.w);
  params.down = planCeilDiv(conv.h, kRows);
  params.across = planCeilDiv(conv.w, kStrip);
  params.patches = conv.n * params.down * params.across;
  params.channels = static_cast<int>(conv.c);
  params.silu = conv.activation == GSPN2_SILU;
  params.residual = conv.residual != 0;
  params.channelBlocks = planCeilDiv(conv.c, kMostChannels);
  params.blockChannels = planRoundUp(planCeilDiv(conv.c, params.channelBlocks), kPair);
  const int pairs = params.blockChannels / kPair;
  const int patchesAtOnce = kThreads / pairs;
  const size_t shared = sizeof(float) * static_cast<size_t>(conv.kernel * conv.kernel) *
                        static_cast<size_t>(params.blockChannels);
  const int64_t wanted = (params.patches + patchesAtOnce - 1) / patchesAtOnce;
  const int64_t most =
      std::max(1, kBlocksPerMultiprocessor * device.multiprocessors / params.channelBlocks);
  const int64_t blocks = std::min(wanted, most) * params.channelBlocks;
  return launchClusters(depthwiseKernelOf<T>(conv.kernel), static_cast<unsigned>(blocks),
                        static_cast<unsigned>(patchesAtOnce * pairs), 1, shared, call.stream,
                        params, device.computeCapability >= 90);
}

}  // namespace

cudaError_t launchDepthwise(const DepthwiseCall& call, const DeviceInfo& device) {
  return call.conv.dtype == GSPN2_FLOAT16 ? launch<__half>(call, device)
                                          : launch<__nv_bfloat16>(call, device);
}

}  // namespace gspn2
