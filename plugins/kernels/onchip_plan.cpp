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
constexpr int64_t kMaxExtent = 256;       // eight positions to a lane
constexpr int64_t kMaxWholeExtent = 128;  // four
constexpr int64_t kMaxBlockExtent = 64;   // two
// Maps of more elements have a ring; of still more, whose ring is short, where a direction has as
// many blocks as can be, or strips do not take them.
constexpr int64_t kMaxWholeElements = 7168;
constexpr int64_t kMaxRoomyElements = 32768;
// Bytes of maps for each multiprocessor up to which large maps stay on chip.
constexpr int64_t kRoomyBytes = 32000;         // strips would take them
constexpr int64_t kGenericBytes = 96000;       // the generic kernels would
constexpr int64_t kGenericTightBytes = 54000;  // they would take those with a short ring
constexpr int kLeastSlots = 2;
constexpr int64_t kMaxSlices = 1 << 26;  // up to sixteen blocks each
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
  if (plan.block || plan.ring || std::max(call.problem.h, call.problem.w) > kMaxRowsExtent)
    return false;
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

bool isLarge(const gspn2_problem_t& problem) {
  return std::max(problem.h, problem.w) > kMaxBlockExtent;
}

// Whether a cluster's blocks hold a ring of a large map's steps rather than all of them. On an
// H200, all of them and a ring, in us, fp16 (fp32): 1x2x64x96 7.6, 7.8 (7.5, 8.5); 64x2x64x96 42,
// 44 (45, 50); 64x2x72x96 47, 51 (56, 63); 1x2x88x88 9.1, 8.5 (10.3, 9.6); 64x2x88x88 56, 51 (67,
// 64); 64x8x96x96 217, 197 (257, 243).
bool prefersRing(const gspn2_problem_t& problem) {
  return problem.h * problem.w > kMaxWholeElements ||
         std::max(problem.h, problem.w) > kMaxWholeExtent;
}

// Blocks to a direction of a ring: as many as leave every slice a cluster at once. Clusters lie
// within groups of multiprocessors, which are no multiples of them.
int usefulRelay(const gspn2_problem_t& problem, const DeviceInfo& device) {
  const int64_t slices = problem.n * problem.c;
  const auto clusters = [&](int64_t blocks) { return device.multiprocessors / (blocks + 1); };
  if (device.computeCapability < kClusterCapability || slices > clusters(2 * kOnchipDirections)) {
    return 1;
  }
  if (slices <= clusters(kLargeClusterBlocks) && slices <= largeClusters(device)) {
    return kOnchipMaxRelay;
  }
  return 2;
}

// Whether so many slices of a large map are faster by a launch for each direction. On an H200, on
// chip and by four launches one after the other, in us, fp16 (fp32): 64x2x64x96 42, 70 (45, 64);
// 32x32x64x96 293, 162 (303, 185); 64x8x80x80 157, 127 (180, 145); 32x8x96x96 101, 98 (125, 97);
// 64x2x112x112 80, 99 (106, 92); 64x2x128x128 87, 108 (117, 103); 1x2x128x192 19, 118 (27, 109);
// 32x2x128x192 77, 123 (106, 115); 64x2x128x192 130, 126 (180, 126); 16x2x160x160 70, 129 (103,
// 117); 32x2x160x160 106, 131 (156, 120); 1x2x200x200 58, 157 (94, 142); 16x2x200x200 167, 161
// (192, 147). By the generic kernels 1x2x127x127 31, 241 (31, 269); 4x32x127x127 197, 294 (247,
// 340); 32x32x127x127 1374, 999.
bool areMany(const Prop2dCall& call, const DeviceInfo& device, int relay) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t elements = problem.h * problem.w;
  const int64_t bytes = elements * planElementBytes(problem.dtype);
  // Side by side 8x200x200 takes 48 us (fp32 41), on chip 48 (56); see strip_paths.cpp.
  const bool tight = elements > kMaxRoomyElements && relay < kOnchipMaxRelay;
  const bool strips = stripProp2dSupports(call, device);  // else the generic kernels take it
  if (tight && strips) return true;
  const int64_t most = strips ? kRoomyBytes : tight ? kGenericTightBytes : kGenericBytes;
  return problem.n * problem.c * bytes > most * device.multiprocessors;
}

// Floats that a block has room for.
int sharedFloats(const DeviceInfo& device) {
  return static_cast<int>((device.sharedBytesPerBlock - kOnchipStaticShared) / sizeof(float));
}

// Sets the shared memory of so many arrays and parts of the sum; false where it is too much.
bool setShared(const DeviceInfo& device, int arrays, int parts, OnchipPlan* plan) {
  const int floats = arrays * plan->array + parts;
  plan->sharedBytes = sizeof(float) * static_cast<size_t>(floats);
  return floats <= sharedFloats(device);
}

// Chooses the channels of a block or cluster, and sets the shared memory that they take; false
// where even one does not fit.
bool fits(const gspn2_problem_t& problem, const DeviceInfo& device, int directions, bool pairs,
          OnchipPlan* plan) {
  const bool canPair = pairs && problem.g == 1 && problem.c % kPaired == 0;
  const auto height = static_cast<int>(problem.h);
  const auto width = static_cast<int>(problem.w);
  plan->array = onchipArray(height, width, plan->rows);
  for (plan->channels = canPair ? kPaired : 1; plan->channels > 0; --plan->channels) {
    const int arrays = onchipArrays(plan->channels, directions);
    const int parts = onchipParts(height * width, plan->channels, kOnchipDirections / directions);
    if (setShared(device, arrays, parts, plan)) return true;
  }
  return false;
}

