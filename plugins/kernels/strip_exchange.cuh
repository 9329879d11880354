// What the strip scans of both orientations share: a warp's states, their steps, their exchanges.
//
// A warp walks a strip of the line by itself, kRows adjacent positions to a lane, and shares only
// two shuffles a step among its lanes: no barrier. It walks kStripEdge positions of its neighbours
// too: after s steps the outermost s of those are stale, and every kStripEdge steps the neighbours'
// states replace them over shared memory. Blocks of a cluster, among which a long line is split, do
// the same with kStripHalo positions over distributed shared memory, from compute capability 9.0
// on, every kStripHalo steps.
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

// What a block works on.
struct StripBlock {
  int rank;                       // its part of the line
  int64_t slice, gate, affinity;  // planes of x; of lam and u; of w-
  int lead;                       // positions before the block's own
  int start;                      // the line's position of its first; may be negative

  __device__ __forceinline__ explicit StripBlock(const StripParams& p)
      : StripBlock(p, static_cast<int>(blockIdx.x) / p.parts, rankOf(p)) {}

  __device__ __forceinline__ StripBlock(const StripParams& p, int64_t slice_, int rank_)
      : rank(rank_), slice(slice_) {
    const int n = static_cast<int>(slice) / p.channels;
    const int c = static_cast<int>(slice) - n * p.channels;
    gate = n * p.gateBatch + c;
    affinity = n * p.affinityBatch + (p.affinities == 1 ? 0 : c);
    lead = p.parts > 1 || p.warps > 1 ? kStripHalo : 0;
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

// Where a block's warps and blocks of a cluster exchange states: two sets of words in shared memory,
// first one for each position of each warp, then, as many for each set, the halos from below and
// above.
struct StripExchange {
  uint32_t words, halos;  // of the first set
  uint32_t turn;          // bytes from one set of the warps' words to the other
  uint32_t number;        // of the exchange before the first

  __device__ __forceinline__ StripExchange(uint32_t first, int positions, uint32_t number_ = 0)
      : words(first),
        halos(first + 2 * kStripWordBytes * positions),
        turn(kStripWordBytes * positions),
        number(number_) {}

  // By all of a block's threads, before any warp walks: no word has a number yet.
  __device__ __forceinline__ void clear() const {
    const uint32_t end = halos + 4 * kStripWordBytes * kStripHalo;
    for (uint32_t at = words + kStripWordBytes * threadIdx.x; at < end;
         at += kStripWordBytes * blockDim.x) {
      storeWord(at, 0.0F, 0);
    }
  }
};

// kStripEdge steps' weights and lam * x at a lane's positions.
template <int kRows>
struct StripWeights {
  float minus[kStripEdge][kRows], centre[kStripEdge][kRows], plus[kStripEdge][kRows];
  float input[kStripEdge][kRows];
};

// A warp's states. Whatever those off the line hold stays there: a position's missing neighbour is
// left out, and is always the lane's neighbour, not one of the lane's own positions.
template <int kRows>
struct StripStates {
  static constexpr int kStride = stripStride(kRows);
  static constexpr int kHaloTurn = 2 * kStripWordBytes * kStripHalo;
  static constexpr uint32_t kAmongWarps = 1, kAmongBlocks = 2;

  const StripParams& p;
  const StripBlock& block;
  const int warp, lane;
  const int first;               // the block's position that is this lane's first
  const bool hasLeft, hasRight;  // neighbours of the lane's positions on the line
  const uint32_t exchanges;      // among whom
  const uint32_t turn;
  const uint32_t publishes;  // where this lane's states go
  uint32_t takes[kRows];     // from where it takes a state: a neighbouring warp's, or its own
  uint32_t sends[kRows];     // where in another block a state goes; 0: nowhere
  uint32_t meets[kRows], meetsNext[kRows];  // from where when blocks meet, in turn
  uint32_t number;           // of the last exchange
  int left;                  // steps to the next segment's first; negative: before the map
  float h[kRows];

  __device__ __forceinline__ StripStates(const StripParams& params, const StripBlock& block_,
                                         const StripExchange& exchange, int phase)
      : p(params),
        block(block_),
        warp(static_cast<int>(threadIdx.x) / kWarpLanes),
        lane(static_cast<int>(threadIdx.x) % kWarpLanes),
        first(warp * kStride + lane * kRows),
        hasLeft(position(0) != 0),
        hasRight(position(kRows - 1) != params.line - 1),
        exchanges(keepInRegister((params.warps > 1 ? kAmongWarps : 0U) |
                                 (params.parts > 1 ? kAmongBlocks : 0U))),
        turn(keepInRegister(exchange.turn)),
        publishes(keepInRegister(exchange.words + kStripWordBytes * (warp * kWarpLanes + lane) * kRows)),
        number(exchange.number),
        left(phase > 0 ? params.chunk - phase : phase) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      takes[r] = keepInRegister(publishes + kStripWordBytes * (r + takenFrom(r)));
      sends[r] = keepInRegister(sentTo(r, exchange));
      const uint32_t halo = metAt(r, exchange);
      meets[r] = keepInRegister(halo != 0 ? halo : takes[r] + turn);
      meetsNext[r] = keepInRegister(halo != 0 ? halo + kHaloTurn : takes[r] + turn);
      h[r] = 0.0F;
    }
  }

  // The line's position of the lane's r-th.
  __device__ __forceinline__ int position(int r) const { return block.start + first + r; }
  __device__ __forceinline__ bool isOnLine(int r) const {
    return position(r) >= 0 && position(r) < p.line;
  }
  // Whether the r-th is the warp's to write.
  __device__ __forceinline__ bool writes(int r) const {
    return isOwn(r) && isBetween(first + r, block.lead, p.own) && position(r) < p.line;
  }

