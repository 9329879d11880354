// GspnProp2D in one pass over memory, by strips: compute capability 9.0 and later.
//
// A block, or a cluster of two, takes a slice and walks its four directions one after the other,
// while the sums stay in shared memory, a block's own rows each. x comes from memory once and from
// the L2 cache three times. Horizontal scans share the line out between the two blocks and meet as
// all strip scans do. Vertical ones do not split it: each block walks its own rows, one block top
// to bottom while the other walks bottom to top; then each goes on with the states that the other
// ended with, in the other direction.
#ifndef GSPN2_KERNELS_STRIP_FUSED_CUH_
#define GSPN2_KERNELS_STRIP_FUSED_CUH_

#include "strip_columns.cuh"
#include "strip_fused_plan.h"
#include "strip_rows.cuh"
#include "strip_skips.cuh"

namespace gspn2 {

template <typename T, typename W, gspn2_normalize_t kNormalize_>
struct FusedConfig {
  using Element = T;
  static constexpr int kElementBytes = static_cast<int>(sizeof(T));
  static constexpr int kWeightBytes = static_cast<int>(sizeof(W));
  template <bool kReverse>
  using Columns = ColumnConfig<T, W, kFusedRows, kReverse, kNormalize_, StripOutput::kShared>;
  using Rows = RowConfig<T, W, kFusedRows, kNormalize_, StripOutput::kShared>;
  static constexpr int kVector = 4;  // elements that are gated, or rounded, at once
};

template <typename C>
struct FusedBlock {
  using T = typename C::Element;

  const FusedParams& p;
  char* const shared;
  const int rank;
  const int64_t slice;
  const StripParams* const passes;
  float* const sums;
  float* const carry;       // the states that the other block ended its first vertical pass with
  const uint32_t barriers;  // the carry's, then each pass's

  __device__ __forceinline__ FusedBlock(const FusedParams& params, char* shared_, int rank_)
      : p(params),
        shared(shared_),
        rank(rank_),
        slice(static_cast<int>(blockIdx.x) / params.parts),
        passes(params.passes[rank_]),
        sums(reinterpret_cast<float*>(shared_)),
        carry(reinterpret_cast<float*>(shared_ + params.carryOffset)),
        barriers(sharedAddress(shared_ + params.barrierOffset)) {}

  __device__ __forceinline__ StripBarriers barriersOf(int pass) const {
    return StripBarriers(barriers + 8 + pass * kFusedBarrierBytes, passes[pass].stages);
  }
  // Of all passes: numbers tell them apart.
  __device__ __forceinline__ StripExchange exchangeOf(int pass) const {
    return StripExchange(sharedAddress(shared + p.exchangeOffset),
                         p.walkers * kWarpLanes * kFusedRows,
                         static_cast<uint32_t>(pass) * kFusedExchanges);
  }
  __device__ __forceinline__ int ownRows() const { return passes[kFusedPasses - 1].steps; }

  __device__ __forceinline__ void init() const {
    exchangeOf(0).clear();
    if (threadIdx.x != 0) return;
    for (int k = 0; k < kFusedPasses; ++k) {
      barriersOf(k).init(passes[k], (k < 2 ? kWarpLanes : 1) * passes[k].producers);
    }
    barrierInit(barriers, 1);
    barrierInitFence();
    if (p.parts > 1) barrierArriveExpect(barriers, static_cast<uint32_t>(4 * p.width));
  }

  // Calls `work` for each vector of the block's rows: its place in the slice and in the sums.
  template <typename Work>
  __device__ __forceinline__ void forEachVector(const Work& work) const {
    const int vectors = p.width / C::kVector;
    for (int i = static_cast<int>(threadIdx.x); i < ownRows() * vectors;
         i += static_cast<int>(blockDim.x)) {
      const int row = i / vectors;
      const int column = (i - row * vectors) * C::kVector;
      work((rank * p.ownRows + row) * p.width + column, sums + row * p.sumPitch + column);
    }
  }

  // The sums begin with m d x where there are skip gates.
  __device__ __forceinline__ void skips() const {
    if (p.d == nullptr) return;
    const SkipTerms<T> terms(p.x, p.d, p.m, slice, p.channels, p.plane, p.batch);
    forEachVector([&](int at, float* target) {
      *reinterpret_cast<AlignedVector<float, C::kVector>*>(target) =
          terms.template sums<C::kVector>(at);
    });
  }

