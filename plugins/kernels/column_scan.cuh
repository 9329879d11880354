// The column scan: horizontal scans on compute capability 9.0 and later.
//
// Lines are columns of a row-major map, so that a step is one element of every row. DRAM wants 128
// bytes of a row at a time, which at 1024 rows and five tensors no multiprocessor can hold: a
// cluster of blocks splits the line, about 128 rows to a block. Few rows to a multiprocessor leave
// few cycles to a step (about 200 in half precision), less than a barrier among warps takes. So a
// block's warps have roles:
//   producers  copy 32-byte pieces of the rows into a ring of stages; the L2 cache fetches 128;
//   weighers   turn affinities into weights and lam * x, in float32, a group of steps ahead;
//   one walker holds the block's states, kRows adjacent rows to a lane, and walks the steps with
//              two shuffles each, meeting nobody.
// States leave through a tile of 128-byte rows and the bulk copy engine.
//
// Walkers of a cluster meet every `kHalo` steps: each walks kHalo rows of its neighbours too. After
// s steps the outermost s of them are stale; then the owners' states replace them over
// distributed shared memory.
#ifndef GSPN2_KERNELS_COLUMN_SCAN_CUH_
#define GSPN2_KERNELS_COLUMN_SCAN_CUH_

#include "common.cuh"
#include "hopper.cuh"
#include "tiled_math.cuh"

namespace gspn2 {

constexpr int kColumnTensors = 5;  // x, lam, w-, w0, w+
constexpr int kColumnHalo = 16;    // rows shared with a neighbour, steps between meetings
constexpr int kColumnRows = 5;     // of a walker's lane
constexpr int kColumnExtent = kColumnRows * 32;              // rows of a block, halos included
constexpr int kColumnOwn = kColumnExtent - 2 * kColumnHalo;  // where the line is split
constexpr int kColumnPieceBytes = 32;                        // of a row in one stage
constexpr int kColumnStages = 2;
constexpr int kColumnRingSteps = 16;
constexpr int kColumnOutBytes = 128;                 // of a row in the tile of results
constexpr int kColumnProducers = 2;                  // warps
constexpr int kColumnWeighers = kColumnExtent / 32;  // warps: a thread to a row
constexpr int kColumnThreads = (1 + kColumnWeighers + kColumnProducers) * 32;

struct ColumnParams {
  CUtensorMap hMap;
  const void *x, *lam, *w;
  int64_t plane;    // H * W
  int line, steps;  // H, W
  int chunk;        // steps of a segment, never 0
  int channels, affinities;
  int own, parts;  // rows of a block of its own, blocks of a cluster
};

// One step's weights of p-1, p, p+1 and lam * x at one row: x, y, z and w. The weights are 0 at a
// segment's first step. Outside the line the values mean nothing.
using ColumnSlot = float4;

struct ColumnShared {
  char stages[kColumnStages][kColumnTensors][kColumnExtent * kColumnPieceBytes];
  ColumnSlot ring[kColumnRingSteps][kColumnExtent];
  float incoming[2][2 * kColumnHalo];
  uint64_t full[kColumnStages], empty[kColumnStages];
  uint64_t ready[kColumnRingSteps], taken[kColumnRingSteps];  // one for each group of steps
  uint64_t met[2];
};
constexpr int kColumnOutTile = (kColumnExtent + 8) * kColumnOutBytes;  // 8 rows are for the halos
constexpr int kColumnSharedBytes = kColumnOutTile + static_cast<int>(sizeof(ColumnShared));

// What a block works on.
struct ColumnBlock {
  int rank, slice, affinity;
  int halo;    // 0 where the line is not split
  int start;   // the line's position of its first row; may be negative
  int extent;  // rows, halos included

  __device__ __forceinline__ explicit ColumnBlock(const ColumnParams& p) {
    halo = p.parts > 1 ? kColumnHalo : 0;
    rank = p.parts > 1 ? static_cast<int>(clusterRank()) : 0;
    slice = static_cast<int>(blockIdx.x) / p.parts;
    const int n = slice / p.channels;
    affinity = n * 3 * p.affinities + (p.affinities == 1 ? 0 : slice - n * p.channels);
    start = rank * p.own - halo;
    extent = p.own + 2 * halo;
  }
};

// A place in a ring and how often it has been passed.
template <int kSize>
struct RingCursor {
  int index = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++index == kSize) {
      index = 0;
      parity ^= 1;
    }
  }
};

