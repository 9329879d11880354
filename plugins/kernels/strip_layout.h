// How the strip scans lay a block out: what host and device agree on.
#ifndef GSPN2_KERNELS_STRIP_LAYOUT_H_
#define GSPN2_KERNELS_STRIP_LAYOUT_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "direction_scan.h"

namespace gspn2 {

constexpr int kWarpLanes = 32;
constexpr int kStripEdge = 8;          // positions shared with a neighbour, steps between exchanges
constexpr int kStripGroup = 4;         // steps whose weights are made at once
constexpr int kStripRun = kStripEdge;  // steps of an iteration of a horizontal scan
constexpr int kStripAccess = 16;       // bytes of the widest access
constexpr int kStripWordBytes = 8;     // a state and the number of its exchange
constexpr int kStripLine = 128;        // bytes of a line of the L2 cache
constexpr int kStripTile = 128;        // bytes of a row in the tile of results of a horizontal scan

// Whether pieces of a horizontal scan may be as wide as what memory likes best, a line of the L2
// cache: two stages of them leave room for one block of 128 positions on a multiprocessor, whose
// walk is fast enough in float32 and without normalisation.
constexpr bool stripCanBeWide(ScanOutput output, gspn2_normalize_t normalize, int rows,
                              int elementBytes) {
  return output == ScanOutput::kStates && normalize == GSPN2_NORMALIZE_NONE && rows == 2 &&
         elementBytes == 4;
}

// Bytes of a row in a stage of a horizontal scan. Memory likes 64 and more; 32 leave room for more
// blocks on a multiprocessor, which helps where there is more to compute. On an H200, in us, 32 and
// 64: 8x64x256x256 fp16 133, 124, with sigmoid 165, 179, fp32 with sigmoid 234, 223; 32x196x32x32
// fp16 27.7, 30.7, fp32 49, 42. Gated ones were slower with 64 on an H100: 1.11 ms rather than 1.07
// of 8x64x256x256 in float32, 5.03 rather than 4.62 of 16x8x1024x1024.
constexpr int stripPieceBytes(ScanOutput output, gspn2_normalize_t normalize, int rows,
                              int elementBytes, bool wide) {
  if (wide) return kStripLine;
  const bool hurried = normalize != GSPN2_NORMALIZE_NONE || rows == 1;
  const bool narrow = output != ScanOutput::kStates || (elementBytes < 4 && hurried);
  return (narrow ? 2 : 4) * kStripAccess;
}

// The most clusters of a horizontal scan that hand states on (strip_tour.cuh).
constexpr int kStripHandingClusters = 64;

// Everything a launch needs; lives in constant memory. Pointers are those of the scan's direction.
struct StripParams {
  const void *x, *lam, *w;
  const void *u, *m;  // gated; m may be null
  void* out;          // states, or rounded sums
  float* sums;        // gated
  bool add;           // to the sums, rather than store them
  bool bulk;          // vertical scans: by the copy engine
  bool reverse;       // vertical scans; horizontal ones are compiled for their direction
  // Sums: whether the next launch may start with this one, and this one ends behind the one before.
  bool startsNext, endsBehind;
  int64_t plane;    // H * W
  int line, steps;  // positions of a line, steps of the scan
  int chunk;        // steps of a segment, never 0
  int channels, affinities;
  int64_t gateBatch, affinityBatch;  // planes of lam and u, of w, from one batch item to the next
  int own, parts;                    // positions of a block of its own, blocks of a cluster
  int warps;                         // that walk
  int producers;                     // warps that load
  int stages;
  // Horizontal scans: see strip_tour.cuh.
  int slices, clusters, units;
  int whole, share, larger;  // where slices are cut: whole slices and units to a cluster, and
                             // clusters with one unit more
  uint64_t* handed;
};

// Positions of a warp that are its own to compute, unless it holds the whole line.
__host__ __device__ constexpr int stripStride(int rows) {
  return kWarpLanes * rows - 2 * kStripEdge;
}
// Positions of a block, shared ones included; `rows` of them to a lane.
__host__ __device__ constexpr int stripExtent(int rows, int warps) {
  return (warps - 1) * stripStride(rows) + kWarpLanes * rows;
}

// Rows of a warp's tile of results.
__host__ __device__ constexpr int stripTileRows(int rows, int warps) {
  return warps > 1 ? stripStride(rows) : kWarpLanes * rows;
}

// Warps that walk a line of which a block has `own` positions, at `rows` of them to a lane.
constexpr int stripWarps(int own, int parts, int rows) {
  const bool meets = parts > 1;
  const int stride = stripStride(rows);
  if ((meets ? own + 2 * kStripEdge : own) <= kWarpLanes * rows) return 1;
  return (own + stride - 1) / stride;
}

// The most warps of a block of a horizontal scan that walk, and that load.
constexpr int stripColumnWalkers(int rows) { return rows == 1 ? 1 : 12; }
constexpr int kStripColumnProducers = 4;
// Those of a vertical scan. A warp's lanes issue their bulk copies one after the other, some 25
// cycles each: more warps load a stage sooner.
constexpr int kStripRowWalkers = 10;
constexpr int kStripRowProducers = 4;

// Bytes of the two sets of words in which the states of `positions`, each warp's counted, and those
// of both halos are exchanged.
__host__ __device__ constexpr int stripExchangeBytes(int positions) {
  return 2 * kStripWordBytes * (positions + 2 * kStripEdge);
}

// Shared memory of a block, in bytes from its start: stages, tiles of results, the words of
// exchanges, the ring's barriers.
struct StripLayout {
  int pitch;      // from one row of a stage to the next
  int groupRows;  // horizontal scans: rows r, r + rows, ... lie together, as lanes read them at
                  // once
  int gateOffset, sumOffset;  // vertical scans: u and the staged sums of a stage
  int stageBytes, tileBytes;
  int positions;  // that are exchanged
  int tileOffset, exchangeOffset, barrierOffset, total;
};

__host__ __device__ constexpr StripLayout finishLayout(StripLayout layout, int rows, int warps,
                                                       int stages) {
  layout.tileOffset = stages * layout.stageBytes;
  layout.positions = warps * kWarpLanes * rows;
  layout.exchangeOffset = layout.tileOffset + warps * layout.tileBytes;  // a multiple of 16
  layout.barrierOffset = layout.exchangeOffset + stripExchangeBytes(layout.positions);
  layout.total = layout.barrierOffset + 2 * stages * 8;
  return layout;
}

// A stage of a horizontal scan: a piece of every tensor side by side, for each of the block's rows.
// An odd number of pieces to a row keeps eight rows of a group on different banks.
__host__ __device__ constexpr StripLayout columnLayout(ScanOutput output, int pieceBytes, int rows,
                                                       int own, int parts, int warps, int stages) {
  StripLayout layout{};
  layout.pitch = (scanTensors(output) | 1) * pieceBytes;
  // A block's own positions and both halos; a warp's, where one holds the line.
  const int positions = parts > 1 || warps > 1 ? own + 2 * kStripEdge : kWarpLanes * rows;
  layout.groupRows = (positions + rows - 1) / rows;
  layout.stageBytes = layout.groupRows * rows * layout.pitch;
  layout.tileBytes = stripTileRows(rows, warps) * kStripTile;
  return finishLayout(layout, rows, warps, stages);
}

// A stage of a vertical scan: kStripGroup steps of the block's positions, tensor after tensor.
__host__ __device__ constexpr StripLayout rowLayout(ScanOutput output, int rows, int warps,
                                                    int stages, int elementBytes) {
  StripLayout layout{};
  const int extent = stripExtent(rows, warps);
  layout.pitch = extent * elementBytes;
  layout.gateOffset = 5 * kStripGroup * layout.pitch;
  layout.sumOffset = scanTensors(output) * kStripGroup * layout.pitch;
  layout.stageBytes = layout.sumOffset;
  if (output == ScanOutput::kFinal) layout.stageBytes += kStripGroup * extent * 4;
  return finishLayout(layout, rows, warps, stages);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_LAYOUT_H_