  template <bool kReverse>
  __device__ __forceinline__ void walkColumns(int k) const {
    using Columns = typename C::template Columns<kReverse>;
    const StripParams pass = passes[k];  // in registers: the rank is not known when compiling
    const StripLayout layout =
        columnLayout(StripOutput::kShared, Columns::kNormalize, kFusedRows, pass.own, pass.parts,
                     pass.warps, pass.stages, C::kElementBytes, C::kWeightBytes);
    const StripBarriers own = barriersOf(k);
    const StripBlock block(pass, slice, rank);
    char* const ring = shared + p.ringOffset;
    const int producer = static_cast<int>(threadIdx.x) - pass.warps * kWarpLanes;
    if (producer >= 0) {
      produceStripColumns<Columns>(pass, block, layout, sharedAddress(ring), own, producer);
    } else {
      ColumnWalker<Columns>(pass, block, own, layout, exchangeOf(k), ring, sharedAddress(sums))
          .scan();
    }
  }

  __device__ __forceinline__ void walkRows(int k) const {
    using Rows = typename C::Rows;
    const StripParams pass = passes[k];  // in registers: the rank is not known when compiling
    const StripLayout layout = rowLayout(StripOutput::kShared, kFusedRows, pass.warps, pass.stages,
                                         C::kElementBytes, C::kWeightBytes);
    const StripBarriers own = barriersOf(k);
    const StripBlock block(pass, slice, 0);
    char* const ring = shared + p.ringOffset;
    const int producer = static_cast<int>(threadIdx.x) - p.walkers * kWarpLanes;
    if (producer >= 0) {
      produceStripRows<Rows>(pass, block, layout, sharedAddress(ring), own, producer);
      return;
    }
    if (static_cast<int>(threadIdx.x) >= pass.warps * kWarpLanes) return;
    RowWalker<Rows> walker(pass, block, own, layout, exchangeOf(k), ring, sharedAddress(sums));
    auto& states = walker.states;
    const bool goesOn = p.parts > 1 && k + 1 == kFusedPasses;
    if (goesOn) {
      barrierWaitCluster(barriers, 0);
#pragma unroll
      for (int r = 0; r < kFusedRows; ++r) {
        if (states.isOnLine(r)) states.h[r] = carry[states.position(r)];
      }
    }
    walker.scan();
    if (p.parts > 1 && !goesOn) {
      const uint32_t other = static_cast<uint32_t>(1 - rank);
      const uint32_t signal = clusterAddress(barriers, other);
      const uint32_t target = clusterAddress(sharedAddress(carry), other);
#pragma unroll
      for (int r = 0; r < kFusedRows; ++r) {
        if (states.writes(r)) {
          storeRemote(target + 4 * states.position(r), states.h[r], signal);
        }
      }
    }
  }

  __device__ __forceinline__ void write() const {
    T* const y = static_cast<T*>(p.y) + slice * p.plane;
    forEachVector([&](int at, const float* source) {
      AlignedVector<T, C::kVector> rounded;
#pragma unroll
      for (int v = 0; v < C::kVector; ++v) rounded.values[v] = fromFloat<T>(source[v]);
      *reinterpret_cast<AlignedVector<T, C::kVector>*>(y + at) = rounded;
    });
  }

  __device__ __forceinline__ void run() const {
    init();
    skips();
    awaitPeers(p.parts);
    walkColumns<false>(0);
    awaitPeers(p.parts);
    walkColumns<true>(1);
    fenceSharedForCopies();  // the vertical passes' stages take the place of the horizontal ones'
    awaitPeers(p.parts);
    walkRows(2);
    awaitPeers(p.parts);
    walkRows(3);
    __syncthreads();
    write();
  }
};

template <typename C>
__global__ void __launch_bounds__(kFusedMaxThreads, 1)
    stripFusedKernel(const __grid_constant__ FusedParams p) {
  if constexpr (kHopper) {
    const int rank = p.parts > 1 ? static_cast<int>(clusterRank()) : 0;
    FusedBlock<C>(p, dynamicShared<char>(), rank).run();
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_FUSED_CUH_