  // Which of the next kStripEdge steps begin a segment, as bits.
  __device__ __forceinline__ uint32_t restarts() {
    uint32_t bits = 0;
    if (left >= kStripEdge) {  // none, nearly always
      left -= kStripEdge;
      return bits;
    }
#pragma unroll 1
    for (int s = 0; s < kStripEdge; ++s) {
      if (left <= 0) bits |= 1U << s;
      left += left < 0 ? 1 : left == 0 ? p.chunk - 1 : -1;
    }
    return bits;
  }

  // One step with the s-th weights; `overlap` is called while the shuffles are under way. A missing
  // neighbour is left out and a segment's first step is selected, whatever weights and states hold.
  template <typename Overlap>
  __device__ __forceinline__ void step(const StripWeights<kRows>& weights, int s, uint32_t restarts,
                                       const Overlap& overlap) {
    const bool restart = (restarts >> s & 1U) != 0;
    // At a warp's ends the shuffle makes something up: positions there are off the line or stale,
    // or the line ends with them.
    const float below = __shfl_up_sync(kFullMask, h[kRows - 1], 1);
    const float above = __shfl_down_sync(kFullMask, h[0], 1);
    overlap();
    float next[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      next[r] = fmaf(weights.centre[s][r], h[r], weights.input[s][r]);
      if (r > 0) next[r] = fmaf(weights.minus[s][r], h[r - 1], next[r]);
      if (r + 1 < kRows) next[r] = fmaf(weights.plus[s][r], h[r + 1], next[r]);
    }
    if (hasLeft) next[0] = fmaf(weights.minus[s][0], below, next[0]);
    if (hasRight) next[kRows - 1] = fmaf(weights.plus[s][kRows - 1], above, next[kRows - 1]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = restart ? weights.input[s][r] : next[r];
  }

  // Gives the neighbouring warps this one's states.
  __device__ __forceinline__ void publish() {
    ++number;
    if ((exchanges & kAmongWarps) != 0) publishTo(publishes);
  }
  // Takes the neighbouring warps' states; what is this warp's own it takes back as it was.
  __device__ __forceinline__ void take() {
    if ((exchanges & kAmongWarps) == 0) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = awaitWord(takes[r], number);
  }

  // The same, and among blocks; `set` of the halos' words: 0 and 1 in turn.
  __device__ __forceinline__ void publishMeeting(int set) {
    ++number;
    if (exchanges != 0) publishTo(publishes + turn);
    if constexpr (kHopper) {
      if ((exchanges & kAmongBlocks) != 0) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if (sends[r] != 0) storeWordRemote(sends[r] + set * kHaloTurn, h[r], number);
        }
      }
    }
  }
  __device__ __forceinline__ void takeMeeting(int set) {
    if (exchanges == 0) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = awaitWord(set == 0 ? meets[r] : meetsNext[r], number);
  }

 private:
  __device__ __forceinline__ static bool isBetween(int value, int from, int count) {
    return value >= from && value < from + count;
  }
  // Whether the r-th is the warp's to compute, rather than a neighbouring warp's.
  __device__ __forceinline__ bool isOwn(int r) const {
    return p.warps == 1 || isBetween(lane * kRows + r, kStripEdge, kStride);
  }

  // Where a position's valid state lies among the published ones, from where this lane publishes
  // its own: a position that two warps hold belongs to the one that has it further inside.
  __device__ __forceinline__ int takenFrom(int r) const {
    constexpr int kNext = kWarpLanes * kRows - kStride;  // the same position in the next warp
    const int local = lane * kRows + r;
    if (warp > 0 && local < kStripEdge) return -kNext;
    if (warp + 1 < p.warps && local >= kStride + kStripEdge) return kNext;
    return 0;
  }

  // Where the r-th's state goes in a neighbouring block: the upper halo of the block below, or the
  // lower one of that above. 0: nowhere.
  __device__ __forceinline__ uint32_t sentTo(int r, const StripExchange& exchange) const {
    if constexpr (kHopper) {
      const int e = first + r;
      if (!isOwn(r)) return 0;
      if (block.rank > 0 && isBetween(e, kStripHalo, kStripHalo)) {
        return clusterAddress(exchange.halos + kStripWordBytes * e, block.rank - 1);
      }
      if (block.rank + 1 < p.parts && isBetween(e, p.own, kStripHalo)) {
        return clusterAddress(exchange.halos + kStripWordBytes * (e - p.own), block.rank + 1);
      }
    }
    return 0;
  }

  // Where the r-th's state comes from another block; 0: it does not.
  __device__ __forceinline__ uint32_t metAt(int r, const StripExchange& exchange) const {
    const int e = first + r;
    if (block.rank > 0 && e < kStripHalo) return exchange.halos + kStripWordBytes * e;
    if (block.rank + 1 < p.parts && isBetween(e, p.own + kStripHalo, kStripHalo)) {
      return exchange.halos + kStripWordBytes * (e - p.own);
    }
    return 0;
  }

  __device__ __forceinline__ void publishTo(uint32_t address) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) storeWord(address + kStripWordBytes * r, h[r], number);
  }
};

// Peers write into a block only after its barriers exist and its words are clear.
__device__ __forceinline__ void awaitPeers(int parts) {
  __syncthreads();
  if constexpr (kHopper) {
    if (parts > 1) clusterSync();
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_EXCHANGE_CUH_
