// What both forms of GspnProp2D on chip share: how a direction's steps lie in shared memory, who
// turns affinities into weights there, and the warp that walks the steps.
//
// A direction is five arrays of floats or six: the weights of the positions before, at and behind
// the own, and lam * x of one channel or of two that share their affinities. A step's positions lie
// side by side, one step behind the other. The walker leaves the states where lam * x was.
#ifndef GSPN2_KERNELS_ONCHIP_SCAN_CUH_
#define GSPN2_KERNELS_ONCHIP_SCAN_CUH_

#include "common.cuh"
#include "hopper.cuh"
#include "onchip_layout.h"
#include "tiled_math.cuh"

namespace gspn2 {

// One direction of a map.
struct OnchipScan {
  bool horizontal, reverse;
  int steps, line;
  int pitch;  // floats from one step to the next
  int size;   // floats of an array

  __device__ __forceinline__ OnchipScan(const OnchipParams& p, int direction, int rows) {
    horizontal = direction < 2;
    reverse = (direction & 1) != 0;
    steps = horizontal ? p.width : p.height;
    line = horizontal ? p.height : p.width;
    pitch = onchipPitch(line, rows);
    size = p.array / 4 * 4;  // which it is: so the compiler knows what is aligned
  }
};

// Where adjacent columns of a row lie in a scan's arrays, and which of them end its line.
struct OnchipPlace {
  int index;           // of the first column
  int stride;          // from one column to the next; 1 where columns are positions
  bool starts, ends;   // whether the first, the last column is the line's first, last position
  bool isOnePosition;  // whether the columns are steps of one position: then all are

  __device__ __forceinline__ OnchipPlace(const OnchipScan& scan, int row, int column, int count) {
    const int along = scan.horizontal ? column : row;
    const int position = scan.horizontal ? row : column;
    index = (scan.reverse ? scan.steps - 1 - along : along) * scan.pitch + position;
    stride = !scan.horizontal ? 1 : scan.reverse ? -scan.pitch : scan.pitch;
    isOnePosition = scan.horizontal;
    starts = position == 0;
    ends = position + (isOnePosition ? 1 : count) == scan.line;
  }
};

// What a scan reads of adjacent columns. By no read-only load: the kernel's life overlaps that of
// the one that writes what is read.
template <typename T, int kVector, int kChannels>
struct OnchipInputs {
  PackedVector<T, kVector> x[kChannels], lam[kChannels], minus, centre, plus;
};

// The scanned tensors of a slice and direction, from the first of kChannels channels on.
template <typename T, int kVector, int kChannels>
struct OnchipSource {
  const T *x, *lam, *w;
  int elements;           // of a map
  int64_t affinityPlane;  // elements between the three affinities

  __device__ __forceinline__ OnchipInputs<T, kVector, kChannels> load(int offset) const {
    OnchipInputs<T, kVector, kChannels> inputs;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      inputs.x[c] = PackedVector<T, kVector>::read(x + c * elements + offset);
      inputs.lam[c] = PackedVector<T, kVector>::read(lam + c * elements + offset);
    }
    inputs.minus = PackedVector<T, kVector>::read(w + offset);
    inputs.centre = PackedVector<T, kVector>::read(w + affinityPlane + offset);
    inputs.plus = PackedVector<T, kVector>::read(w + 2 * affinityPlane + offset);
    return inputs;
  }
};

