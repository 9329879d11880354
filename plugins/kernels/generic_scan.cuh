// The generic scan: one thread per position of the line, walking the steps in short runs.
//
// A slice is one (n, c) plane; an item is a slice's group of whole segments. Lines of up to 32
// positions are packed into warps and exchange by shuffles, lines of up to 1024 take a block and
// exchange through shared memory; longer ones stride over their positions (generic_long.cuh). A
// thread reads kRunSteps steps of its position at once: across the scan's steps these are coalesced
// accesses; along them, lines of a block go through a transposition (generic_transposed.cuh).
#ifndef GSPN2_KERNELS_GENERIC_SCAN_CUH_
#define GSPN2_KERNELS_GENERIC_SCAN_CUH_

#include "common.cuh"

namespace gspn2 {

constexpr int kMaxBlock = 1024;
constexpr int kPackedBlock = 128;  // threads of a block of packed warps
constexpr int kRunSteps = 4;
constexpr int kManySteps = 1 << 16;  // more than any run or tile holds
constexpr int kRunAlignment = 16;    // of every pointer, where runs along the steps are one access

// What a launch needs to know. Offsets of direction k of a four-direction op are in the pointers.
template <typename T>
struct ScanParams {
  const T *x, *lam, *w;
  const T *u, *d, *m;  // prop2d only; d and m may be null, m points to this direction's weight
  T* out;              // h, or y
  float* sums;         // prop2d only: float32 (N, C, H, W); may be y itself
  float* lines;        // long lines only: two lines of state for each block
  int64_t slices, channels, affinities;   // N * C, C, G
  int64_t steps, line, plane;             // steps of the scan, positions of a line, H * W
  int64_t start;                          // offset of the scan's first step in a plane
  int64_t stepStride, lineStride;         // elements from a step, a position, to the next; signed
  int64_t gateBatchStride, wBatchStride;  // elements between batch entries of lam, u, d and of w
  int64_t chunk;                          // steps of a segment, never 0
  int64_t groupSteps, groups;             // steps of an item, items of a slice
  gspn2_normalize_t normalize;
  bool reverse, aligned;      // aligned: runs along the steps are one access each
  bool accumulate, finalise;  // prop2d only: add to `sums`; write y instead of `sums`
};

// Offsets of an item's first step at position 0 in x, in the gates and in w, and its steps.
struct Item {
  int64_t x, gate, w;
  int64_t count;  // 0 where there is no such item
};

template <typename T>
__device__ __forceinline__ Item locateItem(const ScanParams<T>& p, int64_t index) {
  if (index >= p.slices * p.groups) return {0, 0, 0, 0};
  const int64_t slice = index / p.groups;
  const int64_t first = (index - slice * p.groups) * p.groupSteps;
  const int64_t n = slice / p.channels;
  const int64_t c = slice - n * p.channels;
  const int64_t inPlane = p.start + first * p.stepStride;
  const int64_t w = n * p.wBatchStride + (p.affinities == 1 ? 0 : c * p.plane);
  const int64_t count = p.steps - first < p.groupSteps ? p.steps - first : p.groupSteps;
  return {slice * p.plane + inPlane, n * p.gateBatchStride + c * p.plane + inPlane, w + inPlane,
          count};
}

// How many of a run's steps exist: the run starts at step t of `count`.
__device__ __forceinline__ int stepsLeft(int64_t count, int64_t t) {
  const int64_t left = count - t;
  return left > kManySteps ? kManySteps : static_cast<int>(left);
}

// ---- runs of one position -----------------------------------------------------------------------

// Values of a run of consecutive steps of one position, in scan order.
template <typename E>
struct alignas(kRunSteps * sizeof(E)) Steps {
  E values[kRunSteps];
};

template <typename E>
__device__ __forceinline__ Steps<E> flip(const Steps<E>& run) {
  Steps<E> flipped;
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) flipped.values[i] = run.values[kRunSteps - 1 - i];
  return flipped;
}

