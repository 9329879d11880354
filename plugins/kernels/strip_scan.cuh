// The strip scan: horizontal scans on compute capability 9.0 and later.
//
// Lines are columns of a row-major map, so that a step is one element of every row. DRAM wants 128
// bytes of a row at a time, and the L2 cache can hold the rest of them only for some 350 rows to a
// multiprocessor. A cluster of blocks therefore splits a line, and few rows to a block leave few
// cycles to a step: in half precision, about 0.7 for each row. No barrier fits into that.
//
// So each warp walks a strip of the line by itself, kRows adjacent rows to a lane, and shares only
// two shuffles a step among its lanes. It walks kStripEdge rows of its neighbours too: after s
// steps the outermost s of those are stale, and every kStripEdge steps the neighbours' states
// replace them over shared memory. Blocks of a cluster do the same with kStripHalo rows over
// distributed shared memory. While a shuffle or an exchange is under way, a warp turns the next
// steps' affinities into weights.
//
// Producer warps copy pieces of the rows into a ring of stages, 16 bytes a copy; the L2 cache
// fetches 128. A lane reads 16 bytes of each of its rows at once. The results leave a warp through
// a tile in shared memory, in whole 128-byte runs of its own rows.
#ifndef GSPN2_KERNELS_STRIP_SCAN_CUH_
#define GSPN2_KERNELS_STRIP_SCAN_CUH_

#include "common.cuh"
#include "hopper.cuh"
#include "strip_layout.h"
#include "tiled_math.cuh"

namespace gspn2 {

struct StripParams {
  const void *x, *lam, *w;
  void* h;
  int64_t plane;    // H * W
  int line, steps;  // H, W
  int chunk;        // steps of a segment, never 0
  int channels, affinities;
  int own, parts;  // rows of a block of its own, blocks of a cluster
  int warps;       // that walk
  int producers;   // warps that load
  int stages;
};

// The barriers, each of 8 bytes from the layout's offset: a stage is full, a stage is empty, the
// warps have met (two in turn), the blocks have met (two in turn).
struct StripBarriers {
  uint32_t full, empty, edges, halos;
  __device__ __forceinline__ StripBarriers(uint32_t first, int stages)
      : full(first),
        empty(first + 8 * stages),
        edges(first + 16 * stages),
        halos(first + 16 * stages + 16) {}
};

// What a block works on.
struct StripBlock {
  int rank, slice, affinity;
  int lead;   // rows before the block's own
  int start;  // the line's position of its first row; may be negative

  __device__ __forceinline__ explicit StripBlock(const StripParams& p) {
    rank = p.parts > 1 ? static_cast<int>(clusterRank()) : 0;
    slice = static_cast<int>(blockIdx.x) / p.parts;
    const int n = slice / p.channels;
    affinity = n * 3 * p.affinities + (p.affinities == 1 ? 0 : slice - n * p.channels);
    lead = p.parts > 1 ? kStripHalo : (p.warps > 1 ? kStripEdge : 0);
    start = rank * p.own - lead;
  }
};

// The order in which a scan visits its map: runs of kStripRun steps, made of 16-byte chunks of the
// rows, which lie in pieces. A reverse scan begins with what its last run has outside the map.
template <typename T, bool kReverse>
struct StripOrder {
  static constexpr int kChunkSteps = kStripChunkBytes / static_cast<int>(sizeof(T));
  static constexpr int kRunChunks = kStripRun / kChunkSteps;
  static constexpr int kPieceChunks = kStripPieceBytes / kStripChunkBytes;
  static constexpr int kTileRuns = kStripOutBytes / (kStripRun * static_cast<int>(sizeof(T)));