// Adjacent columns' values to their places in each array, or from those in one. Vectors begin at a
// multiple of their length on a line whose pitch is even.
template <int kArrays, int kVector>
__device__ __forceinline__ void storePlaces(float* arrays, int size, const OnchipPlace& place,
                                            const float (&values)[kArrays][kVector]) {
  if (kVector > 1 && !place.isOnePosition) {
#pragma unroll
    for (int i = 0; i < kArrays; ++i) {
#pragma unroll
      for (int v = 0; v + 1 < kVector; v += 2) {
        const float pair[2] = {values[i][v], values[i][v + 1]};
        storeSharedFloats(sharedAddress(arrays + i * size + place.index + v), pair);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < kArrays; ++i) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        arrays[i * size + place.index + v * place.stride] = values[i][v];
      }
    }
  }
}
template <int kVector>
__device__ __forceinline__ void loadPlaces(const float* array, const OnchipPlace& place,
                                           float (&values)[kVector]) {
  if (kVector > 1 && !place.isOnePosition) {
#pragma unroll
    for (int v = 0; v + 1 < kVector; v += 2) {
      const auto pair = *reinterpret_cast<const float2*>(array + place.index + v);
      values[v] = pair.x;
      values[v + 1] = pair.y;
    }
  } else {
#pragma unroll
    for (int v = 0; v < kVector; ++v) values[v] = array[place.index + v * place.stride];
  }
}

template <int kVector>
__device__ __forceinline__ void normaliseVector(gspn2_normalize_t mode, float (&minus)[kVector],
                                                float (&centre)[kVector], float (&plus)[kVector]) {
  if (mode == GSPN2_NORMALIZE_SIGMOID) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) normaliseSigmoid(minus[v], centre[v], plus[v]);
  } else if (mode == GSPN2_NORMALIZE_SOFTMAX) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) normaliseSoftmax(minus[v], centre[v], plus[v]);
  }
}

// Writes what the walker reads.
template <typename T, int kVector, int kChannels>
__device__ __forceinline__ void storeWeights(const OnchipInputs<T, kVector, kChannels>& inputs,
                                             const OnchipPlace& place, gspn2_normalize_t mode,
                                             float* arrays, int size) {
  const float missing = mode == GSPN2_NORMALIZE_NONE ? 0.0F : -INFINITY;
  float values[3 + kChannels][kVector];
#pragma unroll
  for (int v = 0; v < kVector; ++v) {
    const bool starts = place.starts && (v == 0 || place.isOnePosition);
    const bool ends = place.ends && (v == kVector - 1 || place.isOnePosition);
    values[0][v] = starts ? missing : inputs.minus[v];
    values[1][v] = inputs.centre[v];
    values[2][v] = ends ? missing : inputs.plus[v];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) values[3 + c][v] = inputs.lam[c][v] * inputs.x[c][v];
  }
  normaliseVector(mode, values[0], values[1], values[2]);
  storePlaces(arrays, size, place, values);
}

// The warp that walks the steps, kRows positions to a lane. From a step's states to the next one's
// it is a shuffle and a fused multiply-add: missing neighbours are left out by predicates, which
// cost nothing on that way, and addresses are counted up. A lane's positions are adjacent; but of
// eight, whose loads would meet on the same banks, each half lies with those of the other lanes.
template <int kRows, int kChannels>
struct OnchipWalker {
  static constexpr int kUnroll = 4;  // steps of a turn
  // Segments below this are not walked one by one: too few of their steps would be in whole turns.
  static constexpr int kLongSegment = 32;
  static constexpr int kArrays = 3 + kChannels;
  static constexpr int kParts = kRows > 6 ? 2 : 1;
  static constexpr int kAdjacent = kRows / kParts;  // positions of a part
  // A step's inputs are loaded so many steps before their use: a load takes about as long as one.
  // For two steps of two parts there are no registers, and the compiler would load both late.
  static constexpr int kAhead = kParts > 1 ? 1 : 2;

  using Values = float[kParts][kAdjacent];
  // What a step reads at a lane's positions.
  struct Inputs {
    Values minus, centre, plus, input[kChannels];
  };

  uint32_t from[kArrays];  // this lane's positions of the step that was loaded last
  uint32_t to[kChannels];  // of the step whose states were stored last
  uint32_t pitch;          // bytes of a step
  uint32_t toPart;         // bytes from the first part's positions to the second one's
  bool writes;             // whether the lane has positions on the line, of its last part
  bool hasBelow, hasAbove;
  bool inside[kAdjacent];  // of the last part: a first part of two is inside
  int lane;
  int chunk, phase;  // steps of a segment; since its start
  Values h[kChannels];
  float left[kChannels][kParts], right[kChannels][kParts];

