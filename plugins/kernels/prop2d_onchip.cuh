// GspnProp2D on maps that fit on chip: compute capability 9.0 and later.
//
// A cluster of four blocks takes one slice, or two channels that share their affinities, each block
// a direction. A block's workers load its inputs, kVector elements at once and a batch of steps
// after the other, and turn affinities into weights; one warp walks the steps, kRows adjacent
// positions to a lane, meeting nobody inside a batch; the workers follow with u h + d x. Each block
// owns a quarter of the map: the parts of the sum are sent to their owners' shared memory, which
// adds them up in the order of the directions.
//
// With these roles the time is that of one load, the serial chain (one shuffle and two dependent
// fused multiply-adds to a step) and one exchange; the rest hides behind the chain.
#ifndef GSPN2_KERNELS_PROP2D_ONCHIP_CUH_
#define GSPN2_KERNELS_PROP2D_ONCHIP_CUH_

#include <type_traits>

#include "common.cuh"
#include "hopper.cuh"
#include "tiled_math.cuh"

namespace gspn2 {

constexpr int kOnchipDirections = 4;
constexpr int kOnchipMaxWorkers = 256;
constexpr int kOnchipMaxBatches = 128;
constexpr int kOnchipQuarterUnit = 8;  // a quarter is a multiple of this: no vector straddles two

struct OnchipParams {
  const void *x, *lam, *w, *u, *d, *m;  // d and m may be null
  void* y;
  int height, width;
  int channels, affinities;
  int chunk;  // 0: the whole line
  int workers;
};

// One step's weights of p-1, p, p+1 and lam * x at one position: x, y, z and w. The weights are 0
// at a segment's first step. The walker leaves the state in x. A second channel's lam * x, and then
// its state, lies in an array of its own.
using OnchipSlot = float4;

struct OnchipBarriers {
  uint64_t ready[kOnchipMaxBatches], done[kOnchipMaxBatches];  // a batch: weighed, walked
  uint64_t collected;                                          // every direction's parts
};

// Positions p, p + kVector, ... of a line lie side by side, so that neighbouring workers write to
// neighbouring slots; the planes' distance keeps the walker's reads on different banks.
__host__ __device__ inline int onchipPlane(int line, int vector) {
  const int plane = (line + vector - 1) / vector;
  const int wanted = vector == 4 ? 2 : 1;
  return plane + (wanted - plane % 4 + 4) % 4;
}
// A step's slots, one of them spare for the lanes outside the line.
__host__ __device__ inline int onchipPitch(int line, int vector) {
  return onchipPlane(line, vector) * vector + 1;
}
__host__ __device__ inline int onchipSlots(int height, int width, int vector) {
  const int vertical = height * onchipPitch(width, vector);
  const int horizontal = width * onchipPitch(height, vector);
  return vertical > horizontal ? vertical : horizontal;
}
__host__ __device__ inline int onchipQuarter(int elements) {
  const int unit = kOnchipDirections * kOnchipQuarterUnit;
  return (elements + unit - 1) / unit * kOnchipQuarterUnit;
}
// Floats of the second channel's array; the parts behind it start at a multiple of 16 bytes.
__host__ __device__ inline int onchipSeconds(int height, int width, int vector, int channels) {
  return channels == 1 ? 0 : (onchipSlots(height, width, vector) + 3) / 4 * 4;
}
inline size_t onchipShared(int height, int width, int vector, int channels) {
  const int parts = channels * kOnchipDirections * onchipQuarter(height * width);
  return sizeof(OnchipSlot) * static_cast<size_t>(onchipSlots(height, width, vector)) +
         sizeof(float) *
             static_cast<size_t>(onchipSeconds(height, width, vector, channels) + parts);
}

// One direction of a map, in batches of steps.
template <int kVector>
struct OnchipScan {
  bool horizontal, reverse;
  int steps, line, width;
  int plane, pitch;
  int batchUnits, batchSteps;

  __device__ __forceinline__ OnchipScan(const OnchipParams& p, int direction) {
    horizontal = direction < 2;
    reverse = (direction & 1) != 0;
    steps = horizontal ? p.width : p.height;
    line = horizontal ? p.height : p.width;
    width = p.width;
    plane = onchipPlane(line, kVector);
    pitch = onchipPitch(line, kVector);
    // A unit is what a whole number of vectors covers: two vectors of steps, or one step.
    const int unitVectors = horizontal ? 2 * line : line / kVector;
    batchUnits = p.workers / unitVectors;
    batchSteps = batchUnits * (horizontal ? 2 * kVector : 1);
  }
  __device__ __forceinline__ int slot(int position) const {
    return position % kVector * plane + position / kVector;
  }
};

// A worker's vector of a batch; the same one in every batch, `batchSteps` further on.
template <int kVector>
struct OnchipVector {
  int step;      // of its first element in scan order, or too large where there is no vector
  int position;  // of its first element in the map's order
  int offset;    // of its first element in the map's order
  int stride;    // elements of the map between steps

