// What the strip scans of both orientations share: a warp's states, their steps, their exchanges.
//
// A warp walks a strip of the line by itself, kRows adjacent positions to a lane, and shares only
// two shuffles a step among its lanes: no barrier. It walks kStripEdge positions of its neighbours
// too: after s steps the outermost s of those are stale, and every kStripEdge steps the neighbours'
// states replace them over shared memory. Blocks of a cluster, among which a long line is split, do
// the same over distributed shared memory, from compute capability 9.0 on.
//
// A state travels in one word with the number of its exchange: whoever needs it asks for the number
// until it is there. Two sets of words take turns. A warp writes a set anew once it has had the
// exchange after from those that read it, and these wrote that after they had read.
#ifndef GSPN2_KERNELS_STRIP_EXCHANGE_CUH_
#define GSPN2_KERNELS_STRIP_EXCHANGE_CUH_

#include "common.cuh"
#include "hopper.cuh"
#include "stage_cursor.cuh"
#include "strip_layout.h"
#include "strip_tour.cuh"
#include "tiled_math.cuh"

namespace gspn2 {

// The ring's barriers, each of 8 bytes from `first` on: a stage is full, a stage is empty.
struct StripBarriers {
  uint32_t full, empty;
  __device__ __forceinline__ StripBarriers(uint32_t first, int stages)
      : full(keepInRegister(first)), empty(keepInRegister(first + 8 * stages)) {}

  // By one thread. `fullArrivals`: threads that report a stage's copies.
  __device__ __forceinline__ void init(const StripParams& p, int fullArrivals) const {
    for (int i = 0; i < p.stages; ++i) {
      barrierInit(full + 8 * i, fullArrivals);
      barrierInit(empty + 8 * i, p.warps);
    }
    barrierInitFence();
  }
};

// The planes that a slice has.
struct StripPlanes {
  int64_t slice, gate, affinity;  // of x; of lam and u; of w-

  __device__ __forceinline__ StripPlanes(const StripParams& p, int taken) : slice(taken) {
    const int n = taken / p.channels;
    const int c = taken - n * p.channels;
    gate = n * p.gateBatch + c;
    affinity = n * p.affinityBatch + (p.affinities == 1 ? 0 : c);
  }
};

// What a block works on: its part of the line and, but for tours, the planes of its slice.
struct StripBlock : StripPlanes {
  int rank;   // its part of the line
  int lead;   // positions before the block's own
  int start;  // the line's position of its first; may be negative

  __device__ __forceinline__ explicit StripBlock(const StripParams& p)
      : StripPlanes(p, static_cast<int>(blockIdx.x) / p.parts), rank(rankOf(p)) {
    lead = p.parts > 1 || p.warps > 1 ? kStripEdge : 0;
    start = rank * p.own - lead;
  }

 private:
  __device__ __forceinline__ static int rankOf(const StripParams& p) {
    if constexpr (kHopper) {
      if (p.parts > 1) return static_cast<int>(clusterRank());
    }
    return 0;
  }
};

// Where a block's warps and blocks of a cluster exchange states: two sets of words in shared
// memory, each with one for every position of every warp and, behind them, the halos from below and
// above.
struct StripExchange {
  uint32_t words, halos;  // of the first set
  uint32_t turn;          // bytes from one set to the other

  __device__ __forceinline__ StripExchange(uint32_t first, int positions)
      : words(first),
        halos(first + kStripWordBytes * positions),
        turn(stripExchangeBytes(positions) / 2) {}

  // By all of a block's threads, before any warp walks: no word has a number yet.
  __device__ __forceinline__ void clear() const {
    const float nothing[1] = {0.0F};
    for (uint32_t at = kStripWordBytes * threadIdx.x; at < 2 * turn;
         at += kStripWordBytes * blockDim.x) {
      storeWords(words + at, nothing, 0);
    }
  }
};

// A step's weights and lam * x at a lane's positions.
template <int kRows>
struct StripWeights {
  float minus[kRows], centre[kRows], plus[kRows], input[kRows];
};

// A warp's states. Whatever those off the line hold stays there: a missing neighbour is left out.
// Whatever a position is to its warp or block, its lane's other positions are: edges, halos and
// parts are multiples of kRows. Lines are where kWhole; where not, one may end within a lane.
template <int kRows, bool kWhole>
struct StripStates {
  static constexpr int kStride = stripStride(kRows);
  static_assert(kStripEdge % kRows == 0, "a lane's positions are of one kind");
  static_assert(kWhole || kRows <= 2, "a line ends within a lane at one place only");

