// The heuristics of GspnProp2D on chip. docs/kernels.md has the reasons.
#include "onchip_plan.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "by_dtype.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "planes.h"
#include "tuning.h"

namespace gspn2 {
namespace {

constexpr int kWarp = 32;
constexpr int64_t kMaxExtent = 128;      // four positions to a lane
constexpr int64_t kMaxBlockExtent = 64;  // two
constexpr int64_t kMaxSlices = 1 << 28;  // four blocks each
constexpr int kClusterCapability = 90;   // the compute capability that brought clusters
constexpr int kPaired = 2;
constexpr int64_t kPairBytes = 4;          // two channels of a position
constexpr int64_t kMaxPosition = 1 << 16;  // elements; those of 128x128 are within 32-bit offsets
constexpr int kMinWorkers = 64;
constexpr int64_t kManySlices = 2;  // to a multiprocessor
constexpr int64_t kTinyExtent = 8;
constexpr int64_t kMaxRowsExtent = 16;

bool areAligned(std::initializer_list<const void*> pointers, int64_t bytes) {
  return std::all_of(pointers.begin(), pointers.end(), [bytes](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
  });
}

bool isVectorised(const Prop2dCall& call) {
  const int64_t bytes = kOnchipVector * planElementBytes(call.problem.dtype);
  return call.problem.w % kOnchipVector == 0 && areAligned({call.y}, bytes) &&
         (isInRows(call.strides) || areAligned({call.x, call.lam, call.w, call.u, call.d}, bytes));
}

// Whether the planned kernel reads tensors in GSPN2_NHWC8. A block of a cluster reads every sector
// of a position, whatever it needs of it: so small maps alone, and not every direction of a map to
// a block. The others become planes first. On an H200, us of fp16, from planes and from rows, and
// of a copy to planes: 8x2x7x7 1.7, 1.7 (2.1); 8x2x14x14 2.3, 2.5 (2.4); 8x2x28x28 2.9, 5.4 (2.7);
// 8x2x56x56 5.1, 18.4 (4.4). Why 28x28 is none of the small ones: TensorRT may turn a prediction
// itself, in about 2.1 us there, and planes behind that are no slower than rows.
bool readsRows(const Prop2dCall& call, const OnchipPlan& plan) {
  if (plan.block || std::max(call.problem.h, call.problem.w) > kMaxRowsExtent) return false;
  if (call.problem.g != 1) return false;
  if (call.strides.position > kMaxPosition) return false;
  return plan.channels == 1 || areAligned({call.x, call.lam, call.u, call.d}, kPairBytes);
}

// Whether blocks do better than clusters. Where each slice can have a multiprocessor to itself, and
// clusters of four no longer fit the device at once, a block to a slice does: on an H100, clusters
// and blocks, in us, fp32 (fp16):
//   64x2x56x56 23.7, 18.6 (19.6, 16.4); 64x2x28x28 8.5, 7.4 (7.5, 7.4); 64x2x14x14 4.5, 4.1 (4.4,
//     4.0): 128 slices for 132 multiprocessors;
//   64x2x7x7 3.3, 3.6 (3.2, 3.5): too little work to fill a block;
//   1x64x32x32 6.5, 6.5 (5.6, 5.8): half of the multiprocessors would have nothing to do;
//   64x8x56x56 58.4, 63.1 (47.0, 56.9): more slices than multiprocessors.
// With many more slices blocks of small maps win, which share no barrier: 64x8x28x28 19.8, 12.7.
bool prefersBlocks(const gspn2_problem_t& problem, const DeviceInfo& device) {
  const int64_t slices = problem.n * problem.c;
  const int64_t longest = std::max(problem.h, problem.w);
  if (longest <= kWarp && slices > kManySlices * device.multiprocessors) return true;
  return longest > kTinyExtent && slices <= device.multiprocessors &&
         2 * slices > device.multiprocessors;
}

// Chooses the channels of a block or cluster, and sets the shared memory that they take; false
// where even one does not fit.
bool fits(const gspn2_problem_t& problem, const DeviceInfo& device, int directions, bool pairs,
          OnchipPlan* plan) {
  const bool canPair = pairs && problem.g == 1 && problem.c % kPaired == 0;
  for (plan->channels = canPair ? kPaired : 1; plan->channels > 0; --plan->channels) {
    plan->sharedBytes = onchipShared(static_cast<int>(problem.h), static_cast<int>(problem.w),
                                     plan->rows, plan->channels, directions);
    // Beside it a cluster's block has its barriers.
    if (plan->sharedBytes + 4096 <= static_cast<size_t>(device.sharedBytesPerBlock)) return true;
  }
  return false;
}

bool planBlock(const gspn2_problem_t& problem, const DeviceInfo& device, OnchipPlan* plan) {
  const int64_t longest = std::max(problem.h, problem.w);
  if (longest > kMaxBlockExtent) return false;
  plan->block = true;
  plan->rows = longest <= kWarp ? 1 : 2;
  // Two channels share the work on their affinities where each has no multiprocessor to itself.
  if (!fits(problem, device, kOnchipDirections, problem.n * problem.c > device.multiprocessors,
            plan)) {
    return false;
  }
  const int height = static_cast<int>(problem.h);
  const int vectors = static_cast<int>(problem.w) / plan->vector;
  const int work = planRoundUp(vectors, kOnchipGroup) * height;  // of a direction
  const int turns = planCeilDiv(work, kOnchipMaxThreads);
  plan->workers = std::max(planRoundUp(planCeilDiv(work, turns), kWarp), kOnchipDirections * kWarp);
  return true;
}

bool planCluster(const gspn2_problem_t& problem, const DeviceInfo& device, OnchipPlan* plan) {
  const int64_t longest = std::max(problem.h, problem.w);
  if (device.computeCapability < kClusterCapability || longest > kMaxExtent) return false;
  plan->block = false;
  plan->rows = longest <= 2 * kWarp ? 2 : 4;
  // Clusters of four do not reach every multiprocessor: where so many would be needed, two channels
  // share one. Four positions to a lane leave no registers for that. Of small maps several blocks
  // fit a multiprocessor: on an H100 1x64x32x32 takes 6.5 us (fp16 5.6) a channel to a cluster and
  // 6.9 (5.9) two to one, 64x2x7x7 3.6 (3.6) and 3.3 (3.2).
  const int64_t blocks = problem.n * problem.c * kOnchipDirections;
  const int64_t multiprocessors = device.multiprocessors;
  const int64_t room = longest <= kWarp ? kManySlices * multiprocessors : multiprocessors * 3 / 4;
  const bool pairs = plan->rows == 2 && blocks > room;
  if (!fits(problem, device, 1, pairs, plan)) return false;
  // A batch is at least two vectors of steps; small maps need no more than all their vectors, and
  // leave room for other blocks.
  const int least = std::max(kMinWorkers, planRoundUp(2 * static_cast<int>(longest), kWarp));
  const int all = planRoundUp(static_cast<int>(problem.h * problem.w) / plan->vector, kWarp);
  plan->workers =
      std::clamp(all, least, longest <= kWarp ? kOnchipMaxSmallWorkers : kOnchipMaxWorkers);
  return true;
}

// A cluster (0) or a block (1), the channels that share it, its workers or 0, as the environment
// says it; false where that does not fit.
bool planAsTuned(const gspn2_problem_t& problem, DeviceInfo device, const int (&tuned)[3],
                 OnchipPlan* plan) {
  device.multiprocessors = tuned[1] == kPaired ? 0 : INT32_MAX;  // what pairing depends on
  if (tuned[0] != 0 && tuned[0] != 1) return false;
  if (!(tuned[0] == 1 ? planBlock : planCluster)(problem, device, plan)) return false;
  if (plan->channels != tuned[1]) return false;
  if (tuned[2] != 0) plan->workers = tuned[2];
  if (plan->workers > (plan->block ? kOnchipMaxThreads : kOnchipMaxWorkers)) return false;
  countTuned();
  return true;
}

// What a map's slices run in.
bool planForm(const gspn2_problem_t& problem, const DeviceInfo& device, OnchipPlan* plan) {
  if (int tuned[3]; readTuning("GSPN2_ONCHIP_PLAN", 3, tuned)) {
    return planAsTuned(problem, device, tuned, plan);
  }
  if (prefersBlocks(problem, device) && planBlock(problem, device, plan)) return true;
  return planCluster(problem, device, plan) || planBlock(problem, device, plan);
}

}  // namespace

bool planOnchip(const Prop2dCall& call, const DeviceInfo& device, OnchipPlan* plan) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t slices = problem.n * problem.c;
  if (slices > kMaxSlices || problem.h > kMaxExtent || problem.w > kMaxExtent) return false;
  plan->vector = isVectorised(call) ? kOnchipVector : 1;
  plan->overlaps = device.computeCapability >= kClusterCapability;
  return planForm(problem, device, plan) && (!isInRows(call.strides) || readsRows(call, *plan));
}

bool onchipProp2dSupports(const Prop2dCall& call, const DeviceInfo& device) {
  OnchipPlan plan{};
  return planOnchip(call, device, &plan);
}

cudaError_t launchOnchipProp2d(const Prop2dCall& call, const DeviceInfo& device) {
  OnchipPlan plan{};
  if (!planOnchip(call, device, &plan)) return cudaErrorNotSupported;
  return launchByDtype(call.problem.dtype, launchOnchipFloat32, launchOnchipFloat16,
                       launchOnchipBfloat16, call, plan);
}

}  // namespace gspn2