  int runs, chunks, pieces;
  __device__ __forceinline__ explicit StripOrder(int steps) {
    runs = (steps + kStripRun - 1) / kStripRun;
    chunks = runs * kRunChunks;
    pieces = (chunks + kPieceChunks - 1) / kPieceChunks;
  }
  __device__ __forceinline__ int piece(int i) const { return kReverse ? pieces - 1 - i : i; }
  __device__ __forceinline__ int chunk(int i) const { return kReverse ? chunks - 1 - i : i; }
  __device__ __forceinline__ int run(int i) const { return kReverse ? runs - 1 - i : i; }
  // Whether the i-th chunk is the first, or the last, of its piece to be visited.
  __device__ __forceinline__ bool opensPiece(int i) const {
    const int within = chunk(i) % kPieceChunks;
    return i == 0 || within == (kReverse ? kPieceChunks - 1 : 0);
  }
  __device__ __forceinline__ bool closesPiece(int i) const {
    const int within = chunk(i) % kPieceChunks;
    return i == chunks - 1 || within == (kReverse ? 0 : kPieceChunks - 1);
  }
};

// Where a row's chunk 0 lies in a stage; chunk c of tensor j lies at (that ^ 16 c) + 32 j. The
// swizzle spreads eight rows of a group over all banks.
__device__ __forceinline__ uint32_t stripRowOffset(int group, int index, int groupRows) {
  static_assert(kStripPieceBytes == 32, "the swizzle is that of 32-byte pieces");
  const int row = group * groupRows + index;
  return static_cast<uint32_t>(row * kStripRowBytes + ((row >> 2) & 1) * kStripChunkBytes);
}

// -Inf in every element of a 32-bit word.
template <typename T>
__host__ __device__ constexpr uint32_t minusInfinityWord();
template <>
__host__ __device__ constexpr uint32_t minusInfinityWord<float>() {
  return 0xff800000U;
}
template <>
__host__ __device__ constexpr uint32_t minusInfinityWord<__half>() {
  return 0xfc00fc00U;
}
template <>
__host__ __device__ constexpr uint32_t minusInfinityWord<__nv_bfloat16>() {
  return 0xff80ff80U;
}

// The words as they are where `keep` is all ones, `other` where it is 0.
__device__ __forceinline__ void selectWords(uint4& words, uint32_t keep, uint32_t other) {
  words.x = (words.x & keep) | (other & ~keep);
  words.y = (words.y & keep) | (other & ~keep);
  words.z = (words.z & keep) | (other & ~keep);
  words.w = (words.w & keep) | (other & ~keep);
}

// A place in the ring of stages and how often the ring has been passed.
struct StripCursor {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <typename T, bool kReverse, int kRows>
__device__ __forceinline__ void produceStrips(const StripParams& p, const StripBlock& block,
                                              const StripLayout& layout, uint32_t stages,
                                              const StripBarriers& barriers, int thread) {
  using Order = StripOrder<T, kReverse>;
  const Order order(p.steps);
  const int firstRow = thread / Order::kPieceChunks;
  const int chunk = thread % Order::kPieceChunks;
  const int rowStep = p.producers * 32 / Order::kPieceChunks;
  const T* const sources[kStripTensors] = {
      static_cast<const T*>(p.x) + block.slice * p.plane,
      static_cast<const T*>(p.lam) + block.slice * p.plane,
      static_cast<const T*>(p.w) + block.affinity * p.plane,
      static_cast<const T*>(p.w) + (block.affinity + p.affinities) * p.plane,
      static_cast<const T*>(p.w) + (block.affinity + 2 * p.affinities) * p.plane};
  StripCursor cursor;
  for (int i = 0; i < order.pieces; ++i) {
    const uint32_t full = barriers.full + 8 * cursor.stage;
    if (i >= p.stages) barrierWait(barriers.empty + 8 * cursor.stage, cursor.parity ^ 1);
    const uint32_t stage = stages + cursor.stage * layout.stageBytes;
    const int column = (order.piece(i) * Order::kPieceChunks + chunk) * Order::kChunkSteps;
    const bool columnInside = column < p.steps;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      for (int row = firstRow; row < layout.groupRows; row += rowStep) {
        const int position = block.start + row * kRows + r;
        const bool inside = columnInside && position >= 0 && position < p.line;
        const int64_t offset = inside ? static_cast<int64_t>(position) * p.steps + column : 0;
        const uint32_t target =
            stage + (stripRowOffset(r, row, layout.groupRows) ^ (chunk * kStripChunkBytes));
#pragma unroll
        for (int j = 0; j < kStripTensors; ++j) {
          copyChunk(target + j * kStripPieceBytes, sources[j] + offset,
                    inside ? kStripChunkBytes : 0);
        }
      }
    }
    barrierArriveCopies(full);
    cursor.advance(p.stages);
  }
}

// kStripEdge steps' weights and lam * x at a lane's rows.
template <int kRows>
struct StripWeights {
  float minus[kStripEdge][kRows], centre[kStripEdge][kRows], plus[kStripEdge][kRows];
  float input[kStripEdge][kRows];
};

// A warp that walks.
template <typename T, bool kReverse, gspn2_normalize_t kNormalize, int kRows>
struct StripWalker {
  using Order = StripOrder<T, kReverse>;
  static constexpr int kStride = stripStride(kRows);
  static constexpr int kChunkSteps = Order::kChunkSteps;