  const StripParams& p;
  const StripBlock& block;
  const int warp, lane;
  const int first;               // the block's position that is this lane's first
  const bool hasLeft, hasRight;  // the neighbours of the lane's positions
  const bool hasInner;           // whether a lane's first has the neighbour that is the second
  const bool exchanges;
  // Addresses in the set of words that is next; the other set is `toOther` bytes away.
  uint32_t publishes;  // where this lane's states go
  uint32_t takes;      // where they come from: a neighbouring warp or block, or this lane
  uint64_t sends;      // where in another block they go; 0: nowhere
  int32_t toOther;
  uint32_t number = 0;  // of the last exchange
  int left;             // steps to the next segment's first; negative: before the map
  float h[kRows];

  __device__ __forceinline__ StripStates(const StripParams& params, const StripBlock& block_,
                                         const StripExchange& exchange, int left_)
      : p(params),
        block(block_),
        warp(static_cast<int>(threadIdx.x) / kWarpLanes),
        lane(static_cast<int>(threadIdx.x) % kWarpLanes),
        first(warp * kStride + lane * kRows),
        hasLeft(position(0) != 0),
        hasRight(position(kRows - 1) != params.line - 1),
        hasInner(kWhole || position(0) != params.line - 1),
        exchanges(keepInRegister(params.warps > 1 || params.parts > 1 ? 1 : 0) != 0),
        publishes(
            keepInRegister(exchange.words + kStripWordBytes * (warp * kWarpLanes + lane) * kRows)),
        takes(keepInRegister(takenFrom(exchange))),
        sends(sentTo(exchange)),
        toOther(static_cast<int32_t>(exchange.turn)),
        left(left_) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = 0.0F;
  }

  // What a normalisation must not count becomes the affinity of the weight 0.
  __device__ __forceinline__ void dropMissing(StripWeights<kRows>& weights) const {
    if (!hasLeft) weights.minus[0] = -INFINITY;
    if (!hasInner) weights.plus[0] = -INFINITY;
    if (!hasRight) weights.plus[kRows - 1] = -INFINITY;
  }

  // The line's position of the lane's r-th.
  __device__ __forceinline__ int position(int r) const { return block.start + first + r; }
  // Whether the lane's positions are the warp's to compute, rather than a neighbouring warp's.
  __device__ __forceinline__ bool isOwn() const {
    return p.warps == 1 || isBetween(lane * kRows, kStripEdge, kStride);
  }
  // Positions of the warp before those.
  __device__ __forceinline__ int skipped() const { return p.warps > 1 ? kStripEdge : 0; }
  // Whether the r-th is the warp's to write.
  __device__ __forceinline__ bool writes(int r) const {
    return isOwn() && isBetween(first, block.lead, p.own) && position(r) < p.line;
  }

  // Which of the next kSteps steps begin a segment, as bits.
  template <int kSteps>
  __device__ __forceinline__ uint32_t restarts() {
    uint32_t bits = 0;
    if (left >= kSteps) {  // none, nearly always
      left -= kSteps;
      return bits;
    }
#pragma unroll 1
    for (int s = 0; s < kSteps; ++s) {
      if (left <= 0) bits |= 1U << s;
      left += left < 0 ? 1 : left == 0 ? p.chunk - 1 : -1;
    }
    return bits;
  }

