// The stages of the horizontal strip scan: their layout, the order in which a scan visits them, and
// the producer warps that fill them. See strip_columns.cuh.
#ifndef GSPN2_KERNELS_STRIP_COLUMNS_STAGES_CUH_
#define GSPN2_KERNELS_STRIP_COLUMNS_STAGES_CUH_

#include <type_traits>

#include "strip_exchange.cuh"

namespace gspn2 {

template <typename T_, int kRows_, bool kReverse_, gspn2_normalize_t kNormalize_,
          ScanOutput kOutput_, bool kWide_>
struct ColumnConfig {
  using T = T_;
  static constexpr int kRows = kRows_;  // of a lane
  static constexpr bool kReverse = kReverse_;
  static constexpr gspn2_normalize_t kNormalize = kNormalize_;
  static constexpr ScanOutput kOutput = kOutput_;
  static constexpr bool kWide = kWide_;
  static constexpr bool kGated = kOutput != ScanOutput::kStates;
  static_assert(kOutput != ScanOutput::kFinal, "a vertical scan is the last");
  using Out = std::conditional_t<kGated, float, T>;
  // Whether clusters may share the slices: where one warp has a line many blocks run side by side,
  // and gated states leave no register for it.
  static constexpr bool kTours = !kGated && kRows > 1;
  static constexpr int kTensors = scanTensors(kOutput);
  static constexpr int kMaxThreads =
      (stripColumnWalkers(kRows) + kStripColumnProducers) * kWarpLanes;

  static constexpr int kChunkSteps = kStripAccess / static_cast<int>(sizeof(T));
  static constexpr int kRunChunks = kStripRun / kChunkSteps;
  static constexpr int kPieceBytes =  // of a row in a stage
      stripPieceBytes(kOutput, kNormalize, kRows, static_cast<int>(sizeof(T)), kWide);
  static constexpr int kPieceChunks = kPieceBytes / kStripAccess;
  static constexpr bool kPieceIsRun = kPieceChunks == kRunChunks;
  static constexpr int kFirstPlace = kReverse ? kPieceChunks - 1 : 0;  // in a piece, of visits
  static constexpr int kLastPlace = kPieceChunks - 1 - kFirstPlace;
  static_assert(kPieceChunks % kRunChunks == 0, "a piece is whole runs");
  static constexpr int kOutChunkSteps = kStripAccess / static_cast<int>(sizeof(Out));
  static constexpr int kRunOutChunks = kStripRun / kOutChunkSteps;
  static constexpr int kTileRuns = kStripTile / (kStripRun * static_cast<int>(sizeof(Out)));
  static constexpr int kRowChunks = kStripTile / kStripAccess;
  static constexpr int kFlushRows = kWarpLanes / kRowChunks;  // that a warp writes at once
  static_assert(kTileRuns * kRunChunks % kPieceChunks == 0, "a tile of results is whole pieces");
  static_assert(kRowChunks == 8 && kFlushRows == 4, "the tile turns chunks by the row modulo 8");
};

// Steps of a reverse scan's first run that are outside the map.
__device__ __forceinline__ int stepsBefore(const StripParams& p) {
  return (p.steps + kStripRun - 1) / kStripRun * kStripRun - p.steps;
}

// The order in which a scan visits its map: runs of kStripRun steps, made of chunks of the rows,
// which lie in pieces. A reverse scan begins with what its last run has outside the map.
template <typename C>
struct ColumnOrder {
  int runs, chunks, pieces;
  __device__ __forceinline__ explicit ColumnOrder(int steps) {
    runs = (steps + kStripRun - 1) / kStripRun;
    chunks = runs * C::kRunChunks;
    pieces = (chunks + C::kPieceChunks - 1) / C::kPieceChunks;
  }
  __device__ __forceinline__ int piece(int i) const { return C::kReverse ? pieces - 1 - i : i; }
  __device__ __forceinline__ int chunk(int i) const { return C::kReverse ? chunks - 1 - i : i; }
  __device__ __forceinline__ int run(int i) const { return C::kReverse ? runs - 1 - i : i; }
  // Whether the i-th chunk, the `sub`-th of its run, is the first, or the last, of its piece to be
  // visited.
  __device__ __forceinline__ bool opensPiece(int i, int sub) const {
    if constexpr (C::kPieceIsRun) return sub == 0;
    return i == 0 || chunk(i) % C::kPieceChunks == C::kFirstPlace;
  }
  __device__ __forceinline__ bool closesPiece(int i, int sub) const {
    if constexpr (C::kPieceIsRun) return sub == C::kRunChunks - 1;
    return i == chunks - 1 || chunk(i) % C::kPieceChunks == C::kLastPlace;
  }
  // The chunk's place in its piece.
  __device__ __forceinline__ int place(int i, int sub) const {
    if constexpr (C::kPieceIsRun) return C::kReverse ? C::kRunChunks - 1 - sub : sub;
    return chunk(i) % C::kPieceChunks;
  }
  // Whether the i-th run is the last of its tile to be visited.
  __device__ __forceinline__ bool closesTile(int i) const {
    return i == runs - 1 || run(i) % C::kTileRuns == (C::kReverse ? 0 : C::kTileRuns - 1);
  }
};

// The runs of a tour, by their numbers in the map: what a walk asks of one is in its last bits,
// wherever a span begins and ends. The units at which a slice may be cut are tiles of results.
template <typename C>
struct ColumnRuns {
  static constexpr int kPieceRuns = C::kPieceChunks / C::kRunChunks;
  // What follows the last span: negative, and not the last run of a piece.
  static constexpr int kNowhere = C::kReverse ? -1 : -kPieceRuns;
  int runs, units, unitRuns;

