// What the strip scans of both orientations share: a warp's states, their steps, their exchanges.
//
// A warp walks a strip of the line by itself, kRows adjacent positions to a lane, and shares only
// two shuffles a step among its lanes: no barrier. It walks kStripEdge positions of its neighbours
// too: after s steps the outermost s of those are stale, and every kStripEdge steps the neighbours'
// states replace them over shared memory. Blocks of a cluster, among which a long line is split, do
// the same with kStripHalo positions over distributed shared memory, from compute capability 9.0
// on.
#ifndef GSPN2_KERNELS_STRIP_EXCHANGE_CUH_
#define GSPN2_KERNELS_STRIP_EXCHANGE_CUH_

#include "common.cuh"
#include "hopper.cuh"
#include "stage_cursor.cuh"
#include "strip_layout.h"
#include "tiled_math.cuh"

namespace gspn2 {

// The barriers, each of 8 bytes from the layout's offset: a stage is full, a stage is empty, the
// warps have met (two in turn), the blocks have met (two in turn).
struct StripBarriers {
  uint32_t full, empty, edges, halos;
  __device__ __forceinline__ StripBarriers(uint32_t first, int stages)
      : full(first),
        empty(first + 8 * stages),
        edges(first + 16 * stages),
        halos(first + 16 * stages + 16) {}

