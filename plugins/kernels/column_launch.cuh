// Host side of the column scan, for one dtype.
#ifndef GSPN2_KERNELS_COLUMN_LAUNCH_CUH_
#define GSPN2_KERNELS_COLUMN_LAUNCH_CUH_

#include "column_scan.cuh"
#include "generic.h"
#include "launch.cuh"
#include "tensor_map.h"

namespace gspn2 {

template <typename T, bool kReverse, gspn2_normalize_t kNormalize, bool kChunked>
cudaError_t launchColumnScan(const LineScanCall& call, int parts) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t slices = problem.n * problem.c;
  ColumnParams params{};
  params.x = call.x;
  params.lam = call.lam;
  params.w = call.w;
  params.plane = problem.h * problem.w;
  params.line = static_cast<int>(problem.h);
  params.steps = static_cast<int>(problem.w);
  params.chunk = problem.chunk == 0 || problem.chunk > problem.w ? params.steps
                                                                 : static_cast<int>(problem.chunk);
  params.channels = static_cast<int>(problem.c);
  params.affinities = static_cast<int>(problem.g);
  params.own = static_cast<int>(((problem.h + parts - 1) / parts + 7) / 8 * 8);
  params.parts = parts;
  const int outSteps = kColumnOutBytes / static_cast<int>(sizeof(T));
  const cudaError_t status =
      encodeTensorMap(&params.hMap, problem.dtype, call.h,
                      {slices, problem.h, problem.w, params.own, outSteps, kColumnOutBytes});
  if (status != cudaSuccess) return status;
  return launchClusters(columnScanKernel<T, kReverse, kNormalize, kChunked>,
                        static_cast<unsigned>(slices * parts), kColumnThreads,
                        static_cast<unsigned>(parts), kColumnSharedBytes, call.stream, params);
}

template <typename T, bool kReverse, gspn2_normalize_t kNormalize>
cudaError_t dispatchColumnChunk(const LineScanCall& call, int parts) {
  const bool chunked = call.problem.chunk != 0 && call.problem.chunk < call.problem.w;
  return chunked ? launchColumnScan<T, kReverse, kNormalize, true>(call, parts)
                 : launchColumnScan<T, kReverse, kNormalize, false>(call, parts);
}

template <typename T, bool kReverse>
cudaError_t dispatchColumnMode(const LineScanCall& call, int parts) {
  switch (call.problem.normalize) {
    case GSPN2_NORMALIZE_NONE:
      return dispatchColumnChunk<T, kReverse, GSPN2_NORMALIZE_NONE>(call, parts);
    case GSPN2_NORMALIZE_SIGMOID:
      return dispatchColumnChunk<T, kReverse, GSPN2_NORMALIZE_SIGMOID>(call, parts);
    case GSPN2_NORMALIZE_SOFTMAX:
      return dispatchColumnChunk<T, kReverse, GSPN2_NORMALIZE_SOFTMAX>(call, parts);
  }
  return cudaErrorNotSupported;
}

template <typename T>
cudaError_t dispatchColumnScan(const LineScanCall& call, int parts) {
  if (call.direction == GSPN2_LEFT_TO_RIGHT) return dispatchColumnMode<T, false>(call, parts);
  if (call.direction == GSPN2_RIGHT_TO_LEFT) return dispatchColumnMode<T, true>(call, parts);
  return cudaErrorNotSupported;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_COLUMN_LAUNCH_CUH_
