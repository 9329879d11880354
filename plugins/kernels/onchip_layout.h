// GspnProp2D on chip: what its host side and its kernels agree on.
#ifndef GSPN2_KERNELS_ONCHIP_LAYOUT_H_
#define GSPN2_KERNELS_ONCHIP_LAYOUT_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "gspn2/kernels.h"

namespace gspn2 {

constexpr int kOnchipDirections = 4;
constexpr int kOnchipVector = 4;            // elements of a wide access
constexpr int kOnchipGroup = 4;             // wide accesses of a row that neighbouring threads make
constexpr int kOnchipMaxWorkers = 256;      // of a cluster's block
constexpr int kOnchipMaxRingWorkers = 512;  // of one that holds a ring of steps
constexpr int kOnchipMaxSmallWorkers = 128;  // of a map up to 32 positions on a side
constexpr int kOnchipMaxThreads = 512;       // of a block that has a map to itself
constexpr int kOnchipMaxBatches = 128;
constexpr int kOnchipFourRowLine = 128;
constexpr int kOnchipStaticShared = 4096;  // bytes that a cluster's block has besides
constexpr int kOnchipMaxRows = 8;          // positions of a walker's lane
constexpr int kOnchipMaxRelay = 4;         // blocks of a cluster to a direction

struct OnchipParams {
  const void *x, *lam, *w, *u, *d, *m;  // d and m may be null
  void* y;
  // Planes of x, of lam, u and d, and of w from a batch item to the next; of GSPN2_NHWC8 as many as
  // a position has elements.
  int64_t featureBatch, gateBatch, affinityBatch;
  int height, width;
  int channels, affinities;
  int array;  // floats of one, of a direction's steps or of a ring of them
  int chunk;  // 0: the whole line
  gspn2_normalize_t normalize;
  int workers;   // threads that load and weigh
  int relay;     // blocks of a cluster to a direction
  int position;  // elements from a position to the next
};

// Positions that a lane has of a line, where it may have `rows` of the longer one: its loads of
// four meet on no banks.
__host__ __device__ constexpr int onchipLineRows(int line, int rows) {
  return line <= kOnchipFourRowLine && rows > 4 ? 4 : rows;
}

// Floats from one step to the next: as many as lanes load of a line. Even, so that vectors of two
// are aligned, or a multiple of four where a walker's lane loads four; and such that the threads
// that write four accesses of some rows, side by side, meet on few banks.
__host__ __device__ constexpr int onchipPitch(int line, int rows) {
  const int own = onchipLineRows(line, rows);
  const int period = own % 4 == 0 ? 8 : 4;
  const int loaded = (line + own - 1) / own * own;
  return loaded + (period / 2 - loaded % period + period) % period;
}

// Floats of an array of all steps, for either orientation.
constexpr int onchipArray(int height, int width, int rows) {
  const int vertical = height * onchipPitch(width, rows);
  const int horizontal = width * onchipPitch(height, rows);
  return ((vertical > horizontal ? vertical : horizontal) + 3) / 4 * 4;
}

// Vectors of a row that neighbouring workers take, and steps of a batch: each of as many whole
// units as there are workers for. A unit is the fewest steps that whole vectors cover: a step of
// rows, or a group of vectors of columns.
__host__ __device__ constexpr int onchipGroup(bool horizontal, int line, int vector, int workers) {
  if (!horizontal) return line / vector;
  return workers / line < kOnchipGroup ? workers / line : kOnchipGroup;
}
__host__ __device__ constexpr int onchipBatch(bool horizontal, int line, int vector, int workers) {
  const int group = onchipGroup(horizontal, line, vector, workers);
  return horizontal ? workers / (group * line) * group * vector : workers / group;
}

// Batches of a direction that one of its `relay` blocks has, which take them in turn.
__host__ __device__ constexpr int onchipTurns(int steps, int batch, int relay, int turn) {
  return ((steps + batch - 1) / batch - turn + relay - 1) / relay;
}

// Elements of the map whose sums one of a cluster's blocks owns: no vector straddles two blocks.
__host__ __device__ constexpr int onchipShare(int elements, int blocks) {
  const int unit = blocks * kOnchipVector;
  return (elements + unit - 1) / unit * kOnchipVector;
}

// Arrays of a block that works on `directions` of a map.
constexpr int onchipArrays(int channels, int directions) { return directions * (3 + channels); }

// Floats of the parts of the sum that it owns, of a cluster of `blocks`.
constexpr int onchipParts(int elements, int channels, int blocks) {
  return blocks == 1 ? 0 : kOnchipDirections * channels * onchipShare(elements, blocks);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_ONCHIP_LAYOUT_H_
