// How GspnProp2D in one pass by strips takes a call: see strip_fused_plan.cpp.
#ifndef GSPN2_KERNELS_STRIP_FUSED_PLAN_H_
#define GSPN2_KERNELS_STRIP_FUSED_PLAN_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "device.h"
#include "generic.h"  // Prop2dCall
#include "strip_layout.h"

namespace gspn2 {

constexpr int kFusedPasses = 4;    // the directions, in the order of a block
constexpr int kFusedMaxParts = 2;  // blocks of a cluster
constexpr int kFusedMaxStages = 4;
constexpr int kFusedBarrierBytes = 2 * kFusedMaxStages * 8;  // of a pass
constexpr uint32_t kFusedExchanges = 1U << 16;               // more than a pass has

constexpr int kFusedRows = 2;  // positions of a lane
// Warps of a block that load, at least: those that do not walk horizontally do so, too.
constexpr int kFusedProducers = 4;
constexpr int kFusedMaxThreads = (kStripSharedWarps + kFusedProducers) * kWarpLanes;

// Everything a launch needs.
struct FusedParams {
  StripParams passes[kFusedMaxParts][kFusedPasses];  // of each block of a cluster
  const void *x, *d, *m;                             // d and m may be null
  void* y;
  int64_t plane;
  int64_t batch;  // planes of d from one batch item to the next
  int width, channels;
  int parts, ownRows;  // blocks of a cluster, rows of a block
  int walkers;         // the most warps that walk in a pass
  int sumPitch;        // floats
  // Bytes of shared memory.
  int carryOffset, ringOffset, exchangeOffset, barrierOffset;
};

struct FusedPlan {
  int parts, ownRows;
  int columnWarps, rowWarps;  // that walk horizontally, vertically
  int columnStages, rowStages;
  bool weighs;      // whether a pass turns the affinities into float32 weights first
  int weightBytes;  // of an affinity, or of such a weight
  int sumPitch;
  int carryOffset, ringOffset, exchangeOffset, barrierOffset, sharedBytes;
};

// Plans a call; false where it is not for this path. Looks at no pointer.
bool planFused(const gspn2_problem_t& problem, const DeviceInfo& device, FusedPlan* plan);

// The parameters of a call's kernel.
FusedParams fusedParams(const Prop2dCall& call, const FusedPlan& plan);

// One translation unit per dtype.
cudaError_t launchFusedFloat32(const Prop2dCall& call, const FusedPlan& plan);
cudaError_t launchFusedFloat16(const Prop2dCall& call, const FusedPlan& plan);
cudaError_t launchFusedBfloat16(const Prop2dCall& call, const FusedPlan& plan);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_FUSED_PLAN_H_