  const StripParams& p;
  const StripBlock& block;
  const StripBarriers& barriers;
  const Order order;
  const int warp, lane;
  uint32_t stages;  // shared memory
  int stageBytes;
  uint32_t tile;
  float *edges, *halos;
  uint32_t rowOffsets[kRows];
  uint32_t inside[kRows];                    // all ones where the row is on the line
  uint32_t hasMinus[kRows], hasPlus[kRows];  // all ones where the neighbour is
  int first;                                 // the block's row that is this lane's first
  StripCursor cursor;
  int phase;  // steps since the segment's start; not positive before the map
  alignas(16) T raw[kStripTensors][kRows][kChunkSteps];
  float h[kRows];

  __device__ __forceinline__ StripWalker(const StripParams& params, const StripBlock& block_,
                                         const StripBarriers& barriers_, const StripLayout& layout,
                                         char* shared, int warp_, int lane_)
      : p(params),
        block(block_),
        barriers(barriers_),
        order(params.steps),
        warp(warp_),
        lane(lane_),
        stages(sharedAddress(shared)),
        stageBytes(layout.stageBytes),
        tile(sharedAddress(shared + layout.tileOffset + warp_ * layout.tileBytes)),
        edges(reinterpret_cast<float*>(shared + layout.edgeOffset)),
        halos(reinterpret_cast<float*>(shared + layout.haloOffset)),
        first(warp_ * kStride + lane_ * kRows),
        phase(kReverse ? params.steps - kStripRun * order.runs : 0) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = first + r;
      const int position = block.start + row;
      rowOffsets[r] = stripRowOffset(row % kRows, row / kRows, layout.groupRows);
      inside[r] = position >= 0 && position < p.line ? ~0U : 0U;
      hasMinus[r] = position == 0 ? 0U : ~0U;
      hasPlus[r] = position == p.line - 1 ? 0U : ~0U;
      h[r] = 0.0F;
    }
  }

  // Reads the i-th chunk of every tensor at the lane's rows.
  __device__ __forceinline__ void load(int i) {
    if (i >= order.chunks) return;
    if (order.opensPiece(i)) barrierWait(barriers.full + 8 * cursor.stage, cursor.parity);
    const uint32_t stage = stages + cursor.stage * stageBytes;
    const uint32_t chunk = (order.chunk(i) % Order::kPieceChunks) * kStripChunkBytes;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const uint32_t source = stage + (rowOffsets[r] ^ chunk);
#pragma unroll
      for (int j = 0; j < kStripTensors; ++j) {
        *reinterpret_cast<uint4*>(raw[j][r]) = loadSharedWordsNow(source + j * kStripPieceBytes);
      }
    }
    if (order.closesPiece(i)) {
      __syncwarp();
      if (lane == 0) barrierArrive(barriers.empty + 8 * cursor.stage);
      cursor.advance(p.stages);
    }
  }

  __device__ __forceinline__ float rawValue(int tensor, int row, int step) const {
    return toFloat(raw[tensor][row][kReverse ? kChunkSteps - 1 - step : step]);
  }

  // The affinity of a missing neighbour becomes that of the weight 0. Once for each chunk.
  __device__ __forceinline__ void dropMissing() {
    constexpr uint32_t kMissing = kNormalize == GSPN2_NORMALIZE_NONE ? 0U : minusInfinityWord<T>();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      selectWords(*reinterpret_cast<uint4*>(raw[2][r]), hasMinus[r], kMissing);
      selectWords(*reinterpret_cast<uint4*>(raw[4][r]), hasPlus[r], kMissing);
    }
  }

  // The s-th weights from step `step` of the chunk that has been read.
  __device__ __forceinline__ void prepare(StripWeights<kRows>& weights, int s, int step) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      weights.input[s][r] = rawValue(0, r, step) * rawValue(1, r, step);
      weights.minus[s][r] = rawValue(2, r, step);
      weights.centre[s][r] = rawValue(3, r, step);
      weights.plus[s][r] = rawValue(4, r, step);
      normaliseFast<kNormalize>(weights.minus[s][r], weights.centre[s][r], weights.plus[s][r]);
    }
  }

  // Walks kStripEdge steps and, while the shuffles are under way, prepares all but the last of the
  // weights for as many steps from `step` of the chunk that has been read. Masks rather than
  // weights of 0 keep the NaN and Inf of a finished segment, and of the rows next to the line,
  // where they belong.
  __device__ __forceinline__ void walk(const StripWeights<kRows>& weights,
                                       StripWeights<kRows>& nextWeights, int step,
                                       float (&results)[kStripEdge][kRows]) {
    if (step == 0) dropMissing();
#pragma unroll
    for (int s = 0; s < kStripEdge; ++s) {
      const uint32_t carries = phase <= 0 ? 0U : ~0U;
      phase = phase + 1 == p.chunk ? 0 : phase + 1;
#pragma unroll
      for (int r = 0; r < kRows; ++r) h[r] = maskFloat(h[r], inside[r] & carries);
      const float left = __shfl_up_sync(kFullMask, h[kRows - 1], 1);
      const float right = __shfl_down_sync(kFullMask, h[0], 1);
      if (s + 1 < kStripEdge) prepare(nextWeights, s, step + s);
      float next[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        next[r] = fmaf(weights.centre[s][r], h[r], weights.input[s][r]);
        if (r > 0) next[r] = fmaf(weights.minus[s][r], h[r - 1], next[r]);
        if (r + 1 < kRows) next[r] = fmaf(weights.plus[s][r], h[r + 1], next[r]);
      }
      next[0] = fmaf(weights.minus[s][0], left, next[0]);
      next[kRows - 1] = fmaf(weights.plus[s][kRows - 1], right, next[kRows - 1]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) results[s][r] = h[r] = next[r];
    }
  }

  // Gives the neighbouring warps the states that they share.
  __device__ __forceinline__ void publish(int turn) {
    if (p.warps == 1) return;
    float* const mine = edges + (turn * p.warps + warp) * 2 * kStripEdge;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = lane * kRows + r;
      if (row >= kStripEdge && row < 2 * kStripEdge) mine[row - kStripEdge] = h[r];
      if (row >= kStride && row < kStride + kStripEdge) mine[kStripEdge + row - kStride] = h[r];
    }
    __syncwarp();
    if (lane == 0) barrierArrive(barriers.edges + 8 * turn);
  }

  // Takes the neighbouring warps' states.
  __device__ __forceinline__ void refresh(int turn, uint32_t parity) {
    if (p.warps == 1) return;
    barrierWait(barriers.edges + 8 * turn, parity);
    const float* const all = edges + turn * p.warps * 2 * kStripEdge;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = lane * kRows + r;
      if (warp > 0 && row < kStripEdge) h[r] = all[(2 * warp - 1) * kStripEdge + row];
      if (warp + 1 < p.warps && row >= kStride + kStripEdge) {
        h[r] = all[(2 * warp + 2) * kStripEdge + row - kStride - kStripEdge];
      }
    }
  }

  // Gives the neighbouring blocks the states that they share.
  __device__ __forceinline__ void send(int turn) {
    if (p.parts == 1) return;
    const uint32_t barrier = barriers.halos + 8 * turn;
    const uint32_t target = sharedAddress(halos + turn * 2 * kStripHalo);
    const bool hasLeft = block.rank > 0;
    const bool hasRight = block.rank + 1 < p.parts;
    if (warp == 0 && lane == 0) barrierArriveExpect(barrier, (hasLeft + hasRight) * kStripHalo * 4);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int local = lane * kRows + r;
      const int row = first + r;  // a row that two warps hold is sent by the one that it belongs to
      if (local < kStripEdge || local >= kStride + kStripEdge) continue;
      if (hasLeft && row >= kStripHalo && row < 2 * kStripHalo) {
        storeRemote(clusterAddress(target + 4 * row, block.rank - 1), h[r],
                    clusterAddress(barrier, block.rank - 1));
      }
      if (hasRight && row >= p.own && row < p.own + kStripHalo) {
        storeRemote(clusterAddress(target + 4 * (row - p.own), block.rank + 1), h[r],
                    clusterAddress(barrier, block.rank + 1));
      }
    }
    __syncwarp();
  }

  // Takes the neighbouring blocks' states, after those of the warps.
  __device__ __forceinline__ void meet(int turn, uint32_t parity) {
    if (p.parts == 1) return;
    barrierWaitCluster(barriers.halos + 8 * turn, parity);
    const float* const incoming = halos + turn * 2 * kStripHalo;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = first + r;
      if (block.rank > 0 && row < kStripHalo) h[r] = incoming[row];
      if (block.rank + 1 < p.parts && row >= p.own + kStripHalo && row < p.own + 2 * kStripHalo) {
        h[r] = incoming[row - p.own];
      }
    }
  }

  // A run's results into the tile: 16-byte chunks whose number the row turns.
  __device__ __forceinline__ void keep(int run, const T (&results)[kRows][kStripRun]) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = lane * kRows + r;