template <typename T, bool kReverse>
struct ColumnGeometry {
  static constexpr int kGroup = 16 / static_cast<int>(sizeof(T));  // steps of 16 bytes
  static constexpr int kPieceSteps = kColumnPieceBytes / static_cast<int>(sizeof(T));
  static constexpr int kOutSteps = kColumnOutBytes / static_cast<int>(sizeof(T));
  static constexpr int kRingGroups = kColumnRingSteps / kGroup;
  static constexpr int kOutGroups = kColumnOutBytes / 16;

  // Tiles lie on a grid of kOutSteps from the map's origin. A reverse scan begins with the part of
  // its first tile that is outside the map, all zeros.
  __device__ __forceinline__ static int tiles(int steps) {
    return (steps + kOutSteps - 1) / kOutSteps;
  }
  __device__ __forceinline__ static int groups(int steps) { return tiles(steps) * kOutGroups; }
};

template <typename T, bool kReverse>
__device__ __forceinline__ void produceColumns(const ColumnParams& p, const ColumnBlock& block,
                                               ColumnShared& shared, int thread) {
  using G = ColumnGeometry<T, kReverse>;
  constexpr int kChunks = kColumnPieceBytes / 16;
  constexpr int kRowStep = kColumnProducers * 32 / kChunks;
  static_assert(kRowStep % 8 == 0, "a thread's rows must share their swizzle");
  const int firstRow = thread / kChunks;
  const int chunk = thread % kChunks;
  const uint32_t within = firstRow * kColumnPieceBytes + (chunk ^ ((firstRow >> 2) & 1)) * 16;
  const T* const sources[kColumnTensors] = {
      static_cast<const T*>(p.x) + block.slice * p.plane,
      static_cast<const T*>(p.lam) + block.slice * p.plane,
      static_cast<const T*>(p.w) + block.affinity * p.plane,
      static_cast<const T*>(p.w) + (block.affinity + p.affinities) * p.plane,
      static_cast<const T*>(p.w) + (block.affinity + 2 * p.affinities) * p.plane};
  const int pieces = G::tiles(p.steps) * (kColumnOutBytes / kColumnPieceBytes);
  RingCursor<kColumnStages> cursor;
  for (int i = 0; i < pieces; ++i) {
    const uint32_t full = sharedAddress(&shared.full[cursor.index]);
    if (i >= kColumnStages) {
      barrierWait(sharedAddress(&shared.empty[cursor.index]), cursor.parity ^ 1);
    }
    const int column = (kReverse ? pieces - 1 - i : i) * G::kPieceSteps + chunk * G::kGroup;
    uint32_t target = sharedAddress(shared.stages[cursor.index]) + within;
    for (int row = firstRow; row < block.extent; row += kRowStep) {
      const int position = block.start + row;
      const bool inside = column < p.steps && position >= 0 && position < p.line;
      const int64_t offset = inside ? static_cast<int64_t>(position) * p.steps + column : 0;
#pragma unroll
      for (int j = 0; j < kColumnTensors; ++j) {
        copyChunk(target + j * kColumnExtent * kColumnPieceBytes, sources[j] + offset,
                  inside ? 16 : 0);
      }
      target += kRowStep * kColumnPieceBytes;
    }
    barrierArriveCopies(full);
    cursor.advance();
  }
}

// The phase of a scan: steps since the segment's start, negative before the map.
template <typename T, bool kReverse>
__device__ __forceinline__ int firstPhase(int steps) {
  using G = ColumnGeometry<T, kReverse>;
  return kReverse ? steps - G::tiles(steps) * G::kOutSteps : 0;
}
__device__ __forceinline__ int nextPhase(int phase, int chunk) {
  return phase + 1 == chunk ? 0 : phase + 1;
}

