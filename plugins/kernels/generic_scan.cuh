// The generic scan: one thread per position of the line, walking the steps in short runs.
//
// A slice is one (n, c) plane; an item is a slice's group of whole segments. Lines of up to 32
// positions are packed into warps and exchange by shuffles, lines of up to 1024 take a block and
// exchange through shared memory; longer ones stride over their positions (scanLongKernel). A
// thread reads kRunSteps steps of its position at once: along the contiguous axis that is one
// access of 8 or 16 bytes, across it as many coalesced ones.
#ifndef GSPN2_KERNELS_GENERIC_SCAN_CUH_
#define GSPN2_KERNELS_GENERIC_SCAN_CUH_

#include "common.cuh"

namespace gspn2 {

constexpr int kMaxBlock = 1024;
constexpr int kPackedBlock = 128;  // threads of a block of packed warps
constexpr int kRunSteps = 4;
constexpr int kRunAlignment = 16;  // of every pointer, where runs along the steps are one access

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
  int64_t stepStride, lineStride;         // elements between steps, between positions
  int64_t gateBatchStride, wBatchStride;  // elements between batch entries of lam, u, d and of w
  int64_t chunk;                          // steps of a segment, never 0
  int64_t groupSteps, groups;             // steps of an item, items of a slice
  gspn2_normalize_t normalize;
  bool reverse, aligned;      // aligned: runs along the steps are one access each
  bool accumulate, finalise;  // prop2d only: add to `sums`; write y instead of `sums`
};

// Offsets of one item at step 0, position 0 in image coordinates, and its range of scan steps.
struct Item {
  int64_t x, gate, w, first;
  int64_t count;  // 0 where there is no such item
};

template <typename T>
__device__ __forceinline__ Item locateItem(const ScanParams<T>& p, int64_t index) {
  if (index >= p.slices * p.groups) return {0, 0, 0, 0, 0};
  const int64_t slice = index / p.groups;
  const int64_t first = (index - slice * p.groups) * p.groupSteps;
  const int64_t n = slice / p.channels;
  const int64_t c = slice - n * p.channels;
  const int64_t w = n * p.wBatchStride + (p.affinities == 1 ? 0 : c * p.plane);
  const int64_t count = p.steps - first < p.groupSteps ? p.steps - first : p.groupSteps;
  return {slice * p.plane, n * p.gateBatchStride + c * p.plane, w, first, count};
}

// Image coordinate of a scan step.
template <typename T>
__device__ __forceinline__ int64_t imageStep(const ScanParams<T>& p, int64_t step) {
  return p.reverse ? p.steps - 1 - step : step;
}

// Values of a run of consecutive steps of one position, in scan order.
template <typename E>
struct alignas(kRunSteps * sizeof(E)) Steps {
  E values[kRunSteps];
};

// Whether a run is one aligned access, and the image coordinate where it starts.
template <bool kHorizontal, typename T>
__device__ __forceinline__ bool isContiguous(const ScanParams<T>& p, int64_t valid) {
  return kHorizontal && p.aligned && valid >= kRunSteps;
}
template <typename T>
__device__ __forceinline__ int64_t lowestImageStep(const ScanParams<T>& p, int64_t step) {
  return p.reverse ? p.steps - step - kRunSteps : step;
}

template <typename E>
__device__ __forceinline__ Steps<E> flip(const Steps<E>& run) {
  Steps<E> flipped;
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) flipped.values[i] = run.values[kRunSteps - 1 - i];
  return flipped;
}

// Steps [step, step + valid) of the position at `base`; the rest is 0, and `valid` may exceed the
// run. Plain loads: `base` may be a tensor that this launch also writes.
template <bool kHorizontal, typename T, typename E>
__device__ __forceinline__ Steps<E> loadSteps(const ScanParams<T>& p, const E* base, int64_t step,
                                              int64_t valid) {
  if (isContiguous<kHorizontal>(p, valid)) {
    const auto run = *reinterpret_cast<const Steps<E>*>(base + lowestImageStep(p, step));
    return p.reverse ? flip(run) : run;
  }
  Steps<E> run;
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) {
    run.values[i] = i < valid ? base[imageStep(p, step + i) * p.stepStride] : fromFloat<E>(0.0F);
  }
  return run;
}