// The first `valid` steps of the run that starts at `at`; the rest is 0, and `valid` may exceed the
// run. Plain loads: `at` may lie in a tensor that this launch also writes.
template <bool kHorizontal, typename T, typename E>
__device__ __forceinline__ Steps<E> loadSteps(const ScanParams<T>& p, const E* at, int valid) {
  if (kHorizontal && p.aligned && valid >= kRunSteps) {
    if (!p.reverse) return *reinterpret_cast<const Steps<E>*>(at);
    return flip(*reinterpret_cast<const Steps<E>*>(at - (kRunSteps - 1)));
  }
  Steps<E> run;
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) {
    run.values[i] = i < valid ? at[i * p.stepStride] : fromFloat<E>(0.0F);
  }
  return run;
}

template <bool kHorizontal, typename T, typename E>
__device__ __forceinline__ void storeSteps(const ScanParams<T>& p, E* at, int valid,
                                           const Steps<E>& run) {
  if (kHorizontal && p.aligned && valid >= kRunSteps) {
    if (p.reverse) {
      *reinterpret_cast<Steps<E>*>(at - (kRunSteps - 1)) = flip(run);
    } else {
      *reinterpret_cast<Steps<E>*>(at) = run;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) {
    if (i < valid) at[i * p.stepStride] = run.values[i];
  }
}

template <typename E>
__device__ __forceinline__ Steps<E> convertSteps(const Steps<float>& run) {
  Steps<E> converted;
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) converted.values[i] = fromFloat<E>(run.values[i]);
  return converted;
}

// The inputs of a run of steps at one position.
template <typename T>
struct Inputs {
  Steps<T> x, lam, minus, centre, plus;
};

// `at` is the run's first step in x, in the gates and in w.
template <bool kHorizontal, typename T>
__device__ __forceinline__ Inputs<T> loadInputs(const ScanParams<T>& p, const Item& at, int valid) {
  const int64_t neighbour = p.affinities * p.plane;
  const T* w = p.w + at.w;
  return {loadSteps<kHorizontal>(p, p.x + at.x, valid),
          loadSteps<kHorizontal>(p, p.lam + at.gate, valid), loadSteps<kHorizontal>(p, w, valid),
          loadSteps<kHorizontal>(p, w + neighbour, valid),
          loadSteps<kHorizontal>(p, w + 2 * neighbour, valid)};
}