  // One step; `overlap` is called while the shuffles are under way. A missing neighbour is left out
  // and a segment's first step is selected, whatever weights and states hold.
  template <typename Overlap>
  __device__ __forceinline__ void step(const StripWeights<kRows>& weights, bool restart,
                                       const Overlap& overlap) {
    // At a warp's ends the shuffle makes something up: positions there are off the line or stale,
    // or the line ends with them.
    const float below = __shfl_up_sync(kFullMask, h[kRows - 1], 1);
    const float above = __shfl_down_sync(kFullMask, h[0], 1);
    overlap();
    float next[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      next[r] = fmaf(weights.centre[r], h[r], weights.input[r]);
      if (r > 0) next[r] = fmaf(weights.minus[r], h[r - 1], next[r]);
      if (r + 1 < kRows && hasInner) next[r] = fmaf(weights.plus[r], h[r + 1], next[r]);
    }
    if (hasLeft) next[0] = fmaf(weights.minus[0], below, next[0]);
    if (hasRight) next[kRows - 1] = fmaf(weights.plus[kRows - 1], above, next[kRows - 1]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = restart ? weights.input[r] : next[r];
  }

  // Hands the warp's own states to whoever goes on with the slice, and takes all of them from
  // whoever has begun it.
  __device__ __forceinline__ void handOn(uint64_t* words) const {
    // The block's lead once more, so that no register holds it for this.
    const int lead = keepInRegister(p.warps) > 1 || p.parts > 1 ? kStripEdge : 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (isOwn() && isBetween(first, lead, p.own) && position(r) < p.line) {
        storeWordGlobal(words + position(r), h[r], kStripHandedNumber);
      }
    }
  }
  __device__ __forceinline__ void goOn(const uint64_t* words) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int at = position(r);
      const float handed = awaitWordGlobal(words + max(0, min(at, p.line - 1)), kStripHandedNumber);
      if (at >= 0 && at < p.line) h[r] = handed;
    }
  }

  // Gives the neighbouring warps and blocks this one's states.
  __device__ __forceinline__ void publish() {
    if (!exchanges) return;
    ++number;
    storeWords(publishes, h, number);
    if constexpr (kHopper) {
      if (sends != 0) storeWordsRemote(sends, h, number);
    }
  }

  // Takes theirs; what is this warp's own it takes back as it was.
  __device__ __forceinline__ void take() {
    if (!exchanges) return;
    awaitWords(takes, number, h);
    publishes += toOther;
    takes += toOther;
    if (sends != 0) sends += static_cast<int64_t>(toOther);
    toOther = -toOther;
  }

 private:
  __device__ __forceinline__ static bool isBetween(int value, int from, int count) {
    return value >= from && value < from + count;
  }
  __device__ __forceinline__ bool meetsBelow() const { return block.rank > 0; }
  __device__ __forceinline__ bool meetsAbove() const { return block.rank + 1 < p.parts; }

  // Where a lane's valid states lie: in the halo that another block fills, or among the published
  // ones. What two warps hold belongs to the one that has it further inside.
  __device__ __forceinline__ uint32_t takenFrom(const StripExchange& exchange) const {
    constexpr uint32_t kNext =  // to the same position of the next warp
        kStripWordBytes * (kWarpLanes * kRows - kStride);
    if (meetsBelow() && first < kStripEdge) return exchange.halos + kStripWordBytes * first;
    if (meetsAbove() && isBetween(first, p.own + kStripEdge, kStripEdge)) {
      return exchange.halos + kStripWordBytes * (first - p.own);
    }
    if (warp > 0 && lane * kRows < kStripEdge) return publishes - kNext;
    if (warp + 1 < p.warps && lane * kRows >= kStride + kStripEdge) return publishes + kNext;
    return publishes;
  }

  // Where a lane's states go in a neighbouring block: the upper halo of the block below, or the
  // lower one of that above. 0: nowhere.
  __device__ __forceinline__ uint64_t sentTo(const StripExchange& exchange) const {
    if constexpr (kHopper) {
      if (!isOwn()) return 0;
      if (meetsBelow() && isBetween(first, kStripEdge, kStripEdge)) {
        return clusterPointer(exchange.halos + kStripWordBytes * first, block.rank - 1);
      }
      if (meetsAbove() && isBetween(first, p.own, kStripEdge)) {
        return clusterPointer(exchange.halos + kStripWordBytes * (first - p.own), block.rank + 1);
      }
    }
    return 0;
  }
};

// Peers write into a block only after its barriers exist and its words are clear.
__device__ __forceinline__ void awaitPeers(int parts) {
  __syncthreads();
  if constexpr (kHopper) {
    if (parts > 1) clusterSync();
  }
}

// By every thread, first of all. Directions that run side by side (strip_paths.cpp) need nothing of
// each other: the next one may start once all blocks of this one run. What is older than the first
// of them, which nothing let start early, is in memory then; and all that is read of it comes past
// the L1 cache, which may hold what was there before.
template <ScanOutput kOutput>
__device__ __forceinline__ void startNextDirection(const StripParams& p) {
  if constexpr (kOutput == ScanOutput::kSums) {
    if (p.startsNext) letNextKernelStart();
  }
}

// By every thread, last of all. A launch is complete no sooner than the one before it, so that what
// waits for the last direction waits for all of them.
template <ScanOutput kOutput>
__device__ __forceinline__ void endBehindPreviousDirection(const StripParams& p) {
  if constexpr (kOutput == ScanOutput::kSums) {
    if (p.endsBehind) waitForPreviousKernel();
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_EXCHANGE_CUH_