  __device__ __forceinline__ OnchipVector(const OnchipScan<kVector>& scan, int worker) {
    bool exists;
    if (scan.horizontal) {
      const int pair = worker / 2;
      const int unit = pair / scan.line;
      position = pair - unit * scan.line;
      step = (2 * unit + worker % 2) * kVector;
      exists = unit < scan.batchUnits;
      const int column = scan.reverse ? scan.steps - step - kVector : step;
      offset = position * scan.width + column;
      stride = scan.reverse ? -1 : 1;
    } else {
      const int vectors = scan.line / kVector;
      step = worker / vectors;
      position = (worker - step * vectors) * kVector;
      exists = step < scan.batchSteps;
      offset = (scan.reverse ? scan.steps - 1 - step : step) * scan.width + position;
      stride = scan.reverse ? -scan.width : scan.width;
    }
    if (!exists) step = 1 << 24;
  }
};

template <typename T, int kVector>
struct alignas(sizeof(T) * kVector) OnchipElements {
  T values[kVector];
};

template <typename T, int kVector>
__device__ __forceinline__ OnchipElements<T, kVector> loadElements(const T* source) {
  using Access = std::conditional_t<sizeof(T) * kVector == 16, uint4,
                                    std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>>;
  static_assert(sizeof(Access) == sizeof(T) * kVector, "unsupported access");
  OnchipElements<T, kVector> elements;
  *reinterpret_cast<Access*>(elements.values) = __ldg(reinterpret_cast<const Access*>(source));
  return elements;
}

// The warp that walks the steps.
template <int kRows, int kVector, int kChannels>
struct OnchipWalker {
  // Slots are loaded so many steps before their use: a load takes about as long as a step.
  static constexpr int kAhead = kRows == 4 ? 2 : 4;

  // What a step reads at a lane's positions.
  struct Inputs {
    OnchipSlot slots[kRows];
    float seconds[kRows];
  };

  uint32_t inside[kRows], at[kRows], secondsAt[kRows];
  uint32_t hasBelow, hasAbove;
  uint32_t pitch;  // slots of a step
  int chunk, phase;
  float h[kChannels][kRows];

