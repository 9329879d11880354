// How the strip scans cut a direction up: see strip_plan.cpp for the reasons.
#ifndef GSPN2_KERNELS_STRIP_PLAN_H_
#define GSPN2_KERNELS_STRIP_PLAN_H_

#include <cuda_runtime_api.h>

#include "device.h"
#include "generic.h"  // Prop2dCall
#include "gspn2/kernels.h"
#include "strip_layout.h"

namespace gspn2 {

struct StripPlan {
  int rows;       // positions of a lane
  int parts;      // blocks of a cluster, each with a part of the line
  int own;        // positions of a part, a multiple of 8
  int warps;      // of a block that walk
  int producers;  // warps of a block that load
  int stages;     // in shared memory
  int sharedBytes;
  bool wide;  // pieces of a horizontal scan: see stripCanBeWide
  bool bulk;  // whether the device has the copy engine
};

// Plans a scan; false where the strip scans do not take it. Looks at no pointer.
bool planStripScan(const DirectionScan& scan, const DeviceInfo& device, StripPlan* plan);

// The parameters of a scan's kernel.
StripParams stripParams(const DirectionScan& scan, const StripPlan& plan);

// Whether clusters may share the slices of a scan: by default each has one.
bool sharesSlices(const DirectionScan& scan, const StripPlan& plan);

// Lets the `resident` clusters that the device has at once share the slices of such a scan, where
// that pays.
void shareSlices(const DirectionScan& scan, const StripPlan& plan, int resident,
                 StripParams* params);

// One translation unit per dtype and orientation.
cudaError_t launchStripColumnsFloat32(const DirectionScan& scan, const StripPlan& plan);
cudaError_t launchStripColumnsFloat16(const DirectionScan& scan, const StripPlan& plan);
cudaError_t launchStripColumnsBfloat16(const DirectionScan& scan, const StripPlan& plan);
cudaError_t launchStripRowsFloat32(const DirectionScan& scan, const StripPlan& plan);
cudaError_t launchStripRowsFloat16(const DirectionScan& scan, const StripPlan& plan);
cudaError_t launchStripRowsBfloat16(const DirectionScan& scan, const StripPlan& plan);

// Rounds the sums of the four directions, each `stride` floats behind the one before, into y: of
// directions added up in their order. Every pointer a multiple of 16 bytes.
cudaError_t launchStripMerge(const Prop2dCall& call, const float* sums, int64_t stride);

// Stores m d x over the directions in `sums`; d is not null, every pointer a multiple of 16 bytes.
cudaError_t launchStripSkips(const Prop2dCall& call, float* sums);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_PLAN_H_
