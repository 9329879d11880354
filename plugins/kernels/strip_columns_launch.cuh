// The instances of the horizontal strip scan, for one dtype.
#ifndef GSPN2_KERNELS_STRIP_COLUMNS_LAUNCH_CUH_
#define GSPN2_KERNELS_STRIP_COLUMNS_LAUNCH_CUH_

#include "strip_columns.cuh"
#include "strip_launch.cuh"

namespace gspn2 {

template <typename T, int kRows, bool kReverse, ScanOutput kOutput>
cudaError_t launchStripColumns(const DirectionScan& scan, const StripPlan& plan) {
  return withNormalisation(scan.problem.normalize, [&](auto normalize) {
    constexpr gspn2_normalize_t kNormalize = decltype(normalize)::value;
    const auto launch = [&](auto wide) {
      using Config = ColumnConfig<T, kRows, kReverse, kNormalize, kOutput, decltype(wide)::value>;
      static ResidentClusters known;
      return launchTours(stripColumnsKernel<Config>, &known, scan, plan);
    };
    if constexpr (stripCanBeWide(kOutput, kNormalize, kRows, sizeof(T))) {
      if (plan.wide) return launch(std::true_type{});
    }
    return launch(std::false_type{});
  });
}

template <typename T, int kRows>
cudaError_t dispatchStripColumns(const DirectionScan& scan, const StripPlan& plan) {
  switch (scan.output) {
    case ScanOutput::kStates:
      return scan.reverse() ? launchStripColumns<T, kRows, true, ScanOutput::kStates>(scan, plan)
                            : launchStripColumns<T, kRows, false, ScanOutput::kStates>(scan, plan);
    case ScanOutput::kSums:
      return scan.reverse() ? launchStripColumns<T, kRows, true, ScanOutput::kSums>(scan, plan)
                            : launchStripColumns<T, kRows, false, ScanOutput::kSums>(scan, plan);
    case ScanOutput::kFinal:
      break;  // a vertical scan is the last
  }
  return cudaErrorNotSupported;
}

template <typename T>
cudaError_t dispatchStripColumns(const DirectionScan& scan, const StripPlan& plan) {
  return plan.rows == 1 ? dispatchStripColumns<T, 1>(scan, plan)
                        : dispatchStripColumns<T, 2>(scan, plan);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_COLUMNS_LAUNCH_CUH_