  __device__ __forceinline__ OnchipWalker(const OnchipParams& p, const OnchipScan<kVector>& scan,
                                          uint32_t slots, uint32_t seconds, int lane)
      : hasBelow(lane == 0 ? 0U : ~0U),
        hasAbove(lane == kWarpSize - 1 ? 0U : ~0U),
        pitch(static_cast<uint32_t>(scan.pitch)),
        chunk(p.chunk),
        phase(0) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int position = lane * kRows + r;
      inside[r] = position < scan.line ? ~0U : 0U;
      const int slot = position < scan.line ? scan.slot(position) : scan.pitch - 1;
      at[r] = slots + 16 * slot;
      secondsAt[r] = seconds + 4 * slot;
#pragma unroll
      for (int c = 0; c < kChannels; ++c) h[c][r] = 0.0F;
    }
  }

  // What the step `ahead` of the next one reads.
  __device__ __forceinline__ void load(Inputs& inputs, uint32_t ahead) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      inputs.slots[r] = loadSharedNow(at[r] + 16 * pitch * ahead);
      if constexpr (kChannels == 2) {
        inputs.seconds[r] = loadSharedFloatNow(secondsAt[r] + 4 * pitch * ahead);
      }
    }
  }

  // One step; then the inputs of the one `ahead` of it take the place of its own.
  __device__ __forceinline__ void step(Inputs& inputs, uint32_t ahead) {
    if (chunk != 0) {  // a finished segment's NaN and Inf must not meet the weights of 0
      const uint32_t carries = phase == 0 ? 0U : ~0U;
      phase = phase + 1 == chunk ? 0 : phase + 1;
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) h[c][r] = maskFloat(h[c][r], carries);
      }
    }
    float left[kChannels], right[kChannels], carried[kChannels][kRows];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      left[c] = __shfl_up_sync(kFullMask, h[c][kRows - 1], 1);
      right[c] = __shfl_down_sync(kFullMask, h[c][0], 1);
    }
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const OnchipSlot& slot = inputs.slots[r];
        carried[c][r] = fmaf(slot.y, h[c][r], c == 0 ? slot.w : inputs.seconds[r]);
        if (r > 0) carried[c][r] = fmaf(slot.x, h[c][r - 1], carried[c][r]);
        if (r + 1 < kRows) carried[c][r] = fmaf(slot.z, h[c][r + 1], carried[c][r]);
      }
    }
    const float minus = inputs.slots[0].x;
    const float plus = inputs.slots[kRows - 1].z;
    load(inputs, ahead);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      carried[c][0] = fmaf(minus, maskFloat(left[c], hasBelow), carried[c][0]);
      carried[c][kRows - 1] = fmaf(plus, maskFloat(right[c], hasAbove), carried[c][kRows - 1]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        h[c][r] = maskFloat(carried[c][r], inside[r]);
        storeShared(c == 0 ? at[r] : secondsAt[r], h[c][r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      at[r] += 16 * pitch;
      secondsAt[r] += 4 * pitch;
    }
  }

  __device__ __forceinline__ void walkBatch(int count) {
    const int whole = count / kAhead * kAhead;
    Inputs inputs[kAhead];
    if (whole > 0) {
#pragma unroll
      for (int j = 0; j < kAhead; ++j) load(inputs[j], j);
    }
    for (int first = 0; first < whole; first += kAhead) {
      const uint32_t ahead = first + kAhead < whole ? kAhead : 0;  // the last ones read in vain
#pragma unroll
      for (int j = 0; j < kAhead; ++j) step(inputs[j], ahead);
    }
    for (int i = whole; i < count; ++i) {
      load(inputs[0], 0);
      step(inputs[0], 0);
    }
  }

  __device__ __forceinline__ void walk(const OnchipScan<kVector>& scan, uint32_t ready,
                                       uint32_t done, int lane) {
    for (int begin = 0; begin < scan.steps; begin += scan.batchSteps) {
      barrierWait(ready, 0);
      walkBatch(min(scan.batchSteps, scan.steps - begin));
      __syncwarp();
      if (lane == 0) barrierArrive(done);
      ready += 8;
      done += 8;
    }
  }
};

// The workers: weights ahead of the walk, gates behind it.
template <typename T, int kVector, int kChannels, gspn2_normalize_t kNormalize>
struct OnchipWorker {
  using Elements = OnchipElements<T, kVector>;
  // Batches in flight: as many as the registers of two blocks to a multiprocessor hold.
  static constexpr int kDepth = (kVector == 8 ? 2 : 3) - (kChannels == 2 ? 1 : 0);
  const OnchipScan<kVector>& scan;
  OnchipVector<kVector> vector;
  OnchipSlot* slots;
  float* seconds;
  const T *x, *lam, *w, *u, *d;  // of the first channel and this direction; d may be null
  int64_t plane;                 // elements between the three affinities
  int elements;                  // between the channels
  int chunk;
  bool signals;  // whether this thread speaks for its warp

  __device__ __forceinline__ bool has(int begin) const { return begin + vector.step < scan.steps; }
  // Where there is no vector, the first one is as good to read as any.
  __device__ __forceinline__ int at(int begin) const {
    return has(begin) ? vector.offset + begin * vector.stride : 0;
  }
  // The scan step of element v, and its slot.
  __device__ __forceinline__ int stepOf(int begin, int v) const {
    if (!scan.horizontal) return begin + vector.step;
    return begin + vector.step + (scan.reverse ? kVector - 1 - v : v);
  }
  __device__ __forceinline__ int slotOf(int begin, int v) const {
    const int position = scan.horizontal ? vector.position : vector.position + v;
    return stepOf(begin, v) * scan.pitch + scan.slot(position);
  }

