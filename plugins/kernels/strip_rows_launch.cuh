// The instances of the vertical strip scan, for one dtype.
#ifndef GSPN2_KERNELS_STRIP_ROWS_LAUNCH_CUH_
#define GSPN2_KERNELS_STRIP_ROWS_LAUNCH_CUH_

#include "strip_launch.cuh"
#include "strip_rows.cuh"

namespace gspn2 {

template <typename T, int kRows, ScanOutput kOutput>
cudaError_t launchStripRows(const DirectionScan& scan, const StripPlan& plan) {
  return withNormalisation(scan.problem.normalize, [&](auto normalize) {
    using Config = RowConfig<T, kRows, decltype(normalize)::value, kOutput>;
    return launchStrips(stripRowsKernel<Config>, scan, plan);
  });
}

template <typename T, int kRows>
cudaError_t dispatchStripRows(const DirectionScan& scan, const StripPlan& plan) {
  switch (scan.output) {
    case ScanOutput::kStates:
      return launchStripRows<T, kRows, ScanOutput::kStates>(scan, plan);
    case ScanOutput::kSums:
      return launchStripRows<T, kRows, ScanOutput::kSums>(scan, plan);
    case ScanOutput::kFinal:
      return launchStripRows<T, kRows, ScanOutput::kFinal>(scan, plan);
  }
  return cudaErrorNotSupported;
}

template <typename T>
cudaError_t dispatchStripRows(const DirectionScan& scan, const StripPlan& plan) {
  switch (plan.rows) {
    case 1:
      return dispatchStripRows<T, 1>(scan, plan);
    case 2:
      return dispatchStripRows<T, 2>(scan, plan);
    case 4:
      return dispatchStripRows<T, 4>(scan, plan);
    default:
      return cudaErrorNotSupported;
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_ROWS_LAUNCH_CUH_
