// How the strip scan lays a block out: what host and device agree on.
#ifndef GSPN2_KERNELS_STRIP_LAYOUT_H_
#define GSPN2_KERNELS_STRIP_LAYOUT_H_

#include <cuda_runtime_api.h>

namespace gspn2 {

constexpr int kWarpRows = 32;         // lanes of a warp, a row each or several
constexpr int kStripTensors = 5;      // x, lam, w-, w0, w+
constexpr int kStripEdge = 4;         // rows shared with a warp, steps between exchanges
constexpr int kStripHalo = 8;         // rows shared with a block, steps between meetings
constexpr int kStripRun = 8;          // steps of an iteration: two exchanges, one meeting
constexpr int kStripPieceBytes = 32;  // of a row in one stage
constexpr int kStripRowBytes = kStripTensors * kStripPieceBytes;  // of a stage's row
constexpr int kStripChunkBytes = 16;                              // the widest access
constexpr int kStripOutBytes = 128;                               // of a row in the results' tile
constexpr int kStripMaxRows = 3;                                  // of a lane
constexpr int kStripMaxWarps = 4;                                 // that walk
constexpr int kStripMaxProducers = 2;

// Rows of a warp that are its own to compute, unless it holds the whole line.
__host__ __device__ constexpr int stripStride(int rows) {
  return kWarpRows * rows - 2 * kStripEdge;
}

// Shared memory, in bytes. Rows r, r + rows, r + 2 rows, ... lie together as a group, since the
// lanes read their r-th rows at once.
struct StripLayout {
  int groupRows;
  int stageBytes, tileBytes, tileOffset, edgeOffset, haloOffset, barrierOffset, total;
};

__host__ __device__ constexpr StripLayout stripLayout(int rows, int warps, int stages) {
  StripLayout layout{};
  const int extent = (warps - 1) * stripStride(rows) + kWarpRows * rows;
  layout.groupRows = (extent + rows - 1) / rows;
  layout.stageBytes = layout.groupRows * rows * kStripRowBytes;
  layout.tileBytes = kWarpRows * rows * kStripOutBytes;
  layout.tileOffset = stages * layout.stageBytes;
  layout.edgeOffset = layout.tileOffset + warps * layout.tileBytes;
  layout.haloOffset = layout.edgeOffset + 2 * warps * 2 * kStripEdge * 4;
  layout.barrierOffset = layout.haloOffset + 2 * 2 * kStripHalo * 4;
  layout.total = layout.barrierOffset + (2 * stages + 4) * 8;
  return layout;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_LAYOUT_H_