  struct Inputs {
    Elements x[kChannels], lam[kChannels], minus, centre, plus;
  };
  __device__ __forceinline__ Inputs load(int begin) const {
    const int offset = at(begin);
    Inputs inputs;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      inputs.x[c] = loadElements<T, kVector>(x + c * elements + offset);
      inputs.lam[c] = loadElements<T, kVector>(lam + c * elements + offset);
    }
    inputs.minus = loadElements<T, kVector>(w + offset);
    inputs.centre = loadElements<T, kVector>(w + plane + offset);
    inputs.plus = loadElements<T, kVector>(w + 2 * plane + offset);
    return inputs;
  }

  __device__ __forceinline__ void fill(const Inputs& inputs, int begin) const {
    constexpr float kMissing = kNormalize == GSPN2_NORMALIZE_NONE ? 0.0F : -INFINITY;
    if (!has(begin)) return;
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      const int position = scan.horizontal ? vector.position : vector.position + v;
      const int step = stepOf(begin, v);
      float minus = position == 0 ? kMissing : toFloat(inputs.minus.values[v]);
      float centre = toFloat(inputs.centre.values[v]);
      float plus = position == scan.line - 1 ? kMissing : toFloat(inputs.plus.values[v]);
      normaliseFast<kNormalize>(minus, centre, plus);
      const uint32_t carries = (chunk == 0 ? step : step % chunk) == 0 ? 0U : ~0U;
      const int slot = slotOf(begin, v);
      slots[slot] = {maskFloat(minus, carries), maskFloat(centre, carries),
                     maskFloat(plus, carries),
                     toFloat(inputs.lam[0].values[v]) * toFloat(inputs.x[0].values[v])};
      if constexpr (kChannels == 2) {
        seconds[slot] = toFloat(inputs.lam[1].values[v]) * toFloat(inputs.x[1].values[v]);
      }
    }
  }

  __device__ __forceinline__ void prepare(uint32_t ready) const {
    Inputs inputs[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) inputs[i] = load(i * scan.batchSteps);
    for (int begin = 0; begin < scan.steps; begin += kDepth * scan.batchSteps) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const int now = begin + i * scan.batchSteps;
        if (now >= scan.steps) break;
        fill(inputs[i], now);
        __syncwarp();
        if (signals) barrierArrive(ready);
        ready += 8;
        inputs[i] = load(now + kDepth * scan.batchSteps);
      }
    }
  }

  struct Gates {
    Elements u[kChannels], d[kChannels], x[kChannels];
  };
  __device__ __forceinline__ Gates loadGates(int begin) const {
    const int offset = at(begin);
    Gates gates;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      gates.u[c] = loadElements<T, kVector>(u + c * elements + offset);
      if (d != nullptr) {
        gates.d[c] = loadElements<T, kVector>(d + c * elements + offset);
        gates.x[c] = loadElements<T, kVector>(x + c * elements + offset);
      }
    }
    return gates;
  }

  // Sends m (u h + d x) to the blocks that own it: into `target` of each, counted on `barrier`. The
  // channels' parts lie `channelParts` floats apart.
  __device__ __forceinline__ void send(const Gates& gates, int begin, float merge, int quarter,
                                       int channelParts, uint32_t target, uint32_t barrier) const {
    if (!has(begin)) return;
    const int element = at(begin);
    const int owner = element / quarter;
    const uint32_t to = clusterAddress(target + 4 * (element - owner * quarter), owner);
    const uint32_t signal = clusterAddress(barrier, owner);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      float parts[kVector];
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        const int slot = slotOf(begin, v);
        float part = toFloat(gates.u[c].values[v]) * (c == 0 ? slots[slot].x : seconds[slot]);
        if (d != nullptr) {
          part = fmaf(toFloat(gates.d[c].values[v]), toFloat(gates.x[c].values[v]), part);
        }
        parts[v] = merge * part;
      }
      const uint32_t channelTo = to + 4 * c * channelParts;
      if constexpr (kVector == 1) {
        storeRemote(channelTo, parts[0], signal);
      } else {
#pragma unroll
        for (int v = 0; v < kVector; v += 4) {
          storeRemote(channelTo + 4 * v,
                      make_float4(parts[v], parts[v + 1], parts[v + 2], parts[v + 3]), signal);
        }
      }
    }
  }

  __device__ __forceinline__ void gate(uint32_t done, float merge, int quarter, int channelParts,
                                       uint32_t target, uint32_t barrier) const {
    Gates gates[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) gates[i] = loadGates(i * scan.batchSteps);
    for (int begin = 0; begin < scan.steps; begin += kDepth * scan.batchSteps) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const int now = begin + i * scan.batchSteps;
        if (now >= scan.steps) break;
        barrierWait(done, 0);
        done += 8;
        send(gates[i], now, merge, quarter, channelParts, target, barrier);
        gates[i] = loadGates(now + kDepth * scan.batchSteps);
      }
    }
  }
};

