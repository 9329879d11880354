// The strip scan of vertical directions.
//
// Lines are rows of a row-major map. Producer warps bring kStripGroup rows of every tensor at
// the block's positions into a ring of stages: from compute capability 9.0 on by the copy engine, a
// contiguous copy each, before by asynchronous copies of 16 bytes. A lane reads
// its kRows adjacent positions of a step at once and writes its results straight to the map.
// Several blocks share a multiprocessor where lines are short, so that each warp's exchange and its
// chain of steps hide behind the others' arithmetic; see strip_exchange.cuh.
#ifndef GSPN2_KERNELS_STRIP_ROWS_CUH_
#define GSPN2_KERNELS_STRIP_ROWS_CUH_

#include <type_traits>

#include "strip_exchange.cuh"

namespace gspn2 {

template <typename T_, int kRows_, gspn2_normalize_t kNormalize_, ScanOutput kOutput_>
struct RowConfig {
  using T = T_;
  static constexpr int kRows = kRows_;  // positions of a lane
  static constexpr gspn2_normalize_t kNormalize = kNormalize_;
  static constexpr ScanOutput kOutput = kOutput_;
  static constexpr bool kGated = kOutput != ScanOutput::kStates;
  static constexpr bool kStagesSums = kOutput == ScanOutput::kFinal;
  static constexpr int kTensors = scanTensors(kOutput);
  static constexpr int kMaxThreads = (kStripRowWalkers + kStripRowProducers) * kWarpLanes;
};

// The source and the place in a stage of what one step needs of one tensor; the staged sums count
// as a tensor after the others.
struct RowCopy {
  const char* source;  // at the map's first row
  int64_t pitch;       // bytes of the map between rows
  uint32_t offset;     // in a stage
  int bytes;
  uint64_t policy;

  template <typename C>
  __device__ __forceinline__ static RowCopy of(C, const StripParams& p, const StripBlock& block,
                                               const StripLayout& layout, int tensor, int step) {
    const bool isSums = C::kStagesSums && tensor == C::kTensors;
    const bool isAffinity = tensor >= 2 && tensor < 5;
    const void* const base = isSums        ? p.sums
                             : isAffinity  ? p.w
                             : tensor == 0 ? p.x
                             : tensor == 1 ? p.lam
                                           : p.u;
    const int64_t plane = isAffinity ? block.affinity + int64_t{tensor - 2} * p.affinities
                          : tensor == 0 || isSums ? block.slice
                                                  : block.gate;
    const int elementBytes = isSums ? 4 : static_cast<int>(sizeof(typename C::T));
    const int extent = stripExtent(C::kRows, p.warps);
    const int from = max(block.start, 0);
    const int place = isSums ? layout.sumOffset + step * extent * 4
                             : (tensor * kStripGroup + step) * layout.pitch;
    RowCopy copy;
    copy.source = static_cast<const char*>(base) + (plane * p.plane + from) * elementBytes;
    copy.pitch = int64_t{p.line} * elementBytes;
    copy.offset = static_cast<uint32_t>(place + (from - block.start) * elementBytes);
    copy.bytes = (min(block.start + extent, p.line) - from) * elementBytes;
    // What other slices read again soon is better kept.
    copy.policy = isAffinity && p.affinities == 1 ? kEvictNormal : kEvictFirst;
    return copy;
  }

