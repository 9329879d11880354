// Host side of the strip scans: from a scan and its plan to the kernel's instance, for one dtype.
#ifndef GSPN2_KERNELS_STRIP_LAUNCH_CUH_
#define GSPN2_KERNELS_STRIP_LAUNCH_CUH_

#include <algorithm>
#include <iterator>
#include <mutex>

#include "by_dtype.h"
#include "common.cuh"
#include "launch.cuh"
#include "strip_plan.h"

namespace gspn2 {

inline cudaError_t launchStrips(void (*kernel)(StripParams), const DirectionScan& scan,
                                const StripPlan& plan, const StripParams& params) {
  return launchClusters(kernel, static_cast<unsigned>(params.clusters * plan.parts),
                        static_cast<unsigned>((plan.warps + plan.producers) * kWarpSize),
                        static_cast<unsigned>(plan.parts), plan.sharedBytes, scan.stream, params,
                        scan.overlaps);
}

inline cudaError_t launchStrips(void (*kernel)(StripParams), const DirectionScan& scan,
                                const StripPlan& plan) {
  return launchStrips(kernel, scan, plan, stripParams(scan, plan));
}

// What a kernel's clusters were asked for last.
class ResidentClusters {
 public:
  // How many clusters of a plan the current device has at once.
  cudaError_t count(void (*kernel)(StripParams), const StripPlan& plan, int* clusters) {
    int device = 0;
    cudaError_t status = cudaGetDevice(&device);
    if (status != cudaSuccess) return status;
    const int asked[] = {device, plan.parts, plan.warps + plan.producers, plan.sharedBytes};
    const std::lock_guard<std::mutex> lock(mMutex);
    if (!std::equal(std::begin(asked), std::end(asked), std::begin(mAsked))) {
      const auto threads = static_cast<unsigned>(asked[2] * kWarpSize);
      status = plan.parts > 1
                   ? maxActiveClusters(kernel, threads, static_cast<unsigned>(plan.parts),
                                       plan.sharedBytes, &mClusters)
                   : maxActiveBlocks(kernel, threads, plan.sharedBytes, &mClusters);
      if (status != cudaSuccess) return status;
      std::copy(std::begin(asked), std::end(asked), std::begin(mAsked));
    }
    *clusters = mClusters;
    return cudaSuccess;
  }

 private:
  std::mutex mMutex;
  int mAsked[4] = {-1, 0, 0, 0};
  int mClusters = 0;
};

// Launches a horizontal scan, whose slices the clusters that the device has at once may share.
inline cudaError_t launchTours(void (*kernel)(StripParams), ResidentClusters* known,
                               const DirectionScan& scan, const StripPlan& plan) {
  StripParams params = stripParams(scan, plan);
  if (sharesSlices(scan, plan)) {
    int resident = 0;
    cudaError_t status = known->count(kernel, plan, &resident);
    if (status != cudaSuccess) return status;
    shareSlices(scan, plan, resident, &params);
    if (params.handed != nullptr) {
      status = cudaMemsetAsync(
          params.handed, 0, sizeof(uint64_t) * params.clusters * static_cast<size_t>(params.line),
          scan.stream);
      if (status != cudaSuccess) return status;
    }
  }
  return launchStrips(kernel, scan, plan, params);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_LAUNCH_CUH_