  __device__ __forceinline__ OnchipWalker(const OnchipScan& scan, uint32_t arrays, int chunk_,
                                          int lane_)
      : pitch(static_cast<uint32_t>(4 * scan.pitch)),
        hasBelow(lane_ != 0),
        lane(lane_),
        chunk(chunk_ == 0 ? scan.steps : chunk_),
        phase(0) {
    // Lanes behind the line read what is there.
    const int first = min(lane * kAdjacent, scan.pitch - kAdjacent);
    const int last = ((kParts - 1) * kWarpSize + lane) * kAdjacent;  // of the last part
    toPart = static_cast<uint32_t>(4 * (min(last, scan.pitch - kAdjacent) - first));
    writes = last < scan.line;
    hasAbove = last + kAdjacent < scan.line;
#pragma unroll
    for (int i = 0; i < kArrays; ++i) {
      from[i] = keepInRegister(arrays + static_cast<uint32_t>(4 * (first + i * scan.size))) - pitch;
    }
#pragma unroll
    for (int r = 0; r < kAdjacent; ++r) inside[r] = last + r < scan.line;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      to[c] = from[3 + c];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int r = 0; r < kAdjacent; ++r) h[c][part][r] = 0.0F;
        left[c][part] = 0.0F;
        right[c][part] = 0.0F;
      }
    }
  }

  __device__ __forceinline__ void loadValues(uint32_t address, Values& values) const {
    loadSharedFloatsNow(address, values[0]);
    if constexpr (kParts > 1) loadSharedFloatsNow(address + toPart, values[1]);
  }

  // Loads the step that is `stride` bytes further on.
  __device__ __forceinline__ void load(Inputs& inputs, uint32_t stride) {
#pragma unroll
    for (int i = 0; i < kArrays; ++i) from[i] += stride;
    loadValues(from[0], inputs.minus);
    loadValues(from[1], inputs.centre);
    loadValues(from[2], inputs.plus);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) loadValues(from[3 + c], inputs.input[c]);
  }

  // Goes on so many steps before where it is in the arrays.
  __device__ __forceinline__ void rewind(int steps) {
#pragma unroll
    for (uint32_t& address : from) address -= steps * pitch;
#pragma unroll
    for (uint32_t& address : to) address -= steps * pitch;
  }

  // The states as one array.
  __device__ __forceinline__ float (&states())
      [kRows] { return reinterpret_cast<float (&)[kRows]>(h[0]); }

  // Goes on at the scan's `step` with states that another block has walked.
  __device__ __forceinline__ void goOn(int step) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c) passOn(c);
    phase = step % chunk;
  }

  // Gives the neighbouring lanes what they need of the states. Of two parts the first one's last
  // lane is next to the second one's first.
  __device__ __forceinline__ void passOn(int c) {
    constexpr int kEnd = kAdjacent - 1;
    if constexpr (kParts == 1) {
      left[c][0] = __shfl_up_sync(kFullMask, h[c][0][kEnd], 1);
      right[c][0] = __shfl_down_sync(kFullMask, h[c][0][0], 1);
    } else {
      constexpr int kLast = kWarpSize - 1;
      left[c][0] = __shfl_up_sync(kFullMask, h[c][0][kEnd], 1);
      right[c][1] = __shfl_down_sync(kFullMask, h[c][1][0], 1);
      const float below = lane == kLast ? h[c][0][kEnd] : h[c][1][kEnd];
      const float above = lane == 0 ? h[c][1][0] : h[c][0][0];
      left[c][1] = __shfl_sync(kFullMask, below, (lane + kLast) % kWarpSize);
      right[c][0] = __shfl_sync(kFullMask, above, (lane + 1) % kWarpSize);
    }
  }

  // A part's next states.
  __device__ __forceinline__ void advancePart(const Inputs& inputs, int c, int part,
                                              float (&next)[kAdjacent]) const {
    const bool isFirst = part == 0, isLast = part + 1 == kParts;
    const float* const minus = inputs.minus[part];
    const float* const plus = inputs.plus[part];
    const float* const before = h[c][part];
#pragma unroll
    for (int r = 0; r < kAdjacent; ++r) {
      next[r] = fmaf(inputs.centre[part][r], before[r], inputs.input[c][part][r]);
      // Only a lane's first position is inside for sure.
      if (r > 0) next[r] = fmaf(minus[r], before[r - 1], next[r]);
      if (r + 1 < kAdjacent && (!isLast || inside[r + 1])) {
        next[r] = fmaf(plus[r], before[r + 1], next[r]);
      }
    }
    if (!isFirst || hasBelow) next[0] = fmaf(minus[0], left[c][part], next[0]);
    if (!isLast || hasAbove)
      next[kAdjacent - 1] = fmaf(plus[kAdjacent - 1], right[c][part], next[kAdjacent - 1]);
  }

  // One step; where it starts a segment it takes its inputs, whatever the weights and the states
  // before it hold. Its shuffles go out as soon as the states are known, ahead of everything else
  // that waits for shared memory.
  __device__ __forceinline__ void step(const Inputs& inputs, bool starts) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        float next[kAdjacent];
        advancePart(inputs, c, part, next);
