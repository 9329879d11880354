// Host side of the strip scans: from a scan and its plan to the kernel's instance, for one dtype.
#ifndef GSPN2_KERNELS_STRIP_LAUNCH_CUH_
#define GSPN2_KERNELS_STRIP_LAUNCH_CUH_

#include "by_dtype.h"
#include "common.cuh"
#include "launch.cuh"
#include "strip_plan.h"

namespace gspn2 {

inline cudaError_t launchStrips(void (*kernel)(StripParams), const DirectionScan& scan,
                                const StripPlan& plan) {
  return launchClusters(kernel, static_cast<unsigned>(scan.problem.n * scan.problem.c * plan.parts),
                        static_cast<unsigned>((plan.warps + plan.producers) * kWarpSize),
                        static_cast<unsigned>(plan.parts), plan.sharedBytes, scan.stream,
                        stripParams(scan, plan));
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_LAUNCH_CUH_