#pragma unroll
      for (int c = 0; c < Order::kRunChunks; ++c) {
        const int chunk = (run % Order::kTileRuns) * Order::kRunChunks + c;
        storeSharedVector(tile + row * kStripOutBytes + ((chunk ^ (row & 7)) * kStripChunkBytes),
                          *reinterpret_cast<const uint4*>(&results[r][c * kChunkSteps]));
      }
    }
  }

  // The tile that run `run` is in to memory: eight lanes to a row of 128 bytes.
  __device__ __forceinline__ void flush(int run) {
    constexpr int kRowChunks = kStripOutBytes / kStripChunkBytes;
    constexpr int kRowStep = 32 / kRowChunks;
    __syncwarp();
    const int chunk = lane % kRowChunks;
    const int tileFirst = run / Order::kTileRuns * Order::kTileRuns;
    const int column = (tileFirst * Order::kRunChunks + chunk) * kChunkSteps;
    const int skipped = p.warps > 1 ? kStripEdge : 0;
    T* const target = static_cast<T*>(p.h) + block.slice * p.plane + column;
    const bool written =
        column < p.steps && (kReverse ? column >= run * kStripRun : column < (run + 1) * kStripRun);
#pragma unroll 4
    for (int row = lane / kRowChunks; row < 32 * kRows; row += kRowStep) {
      const uint4 value = loadSharedWordsNow(tile + row * kStripOutBytes +
                                             ((chunk ^ (row & 7)) * kStripChunkBytes));
      const int mine = warp * kStride + row - block.lead;  // the block's own row
      const int position = block.rank * p.own + mine;
      if (written && row >= skipped && row < 32 * kRows - skipped && mine >= 0 && mine < p.own &&
          position < p.line) {
        *reinterpret_cast<uint4*>(target + static_cast<int64_t>(position) * p.steps) = value;
      }
    }
    __syncwarp();
  }

  __device__ __forceinline__ void scan() {
    constexpr int kLast = kStripEdge - 1;
    constexpr int kSecond = Order::kRunChunks == 2 ? 0 : kStripEdge;  // of the chunk's steps
    StripWeights<kRows> weights[2];
    load(0);
    dropMissing();
#pragma unroll
    for (int s = 0; s < kStripEdge; ++s) prepare(weights[0], s, s);
    if constexpr (Order::kRunChunks == 2) load(1);
    for (int i = 0; i < order.runs; ++i) {
      const bool last = i + 1 == order.runs;
      T results[kRows][kStripRun];
      float states[kStripEdge][kRows];

      walk(weights[0], weights[1], kSecond, states);
      publish(0);
      prepare(weights[1], kLast, kSecond + kLast);
      load((i + 1) * Order::kRunChunks);
      collect(results, states, 0);
      refresh(0, i & 1);

      walk(weights[1], weights[0], 0, states);
      if (!last) {
        publish(1);
        send(i & 1);
      }
      prepare(weights[0], kLast, kLast);
      if constexpr (Order::kRunChunks == 2) load((i + 1) * 2 + 1);
      collect(results, states, 1);
      keep(order.run(i), results);
      if (last || (kReverse ? order.run(i) % Order::kTileRuns == 0
                            : order.run(i) % Order::kTileRuns == Order::kTileRuns - 1)) {
        flush(order.run(i));
      }
      if (last) break;
      refresh(1, i & 1);
      meet(i & 1, (i >> 1) & 1);
    }
  }

  __device__ __forceinline__ static void collect(T (&results)[kRows][kStripRun],
                                                 const float (&states)[kStripEdge][kRows],
                                                 int half) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int s = 0; s < kStripEdge; ++s) {
        const int step = half * kStripEdge + s;
        results[r][kReverse ? kStripRun - 1 - step : step] = fromFloat<T>(states[s][r]);
      }
    }
  }
};

