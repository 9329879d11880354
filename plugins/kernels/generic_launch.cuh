// Host side of the generic scan: geometry of a direction, workspace, launch.
#ifndef GSPN2_KERNELS_GENERIC_LAUNCH_CUH_
#define GSPN2_KERNELS_GENERIC_LAUNCH_CUH_

#include <algorithm>
#include <limits>
#include <numeric>

#include "generic.h"
#include "generic_long.cuh"
#include "generic_scan.cuh"
#include "generic_transposed.cuh"
#include "launch.cuh"

namespace gspn2 {

constexpr int64_t kMaxSharedLine = 12288;  // two float32 lines in 96 KiB, which sm_86 still has
constexpr int64_t kLongBlocks = 264;       // blocks that hold a line pair in the workspace at once
constexpr int64_t kMinGroupSteps = 32;     // short segments share an item up to about here
constexpr int64_t kMaxGrid = std::numeric_limits<int32_t>::max();

inline bool isHorizontal(gspn2_direction_t direction) {
  return direction == GSPN2_LEFT_TO_RIGHT || direction == GSPN2_RIGHT_TO_LEFT;
}
inline bool isReverse(gspn2_direction_t direction) {
  return direction == GSPN2_RIGHT_TO_LEFT || direction == GSPN2_BOTTOM_TO_TOP;
}
inline int64_t ceilDiv(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// How one direction cuts a problem into items; see ScanParams.
struct Geometry {
  int64_t steps, line, chunk, groupSteps, groups, items;
};

inline Geometry makeGeometry(const gspn2_problem_t& problem, bool horizontal) {
  Geometry geometry{};
  geometry.steps = horizontal ? problem.w : problem.h;
  geometry.line = horizontal ? problem.h : problem.w;
  if (problem.chunk == 0 || problem.chunk >= geometry.steps) {
    geometry.chunk = geometry.groupSteps = geometry.steps;
  } else {
    // A multiple of the run keeps its accesses aligned.
    const int64_t unit =
        problem.chunk * (kRunSteps / std::gcd<int64_t, int64_t>(problem.chunk, kRunSteps));
    geometry.chunk = problem.chunk;
    geometry.groupSteps = unit * std::max<int64_t>(1, kMinGroupSteps / unit);
  }
  geometry.groups = ceilDiv(geometry.steps, geometry.groupSteps);
  geometry.items = problem.n * problem.c * geometry.groups;
  return geometry;
}

// Bytes that the state of long lines takes in the workspace; 0 where it fits in shared memory.
inline size_t lineWorkspace(const gspn2_problem_t& problem, bool horizontal) {
  const Geometry geometry = makeGeometry(problem, horizontal);
  if (geometry.line <= kMaxSharedLine) return 0;
  return sizeof(float) * 2 * static_cast<size_t>(geometry.line) *
         static_cast<size_t>(std::min(geometry.items, kLongBlocks));
}

template <typename T>
ScanParams<T> makeParams(const gspn2_problem_t& problem, gspn2_direction_t direction) {
  const bool horizontal = isHorizontal(direction);
  const Geometry geometry = makeGeometry(problem, horizontal);
  ScanParams<T> params{};
  params.slices = problem.n * problem.c;
  params.channels = problem.c;
  params.affinities = problem.g;
  params.steps = geometry.steps;
  params.line = geometry.line;
  params.plane = problem.h * problem.w;
  params.reverse = isReverse(direction);
  const int64_t stride = horizontal ? 1 : problem.w;
  params.start = params.reverse ? (geometry.steps - 1) * stride : 0;
  params.stepStride = params.reverse ? -stride : stride;
  params.lineStride = horizontal ? problem.w : 1;
  params.chunk = geometry.chunk;
  params.groupSteps = geometry.groupSteps;
  params.groups = geometry.groups;
  params.normalize = problem.normalize;
  return params;
}

inline bool isAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kRunAlignment == 0;
}

template <typename T, bool kProp, bool kHorizontal>
cudaError_t launchShortLines(const ScanParams<T>& params, cudaStream_t stream) {
  const int64_t items = params.slices * params.groups;
  if (params.line <= kWarpSize) {
    int lanes = 1;
    while (lanes < params.line) lanes *= 2;
    const int64_t grid = std::min(ceilDiv(items, kPackedBlock / lanes), kMaxGrid);
    return launchKernel(scanKernel<T, kHorizontal, kProp, true>, static_cast<unsigned>(grid),
                        kPackedBlock, 0, stream, params, lanes);
  }
  const auto block = static_cast<unsigned>(ceilDiv(params.line, kWarpSize) * kWarpSize);
  const auto grid = static_cast<unsigned>(std::min(items, kMaxGrid));
  if constexpr (kHorizontal) {
    const size_t shared = sizeof(float) * transposedSharedFloats(params.line, block);
    return launchKernel(scanTransposedKernel<T, kProp>, grid, block, shared, stream, params);
  } else {
    const size_t shared = 2 * sizeof(float) * static_cast<size_t>(params.line + 2);
    return launchKernel(scanKernel<T, false, kProp, false>, grid, block, shared, stream, params, 0);
  }
}

template <typename T, bool kProp>
cudaError_t launchLongLines(const ScanParams<T>& params, cudaStream_t stream) {
  const int64_t items = params.slices * params.groups;
  if (params.line > kMaxSharedLine) {
    return launchKernel(scanLongKernel<T, kProp, false>,
                        static_cast<unsigned>(std::min(items, kLongBlocks)), kMaxBlock, 0, stream,
                        params);
  }
  const size_t shared = 2 * sizeof(float) * static_cast<size_t>(params.line);
  const cudaError_t status = allowShared(scanLongKernel<T, kProp, true>, shared);
  if (status != cudaSuccess) return status;
  return launchKernel(scanLongKernel<T, kProp, true>,
                      static_cast<unsigned>(std::min(items, kMaxGrid)), kMaxBlock, shared, stream,
                      params);
}

template <typename T, bool kProp>
cudaError_t launchScan(const ScanParams<T>& params, bool horizontal, cudaStream_t stream) {
  if (params.line > kMaxBlock) return launchLongLines<T, kProp>(params, stream);
  return horizontal ? launchShortLines<T, kProp, true>(params, stream)
                    : launchShortLines<T, kProp, false>(params, stream);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_GENERIC_LAUNCH_CUH_