// m (u h + d x), added to what the earlier directions left in `sums`; the last one writes y.
template <bool kHorizontal, typename T>
__device__ __forceinline__ void mergeSteps(const ScanParams<T>& p, const Item& at, int valid,
                                           float merge, const Steps<float>& states,
                                           const Steps<T>& x) {
  const auto u = loadSteps<kHorizontal>(p, p.u + at.gate, valid);
  Steps<float> parts;
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) parts.values[i] = toFloat(u.values[i]) * states.values[i];
  if (p.d != nullptr) {
    const auto d = loadSteps<kHorizontal>(p, p.d + at.gate, valid);
#pragma unroll
    for (int i = 0; i < kRunSteps; ++i) {
      parts.values[i] = fmaf(toFloat(d.values[i]), toFloat(x.values[i]), parts.values[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) parts.values[i] *= merge;
  if (p.accumulate) {
    const auto sums = loadSteps<kHorizontal>(p, p.sums + at.x, valid);
#pragma unroll
    for (int i = 0; i < kRunSteps; ++i) parts.values[i] += sums.values[i];
  }
  if (p.finalise) {
    storeSteps<kHorizontal>(p, p.out + at.x, valid, convertSteps<T>(parts));
  } else {
    storeSteps<kHorizontal>(p, p.sums + at.x, valid, parts);
  }
}

// ---- lines in a warp or a block -----------------------------------------------------------------

// Zeroes the two cells beyond each end of the block's two lines of state.
__device__ __forceinline__ void zeroLineEnds(float* lines, int pitch) {
  if (threadIdx.x < 4) {
    lines[(threadIdx.x / 2) * pitch + (threadIdx.x % 2) * (pitch - 1)] = 0.0F;
  }
  __syncthreads();
}

// Lines of up to 32 positions (kPacked: `lanes` lanes to an item) or up to 1024 (a block each).
template <typename T, bool kHorizontal, bool kProp, bool kPacked>
__global__ void __launch_bounds__(kPacked ? kPackedBlock : kMaxBlock)
    scanKernel(const __grid_constant__ ScanParams<T> p, int lanes) {
  // Two lines of state, each between two zeros; unused if packed.
  float* const shared = dynamicShared<float>();
  const int pitch = static_cast<int>(p.line) + 2;
  const int position = kPacked ? static_cast<int>(threadIdx.x) % lanes : threadIdx.x;
  const int itemsPerBlock = kPacked ? static_cast<int>(blockDim.x) / lanes : 1;
  const int itemInBlock = kPacked ? static_cast<int>(threadIdx.x) / lanes : 0;
  const bool inLine = position < p.line;
  const bool hasMinus = position > 0;
  const bool hasPlus = position + 1 < p.line;
  const float merge = kProp && p.m != nullptr ? toFloat(*p.m) : 1.0F;
  if constexpr (!kPacked) zeroLineEnds(shared, pitch);

  const int64_t items = p.slices * p.groups;
  const int64_t longest = p.groupSteps < p.steps ? p.groupSteps : p.steps;
  const int64_t runStride = kRunSteps * p.stepStride;
  for (int64_t block = static_cast<int64_t>(blockIdx.x) * itemsPerBlock; block < items;
       block += static_cast<int64_t>(gridDim.x) * itemsPerBlock) {
    Item at = locateItem(p, block + itemInBlock);  // moves along with the runs
    const int64_t count = inLine ? at.count : 0;
    at.x += position * p.lineStride;
    at.gate += position * p.lineStride;
    at.w += position * p.lineStride;
    float h = 0.0F;
    int64_t phase = 0;  // steps since the segment's start
    int parity = 0;
    Inputs<T> next = loadInputs<kHorizontal>(p, at, stepsLeft(count, 0));
    // Every thread takes every iteration, so that barriers and shuffles are met by all.
    for (int64_t t = 0; t < longest; t += kRunSteps) {
      const Inputs<T> now = next;
      const Item here = at;
      const int valid = stepsLeft(count, t);
      const int all = stepsLeft(longest, t);
      at.x += runStride;
      at.gate += runStride;
      at.w += runStride;
      // One run ahead of the chain, unless prop2d needs the registers for its gates.
      if constexpr (!kProp) next = loadInputs<kHorizontal>(p, at, valid - kRunSteps);
      Steps<float> states;
#pragma unroll
      for (int i = 0; i < kRunSteps; ++i) {
        if (i < all) {
          float minus, plus;
          if constexpr (kPacked) {
            minus = __shfl_up_sync(kFullMask, h, 1, lanes);
            plus = __shfl_down_sync(kFullMask, h, 1, lanes);
            minus = hasMinus ? minus : 0.0F;
            plus = hasPlus ? plus : 0.0F;
          } else {
            const int cell = inLine ? position : 0;
            minus = shared[parity * pitch + cell];
            plus = shared[parity * pitch + cell + 2];
          }
          const float x = toFloat(now.x.values[i]);
          const Weights weights =
              normalise(p.normalize, toFloat(now.minus.values[i]), toFloat(now.centre.values[i]),
                        toFloat(now.plus.values[i]), hasMinus, hasPlus);
          h = stepState(weights, minus, h, plus, toFloat(now.lam.values[i]) * x, phase == 0);
          phase = phase + 1 == p.chunk ? 0 : phase + 1;
          if constexpr (!kPacked) {
            parity ^= 1;
            if (inLine) shared[parity * pitch + position + 1] = h;
            __syncthreads();
          }
          states.values[i] = h;
        }
      }
      if constexpr (kProp) {
        mergeSteps<kHorizontal>(p, here, valid, merge, states, now.x);
        next = loadInputs<kHorizontal>(p, at, valid - kRunSteps);
      } else {
        storeSteps<kHorizontal>(p, p.out + here.x, valid, convertSteps<T>(states));
      }
    }
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_GENERIC_SCAN_CUH_