template <typename T, bool kReverse, gspn2_normalize_t kNormalize>
__device__ __forceinline__ void weighColumns(const ColumnParams& p, const ColumnBlock& block,
                                             ColumnShared& shared, int row, bool signals) {
  using G = ColumnGeometry<T, kReverse>;
  constexpr int kChunks = kColumnPieceBytes / 16;
  constexpr float kMissing = kNormalize == GSPN2_NORMALIZE_NONE ? 0.0F : -INFINITY;
  const int position = block.start + row;
  const bool first = position == 0;
  const bool last = position == p.line - 1;
  const bool warpHasEnd = __any_sync(kFullMask, first || last);
  const int groups = G::groups(p.steps);
  int phase = firstPhase<T, kReverse>(p.steps);
  RingCursor<kColumnStages> stage;
  RingCursor<G::kRingGroups> slot;
  for (int i = 0; i < groups; i += kChunks) {
    barrierWait(sharedAddress(&shared.full[stage.index]), stage.parity);
#pragma unroll
    for (int g = 0; g < kChunks; ++g) {
      const int chunk = (kReverse ? kChunks - 1 - g : g) ^ ((row >> 2) & 1);
      alignas(16) T raw[kColumnTensors][G::kGroup];
#pragma unroll
      for (int j = 0; j < kColumnTensors; ++j) {
        *reinterpret_cast<uint4*>(raw[j]) = *reinterpret_cast<const uint4*>(
            shared.stages[stage.index][j] + row * kColumnPieceBytes + chunk * 16);
      }
      if (g + 1 == kChunks) {
        __syncwarp();
        if (signals) barrierArrive(sharedAddress(&shared.empty[stage.index]));
      }
      ColumnSlot slots[G::kGroup];
#pragma unroll
      for (int s = 0; s < G::kGroup; ++s) {
        const int from = kReverse ? G::kGroup - 1 - s : s;
        slots[s] = {toFloat(raw[2][from]), toFloat(raw[3][from]), toFloat(raw[4][from]),
                    toFloat(raw[0][from]) * toFloat(raw[1][from])};
      }
      if (warpHasEnd) {
#pragma unroll
        for (int s = 0; s < G::kGroup; ++s) {
          if (first) slots[s].x = kMissing;
          if (last) slots[s].z = kMissing;
        }
      }
#pragma unroll
      for (int s = 0; s < G::kGroup; ++s) {
        normaliseFast<kNormalize>(slots[s].x, slots[s].y, slots[s].z);
      }
      if (phase <= 0 || phase + G::kGroup > p.chunk) {  // a segment begins in this group
#pragma unroll
        for (int s = 0; s < G::kGroup; ++s) {
          if (phase <= 0) slots[s].x = slots[s].y = slots[s].z = 0.0F;
          phase = nextPhase(phase, p.chunk);
        }
      } else {
        phase += G::kGroup;
        if (phase == p.chunk) phase = 0;
      }
      if (i + g >= G::kRingGroups) {
        barrierWait(sharedAddress(&shared.taken[slot.index]), slot.parity ^ 1);
      }
#pragma unroll
      for (int s = 0; s < G::kGroup; ++s) shared.ring[slot.index * G::kGroup + s][row] = slots[s];
      __syncwarp();
      if (signals) barrierArrive(sharedAddress(&shared.ready[slot.index]));
      slot.advance();
    }
    stage.advance();
  }
}

// The neighbours' states for the halos, and the halos' owners' states for the neighbours.
__device__ __forceinline__ void meetNeighbours(const ColumnParams& p, const ColumnBlock& block,
                                               ColumnShared& shared, int lane, int meeting,
                                               const uint32_t (&inside)[kColumnRows],
                                               float (&h)[kColumnRows]) {
  const int turn = meeting & 1;  // two buffers in turn: a neighbour is at most one meeting ahead
  const uint32_t barrier = sharedAddress(&shared.met[turn]);
  const uint32_t target = sharedAddress(shared.incoming[turn]);
  const bool hasLeft = block.rank > 0;
  const bool hasRight = block.rank + 1 < p.parts;
  if (lane == 0) barrierArriveExpect(barrier, (hasLeft + hasRight) * kColumnHalo * 4);
  const int leftRank = hasLeft ? block.rank - 1 : 0;
  const int rightRank = hasRight ? block.rank + 1 : 0;
  const uint32_t leftTarget = clusterAddress(target, leftRank);
  const uint32_t leftBarrier = clusterAddress(barrier, leftRank);
  const uint32_t rightTarget = clusterAddress(target, rightRank);
  const uint32_t rightBarrier = clusterAddress(barrier, rightRank);
  const int first = lane * kColumnRows;
#pragma unroll
  for (int r = 0; r < kColumnRows; ++r) {
    const int e = first + r;
    if (hasLeft && e >= kColumnHalo && e < 2 * kColumnHalo) {
      storeRemote(leftTarget + 4 * e, h[r], leftBarrier);
    }
    if (hasRight && e >= p.own && e < p.own + kColumnHalo) {
      storeRemote(rightTarget + 4 * (e - p.own), h[r], rightBarrier);
    }
  }
  __syncwarp();
  barrierWaitCluster(barrier, (meeting >> 1) & 1);
#pragma unroll
  for (int r = 0; r < kColumnRows; ++r) {
    const int e = first + r;
    if (inside[r] != 0 && e < kColumnHalo) h[r] = shared.incoming[turn][e];
    if (inside[r] != 0 && e >= kColumnHalo + p.own) h[r] = shared.incoming[turn][e - p.own];
  }
  __syncwarp();
}

