// GspnProp2D on chip: what its host side and its kernels agree on.
#ifndef GSPN2_KERNELS_ONCHIP_LAYOUT_H_
#define GSPN2_KERNELS_ONCHIP_LAYOUT_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "gspn2/kernels.h"

namespace gspn2 {

constexpr int kOnchipDirections = 4;
constexpr int kOnchipVector = 4;        // elements of a wide access
constexpr int kOnchipGroup = 4;         // wide accesses of a row that neighbouring threads make
constexpr int kOnchipMaxWorkers = 256;  // of a cluster's block
constexpr int kOnchipMaxSmallWorkers = 128;  // of a map up to 32 positions on a side
constexpr int kOnchipMaxThreads = 512;       // of a block that has a map to itself
constexpr int kOnchipMaxBatches = 128;

struct OnchipParams {
  const void *x, *lam, *w, *u, *d, *m;  // d and m may be null
  void* y;
  // Planes of x, of lam, u and d, and of w from a batch item to the next; of GSPN2_NHWC8 as many as
  // a position has elements.
  int64_t featureBatch, gateBatch, affinityBatch;
  int height, width;
  int channels, affinities;
  int chunk;  // 0: the whole line
  gspn2_normalize_t normalize;
  int workers;   // threads that load and weigh
  int position;  // elements from a position to the next
};

// Floats from one step to the next. Even, so that vectors of two are aligned, or a multiple of four
// where a walker's lane has four positions; and such that the threads that write four accesses of
// some rows, side by side, meet on few banks.
__host__ __device__ constexpr int onchipPitch(int line, int rows) {
  const int period = rows == 4 ? 8 : 4;
  return line + (period / 2 - line % period + period) % period;
}

// Floats of an array, for either orientation.
__host__ __device__ constexpr int onchipArray(int height, int width, int rows) {
  const int vertical = height * onchipPitch(width, rows);
  const int horizontal = width * onchipPitch(height, rows);
  return ((vertical > horizontal ? vertical : horizontal) + 3) / 4 * 4;
}

// Elements of the map whose sums a block of a cluster owns: no vector straddles two blocks.
__host__ __device__ constexpr int onchipQuarter(int elements) {
  const int unit = kOnchipDirections * kOnchipVector;
  return (elements + unit - 1) / unit * kOnchipVector;
}

// Bytes of shared memory of a block that works on `directions` of a map.
constexpr size_t onchipShared(int height, int width, int rows, int channels, int directions) {
  const size_t arrays = static_cast<size_t>(directions) * (3 + channels);
  const size_t parts =
      directions == kOnchipDirections ? 0 : size_t{4} * channels * onchipQuarter(height * width);
  return sizeof(float) * (arrays * onchipArray(height, width, rows) + parts);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_ONCHIP_LAYOUT_H_