template <bool kHorizontal, typename T, typename E>
__device__ __forceinline__ void storeSteps(const ScanParams<T>& p, E* base, int64_t step,
                                           int64_t valid, const Steps<E>& run) {
  if (isContiguous<kHorizontal>(p, valid)) {
    *reinterpret_cast<Steps<E>*>(base + lowestImageStep(p, step)) = p.reverse ? flip(run) : run;
    return;
  }
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) {
    if (i < valid) base[imageStep(p, step + i) * p.stepStride] = run.values[i];
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

template <bool kHorizontal, typename T>
__device__ __forceinline__ Inputs<T> loadInputs(const ScanParams<T>& p, const Item& item,
                                                int64_t position, int64_t step, int64_t valid) {
  const int64_t at = position * p.lineStride;
  const int64_t neighbour = p.affinities * p.plane;
  const T* w = p.w + item.w + at;
  return {loadSteps<kHorizontal>(p, p.x + item.x + at, step, valid),
          loadSteps<kHorizontal>(p, p.lam + item.gate + at, step, valid),
          loadSteps<kHorizontal>(p, w, step, valid),
          loadSteps<kHorizontal>(p, w + neighbour, step, valid),
          loadSteps<kHorizontal>(p, w + 2 * neighbour, step, valid)};
}

// m (u h + d x), added to what the earlier directions left in `sums`; the last one writes y.
template <bool kHorizontal, typename T>
__device__ __forceinline__ void mergeSteps(const ScanParams<T>& p, const Item& item,
                                           int64_t position, int64_t step, int64_t valid,
                                           float merge, const Steps<float>& states,
                                           const Steps<T>& x) {
  const int64_t at = position * p.lineStride;
  const auto u = loadSteps<kHorizontal>(p, p.u + item.gate + at, step, valid);
  Steps<float> parts;
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) parts.values[i] = toFloat(u.values[i]) * states.values[i];
  if (p.d != nullptr) {
    const auto d = loadSteps<kHorizontal>(p, p.d + item.gate + at, step, valid);
#pragma unroll
    for (int i = 0; i < kRunSteps; ++i) {
      parts.values[i] = fmaf(toFloat(d.values[i]), toFloat(x.values[i]), parts.values[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kRunSteps; ++i) parts.values[i] *= merge;
  if (p.accumulate) {
    const auto sums = loadSteps<kHorizontal>(p, p.sums + item.x + at, step, valid);
#pragma unroll
    for (int i = 0; i < kRunSteps; ++i) parts.values[i] += sums.values[i];
  }
  if (p.finalise) {
    storeSteps<kHorizontal>(p, p.out + item.x + at, step, valid, convertSteps<T>(parts));
  } else {
    storeSteps<kHorizontal>(p, p.sums + item.x + at, step, valid, parts);
  }
}

// Lines of up to 32 positions (kPacked: `lanes` lanes to an item) or up to 1024 (a block each).
template <typename T, bool kHorizontal, bool kProp, bool kPacked>
__global__ void __launch_bounds__(kPacked ? kPackedBlock : kMaxBlock)
    scanKernel(const __grid_constant__ ScanParams<T> p, int lanes) {
  extern __shared__ float shared[];  // two lines of state, each between two zeros; unused if packed
  const int pitch = static_cast<int>(p.line) + 2;
  const int position = kPacked ? static_cast<int>(threadIdx.x) % lanes : threadIdx.x;
  const int itemsPerBlock = kPacked ? static_cast<int>(blockDim.x) / lanes : 1;
  const int itemInBlock = kPacked ? static_cast<int>(threadIdx.x) / lanes : 0;
  const bool inLine = position < p.line;
  const bool hasMinus = position > 0;
  const bool hasPlus = position + 1 < p.line;
  const float merge = kProp && p.m != nullptr ? toFloat(*p.m) : 1.0F;
  if constexpr (!kPacked) {
    if (threadIdx.x < 4) {
      shared[(threadIdx.x / 2) * pitch + (threadIdx.x % 2) * (pitch - 1)] = 0.0F;
    }
    __syncthreads();
  }

  const int64_t items = p.slices * p.groups;
  const int64_t longest = p.groupSteps < p.steps ? p.groupSteps : p.steps;
  for (int64_t block = static_cast<int64_t>(blockIdx.x) * itemsPerBlock; block < items;
       block += static_cast<int64_t>(gridDim.x) * itemsPerBlock) {
    const Item item = locateItem(p, block + itemInBlock);
    const int64_t count = inLine ? item.count : 0;
    float h = 0.0F;
    int64_t phase = 0;  // steps since the segment's start
    int parity = 0;
    // One run ahead of the chain, where the registers last: prop2d needs them for its gates.
    Inputs<T> next = loadInputs<kHorizontal>(p, item, position, item.first, count);
    // Every thread takes every iteration, so that barriers and shuffles are met by all.
    for (int64_t t = 0; t < longest; t += kRunSteps) {
      const Inputs<T> now = next;
      if (!kProp && t + kRunSteps < longest) {
        next = loadInputs<kHorizontal>(p, item, position, item.first + t + kRunSteps,
                                       count - t - kRunSteps);
      }
      Steps<float> states;
#pragma unroll
      for (int i = 0; i < kRunSteps; ++i) {
        if (t + i < longest) {
          float minus, plus;
          if constexpr (kPacked) {
            minus = __shfl_up_sync(kFullMask, h, 1, lanes);
            plus = __shfl_down_sync(kFullMask, h, 1, lanes);
            minus = hasMinus ? minus : 0.0F;
            plus = hasPlus ? plus : 0.0F;
          } else {
            const int at = inLine ? position : 0;
            minus = shared[parity * pitch + at];
            plus = shared[parity * pitch + at + 2];
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
        mergeSteps<kHorizontal>(p, item, position, item.first + t, count - t, merge, states, now.x);
        if (t + kRunSteps < longest) {
          next = loadInputs<kHorizontal>(p, item, position, item.first + t + kRunSteps,
                                         count - t - kRunSteps);
        }
      } else {
        storeSteps<kHorizontal>(p, p.out + item.x + position * p.lineStride, item.first + t,
                                count - t, convertSteps<T>(states));
      }
    }
  }
}

// The same for one element, where a line is too long to hold a run of it in registers.
template <typename T>
__device__ __forceinline__ void mergeElement(const ScanParams<T>& p, const Item& item,
                                             int64_t offset, float merge, float h, float x) {
  float part = toFloat(p.u[item.gate + offset]) * h;
  if (p.d != nullptr) part = fmaf(toFloat(p.d[item.gate + offset]), x, part);
  part *= merge;
  if (p.accumulate) part += p.sums[item.x + offset];
  if (p.finalise) {
    p.out[item.x + offset] = fromFloat<T>(part);
  } else {
    p.sums[item.x + offset] = part;
  }
}

// Lines of any length: a block strides over the positions, its two lines of state stand in shared
// memory (kShared) or in the workspace.
template <typename T, bool kProp, bool kShared>
__global__ void __launch_bounds__(kMaxBlock)
    scanLongKernel(const __grid_constant__ ScanParams<T> p) {
  extern __shared__ float shared[];
  float* const lines = kShared ? shared : p.lines + 2 * p.line * blockIdx.x;
  const float merge = kProp && p.m != nullptr ? toFloat(*p.m) : 1.0F;
  const int64_t neighbour = p.affinities * p.plane;

  const int64_t items = p.slices * p.groups;
  for (int64_t index = blockIdx.x; index < items; index += gridDim.x) {
    const Item item = locateItem(p, index);
    int64_t phase = 0;
    for (int64_t t = 0; t < item.count; ++t) {
      const float* const last = lines + (t % 2) * p.line;
      float* const current = lines + ((t + 1) % 2) * p.line;
      const int64_t row = imageStep(p, item.first + t) * p.stepStride;
      const bool restart = phase == 0;
#pragma unroll 4
      for (int64_t position = threadIdx.x; position < p.line; position += blockDim.x) {
        const bool hasMinus = position > 0;
        const bool hasPlus = position + 1 < p.line;
        const int64_t offset = row + position * p.lineStride;
        const T* w = p.w + item.w + offset;
        const float x = toFloat(__ldg(p.x + item.x + offset));
        const float input = toFloat(__ldg(p.lam + item.gate + offset)) * x;
        const Weights weights =
            normalise(p.normalize, toFloat(__ldg(w)), toFloat(__ldg(w + neighbour)),
                      toFloat(__ldg(w + 2 * neighbour)), hasMinus, hasPlus);
        // At a restart the previous line may not have been written at all.
        const float minus = hasMinus && !restart ? last[position - 1] : 0.0F;
        const float centre = restart ? 0.0F : last[position];
        const float plus = hasPlus && !restart ? last[position + 1] : 0.0F;
        const float h = stepState(weights, minus, centre, plus, input, restart);
        current[position] = h;
        if constexpr (kProp) {
          mergeElement(p, item, offset, merge, h, x);
        } else {
          p.out[item.x + offset] = fromFloat<T>(h);
        }
      }
      phase = phase + 1 == p.chunk ? 0 : phase + 1;
      __syncthreads();
    }
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_GENERIC_SCAN_CUH_