template <typename T, bool kReverse, bool kChunked>
__device__ __forceinline__ void walkColumns(const ColumnParams& p, const ColumnBlock& block,
                                            ColumnShared& shared, char* outTile, int lane) {
  using G = ColumnGeometry<T, kReverse>;
  const int first = lane * kColumnRows;
  // Masks instead of predicates, of which there are too few: a state outside the line is 0 even
  // where its neighbour is NaN or Inf.
  uint32_t inside[kColumnRows];
#pragma unroll
  for (int r = 0; r < kColumnRows; ++r) {
    const int position = block.start + first + r;
    inside[r] = first + r < block.extent && position >= 0 && position < p.line ? ~0U : 0U;
  }
  const uint32_t hasBelow = lane == 0 ? 0U : ~0U;
  const uint32_t hasAbove = lane == 31 ? 0U : ~0U;
  const int tiles = G::tiles(p.steps);
  const int groups = G::groups(p.steps);
  const uint32_t ring = sharedAddress(&shared.ring[0][first]);
  constexpr uint32_t kStepBytes = kColumnExtent * sizeof(ColumnSlot);
  // Where a lane's results go: 16-byte chunks whose number the copy engine's swizzle turns by the
  // row. Rows of the halos go to a row that is never stored.
  uint32_t resultRows[kColumnRows];
#pragma unroll
  for (int r = 0; r < kColumnRows; ++r) {
    const int row = first + r - block.halo;
    const int target = row >= 0 && row < p.own ? row : kColumnExtent + (lane & 7);
    resultRows[r] = sharedAddress(outTile) + target * kColumnOutBytes + (target & 7) * 16;
  }
  float h[kColumnRows] = {};
  int phase = firstPhase<T, kReverse>(p.steps);
  int tile = 0;
  int meeting = 0;
  int group = 0;  // of the tile of results
  int untilMeeting = kColumnHalo / G::kGroup;
  RingCursor<G::kRingGroups> slot;
  ColumnSlot next[kColumnRows];
  barrierWait(sharedAddress(&shared.ready[0]), 0);
#pragma unroll
  for (int r = 0; r < kColumnRows; ++r) next[r] = loadSharedNow(ring + 16 * r);
  for (int i = 0; i < groups; ++i) {
    uint32_t source = ring + slot.index * G::kGroup * kStepBytes;
    alignas(16) T results[kColumnRows][G::kGroup];
#pragma unroll
    for (int s = 0; s < G::kGroup; ++s) {
      ColumnSlot now[kColumnRows];
#pragma unroll
      for (int r = 0; r < kColumnRows; ++r) now[r] = next[r];
      if constexpr (kChunked) {  // a finished segment's NaN and Inf must not meet the weights of 0
        const uint32_t carries = phase <= 0 ? 0U : ~0U;
        phase = nextPhase(phase, p.chunk);
#pragma unroll
        for (int r = 0; r < kColumnRows; ++r) h[r] = maskFloat(h[r], carries);
      }
      const float left = __shfl_up_sync(kFullMask, h[kColumnRows - 1], 1);
      const float right = __shfl_down_sync(kFullMask, h[0], 1);
      if (s + 1 < G::kGroup) {
        source += kStepBytes;
      } else {
        __syncwarp();
        if (lane == 0) barrierArrive(sharedAddress(&shared.taken[slot.index]));
        slot.advance();
        source = ring + slot.index * G::kGroup * kStepBytes;
        if (i + 1 < groups) barrierWait(sharedAddress(&shared.ready[slot.index]), slot.parity);
      }
#pragma unroll
      for (int r = 0; r < kColumnRows; ++r) next[r] = loadSharedNow(source + 16 * r);
      float carried[kColumnRows];
#pragma unroll
      for (int r = 0; r < kColumnRows; ++r) carried[r] = fmaf(now[r].y, h[r], now[r].w);
#pragma unroll
      for (int r = 1; r < kColumnRows; ++r) carried[r] = fmaf(now[r].x, h[r - 1], carried[r]);
#pragma unroll
      for (int r = 0; r + 1 < kColumnRows; ++r) carried[r] = fmaf(now[r].z, h[r + 1], carried[r]);
      carried[0] = fmaf(now[0].x, maskFloat(left, hasBelow), carried[0]);
      carried[kColumnRows - 1] =
          fmaf(now[kColumnRows - 1].z, maskFloat(right, hasAbove), carried[kColumnRows - 1]);
#pragma unroll
      for (int r = 0; r < kColumnRows; ++r) {
        h[r] = maskFloat(carried[r], inside[r]);
        results[r][kReverse ? G::kGroup - 1 - s : s] = fromFloat<T>(h[r]);
      }
    }

    if (group == 0) {  // the tile's last results have left it
      if (lane == 0) waitStoresRead<0>();
      __syncwarp();
    }
    const uint32_t chunkBits = static_cast<uint32_t>(kReverse ? G::kOutGroups - 1 - group : group)
                               << 4;
#pragma unroll
    for (int r = 0; r < kColumnRows; ++r) {
      storeSharedVector(resultRows[r] ^ chunkBits, *reinterpret_cast<const uint4*>(results[r]));
    }
    if (++group == G::kOutGroups) {
      fenceSharedForCopies();
      __syncwarp();
      if (lane == 0) {
        storeTile(&p.hMap, (kReverse ? tiles - 1 - tile : tile) * G::kOutSteps, block.rank * p.own,
                  block.slice, sharedAddress(outTile), kEvictFirst);
        commitStores();
      }
      group = 0;
      ++tile;
    }
    if (--untilMeeting == 0) {
      untilMeeting = kColumnHalo / G::kGroup;
      if (block.halo > 0 && i + 1 < groups) {
        meetNeighbours(p, block, shared, lane, meeting++, inside, h);
      }
    }
  }
  if (lane == 0) waitStores();
}