  __device__ __forceinline__ const char* at(const StripParams& p, int step) const {
    return source + (p.reverse ? p.steps - 1 - step : step) * pitch;
  }
};

template <typename C>
__device__ __forceinline__ void produceStripRows(const StripParams& p, const StripBlock& block,
                                                 const StripLayout& layout, uint32_t stages,
                                                 const StripBarriers& barriers, int thread) {
  constexpr int kTensors = C::kTensors + (C::kStagesSums ? 1 : 0);
  constexpr int kCopies = kTensors * kStripGroup;
  static_assert(kCopies <= kWarpLanes, "the copy engine: a copy to each lane");
  const int lane = thread % kWarpLanes;
  // Producer warps, 1, 2 or 4 of them, take turns at the steps.
  const int mate = thread / kWarpLanes;
  const int share = kStripGroup / p.producers;  // steps of a warp
  const int step = mate + p.producers * (lane % share);
  const bool copies = lane < kTensors * share;
  const RowCopy mine = RowCopy::of(C{}, p, block, layout, copies ? lane / share : 0, step);
  int stepBytes = 0;
#pragma unroll
  for (int tensor = 0; tensor < kTensors; ++tensor) {
    stepBytes += RowCopy::of(C{}, p, block, layout, tensor, 0).bytes;
  }
  StageCursor cursor;
  for (int begin = 0; begin < p.steps; begin += kStripGroup) {
    const uint32_t full = barriers.full + 8 * cursor.stage;
    const uint32_t stage = stages + cursor.stage * layout.stageBytes;
    const int count = min(kStripGroup, p.steps - begin);
    if (begin >= p.stages * kStripGroup) {
      barrierWait(barriers.empty + 8 * cursor.stage, cursor.parity ^ 1);
    }
    bool copied = false;
    if constexpr (kHopper) {
      if (p.bulk) {
        const int steps = (count - mate + p.producers - 1) / p.producers;  // at least 0
        // Without steps of this warp the walkers can free the stage again as soon as lane 0 has
        // arrived: a lane that still waited would see the next phase, and wait for ever.
        __syncwarp();
        if (lane == 0) barrierArriveExpect(full, static_cast<uint32_t>(steps * stepBytes));
        __syncwarp();
        if (copies && step < count) {
          copyBulk(stage + mine.offset, mine.at(p, begin + step), mine.bytes, full, mine.policy);
        }
        copied = true;
      }
    }
    if (!copied) {
      for (int i = 0; i < kCopies; ++i) {
        if (i % kStripGroup >= count) continue;
        const RowCopy copy = RowCopy::of(C{}, p, block, layout, i / kStripGroup, i % kStripGroup);
        const char* const source = copy.at(p, begin + i % kStripGroup);
        for (int at = lane * kStripAccess; at < copy.bytes; at += kWarpLanes * kStripAccess) {
          copyChunk(stage + copy.offset + at, source + at, kStripAccess);
        }
      }
      barrierArriveCopies(full);
    }
    cursor.advance(p.stages);
  }
}

// A warp that walks.
template <typename C>
struct RowWalker {
  using T = typename C::T;
  using Result = std::conditional_t<C::kOutput == ScanOutput::kSums, float, T>;
  static constexpr int kRows = C::kRows;

  const StripParams& p;
  const StripBlock& block;
  const StripBarriers& barriers;
  const StripLayout& layout;
  StripStates<kRows, true> states;
  const char* const stages;  // shared memory, from this lane's first position
  const float merge;
  const bool writes;
  const int pitch;     // elements of the map between steps
  Result* target;      // where the next result goes
  StageCursor cursor;  // of the stage that has been prepared

  __device__ __forceinline__ RowWalker(const StripParams& params, const StripBlock& block_,
                                       const StripBarriers& barriers_, const StripLayout& layout_,
                                       const StripExchange& exchange, char* shared)
      : p(params),
        block(block_),
        barriers(barriers_),
        layout(layout_),
        states(params, block_, exchange, 0),
        stages(shared + states.first * static_cast<int>(sizeof(T))),
        merge(C::kGated ? mergeWeight<T>(params.m, 0) : 1.0F),
        writes(states.writes(0)),
        pitch((params.reverse ? -1 : 1) * params.line) {
    void* const map = C::kOutput == ScanOutput::kSums ? params.sums : params.out;
    target = static_cast<Result*>(map) + block_.slice * params.plane +
             (params.reverse ? int64_t{params.steps - 1} * params.line : 0) + states.position(0);
  }

  __device__ __forceinline__ const char* stage() const {
    return stages + cursor.stage * layout.stageBytes;
  }
  // The lane's elements that lie from `place` of a stage on, if they were the block's first.
  __device__ __forceinline__ void read(int place, float (&values)[kRows]) const {
    const auto elements = *reinterpret_cast<const AlignedVector<T, kRows>*>(stage() + place);
#pragma unroll
    for (int r = 0; r < kRows; ++r) values[r] = toFloat(elements.values[r]);
  }

  // The weights of the stage at the cursor. What lies behind the map's last step is read in vain.
  __device__ __forceinline__ void prepare(StripWeights<kRows> (&weights)[kStripGroup]) const {
    barrierWait(barriers.full + 8 * cursor.stage, cursor.parity);
#pragma unroll
    for (int s = 0; s < kStripGroup; ++s) {
      float x[kRows], lam[kRows];
      const int place = s * layout.pitch;
      const int tensor = kStripGroup * layout.pitch;
      read(place, x);
      read(place + tensor, lam);
      read(place + 2 * tensor, weights[s].minus);
      read(place + 3 * tensor, weights[s].centre);
      read(place + 4 * tensor, weights[s].plus);
      if (C::kNormalize != GSPN2_NORMALIZE_NONE) states.dropMissing(weights[s]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        weights[s].input[r] = x[r] * lam[r];
        normaliseFast<C::kNormalize>(weights[s].minus[r], weights[s].centre[r], weights[s].plus[r]);
      }
    }
  }

  __device__ __forceinline__ void release() {
    __syncwarp();
    if (states.lane == 0) barrierArrive(barriers.empty + 8 * cursor.stage);
    cursor.advance(p.stages);
  }

