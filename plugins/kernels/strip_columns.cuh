// The strip scan of horizontal directions.
//
// Lines are columns of a row-major map, so that a step is one element of every row. DRAM wants 128
// bytes of a row at a time, and the L2 cache can hold the rest of them only for some 350 rows to a
// multiprocessor. A cluster of blocks therefore splits a line, and few rows to a block leave few
// cycles to a step: in half precision, about 0.7 for each row. No barrier fits into that, hence
// strips (strip_exchange.cuh). While a shuffle or an exchange is under way, a warp turns the next
// steps' affinities into weights.
//
// Producer warps copy pieces of the rows into a ring of stages, 16 bytes a copy; the L2 cache
// fetches 128. A lane reads 16 bytes, a chunk, of each of its rows at once. The results leave a
// warp through a tile in shared memory, in whole 128-byte runs of its own rows.
#ifndef GSPN2_KERNELS_STRIP_COLUMNS_CUH_
#define GSPN2_KERNELS_STRIP_COLUMNS_CUH_

#include <type_traits>

#include "strip_columns_stages.cuh"
#include "strip_exchange.cuh"

namespace gspn2 {

// What a lane writes of a warp's tile: a chunk of every kFlushRows-th row from `lane` / kRowChunks
// on.
template <typename C>
struct ColumnFlushes {
  using Out = typename C::Out;
  uint32_t even, odd;  // where the chunk lies in the tile, if its row were the lane's first
  int chunkColumn;     // the chunk's first step in the tile
  int flushes;         // of those rows in the tile
  int first, count;    // of them, the warp's own
  Out* target;         // of the slice's first row, at its first column; may lie before the map
  int64_t stride;      // of the map between those rows

  __device__ __forceinline__ ColumnFlushes(const StripParams& p, const StripBlock& block,
                                           const StripStates<C::kRows, false>& states,
                                           uint32_t tile) {
    const int chunk = states.lane % C::kRowChunks;
    const int row = states.lane / C::kRowChunks;
    even = tile + row * kStripTile + (chunk ^ row) * kStripAccess;
    odd = tile + row * kStripTile + (chunk ^ (row + C::kFlushRows)) * kStripAccess;
    chunkColumn = chunk * C::kOutChunkSteps;
    // The tile's rows that count: of the block's own, on the line.
    const int own =
        states.warp * states.kStride + states.skipped() - block.lead;  // of its first row
    const int low = max(0, -own);
    const int high =
        min(min(stripTileRows(C::kRows, p.warps), p.own - own), p.line - block.rank * p.own - own);
    flushes = stripTileRows(C::kRows, p.warps) / C::kFlushRows;
    first = max(low - row + C::kFlushRows - 1, 0) / C::kFlushRows;
    count = max(high - row + C::kFlushRows - 1, 0) / C::kFlushRows - first;
    count = max(count, 0);
    if constexpr (C::kGated) {
      target = p.sums;
    } else {
      target = static_cast<Out*>(p.out);
    }
    target += block.slice * p.plane + int64_t{block.rank * p.own + own + row} * p.steps;
    stride = int64_t{C::kFlushRows} * p.steps;
  }

  // Lets what follows go to a slice of a tour.
  __device__ __forceinline__ void aim(const StripParams& p,
                                      const StripStates<C::kRows, false>& states, int slice) {
    // Computed anew each time, so that no register holds any of it.
    const int lane = static_cast<int>(keepInRegister(states.lane));
    const int row = states.position(0) - lane * C::kRows + states.skipped();  // the warp's first
    target =
        static_cast<Out*>(p.out) + slice * p.plane + int64_t{row + lane / C::kRowChunks} * p.steps;
  }
};

// A warp that walks.
template <typename C>
struct ColumnWalker {
  using T = typename C::T;
  using Out = typename C::Out;
  static constexpr int kRows = C::kRows;
  static constexpr int kChunkSteps = C::kChunkSteps;
  // Steps that weights are made ahead: enough to hide a load of a chunk behind one, few enough for
  // the registers of many warps. Of kTurns steps in turn no more than kAhead + 1 live.
  static constexpr int kAhead = 2;
  static constexpr int kTurns = 4;

  struct Step {
    StripWeights<kRows> weights;
    float u[kRows];  // where states are gated
  };