  // What is computed from constant memory here is not to be held for the next time.
  __device__ __forceinline__ explicit ColumnRuns(const StripParams& p)
      : runs(static_cast<int>(keepInRegister(p.steps + kStripRun - 1)) / kStripRun),
        units(p.units),
        unitRuns(units > 1 ? C::kTileRuns : runs) {}

  // Visits before a unit; before the one behind the last, all of them.
  __device__ __forceinline__ int visited(int unit) const {
    return C::kReverse ? max(0, runs - (units - unit) * unitRuns) : min(unit * unitRuns, runs);
  }
  __device__ __forceinline__ int run(int visit) const {
    return C::kReverse ? runs - 1 - visit : visit;
  }
  __device__ __forceinline__ int first(const StripSpan& span) const {
    return span.end > 0 ? run(visited(span.first)) : kNowhere;
  }
  __device__ __forceinline__ int last(const StripSpan& span) const {
    return run(visited(span.end) - 1);
  }
  __device__ __forceinline__ static int following(int run) {
    return C::kReverse ? run - 1 : run + 1;
  }
  // Whether a slice ends with a run.
  __device__ __forceinline__ bool endsSlice(int run) const {
    return run == (C::kReverse ? 0 : runs - 1);
  }
  // The place in its piece of the sub-th chunk of a run.
  __device__ __forceinline__ static int place(int run, int sub) {
    const int chunk = run * C::kRunChunks + (C::kReverse ? C::kRunChunks - 1 - sub : sub);
    return static_cast<int>(static_cast<unsigned>(chunk) % C::kPieceChunks);
  }
  // The last run to be visited of a run's piece.
  __device__ __forceinline__ int lastOfPiece(int run) const {
    return C::kReverse ? run & -kPieceRuns : min(run | (kPieceRuns - 1), runs - 1);
  }
  // Whether a run is the last of a whole tile to be visited.
  __device__ __forceinline__ static bool closesTile(int run) {
    return static_cast<unsigned>(run) % C::kTileRuns == (C::kReverse ? 0 : C::kTileRuns - 1);
  }
  // From a span's first step to the first one of a segment; negative: before the map.
  __device__ __forceinline__ int toSegment(const StripParams& p, const StripSpan& span) const {
    const int step = visited(span.first) * kStripRun - (C::kReverse ? stepsBefore(p) : 0);
    return step <= 0 ? step : (p.chunk - step % p.chunk) % p.chunk;
  }
  // Which piece, in the order of visits, a unit begins with.
  __device__ __forceinline__ int firstPiece(const ColumnOrder<C>& order, int unit) const {
    if (unit == units) return order.pieces;
    return order.piece(order.chunk(visited(unit) * C::kRunChunks) / C::kPieceChunks);
  }
};

// Where a row's chunk 0 lies in a stage; chunk c of piece j lies at (that ^ 16 c) + j pieces. The
// swizzle spreads eight rows of a group over all banks.
template <typename C>
__device__ __forceinline__ uint32_t columnRowOffset(int group, int index,
                                                    const StripLayout& layout) {
  // Eight lanes read at once: as many rows as there are chunks in 128 bytes.
  constexpr int kRowsApart = 8 / C::kPieceChunks;
  const int row = group * layout.groupRows + index;
  return static_cast<uint32_t>(row * layout.pitch +
                               row / kRowsApart % C::kPieceChunks * kStripAccess);
}

template <typename C>
__device__ __forceinline__ void produceStripColumns(const StripParams& p, const StripBlock& block,
                                                    const StripLayout& layout, uint32_t stages,
                                                    const StripBarriers& barriers, int thread) {
  using T = typename C::T;
  const ColumnOrder<C> order(p.steps);
  const int firstRow = thread / C::kPieceChunks;
  const int chunk = thread % C::kPieceChunks;
  const int rowStep = p.producers * kWarpLanes / C::kPieceChunks;
  const T* sources[C::kTensors];
  const auto aim = [&](const StripPlanes& planes) {
    sources[0] = static_cast<const T*>(p.x) + planes.slice * p.plane;
    sources[1] = static_cast<const T*>(p.lam) + planes.gate * p.plane;
#pragma unroll
    for (int j = 0; j < 3; ++j) {
      sources[2 + j] = static_cast<const T*>(p.w) + (planes.affinity + j * p.affinities) * p.plane;
    }
    if constexpr (C::kGated) sources[5] = static_cast<const T*>(p.u) + planes.gate * p.plane;
  };
  StageCursor cursor;
  // Fills the next stage with the i-th piece; `used`: whether something has been in it.
  const auto fill = [&](int i, bool used) {
    if (used) barrierWait(barriers.empty + 8 * cursor.stage, cursor.parity ^ 1);
    const uint32_t stage = stages + cursor.stage * layout.stageBytes;
    const int column = (order.piece(i) * C::kPieceChunks + chunk) * C::kChunkSteps;
    const bool columnInside = column < p.steps;
    // Memory likes to be asked for two lines side by side: with the first the second is fetched,
    // the next piece. Narrower ones were slower with that.
    constexpr int kToLine = (C::kReverse ? -1 : 1) * kStripLine / static_cast<int>(sizeof(T));
    const bool fetches = C::kWide && chunk == 0 && order.piece(i) % 2 == (C::kReverse ? 1 : 0) &&
                         column + kToLine < p.steps;
#pragma unroll
    for (int r = 0; r < C::kRows; ++r) {
      for (int row = firstRow; row < layout.groupRows; row += rowStep) {
        const int position = block.start + row * C::kRows + r;
        const bool inside = columnInside && position >= 0 && position < p.line;
        const int64_t offset = inside ? static_cast<int64_t>(position) * p.steps + column : 0;
        const uint32_t target =
            stage + (columnRowOffset<C>(r, row, layout) ^ (chunk * kStripAccess));
#pragma unroll
        for (int j = 0; j < C::kTensors; ++j) {
          copyChunk(target + j * C::kPieceBytes, sources[j] + offset, inside ? kStripAccess : 0);
          if (fetches && inside) prefetch(sources[j] + offset + kToLine);
        }
      }
    }
    barrierArriveCopies(barriers.full + 8 * cursor.stage);
    cursor.advance(p.stages);
  };
  if constexpr (C::kTours) {
    const StripTour tour(p);
    const ColumnRuns<C> runs(p);
    int filled = 0;  // stages, counted until all have been
    for (int n = 0;; ++n) {
      const StripSpan span = tour.span(n);
      if (span.end == 0) break;
      aim(StripPlanes(p, span.slice));
      const int end = runs.firstPiece(order, span.end);
      for (int i = runs.firstPiece(order, span.first); i < end; ++i) {
        fill(i, filled >= p.stages);
        filled = min(filled + 1, p.stages);
      }
    }
  } else {
    aim(block);
    for (int i = 0; i < order.pieces; ++i) fill(i, i >= p.stages);
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_COLUMNS_STAGES_CUH_