// y of this block's quarter from the four directions' parts.
template <typename T, int kVector>
__device__ __forceinline__ void mergeDirections(const float* parts, int quarter, int count, T* y) {
  constexpr int kRun = kVector == 1 ? 1 : 4;
  for (int i = kRun * static_cast<int>(threadIdx.x); i < count;
       i += kRun * static_cast<int>(blockDim.x)) {
    OnchipElements<T, kRun> sums;
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      float sum = parts[i + j];
#pragma unroll
      for (int k = 1; k < kOnchipDirections; ++k) sum += parts[k * quarter + i + j];
      sums.values[j] = fromFloat<T>(sum);
    }
    *reinterpret_cast<OnchipElements<T, kRun>*>(y + i) = sums;
  }
}

template <typename T, int kRows, int kVector, int kChannels, gspn2_normalize_t kNormalize>
__global__ void __launch_bounds__(kOnchipMaxWorkers + kWarpSize, 2)
    onchipKernel(const __grid_constant__ OnchipParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  char* const shared = dynamicShared<char>();
  OnchipBarriers& barriers = staticShared<OnchipBarriers>();
  auto* const slots = reinterpret_cast<OnchipSlot*>(shared);
  auto* const seconds = reinterpret_cast<float*>(slots + onchipSlots(p.height, p.width, kVector));
  float* const parts = seconds + onchipSeconds(p.height, p.width, kVector, kChannels);
  const int direction = static_cast<int>(clusterRank());
  const OnchipScan<kVector> scan(p, direction);
  const int elements = p.height * p.width;
  const int quarter = onchipQuarter(elements);
  const int channelParts = kOnchipDirections * quarter;
  const int count = max(0, min(quarter, elements - direction * quarter));
  const uint32_t ready = sharedAddress(barriers.ready);
  const uint32_t done = sharedAddress(barriers.done);
  const uint32_t collected = sharedAddress(&barriers.collected);
  for (int i = threadIdx.x; i * scan.batchSteps < scan.steps; i += blockDim.x) {
    barrierInit(ready + 8 * i, p.workers / kWarpSize);
    barrierInit(done + 8 * i, 1);
  }
  if (threadIdx.x == 0) barrierInit(collected, 1);
  barrierInitFence();
  __syncthreads();
  clusterArrive();  // the others send only after this block's barriers exist
  if (threadIdx.x == 0) {
    barrierArriveExpect(collected,
                        static_cast<uint32_t>(kChannels * kOnchipDirections * count * 4));
  }
  __syncwarp();

  const int groups = p.channels / kChannels;
  const int64_t n = static_cast<int64_t>(blockIdx.x / kOnchipDirections) / groups;
  const int64_t c = (static_cast<int64_t>(blockIdx.x / kOnchipDirections) - n * groups) * kChannels;
  const int64_t slice = n * p.channels + c;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  if (threadIdx.x < kWarpSize) {
    clusterWait();
    OnchipWalker<kRows, kVector, kChannels>(p, scan, sharedAddress(slots), sharedAddress(seconds),
                                            lane)
        .walk(scan, ready, done, lane);
  } else {
    const int64_t gate = ((n * kOnchipDirections + direction) * p.channels + c) * elements;
    const int64_t group = p.affinities == 1 ? 0 : c;
    const int64_t affinity =
        ((n * kOnchipDirections + direction) * 3 * p.affinities + group) * elements;
    const OnchipWorker<T, kVector, kChannels, kNormalize> work{
        scan,
        OnchipVector<kVector>(scan, static_cast<int>(threadIdx.x) - kWarpSize),
        slots,
        seconds,
        static_cast<const T*>(p.x) + slice * elements,
        static_cast<const T*>(p.lam) + gate,
        static_cast<const T*>(p.w) + affinity,
        static_cast<const T*>(p.u) + gate,
        p.d == nullptr ? nullptr : static_cast<const T*>(p.d) + gate,
        static_cast<int64_t>(p.affinities) * elements,
        elements,
        p.chunk,
        lane == 0};
    const float merge = p.m == nullptr ? 1.0F : toFloat(static_cast<const T*>(p.m)[direction]);
    work.prepare(ready);
    __syncwarp();
    clusterWait();
    work.gate(done, merge, quarter, channelParts, sharedAddress(parts) + 4 * direction * quarter,
              collected);
  }
  barrierWaitCluster(collected, 0);
  T* const y = static_cast<T*>(p.y) + slice * elements + direction * quarter;
#pragma unroll
  for (int i = 0; i < kChannels; ++i) {
    mergeDirections<T, kVector>(parts + i * channelParts, quarter, count, y + i * elements);
  }
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PROP2D_ONCHIP_CUH_