#pragma unroll
        for (int r = 0; r < kAdjacent; ++r) {
          h[c][part][r] = starts ? inputs.input[c][part][r] : next[r];
        }
      }
    }
#pragma unroll
    for (int c = 0; c < kChannels; ++c) passOn(c);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      to[c] += pitch;
      if (kParts > 1 || writes) storeSharedFloats(to[c], h[c][0]);
      if (kParts > 1 && writes) storeSharedFloats(to[c] + toPart, h[c][kParts - 1]);
    }
  }

  // Whole turns of steps: any step may start a segment, or the first one alone.
  template <bool kAnyStarts>
  __device__ __forceinline__ void walkTurns(int turns) {
    bool starts = phase == 0;
    Inputs inputs[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) load(inputs[j], pitch);
    for (; turns > 0; --turns) {
#pragma unroll
      for (int j = 0; j < kUnroll; ++j) {
        step(inputs[j % kAhead], kAnyStarts ? phase == 0 : j == 0 && starts);
        if (kAnyStarts) advance(1);
        // Behind the last turn there is nothing to load: the last step's inputs are read in vain.
        load(inputs[j % kAhead], j + kAhead < kUnroll || turns > 1 ? pitch : 0);
      }
      starts = false;
    }
  }
  // By steps that do not go past the segment's end.
  __device__ __forceinline__ void advance(int steps) {
    phase = phase + steps == chunk ? 0 : phase + steps;
  }

  // `count` steps, all of whose inputs are there.
  __device__ __forceinline__ void walk(int count) {
    const bool isLong = chunk >= kLongSegment;
    while (count > 0) {
      int run = isLong ? min(count, chunk - phase) : count;
      if (run >= kUnroll) {
        const int turns = run / kUnroll;
        run = turns * kUnroll;
        if (isLong) {
          walkTurns<false>(turns);
          advance(run);
        } else {
          walkTurns<true>(turns);
        }
      } else {
        for (int i = 0; i < run; ++i) {
          Inputs inputs;
          load(inputs, pitch);
          step(inputs, phase == 0);
          advance(1);
        }
      }
      count -= run;
    }
  }
};

// u h + d x of adjacent columns, or u h alone: what d and x hold is then not looked at.
template <typename T, int kVector>
__device__ __forceinline__ void gateStates(const PackedVector<T, kVector>& u, bool skips,
                                           const PackedVector<T, kVector>& d,
                                           const PackedVector<T, kVector>& x,
                                           float (&states)[kVector]) {
#pragma unroll
  for (int v = 0; v < kVector; ++v) {
    states[v] *= u[v];
    if (skips) states[v] = fmaf(d[v], x[v], states[v]);
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_ONCHIP_SCAN_CUH_
