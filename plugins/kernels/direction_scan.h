// One direction of either op, as the strips and the tiles take it.
#ifndef GSPN2_KERNELS_DIRECTION_SCAN_H_
#define GSPN2_KERNELS_DIRECTION_SCAN_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "generic.h"  // LineScanCall
#include "gspn2/kernels.h"

namespace gspn2 {

// What a scan writes.
enum class ScanOutput {
  kStates,  // the states
  kSums,    // m u h, stored in or added to float32 sums
  kFinal    // the sums plus m u h, rounded
};

// The staged tensors: x, lam, w-, w0, w+ and, where states are gated, u.
__host__ __device__ constexpr int scanTensors(ScanOutput output) {
  return output == ScanOutput::kStates ? 5 : 6;
}

struct DirectionScan {
  gspn2_problem_t problem;
  gspn2_direction_t direction;
  ScanOutput output;
  gspn2_strides_t strides;
  const void *x, *lam, *w, *u, *m;  // the direction's own; u where states are gated, m may be null
  void* out;
  float* sums;
  bool add;
  void* workspace;  // of a line scan
  // Side by side with the other directions, by strips: whether the next direction's launch may
  // start as soon as this one has, and whether this one starts so, and ends behind the one before.
  bool startsNext, overlaps;
  cudaStream_t stream;

  bool sideBySide() const { return startsNext || overlaps; }

  bool horizontal() const {
    return direction == GSPN2_LEFT_TO_RIGHT || direction == GSPN2_RIGHT_TO_LEFT;
  }
  bool reverse() const {
    return direction == GSPN2_RIGHT_TO_LEFT || direction == GSPN2_BOTTOM_TO_TOP;
  }
  int64_t plane() const { return problem.h * problem.w; }
  int64_t line() const { return horizontal() ? problem.h : problem.w; }
  int64_t steps() const { return horizontal() ? problem.w : problem.h; }
  // Steps of a segment, never 0.
  int64_t chunk() const {
    return problem.chunk == 0 || problem.chunk > steps() ? steps() : problem.chunk;
  }
  // Planes of lam and u, and of w, from one batch item to the next.
  int64_t gateBatch() const { return strides.gates / plane(); }
  int64_t affinityBatch() const { return strides.w / plane(); }
};

inline DirectionScan directionOf(const LineScanCall& call) {
  const gspn2_problem_t& problem = call.problem;
  const int64_t plane = problem.h * problem.w;
  DirectionScan scan{};
  scan.problem = problem;
  scan.strides = {problem.c * plane, problem.c * plane, 3 * problem.g * plane, 1};
  scan.direction = call.direction;
  scan.output = ScanOutput::kStates;
  scan.x = call.x;
  scan.lam = call.lam;
  scan.w = call.w;
  scan.out = call.h;
  scan.workspace = call.workspace;
  scan.stream = call.stream;
  return scan;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DIRECTION_SCAN_H_
