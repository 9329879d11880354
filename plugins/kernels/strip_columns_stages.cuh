// The stages of the horizontal strip scan: their layout, the order in which a scan visits them, and
// the producer warps that fill them. See strip_columns.cuh.
#ifndef GSPN2_KERNELS_STRIP_COLUMNS_STAGES_CUH_
#define GSPN2_KERNELS_STRIP_COLUMNS_STAGES_CUH_

#include <type_traits>

#include "strip_exchange.cuh"

namespace gspn2 {

template <typename T_, int kRows_, bool kReverse_, gspn2_normalize_t kNormalize_,
          ScanOutput kOutput_>
struct ColumnConfig {
  using T = T_;
  static constexpr int kRows = kRows_;  // of a lane
  static constexpr bool kReverse = kReverse_;
  static constexpr gspn2_normalize_t kNormalize = kNormalize_;
  static constexpr ScanOutput kOutput = kOutput_;
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
      stripPieceBytes(kOutput, kNormalize, kRows, static_cast<int>(sizeof(T)));
  static constexpr int kPieceChunks = kPieceBytes / kStripAccess;
  static constexpr bool kPieceIsRun = kPieceChunks == kRunChunks;
  static constexpr int kOutChunkSteps = kStripAccess / static_cast<int>(sizeof(Out));
  static constexpr int kRunOutChunks = kStripRun / kOutChunkSteps;
  static constexpr int kTileRuns = kStripTile / (kStripRun * static_cast<int>(sizeof(Out)));
  static constexpr int kRowChunks = kStripTile / kStripAccess;
  static constexpr int kFlushRows = kWarpLanes / kRowChunks;  // that a warp writes at once
  static_assert(kTileRuns * kRunChunks % kPieceChunks == 0, "a tile of results is whole pieces");
  static_assert(kRowChunks == 8 && kFlushRows == 4, "the tile turns chunks by the row modulo 8");
};

// The order in which a scan visits its map: runs of kStripRun steps, made of chunks of the rows,
// which lie in pieces. A reverse scan begins with what its last run has outside the map. The units
// at which a slice may be cut are tiles of results.
template <typename C>
struct ColumnOrder {
  int runs, chunks, pieces;
  int units, unitRuns;
  __device__ __forceinline__ explicit ColumnOrder(const StripParams& p) {
    runs = (p.steps + kStripRun - 1) / kStripRun;
    chunks = runs * C::kRunChunks;
    pieces = (chunks + C::kPieceChunks - 1) / C::kPieceChunks;
    units = C::kTours ? p.units : 1;
    unitRuns = units > 1 ? C::kTileRuns : runs;
  }
  // The first run of a unit in the order of visits; of the unit behind the last one, the end.
  __device__ __forceinline__ int begin(int unit) const {
    return C::kReverse ? max(0, runs - (units - unit) * unitRuns) : min(unit * unitRuns, runs);
  }
  // Which piece, in the order of visits, that run begins.
  __device__ __forceinline__ int beginPiece(int unit) const {
    if (unit == units) return pieces;
    return piece(chunk(begin(unit) * C::kRunChunks) / C::kPieceChunks);
  }
  __device__ __forceinline__ int piece(int i) const { return C::kReverse ? pieces - 1 - i : i; }
  __device__ __forceinline__ int chunk(int i) const { return C::kReverse ? chunks - 1 - i : i; }
  __device__ __forceinline__ int run(int i) const { return C::kReverse ? runs - 1 - i : i; }
  // Whether the i-th chunk, the `sub`-th of its run, is the first, or the last, of its piece to be
  // visited.
  __device__ __forceinline__ bool opensPiece(int i, int sub) const {
    if constexpr (C::kPieceIsRun) return sub == 0;
    return i == 0 || chunk(i) % C::kPieceChunks == (C::kReverse ? C::kPieceChunks - 1 : 0);
  }
  __device__ __forceinline__ bool closesPiece(int i, int sub) const {
    if constexpr (C::kPieceIsRun) return sub == C::kRunChunks - 1;
    return i == chunks - 1 || chunk(i) % C::kPieceChunks == (C::kReverse ? 0 : C::kPieceChunks - 1);
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

template <typename C>
using ColumnTour = std::conditional_t<C::kTours, StripTour, StripSlice>;

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
__device__ __forceinline__ void produceStripColumns(const StripParams& p, StripBlock block,
                                                    const StripLayout& layout, uint32_t stages,
                                                    const StripBarriers& barriers, int thread) {
  using T = typename C::T;
  const ColumnOrder<C> order(p);
  const int firstRow = thread / C::kPieceChunks;
  const int chunk = thread % C::kPieceChunks;
  const int rowStep = p.producers * kWarpLanes / C::kPieceChunks;
  StageCursor cursor;
  const ColumnTour<C> tour(p);
  int unused = p.stages;  // stages that nothing has been in
  for (int n = 0; n < tour.count(); ++n) {
    const StripSpan span = tour.span(n);
    block.takeSlice(p, span.slice);
    const T* sources[C::kTensors];
    sources[0] = static_cast<const T*>(p.x) + block.slice * p.plane;
    sources[1] = static_cast<const T*>(p.lam) + block.gate * p.plane;
#pragma unroll
    for (int j = 0; j < 3; ++j) {
      sources[2 + j] = static_cast<const T*>(p.w) + (block.affinity + j * p.affinities) * p.plane;
    }
    if constexpr (C::kGated) sources[5] = static_cast<const T*>(p.u) + block.gate * p.plane;
    const int end = order.beginPiece(span.end);
    for (int i = order.beginPiece(span.first); i < end; ++i) {
      if (unused > 0) {
        --unused;
      } else {
        barrierWait(barriers.empty + 8 * cursor.stage, cursor.parity ^ 1);
      }
      const uint32_t stage = stages + cursor.stage * layout.stageBytes;
      const int column = (order.piece(i) * C::kPieceChunks + chunk) * C::kChunkSteps;
      const bool columnInside = column < p.steps;
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
          }
        }
      }
      barrierArriveCopies(barriers.full + 8 * cursor.stage);
      cursor.advance(p.stages);
    }
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_COLUMNS_STAGES_CUH_
