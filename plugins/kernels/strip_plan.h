// How the strip scan cuts a horizontal line scan up: see strip_plan.cpp for the reasons.
#ifndef GSPN2_KERNELS_STRIP_PLAN_H_
#define GSPN2_KERNELS_STRIP_PLAN_H_

#include <cuda_runtime_api.h>

#include "device.h"
#include "generic.h"

namespace gspn2 {

struct StripPlan {
  int rows;       // of a lane
  int parts;      // blocks of a cluster, each with a part of the line
  int own;        // rows of a part
  int warps;      // of a block that walk
  int producers;  // warps of a block that load
  int stages;     // pieces of the rows in shared memory
};

// One translation unit per dtype.
cudaError_t launchStripScanFloat32(const LineScanCall& call, const StripPlan& plan);
cudaError_t launchStripScanFloat16(const LineScanCall& call, const StripPlan& plan);
cudaError_t launchStripScanBfloat16(const LineScanCall& call, const StripPlan& plan);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_PLAN_H_
