// Where many channels share their affinities, each of them would normalise the same ones: some 20
// of the 55 instructions that a strip scan spends on an element. One pass turns float32 affinities
// into weights in the workspace, and the scans run as ones without normalisation.
#include <algorithm>
#include <cstdint>

#include "common.cuh"
#include "launch.cuh"
#include "strip_weights.h"
#include "tiled_math.cuh"

namespace gspn2 {
namespace {

constexpr int kBlock = 256;
constexpr int kVector = 4;  // elements of an access
constexpr int64_t kMaxBlocks = int64_t{1} << 30;
constexpr int64_t kDirections = 4;
// Channels to a channel of affinities from which on it pays: the pass moves 24 maps where the op
// moves 12 and 10 for each channel. On an H200, float32, with and without it, in ms: 8 channels
// 16x8x1024x1024 4.51, 3.98; 64 and more 8x64x256x256 0.84, 0.96, 1x128x512x512 0.81, 0.85. Where
// few slices leave the scans waiting it pays sooner: 1x8x1024x1024 0.62, 0.71.
constexpr int64_t kMinChannels = 16;
constexpr int64_t kMinFewChannels = 4;
constexpr int64_t kFewSlices = 64;

}  // namespace

struct WeighParams {
  const float* affinities;
  float* weights;
  int64_t plane;      // elements of a map
  int64_t neighbour;  // elements from one neighbour's affinities to the next one's
  int64_t batch;      // planes of the affinities from one batch item to the next
  int width, height;
  int channels;  // of the affinities
  int blocks;    // of a map
};

template <gspn2_normalize_t kNormalize>
__global__ void __launch_bounds__(kBlock)
    stripWeightsKernel(const __grid_constant__ WeighParams p) {
  using Vector = AlignedVector<float, kVector>;
  const int64_t map = static_cast<int64_t>(blockIdx.x) / p.blocks;  // (item, direction), channel
  const int64_t first = static_cast<int64_t>(blockIdx.x) - map * p.blocks;
  const int64_t scan = map / p.channels;
  const int64_t item = scan / kDirections;
  const int64_t direction = scan - item * kDirections;
  const int64_t channel = map - scan * p.channels;
  const float* const affinities =
      p.affinities + (item * p.batch + direction * 3 * p.channels + channel) * p.plane;
  float* const weights = p.weights + (scan * 3 * p.channels + channel) * p.plane;
  const bool horizontal = direction < 2;
  const int last = (horizontal ? p.height : p.width) - 1;  // of a line's positions
  for (int64_t i = (first * kBlock + threadIdx.x) * kVector; i < p.plane;
       i += int64_t{p.blocks} * kBlock * kVector) {
    const int64_t row = i / p.width;
    auto minus = *reinterpret_cast<const Vector*>(affinities + i);
    auto centre = *reinterpret_cast<const Vector*>(affinities + p.neighbour + i);
    auto plus = *reinterpret_cast<const Vector*>(affinities + 2 * p.neighbour + i);
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      const int64_t position = horizontal ? row : i + v - row * p.width;
      if (position == 0) minus.values[v] = -INFINITY;
      if (position == last) plus.values[v] = -INFINITY;
      normaliseFast<kNormalize>(minus.values[v], centre.values[v], plus.values[v]);
      if (position == 0) minus.values[v] = 0.0F;
      if (position == last) plus.values[v] = 0.0F;
    }
    *reinterpret_cast<Vector*>(weights + i) = minus;
    *reinterpret_cast<Vector*>(weights + p.neighbour + i) = centre;
    *reinterpret_cast<Vector*>(weights + 2 * p.neighbour + i) = plus;
  }
}

namespace {

// Items of the largest batch, up to the problem's, whose affinities are weighed once.
int64_t mostWeighed(const gspn2_problem_t& problem) {
  if (problem.dtype != GSPN2_FLOAT32 || problem.normalize == GSPN2_NORMALIZE_NONE ||
      std::max(problem.h, problem.w) <= kMaxOnchipExtent) {
    return 0;
  }
  if (problem.c >= kMinChannels * problem.g) return problem.n;
  return problem.c >= kMinFewChannels * problem.g ? std::min(problem.n, kFewSlices / problem.c) : 0;
}

}  // namespace

bool weighsOnce(const gspn2_problem_t& problem) { return mostWeighed(problem) == problem.n; }

size_t onceWeighedBytes(const gspn2_problem_t& problem) {
  return sizeof(float) * static_cast<size_t>(mostWeighed(problem) * kDirections * 3) *
         static_cast<size_t>(problem.g * problem.h * problem.w);
}

namespace {

cudaError_t launch(const Prop2dCall& call, float* weights) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t maps = problem.n * kDirections * problem.g;
  WeighParams params{};
  params.affinities = static_cast<const float*>(call.w);
  params.weights = weights;
  params.plane = problem.h * problem.w;
  params.neighbour = problem.g * params.plane;
  params.batch = call.strides.w / params.plane;
  params.width = static_cast<int>(problem.w);
  params.height = static_cast<int>(problem.h);
  params.channels = static_cast<int>(problem.g);
  const int64_t wanted = (params.plane / kVector + kBlock - 1) / kBlock;
  params.blocks = static_cast<int>(std::clamp<int64_t>(wanted, 1, kMaxBlocks / maps));
  const auto launchMaps = [&](auto* kernel) {
    return launchKernel(kernel, static_cast<unsigned>(maps * params.blocks), kBlock, 0, call.stream,
                        params);
  };
  switch (problem.normalize) {
    case GSPN2_NORMALIZE_SIGMOID:
      return launchMaps(stripWeightsKernel<GSPN2_NORMALIZE_SIGMOID>);
    case GSPN2_NORMALIZE_SOFTMAX:
      return launchMaps(stripWeightsKernel<GSPN2_NORMALIZE_SOFTMAX>);
    case GSPN2_NORMALIZE_NONE:
      break;
  }
  return cudaErrorNotSupported;
}

}  // namespace

cudaError_t weighOnce(float* weights, Prop2dCall* call) {
  const cudaError_t status = launch(*call, weights);
  if (status != cudaSuccess) return status;
  call->w = weights;
  call->strides.w = kDirections * 3 * call->problem.g * call->problem.h * call->problem.w;
  call->problem.normalize = GSPN2_NORMALIZE_NONE;
  return cudaSuccess;
}

}  // namespace gspn2
