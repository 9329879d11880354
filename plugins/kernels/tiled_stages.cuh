// The tiled scan's parameters, its blocks and the producer that fills their stages: see
// tiled_scan.cuh.
#ifndef GSPN2_KERNELS_TILED_STAGES_CUH_
#define GSPN2_KERNELS_TILED_STAGES_CUH_

#include "common.cuh"
#include "direction_scan.h"
#include "hopper.cuh"
#include "stage_cursor.cuh"

namespace gspn2 {

constexpr int kMaxTileWarps = 16;  // consumer warps of a block

// Everything a launch needs; lives in constant memory.
struct TiledScanParams {
  CUtensorMap xMap, lamMap, wMap, uMap;
  void* out;        // states, or rounded sums
  float* sums;      // what m u h is added to
  const void* m;    // the direction's, or null
  int64_t plane;    // H * W
  int line, steps;  // W, H
  int chunk;        // steps of a segment, never 0
  int channels, affinities;
  int gateBatch, affinityBatch;  // planes of lam and u, of w, from one batch item to the next
  int own, halo;            // positions of a block: its own, and those it shares on either side
  int boxes, boxPositions;  // copies that make up a tile of one tensor
  int tileSteps, tiles, stages;
  int warps;  // consumer warps
  bool reverse;
};

// Shared memory, in bytes from the 1024-byte aligned start.
struct TiledLayout {
  int tensorBytes, stageBytes;
  int edgeOffset, haloOffset, barrierOffset, total;
};

__host__ __device__ inline int roundUp(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

template <typename C>
__host__ __device__ inline TiledLayout tiledLayout(const TiledScanParams& p) {
  TiledLayout layout{};
  layout.tensorBytes = roundUp(
      p.boxes * p.boxPositions * p.tileSteps * static_cast<int>(sizeof(typename C::T)), 1024);
  layout.stageBytes = C::kTensors * layout.tensorBytes;
  layout.edgeOffset = p.stages * layout.stageBytes;
  layout.haloOffset = layout.edgeOffset + 4 * (kMaxTileWarps + 2) * 4;
  layout.barrierOffset = layout.haloOffset + roundUp(4 * p.halo * 4, 16);
  layout.total = layout.barrierOffset + (2 * p.stages + 2) * 8;
  return layout;
}

template <typename T_, gspn2_normalize_t kNormalize_, ScanOutput kOutput>
struct TiledConfig {
  using T = T_;
  static constexpr gspn2_normalize_t kNormalize = kNormalize_;
  static constexpr bool kGated = kOutput != ScanOutput::kStates;
  static constexpr bool kReadsSums = kOutput == ScanOutput::kFinal;
  static constexpr int kTensors = scanTensors(kOutput);
  static constexpr int kRows = 2;   // positions of a lane
  static constexpr int kGroup = 4;  // steps that are turned into weights ahead of their use
  static constexpr int kThreads = (kMaxTileWarps + 1) * kWarpSize;  // with the producer's warp
};

// What a block works on.
struct TileBlock {
  int rank, parts;  // its part of the line
  int slice;        // its (n, c): a plane of x
  int gate;         // plane of lam and u
  int affinity;     // plane of its first affinity in w
  int start;        // position of the first line element in its tiles; may be negative

  __device__ __forceinline__ explicit TileBlock(const TiledScanParams& p) {
    parts = (p.line + p.own - 1) / p.own;
    rank = p.halo > 0 ? static_cast<int>(clusterRank()) : 0;
    slice = static_cast<int>(blockIdx.x) / parts;
    const int n = slice / p.channels;
    const int c = slice - n * p.channels;
    gate = n * p.gateBatch + c;
    affinity = n * p.affinityBatch + (p.affinities == 1 ? 0 : c);
    start = rank * p.own - p.halo;
  }
};

// The producer: one thread and the copy engine.
template <typename C>
__device__ __forceinline__ void produceTiles(const TiledScanParams& p, const TiledLayout& layout,
                                             const TileBlock& block, uint32_t stages,
                                             uint32_t barriers) {
  const int boxBytes = p.boxPositions * p.tileSteps * static_cast<int>(sizeof(typename C::T));
  const uint64_t policy = p.affinities == 1 ? kEvictNormal : kEvictFirst;
  StageCursor cursor;
  for (int i = 0; i < p.tiles; ++i) {
    const uint32_t full = barriers + 8 * cursor.stage;
    if (i >= p.stages) barrierWait(full + 8 * p.stages, cursor.parity ^ 1);
    barrierArriveExpect(full, static_cast<uint32_t>(C::kTensors * p.boxes * boxBytes));
    const int row = (p.reverse ? p.tiles - 1 - i : i) * p.tileSteps;
    const uint32_t target = stages + cursor.stage * layout.stageBytes;
    for (int box = 0; box < p.boxes; ++box) {
      const int column = block.start + box * p.boxPositions;
      const uint32_t at = target + box * boxBytes;
      loadTile(at, &p.xMap, column, row, block.slice, full, kEvictFirst);
      loadTile(at + layout.tensorBytes, &p.lamMap, column, row, block.gate, full, kEvictFirst);
      for (int j = 0; j < 3; ++j) {
        loadTile(at + (2 + j) * layout.tensorBytes, &p.wMap, column, row,
                 block.affinity + j * p.affinities, full, policy);
      }
      if constexpr (C::kGated) {
        loadTile(at + 5 * layout.tensorBytes, &p.uMap, column, row, block.gate, full, kEvictFirst);
      }
    }
    cursor.advance(p.stages);
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_STAGES_CUH_