  // Writes the results of the steps from `begin` on. Whether a lane writes does not differ among
  // its positions: parts and lines are multiples of kRows.
  __device__ __forceinline__ void emit(int begin, const float (&walked)[kStripGroup][kRows]) {
#pragma unroll
    for (int s = 0; s < kStripGroup; ++s) {
      if (writes && begin + s < p.steps) emitStep(s, walked[s]);
      target += pitch;
    }
  }

  __device__ __forceinline__ void emitStep(int s, const float (&walked)[kRows]) const {
    float results[kRows];
    if constexpr (C::kGated) {
      float u[kRows];
      read(layout.gateOffset + s * layout.pitch, u);
#pragma unroll
      for (int r = 0; r < kRows; ++r) results[r] = merge * (u[r] * walked[r]);
    } else {
#pragma unroll
      for (int r = 0; r < kRows; ++r) results[r] = walked[r];
    }
    if constexpr (C::kOutput == ScanOutput::kSums) {
      AlignedVector<float, kRows> sums;
#pragma unroll
      for (int r = 0; r < kRows; ++r) sums.values[r] = results[r];
      if (p.add) {
        addVector(target, sums);
      } else {
        *reinterpret_cast<AlignedVector<float, kRows>*>(target) = sums;
      }
    } else {
      if constexpr (C::kStagesSums) {
        const auto sums = *reinterpret_cast<const AlignedVector<float, kRows>*>(
            stage() + layout.sumOffset + s * stripExtent(kRows, p.warps) * 4 +
            states.first * (4 - static_cast<int>(sizeof(T))));
#pragma unroll
        for (int r = 0; r < kRows; ++r) results[r] += sums.values[r];
      }
      AlignedVector<T, kRows> rounded;
#pragma unroll
      for (int r = 0; r < kRows; ++r) rounded.values[r] = fromFloat<T>(results[r]);
      *reinterpret_cast<AlignedVector<T, kRows>*>(target) = rounded;
    }
  }

  __device__ __forceinline__ static void addVector(float* to,
                                                   const AlignedVector<float, kRows>& values) {
    if constexpr (kRows == 4) {
      addToGlobal(
          to, make_float4(values.values[0], values.values[1], values.values[2], values.values[3]));
    } else if constexpr (kRows == 2) {
      addToGlobal(to, make_float2(values.values[0], values.values[1]));
    } else {
      static_assert(kRows == 1, "unsupported vector");
      addToGlobal(to, values.values[0]);
    }
  }

  __device__ __forceinline__ void scan() {
    StripWeights<kRows> weights[kStripGroup];
    prepare(weights);
    if constexpr (!C::kGated) release();
    bool exchanges = false;  // behind every other group
    for (int begin = 0; begin < p.steps; begin += kStripGroup, exchanges = !exchanges) {
      const bool last = begin + kStripGroup >= p.steps;
      const uint32_t restarts = states.template restarts<kStripGroup>();
      float walked[kStripGroup][kRows];
#pragma unroll
      for (int s = 0; s < kStripGroup; ++s) {
        states.step(weights[s], (restarts >> s & 1U) != 0, [] {});
#pragma unroll
        for (int r = 0; r < kRows; ++r) walked[s][r] = states.h[r];
      }
      if (exchanges && !last) states.publish();
      emit(begin, walked);
      if constexpr (C::kGated) release();  // u and the sums have been read
      if (last) break;
      prepare(weights);
      if constexpr (!C::kGated) release();
      if (exchanges) states.take();
    }
  }
};

template <typename C>
__global__ void __launch_bounds__(C::kMaxThreads, 1)
    stripRowsKernel(const __grid_constant__ StripParams p) {
  startNextDirection<C::kOutput>(p);
  char* const shared = dynamicShared<char>();
  const StripLayout layout =
      rowLayout(C::kOutput, C::kRows, p.warps, p.stages, static_cast<int>(sizeof(typename C::T)));
  const StripBarriers barriers(sharedAddress(shared + layout.barrierOffset), p.stages);
  const StripExchange exchange(sharedAddress(shared + layout.exchangeOffset), layout.positions);
  const StripBlock block(p);
  if (threadIdx.x == 0) barriers.init(p, p.bulk ? p.producers : kWarpLanes);
  exchange.clear();
  awaitPeers(p.parts);
  const int producer = static_cast<int>(threadIdx.x) - p.warps * kWarpLanes;
  if (producer >= 0) {
    produceStripRows<C>(p, block, layout, sharedAddress(shared), barriers, producer);
  } else {
    RowWalker<C>(p, block, barriers, layout, exchange, shared).scan();
  }
  endBehindPreviousDirection<C::kOutput>(p);
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_ROWS_CUH_