  const StripParams& p;
  const StripBlock& block;
  const StripBarriers& barriers;
  const ColumnOrder<C> order;
  StripStates<kRows, false> states;
  const int lane;
  const uint32_t stages, tile;  // shared memory
  ColumnFlushes<C> places;
  const int stageBytes;
  const float merge;
  uint32_t rowOffsets[kRows];
  uint32_t kept;  // on a tour: where in the tile the lane's chunk 0 lies; 0: nowhere
  StageCursor cursor;
  alignas(16) T raw[C::kTensors][kRows][kChunkSteps];

  __device__ __forceinline__ ColumnWalker(const StripParams& params, const StripBlock& block_,
                                          const StripBarriers& barriers_, const StripLayout& layout,
                                          const StripExchange& exchange, char* shared)
      : p(params),
        block(block_),
        barriers(barriers_),
        order(params.steps),
        states(params, block_, exchange, C::kReverse ? -stepsBefore(params) : 0),
        lane(states.lane),
        stages(keepInRegister(sharedAddress(shared))),
        tile(keepInRegister(
            sharedAddress(shared + layout.tileOffset + states.warp * layout.tileBytes))),
        places(params, block_, states, tile),
        stageBytes(static_cast<int>(keepInRegister(layout.stageBytes))),
        merge(C::kGated ? mergeWeight<T>(params.m, 0) : 1.0F) {
    static_assert(!C::kTours || kRows == 2, "a lane's rows turn chunks alike, or by the first bit");
    if constexpr (C::kTours) {
      const int row = lane * kRows - states.skipped();
      const uint32_t first = tile + row * kStripTile + (row & 7) * kStripAccess;
      kept = keepInRegister(states.isOwn() ? first : 0);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // Of the last warp's positions some may be further up than what the block needs and loads.
      const int row = min(states.first + r, layout.groupRows * kRows - 1);
      rowOffsets[r] = columnRowOffset<C>(row % kRows, row / kRows, layout);
    }
  }

  // Reads a chunk of every tensor at the lane's rows; `find` says its place in the piece.
  template <typename Find>
  __device__ __forceinline__ void read(const Find& find) {
    const uint32_t stage = stages + cursor.stage * stageBytes;
    const int place = find();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const uint32_t source = stage + (rowOffsets[r] ^ (place * kStripAccess));
#pragma unroll
      for (int j = 0; j < C::kTensors; ++j) {
        *reinterpret_cast<uint4*>(raw[j][r]) = loadSharedWordsNow(source + j * C::kPieceBytes);
      }
    }
  }

  __device__ __forceinline__ void awaitPiece() const {
    barrierWait(barriers.full + 8 * cursor.stage, cursor.parity);
  }
  __device__ __forceinline__ void leavePiece() {
    __syncwarp();
    if (lane == 0) barrierArrive(barriers.empty + 8 * cursor.stage);
    cursor.advance(p.stages);
  }

  // Reads the sub-th chunk of the run-th run. Behind the last run it reads in vain what a stage
  // still holds, so that no register has to keep what it had.
  __device__ __forceinline__ void load(int run, int sub) {
    const int i = run * C::kRunChunks + sub;
    const bool inside = run < order.runs;
    if (inside && order.opensPiece(i, sub)) awaitPiece();
    read([&] { return inside ? order.place(i, sub) : 0; });
    if (inside && order.closesPiece(i, sub)) leavePiece();
  }