template <typename T, bool kReverse, gspn2_normalize_t kNormalize, int kRows>
__global__ void __launch_bounds__((kStripMaxWarps + kStripMaxProducers) * 32, 1)
    stripScanKernel(const __grid_constant__ StripParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  char* const shared = dynamicShared<char>();
  const StripLayout layout = stripLayout(kRows, p.warps, p.stages);
  const StripBarriers barriers(sharedAddress(shared + layout.barrierOffset), p.stages);
  const StripBlock block(p);
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.stages; ++i) {
      barrierInit(barriers.full + 8 * i, p.producers * 32);
      barrierInit(barriers.empty + 8 * i, p.warps);
    }
    for (int i = 0; i < 2; ++i) {
      barrierInit(barriers.edges + 8 * i, p.warps);
      barrierInit(barriers.halos + 8 * i, 1);
    }
    barrierInitFence();
  }
  __syncthreads();
  if (p.parts > 1) clusterSync();  // peers write into this block only after its barriers exist

  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < p.warps) {
    StripWalker<T, kReverse, kNormalize, kRows>(p, block, barriers, layout, shared, warp,
                                                static_cast<int>(threadIdx.x) % 32)
        .scan();
  } else {
    produceStrips<T, kReverse, kRows>(p, block, layout, sharedAddress(shared), barriers,
                                      static_cast<int>(threadIdx.x) - p.warps * 32);
  }
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_SCAN_CUH_
