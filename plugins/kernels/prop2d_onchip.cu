// gspn2_prop2d on maps that fit on chip: one launch, see prop2d_onchip.cuh.
#include <algorithm>
#include <cstdint>

#include "launch.cuh"
#include "paths.h"
#include "prop2d_onchip.cuh"

namespace gspn2 {
namespace {

constexpr int64_t kMaxExtent = 128;      // four positions to a lane
constexpr int64_t kMaxSlices = 1 << 28;  // four blocks each
constexpr size_t kMaxShared = 200 * 1024;
constexpr int kPairedChannels = 2;
constexpr int kMaxPairedRows = 2;  // of a lane: the registers of four rows are spent
constexpr int kMinWorkers = 64;
constexpr int kAccessBytes = 16;

int roundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

int chooseWorkers(const gspn2_problem_t& problem, int vector) {
  const int longest = static_cast<int>(std::max(problem.h, problem.w));
  // A batch is at least two vectors of steps; small maps need no more than all their vectors.
  const int least = std::max(kMinWorkers, roundUp(2 * longest, kWarpSize));
  const int all = roundUp(static_cast<int>(problem.h * problem.w) / vector, kWarpSize);
  return std::clamp(all, least, kOnchipMaxWorkers);
}

template <typename T, int kRows, int kVector, int kChannels, gspn2_normalize_t kNormalize>
cudaError_t launch(const Prop2dCall& call) {
  const gspn2_problem_t& problem = call.problem;
  OnchipParams params{};
  params.x = call.x;
  params.lam = call.lam;
  params.w = call.w;
  params.u = call.u;
  params.d = call.d;
  params.m = call.m;
  params.y = call.y;
  params.height = static_cast<int>(problem.h);
  params.width = static_cast<int>(problem.w);
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.chunk = static_cast<int>(std::min<int64_t>(problem.chunk, kMaxExtent + 1));
  params.workers = chooseWorkers(problem, kVector);
  return launchClusters(
      onchipKernel<T, kRows, kVector, kChannels, kNormalize>,
      static_cast<unsigned>(problem.n * (problem.c / kChannels) * kOnchipDirections),
      static_cast<unsigned>(params.workers + kWarpSize), kOnchipDirections,
      onchipShared(params.height, params.width, kVector, kChannels), call.stream, params);
}

template <typename T, int kRows, int kVector, int kChannels>
cudaError_t dispatchMode(const Prop2dCall& call) {
  switch (call.problem.normalize) {
    case GSPN2_NORMALIZE_NONE:
      return launch<T, kRows, kVector, kChannels, GSPN2_NORMALIZE_NONE>(call);
    case GSPN2_NORMALIZE_SIGMOID:
      return launch<T, kRows, kVector, kChannels, GSPN2_NORMALIZE_SIGMOID>(call);
    case GSPN2_NORMALIZE_SOFTMAX:
      return launch<T, kRows, kVector, kChannels, GSPN2_NORMALIZE_SOFTMAX>(call);
  }
  return cudaErrorNotSupported;
}

// Two channels that share their affinities share the work on them, too.
template <typename T, int kRows, int kVector>
cudaError_t dispatchChannels(const Prop2dCall& call) {
  const gspn2_problem_t& problem = call.problem;
  if constexpr (kRows <= kMaxPairedRows && kVector > 1) {
    const size_t shared = onchipShared(static_cast<int>(problem.h), static_cast<int>(problem.w),
                                       kVector, kPairedChannels);
    if (problem.g == 1 && problem.c % kPairedChannels == 0 && shared <= kMaxShared) {
      return dispatchMode<T, kRows, kVector, kPairedChannels>(call);
    }
  }
  return dispatchMode<T, kRows, kVector, 1>(call);
}

template <typename T, int kVector>
cudaError_t dispatchRows(const Prop2dCall& call) {
  const int64_t longest = std::max(call.problem.h, call.problem.w);
  if (longest <= kWarpSize) return dispatchChannels<T, 1, kVector>(call);
  if (longest <= 2 * kWarpSize) return dispatchChannels<T, 2, kVector>(call);
  if (longest <= kMaxExtent) return dispatchChannels<T, 4, kVector>(call);
  return cudaErrorNotSupported;
}

template <typename T>
cudaError_t dispatch(const Prop2dCall& call) {
  bool aligned = call.problem.w * static_cast<int64_t>(sizeof(T)) % kAccessBytes == 0;
  const void* const pointers[] = {call.x, call.lam, call.w, call.u, call.d, call.y};
  for (const void* pointer : pointers) {
    aligned = aligned && reinterpret_cast<uintptr_t>(pointer) % kAccessBytes == 0;
  }
  constexpr int kVector = kAccessBytes / static_cast<int>(sizeof(T));
  return aligned ? dispatchRows<T, kVector>(call) : dispatchRows<T, 1>(call);
}

}  // namespace

bool onchipProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  const gspn2_problem_t& problem = call.problem;
  if (device.computeCapability < 90 || problem.h > kMaxExtent || problem.w > kMaxExtent) {
    return false;
  }
  const int height = static_cast<int>(problem.h);
  const int width = static_cast<int>(problem.w);
  const int vector = problem.dtype == GSPN2_FLOAT32 ? 4 : 8;
  const size_t shared =
      std::max(onchipShared(height, width, 1, 1), onchipShared(height, width, vector, 1));
  return problem.n * problem.c <= kMaxSlices && shared <= kMaxShared;
}

cudaError_t launchOnchipProp2d(const Prop2dCall& call, const DeviceInfo& device) {
  if (!onchipProp2dSupports(call, device)) return cudaErrorNotSupported;
  switch (call.problem.dtype) {
    case GSPN2_FLOAT32:
      return dispatch<float>(call);
    case GSPN2_FLOAT16:
      return dispatch<__half>(call);
    case GSPN2_BFLOAT16:
      return dispatch<__nv_bfloat16>(call);
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