template <typename T, bool kReverse, gspn2_normalize_t kNormalize, bool kChunked>
__global__ void __launch_bounds__(kColumnThreads, 2)
    columnScanKernel(const __grid_constant__ ColumnParams p) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using G = ColumnGeometry<T, kReverse>;
  char* const memory = dynamicShared<char>();
  char* const outTile = memory;  // first, for its swizzle's sake
  auto& shared = *reinterpret_cast<ColumnShared*>(memory + kColumnOutTile);
  const ColumnBlock block(p);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kColumnStages; ++i) {
      barrierInit(sharedAddress(&shared.full[i]), kColumnProducers * 32);
      barrierInit(sharedAddress(&shared.empty[i]), kColumnWeighers);
    }
    for (int i = 0; i < G::kRingGroups; ++i) {
      barrierInit(sharedAddress(&shared.ready[i]), kColumnWeighers);
      barrierInit(sharedAddress(&shared.taken[i]), 1);
    }
    barrierInit(sharedAddress(&shared.met[0]), 1);
    barrierInit(sharedAddress(&shared.met[1]), 1);
    barrierInitFence();
  }
  __syncthreads();
  if (p.parts > 1) clusterSync();  // peers write into this block only after its barriers exist

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp == 0) {
    walkColumns<T, kReverse, kChunked>(p, block, shared, outTile, lane);
  } else if (warp <= kColumnWeighers) {
    weighColumns<T, kReverse, kNormalize>(p, block, shared, static_cast<int>(threadIdx.x) - 32,
                                          lane == 0);
  } else {
    produceColumns<T, kReverse>(p, block, shared,
                                static_cast<int>(threadIdx.x) - (1 + kColumnWeighers) * 32);
  }
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_COLUMN_SCAN_CUH_