  // What a step needs, from the chunk that has been read.
  __device__ __forceinline__ void prepare(Step& next, int step) const {
    const int at = C::kReverse ? kChunkSteps - 1 - step : step;
    StripWeights<kRows>& weights = next.weights;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      weights.input[r] = toFloat(raw[0][r][at]) * toFloat(raw[1][r][at]);
      weights.minus[r] = toFloat(raw[2][r][at]);
      weights.centre[r] = toFloat(raw[3][r][at]);
      weights.plus[r] = toFloat(raw[4][r][at]);
      if constexpr (C::kGated) next.u[r] = toFloat(raw[5][r][at]);
    }
    if (C::kNormalize != GSPN2_NORMALIZE_NONE) states.dropMissing(weights);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      normaliseFast<C::kNormalize>(weights.minus[r], weights.centre[r], weights.plus[r]);
    }
  }

  // The s-th step of a run's results, in the map's order.
  __device__ __forceinline__ void collect(Out (&results)[kRows][kStripRun], const Step& step,
                                          int s) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      Out& result = results[r][C::kReverse ? kStripRun - 1 - s : s];
      if constexpr (C::kGated) {
        result = merge * (step.u[r] * states.h[r]);
      } else {
        result = fromFloat<T>(states.h[r]);
      }
    }
  }

  // A run's results into the tile: 16-byte chunks whose number the row turns.
  __device__ __forceinline__ void keep(int run, const Out (&results)[kRows][kStripRun]) const {
    if (!states.isOwn()) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = lane * kRows + r - states.skipped();
#pragma unroll
      for (int c = 0; c < C::kRunOutChunks; ++c) {
        const int chunk = run % C::kTileRuns * C::kRunOutChunks + c;
        storeSharedVector(tile + row * kStripTile + (chunk ^ (row & 7)) * kStripAccess,
                          *reinterpret_cast<const uint4*>(&results[r][c * C::kOutChunkSteps]));
      }
    }
  }

  // The same on a tour, of the chunk that is the c-th to be complete. Tiles begin at multiples of
  // 128 bytes, and a lane's first row is even.
  __device__ __forceinline__ void keepOnTour(int run, int c,
                                             const Out (&results)[kRows][kStripRun]) const {
    if (kept == 0) return;
    const int at = C::kReverse ? C::kRunOutChunks - 1 - c : c;
    const uint32_t chunk = static_cast<unsigned>(run) % C::kTileRuns * C::kRunOutChunks;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      storeSharedVector((kept ^ chunk * kStripAccess ^ (at ^ r) * kStripAccess) + r * kStripTile,
                        *reinterpret_cast<const uint4*>(&results[r][at * C::kOutChunkSteps]));
    }
  }

  // The tile that run `run` is in to memory: eight lanes to a row of 128 bytes.
  __device__ __forceinline__ void flush(int run) const {
    __syncwarp();
    const int number = C::kTours  // which the compiler does not know to be positive
                           ? static_cast<int>(static_cast<unsigned>(run) / C::kTileRuns)
                           : run / C::kTileRuns;
    const int column = number * C::kTileRuns * kStripRun + places.chunkColumn;
    const bool visited = C::kReverse || column < (run + 1) * kStripRun;
    if (visited && column < p.steps) {
      Out* target = places.target + column;
      uint32_t even = places.even;
      uint32_t odd = places.odd;
      constexpr int kBatch = 4;  // loads under way at once; more would take the walk's registers
#pragma unroll 1
      for (int first = -places.first; first < places.flushes - places.first; first += kBatch) {
        uint4 words[kBatch];
        // Rows that lie four apart turn their chunks alike, or by the third bit.
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          words[i] = loadSharedWordsNow((i % 2 == 0 ? even : odd) + i * C::kFlushRows * kStripTile);
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          if (static_cast<unsigned>(first + i) < static_cast<unsigned>(places.count)) {
            write(target, words[i]);
          }
          target += places.stride;
        }
        even += kBatch * C::kFlushRows * kStripTile;
        odd += kBatch * C::kFlushRows * kStripTile;
      }
    }
    __syncwarp();
  }

  __device__ __forceinline__ void write(Out* target, uint4 words) const {
    if constexpr (C::kGated) {
      if (p.add) {
        addToGlobal(target, make_float4(__uint_as_float(words.x), __uint_as_float(words.y),
                                        __uint_as_float(words.z), __uint_as_float(words.w)));
        return;
      }
    }
    *reinterpret_cast<uint4*>(target) = words;
  }

  // The steps of a run and their results. Once all of a chunk has been prepared, `readOn` reads the
  // next one, counted from the run's first; `complete` has the chunks whose results are complete.
  template <typename ReadOn, typename Complete>
  __device__ __forceinline__ void walk(Step (&steps)[kTurns], Out (&results)[kRows][kStripRun],
                                       const ReadOn& readOn, const Complete& complete) {
    const uint32_t restarts = states.template restarts<kStripRun>();
#pragma unroll
    for (int s = 0; s < kStripRun; ++s) {
      const Step& step = steps[s % kTurns];
      states.step(step.weights, (restarts >> s & 1U) != 0,
                  [&] { prepare(steps[(s + kAhead) % kTurns], (s + kAhead) % kChunkSteps); });
      collect(results, step, s);
      if ((s + kAhead + 1) % kChunkSteps == 0) readOn((s + kAhead + 1) / kChunkSteps);
      if ((s + 1) % C::kOutChunkSteps == 0) complete(s / C::kOutChunkSteps);
    }
  }

  __device__ __forceinline__ void prepareFirst(Step (&steps)[kTurns]) const {
#pragma unroll
    for (int s = 0; s < kAhead; ++s) prepare(steps[s], s);
  }

  // Walks the cluster's slice.
  __device__ __forceinline__ void scanSlice() {
    Step steps[kTurns];
    load(0, 0);
    prepareFirst(steps);
    for (int i = 0; i < order.runs; ++i) {
      alignas(16) Out results[kRows][kStripRun];
      const auto readNext = [&](int chunk) {
        load(i + chunk / C::kRunChunks, chunk % C::kRunChunks);
      };
      walk(steps, results, readNext, [](int) {});
      const bool last = i + 1 == order.runs;
      if (!last) states.publish();
      keep(order.run(i), results);
      if (order.closesTile(i)) flush(order.run(i));
      if (last) break;
      states.take();
    }
  }

  // Walks the cluster's tour. A run's walk asks no more than whether the run is the last of its
  // piece and of its span. What is needed there is worked out anew each time, so that no register
  // holds it meanwhile.
  __device__ __forceinline__ void scanTour() {
    using Runs = ColumnRuns<C>;
    Step steps[kTurns];
    int n = 0;
    int run = Runs(p).first(StripTour(p).span(0));
    int stop = Runs(p).lastOfPiece(run);  // the last run of the piece that is read
    const auto readOn = [&](int ahead, int sub) {
      read([&] { return Runs::place(ahead, sub); });
      if (sub == C::kRunChunks - 1 && ahead == stop) leavePiece();
    };
    awaitPiece();
    readOn(run, 0);
    prepareFirst(steps);
    for (;;) {
      int last, next;  // the span's last run, the next span's first one
      beginSpan(n, &last, &next);
      for (;;) {
        alignas(16) Out results[kRows][kStripRun];
        int ahead = run;  // the run that is read
        const auto readNext = [&](int chunk) {
          if (chunk == C::kRunChunks) {
            ahead = Runs::following(run);
            if (run == stop) {
              if (run == last) ahead = next;
              stop = Runs(p).lastOfPiece(ahead);
              if (ahead >= 0) awaitPiece();
            }
          }
          readOn(ahead, chunk % C::kRunChunks);
        };
        walk(steps, results, readNext, [&](int c) {
          if (c == C::kRunOutChunks - 1 && run != last) states.publish();
          keepOnTour(run, c, results);
        });
        if (run == last || Runs::closesTile(run)) flush(run);
        if (run == last) break;
        states.take();
        run = ahead;
      }
      if (!Runs(p).endsSlice(last)) states.handOn(handedBy(StripTour(p).cluster()));
      if (next < 0) break;
      run = next;
      ++n;
    }
  }

  // Makes the warp ready for the n-th span.
  __device__ __forceinline__ void beginSpan(int n, int* last, int* next) {
    const ColumnRuns<C> runs(p);
    const StripTour tour(p);
    const StripSpan span = tour.span(n);
    *last = static_cast<int>(keepInRegister(runs.last(span)));
    *next = static_cast<int>(keepInRegister(runs.first(tour.span(n + 1))));
    places.aim(p, states, span.slice);
    states.left = runs.toSegment(p, span);
    if (span.first > 0) states.goOn(handedBy(tour.cluster() - 1));
  }

  // Where a cluster hands states on.
  __device__ __forceinline__ uint64_t* handedBy(int cluster) const {
    return p.handed + int64_t{cluster} * p.line;
  }

  __device__ __forceinline__ void scan() {
    if constexpr (C::kTours) {
      scanTour();
    } else {
      scanSlice();
    }
  }
};

template <typename C>
__global__ void __launch_bounds__(C::kMaxThreads, 1)
    stripColumnsKernel(const __grid_constant__ StripParams p) {
  startNextDirection<C::kOutput>(p);
  char* const shared = dynamicShared<char>();
  const StripLayout layout =
      columnLayout(C::kOutput, C::kPieceBytes, C::kRows, p.own, p.parts, p.warps, p.stages);
  const StripBarriers barriers(sharedAddress(shared + layout.barrierOffset), p.stages);
  const StripExchange exchange(sharedAddress(shared + layout.exchangeOffset), layout.positions);
  const StripBlock block(p);
  if (threadIdx.x == 0) barriers.init(p, p.producers * kWarpLanes);
  exchange.clear();
  awaitPeers(p.parts);
  const int producer = static_cast<int>(threadIdx.x) - p.warps * kWarpLanes;
  if (producer >= 0) {
    produceStripColumns<C>(p, block, layout, sharedAddress(shared), barriers, producer);
  } else {
    ColumnWalker<C>(p, block, barriers, layout, exchange, shared).scan();
  }
  endBehindPreviousDirection<C::kOutput>(p);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_COLUMNS_CUH_