// The same for a ring of steps, of one channel: as many as fit, but of each orientation two batches
// at least. Fewer workers have smaller batches; with 256 instead of 512 1x2x200x200 took 104 us
// for 63 in one run (fp32 158 for 96, four launches one after the other 142).
bool fitsRing(const gspn2_problem_t& problem, const DeviceInfo& device, OnchipPlan* plan) {
  const auto height = static_cast<int>(problem.h);
  const auto width = static_cast<int>(problem.w);
  const int arrays = onchipArrays(1, 1);
  const int parts = onchipParts(height * width, 1, kOnchipDirections * plan->relay);
  const int left = sharedFloats(device) - parts;
  plan->channels = 1;
  for (;; plan->workers -= kWarp) {
    if (plan->workers < 2 * std::max(height, width)) return false;
    // Floats of a batch, and of all that a block has.
    int batch = 0;
    int whole = 0;
    for (const bool horizontal : {true, false}) {
      const int line = horizontal ? height : width;
      const int steps = horizontal ? width : height;
      const int pitch = onchipPitch(line, plan->rows);
      const int batchSteps = onchipBatch(horizontal, line, plan->vector, plan->workers);
      const int held = onchipTurns(steps, batchSteps, plan->relay, 0) * batchSteps;
      batch = std::max(batch, batchSteps * pitch);
      whole = std::max(whole, std::min(held, steps) * pitch);
    }
    whole = static_cast<int>(planRoundUp(whole, kOnchipVector));
    plan->array = std::min(whole, left / arrays / kOnchipVector * kOnchipVector);
    if (plan->array == whole || plan->array >= kLeastSlots * batch) break;
  }
  return setShared(device, arrays, parts, plan);
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
  if (device.computeCapability < kClusterCapability || longest > kMaxWholeExtent) return false;
  plan->block = plan->ring = false;
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

// A cluster whose blocks hold a ring of steps, `relay` of them to a direction, by at most so many
// workers.
bool planRing(const gspn2_problem_t& problem, const DeviceInfo& device, int workers, int relay,
              OnchipPlan* plan) {
  const int64_t longest = std::max(problem.h, problem.w);
  if (device.computeCapability < kClusterCapability || longest > kMaxExtent) return false;
  plan->block = false;
  plan->ring = true;
  plan->rows = longest <= 4 * kWarp ? 4 : longest <= 6 * kWarp ? 6 : 8;
  plan->workers = workers;
  plan->relay = relay;
  return fitsRing(problem, device, plan);
}

// A cluster that holds all steps (0), a block (1) or a cluster with a ring (2), the channels that
// share it, its workers or 0, the blocks that a ring has to a direction or 0, as the environment
// says it; false where that does not fit.
bool planAsTuned(const gspn2_problem_t& problem, DeviceInfo device, const int (&tuned)[4],
                 OnchipPlan* plan) {
  device.multiprocessors = tuned[1] == kPaired ? 0 : INT32_MAX;  // what pairing depends on
  if (tuned[0] < 0 || tuned[0] > 2) return false;
  const int64_t longest = std::max(problem.h, problem.w);
  if (tuned[2] % kWarp != 0 || (tuned[0] != 1 && tuned[2] != 0 && tuned[2] < 2 * longest)) {
    return false;  // whole warps, and of a cluster a batch of two vectors of steps
  }
  if (tuned[0] == 2) {
    const int workers = tuned[2] == 0 ? kOnchipMaxRingWorkers : tuned[2];
    const int relay = std::max(tuned[3], 1);
    const bool exists =
        kOnchipDirections * relay <= kPortableClusterBlocks || largeClusters(device) > 0;
    if (workers > kOnchipMaxRingWorkers || relay > kOnchipMaxRelay || !exists ||
        !planRing(problem, device, workers, relay, plan)) {
      return false;
    }
  } else {
    if (!(tuned[0] == 1 ? planBlock : planCluster)(problem, device, plan)) return false;
    if (tuned[2] != 0) plan->workers = tuned[2];
    if (plan->workers > (plan->block ? kOnchipMaxThreads : kOnchipMaxWorkers)) return false;
  }
  if (plan->channels != tuned[1]) return false;
  countTuned();
  return true;
}

// What a map's slices run in.
bool planForm(const Prop2dCall& call, const DeviceInfo& device, OnchipPlan* plan) {
  const gspn2_problem_t& problem = call.problem;
  if (int tuned[4]; readTuning("GSPN2_ONCHIP_PLAN", 4, tuned)) {
    return planAsTuned(problem, device, tuned, plan);
  }
  if (prefersBlocks(problem, device) && planBlock(problem, device, plan)) return true;
  if (isLarge(problem)) {
    const int relay = prefersRing(problem) ? usefulRelay(problem, device) : 1;
    if (areMany(call, device, relay)) return false;
    return prefersRing(problem) ? planRing(problem, device, kOnchipMaxRingWorkers, relay, plan)
                                : planCluster(problem, device, plan);
  }
  return planCluster(problem, device, plan) || planBlock(problem, device, plan);
}

}  // namespace

bool planOnchip(const Prop2dCall& call, const DeviceInfo& device, OnchipPlan* plan) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t slices = problem.n * problem.c;
  if (slices > kMaxSlices || problem.h > kMaxExtent || problem.w > kMaxExtent) return false;
  plan->relay = 1;
  plan->vector = isVectorised(call) ? kOnchipVector : 1;
  plan->overlaps = device.computeCapability >= kClusterCapability;
  return planForm(call, device, plan) && (!isInRows(call.strides) || readsRows(call, *plan));
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