  // By one thread. `fullArrivals`: threads that report a stage's copies.
  __device__ __forceinline__ void init(const StripParams& p, int fullArrivals) const {
    for (int i = 0; i < p.stages; ++i) {
      barrierInit(full + 8 * i, fullArrivals);
      barrierInit(empty + 8 * i, p.warps);
    }
    for (int i = 0; i < 2; ++i) {
      barrierInit(edges + 8 * i, p.warps);
      barrierInit(halos + 8 * i, 1);
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

// kStripEdge steps' weights and lam * x at a lane's positions.
template <int kRows>
struct StripWeights {
  float minus[kStripEdge][kRows], centre[kStripEdge][kRows], plus[kStripEdge][kRows];
  float input[kStripEdge][kRows];
};

// What a warp does with the state of a position that it walks.
enum StripRole : uint32_t {
  kSendsDown = 1U << 0,  // sends it to the block below
  kSendsUp = 1U << 1,    // to the block above
  kMeetsDown = 1U << 2,  // takes it from the block below
  kMeetsUp = 1U << 3,    // from the block above
  kWrites = 1U << 4,     // writes its result
};

// A warp's states. Where kLeads, positions that are not the block's own to compute lie on both
// sides of them: more than a warp walks the line.
template <int kRows, bool kLeads>
struct StripStates {
  static constexpr int kStride = stripStride(kRows);

  const StripParams& p;
  const StripBlock& block;
  const StripBarriers& barriers;
  const int warp, lane;
  float* halos;    // shared memory
  uint32_t edges;  // this lane's published states; the next turn's lie `edgeTurn` bytes on
  uint32_t edgeTurn;
  uint32_t takes[kRows];   // from where it takes a state: a neighbouring warp's, or its own
  const int first;         // the block's position that is this lane's first
  uint32_t inside[kRows];  // all ones where the position is on the line
  uint32_t roles[kRows];
  int phase;  // steps since the segment's start; not positive before the map
  float h[kRows];

  __device__ __forceinline__ StripStates(const StripParams& params, const StripBlock& block_,
                                         const StripBarriers& barriers_, const StripLayout& layout,
                                         char* shared, int firstPhase)
      : p(params),
        block(block_),
        barriers(barriers_),
        warp(static_cast<int>(threadIdx.x) / kWarpLanes),
        lane(static_cast<int>(threadIdx.x) % kWarpLanes),
        halos(reinterpret_cast<float*>(shared + layout.haloOffset)),
        edges(sharedAddress(shared + layout.edgeOffset) + 4 * (warp * kWarpLanes + lane) * kRows),
        edgeTurn(4 * params.warps * kWarpLanes * kRows),
        first(warp * kStride + lane * kRows),
        phase(firstPhase) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      inside[r] = position(r) >= 0 && position(r) < p.line ? ~0U : 0U;
      roles[r] = rolesOf(r);
      takes[r] = edges + 4 * (r + takenFrom(r));
      h[r] = 0.0F;
    }
  }

  // The line's position of the lane's r-th.
  __device__ __forceinline__ int position(int r) const { return block.start + first + r; }

  // Where a position's valid state lies among the published ones, from where this lane publishes
  // its own: a position that two warps hold belongs to the one that has it further inside.
  __device__ __forceinline__ int takenFrom(int r) const {
    constexpr int kNext = kWarpLanes * kRows - kStride;  // the same position in the next warp
    const int local = lane * kRows + r;
    if (warp > 0 && local < kStripEdge) return -kNext;
    if (warp + 1 < p.warps && local >= kStride + kStripEdge) return kNext;
    return 0;
  }

  __device__ __forceinline__ uint32_t rolesOf(int r) const {
    const int local = lane * kRows + r;
    const int e = first + r;
    const bool mine = p.warps == 1 || (local >= kStripEdge && local < kStride + kStripEdge);
    const bool blockDown = block.rank > 0;
    const bool blockUp = block.rank + 1 < p.parts;
    const auto between = [](int value, int from, int count) {
      return value >= from && value < from + count;
    };
    uint32_t roles = 0;
    if (mine && blockDown && between(e, kStripHalo, kStripHalo)) roles |= kSendsDown;
    if (mine && blockUp && between(e, p.own, kStripHalo)) roles |= kSendsUp;
    if (blockDown && e < kStripHalo) roles |= kMeetsDown;
    if (blockUp && between(e, p.own + kStripHalo, kStripHalo)) roles |= kMeetsUp;
    if (mine && between(e, block.lead, p.own) && position(r) < p.line) roles |= kWrites;
    return roles;
  }

  // Which of the next kStripEdge steps begin a segment, as bits.
  __device__ __forceinline__ uint32_t restarts() {
    uint32_t bits = 0;
    if (phase > 0 && phase + kStripEdge <= p.chunk) {  // none, nearly always
      phase = phase + kStripEdge == p.chunk ? 0 : phase + kStripEdge;
      return bits;
    }
#pragma unroll 1
    for (int s = 0; s < kStripEdge; ++s) {
      if (phase <= 0) bits |= 1U << s;
      phase = phase + 1 == p.chunk ? 0 : phase + 1;
    }
    return bits;
  }

  // One step with the s-th weights; `overlap` is called while the shuffles are under way. A mask
  // keeps the NaN and Inf of the positions next to the line where they belong, and a segment's
  // first step is selected, whatever its weights and the states before it hold.
  template <typename Overlap>
  __device__ __forceinline__ void step(const StripWeights<kRows>& weights, int s, uint32_t restarts,
                                       const Overlap& overlap) {
    const bool restart = (restarts >> s & 1U) != 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = maskFloat(h[r], inside[r]);
    const float left = __shfl_up_sync(kFullMask, h[kRows - 1], 1);
    const float right = __shfl_down_sync(kFullMask, h[0], 1);
    overlap();
    float next[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      next[r] = fmaf(weights.centre[s][r], h[r], weights.input[s][r]);
      if (r > 0) next[r] = fmaf(weights.minus[s][r], h[r - 1], next[r]);
      if (r + 1 < kRows) next[r] = fmaf(weights.plus[s][r], h[r + 1], next[r]);
    }
    // Where the strip leads, a warp's first and last positions are off the line or stale anyway:
    // what the shuffle makes of the missing neighbour does not matter.
    const bool noLeft = !kLeads && lane == 0;
    const bool noRight = !kLeads && lane == kWarpLanes - 1;
    next[0] = fmaf(weights.minus[s][0], noLeft ? 0.0F : left, next[0]);
    next[kRows - 1] = fmaf(weights.plus[s][kRows - 1], noRight ? 0.0F : right, next[kRows - 1]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = restart ? weights.input[s][r] : next[r];
  }

  // Publishes the states for the neighbouring warps.
  __device__ __forceinline__ void publish(int turn) {
    if (p.warps == 1) return;
    const uint32_t mine = edges + turn * edgeTurn;
    if constexpr (kRows % 2 == 1) {  // scalars of an odd distance meet on no bank
#pragma unroll
      for (int r = 0; r < kRows; ++r) storeSharedFloat(mine + 4 * r, h[r]);
    } else {
      storeSharedFloats(mine, h);
    }
    __syncwarp();
    if (lane == 0) barrierArrive(barriers.edges + 8 * turn);
  }

  // Takes the neighbouring warps' states; what is this warp's own it takes back as it was.
  __device__ __forceinline__ void refresh(int turn, uint32_t parity) {
    if (p.warps == 1) return;
    barrierWait(barriers.edges + 8 * turn, parity);
#pragma unroll
    for (int r = 0; r < kRows; ++r) h[r] = loadSharedFloatNow(takes[r] + turn * edgeTurn);
  }

  // Gives the neighbouring blocks the states that they share.
  __device__ __forceinline__ void send(int turn) {
    if constexpr (kHopper) {
      if (p.parts > 1) sendToBlocks(turn);
    }
  }

  // Takes the neighbouring blocks' states, after those of the warps.
  __device__ __forceinline__ void meet(int turn, uint32_t parity) {
    if constexpr (kHopper) {
      if (p.parts > 1) takeFromBlocks(turn, parity);
    }
  }

 private:
  __device__ __forceinline__ void sendToBlocks(int turn) {
    const uint32_t barrier = barriers.halos + 8 * turn;
    const uint32_t target = sharedAddress(halos) + 4 * (turn * 2 * kStripHalo + first);
    if (warp == 0 && lane == 0) {
      const int neighbours = (block.rank > 0) + (block.rank + 1 < p.parts);
      barrierArriveExpect(barrier, neighbours * kStripHalo * 4);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if ((roles[r] & kSendsDown) != 0) {
        storeRemote(clusterAddress(target + 4 * r, block.rank - 1), h[r],
                    clusterAddress(barrier, block.rank - 1));
      }
      if ((roles[r] & kSendsUp) != 0) {
        storeRemote(clusterAddress(target + 4 * (r - p.own), block.rank + 1), h[r],
                    clusterAddress(barrier, block.rank + 1));
      }
    }
    __syncwarp();
  }

  __device__ __forceinline__ void takeFromBlocks(int turn, uint32_t parity) {
    barrierWaitCluster(barriers.halos + 8 * turn, parity);
    const float* const incoming = halos + turn * 2 * kStripHalo + first;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if ((roles[r] & kMeetsDown) != 0) h[r] = incoming[r];
      if ((roles[r] & kMeetsUp) != 0) h[r] = incoming[r - p.own];
    }
  }
};

// Peers write into a block only after its barriers exist.
__device__ __forceinline__ void awaitPeers(int parts) {
  __syncthreads();
  if constexpr (kHopper) {
    if (parts > 1) clusterSync();
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_EXCHANGE_CUH_
