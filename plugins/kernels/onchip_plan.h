// How GspnProp2D on chip takes a call: see onchip_plan.cpp for the reasons.
#ifndef GSPN2_KERNELS_ONCHIP_PLAN_H_
#define GSPN2_KERNELS_ONCHIP_PLAN_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "device.h"
#include "generic.h"  // Prop2dCall
#include "onchip_layout.h"

namespace gspn2 {

struct OnchipPlan {
  bool block;     // whether a block has a map to itself; else a cluster has it
  int rows;       // positions of a lane: 1, 2, 4, 6 or 8
  int vector;     // elements of a load: 1 or kOnchipVector
  bool ring;      // whether a cluster's block holds a ring of steps; else all of them
  int channels;   // of a block or cluster: 1, or 2 that share their affinities
  int workers;    // threads of a block that load and weigh
  int relay;      // blocks of a cluster to a direction
  int array;      // floats of one: see OnchipParams
  bool overlaps;  // whether the device starts a kernel while the one before it ends
  size_t sharedBytes;
};

// Plans a call; false where it is not for this path.
bool planOnchip(const Prop2dCall& call, const DeviceInfo& device, OnchipPlan* plan);

// One translation unit per dtype.
cudaError_t launchOnchipFloat32(const Prop2dCall& call, const OnchipPlan& plan);
cudaError_t launchOnchipFloat16(const Prop2dCall& call, const OnchipPlan& plan);
cudaError_t launchOnchipBfloat16(const Prop2dCall& call, const OnchipPlan& plan);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_ONCHIP_PLAN_H_
