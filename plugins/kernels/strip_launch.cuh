// Host side of the strip scans: from a scan and its plan to the kernel's instance, for one dtype.
#ifndef GSPN2_KERNELS_STRIP_LAUNCH_CUH_
#define GSPN2_KERNELS_STRIP_LAUNCH_CUH_

#include <type_traits>

#include "common.cuh"
#include "launch.cuh"
#include "strip_plan.h"

namespace gspn2 {

inline cudaError_t launchStrips(void (*kernel)(StripParams), const StripScan& scan,
                                const StripPlan& plan) {
  return launchClusters(kernel, static_cast<unsigned>(scan.problem.n * scan.problem.c * plan.parts),
                        static_cast<unsigned>((plan.warps + plan.producers) * kWarpSize),
                        static_cast<unsigned>(plan.parts), plan.sharedBytes, scan.stream,
                        stripParams(scan, plan));
}

// Calls `launch` with the normalisation as a constant.
template <typename Launch>
cudaError_t withNormalisation(gspn2_normalize_t normalize, const Launch& launch) {
  switch (normalize) {
    case GSPN2_NORMALIZE_NONE:
      return launch(std::integral_constant<gspn2_normalize_t, GSPN2_NORMALIZE_NONE>{});
    case GSPN2_NORMALIZE_SIGMOID:
      return launch(std::integral_constant<gspn2_normalize_t, GSPN2_NORMALIZE_SIGMOID>{});
    case GSPN2_NORMALIZE_SOFTMAX:
      return launch(std::integral_constant<gspn2_normalize_t, GSPN2_NORMALIZE_SOFTMAX>{});
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_LAUNCH_CUH_
