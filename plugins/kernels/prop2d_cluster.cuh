// GspnProp2D with a cluster of blocks to a map, one to each direction or more: compute capability
// 9.0 and later.
//
// A cluster takes one slice, or two channels that share their affinities. A block's workers load
// its inputs, a batch of steps after the other, and turn affinities into weights; one warp walks
// the steps, meeting nobody inside a batch; the workers follow with u h + d x. Each block owns a
// share of the map: the parts of the sum are sent to their owners' shared memory, which adds them
// up in the order of the directions.
//
// Of small maps all steps are in shared memory at once. Of larger ones it holds a ring of batches:
// before the workers write one, they send what was walked where it goes. Where slices are few, up
// to four blocks take a direction's batches in turn: so four times as many workers keep up with
// one walk, which goes from block to block.
//
// With these roles the time is that of one load, the serial chain (one shuffle and two dependent
// fused multiply-adds to a step) and one exchange; the rest hides behind the chain.
#ifndef GSPN2_KERNELS_PROP2D_CLUSTER_CUH_
#define GSPN2_KERNELS_PROP2D_CLUSTER_CUH_

#include "onchip_batches.cuh"
#include "onchip_rows.cuh"
#include "onchip_scan.cuh"

namespace gspn2 {

struct OnchipBarriers {
  uint64_t ready[kOnchipMaxBatches], done[kOnchipMaxBatches];  // a slot's batch: weighed, walked
  uint64_t collected;                                          // every direction's parts
};

// Where the states of a direction come in that another of its blocks has walked.
struct OnchipHandover {
  alignas(16) float states[kWarpSize * kOnchipMaxRows];
  uint64_t handed;
};
static_assert(sizeof(OnchipBarriers) + sizeof(OnchipHandover) <= kOnchipStaticShared,
              "plans leave as much beside dynamic shared memory");

// The workers: weights ahead of the walk, gates behind it.
template <typename T, int kRows, int kVector, int kChannels, typename Source>
struct OnchipWorker {
  using Inputs = typename Source::Inputs;
  using Gates = typename Source::Gates;
  // Batches in flight: as many as the registers of two blocks to a multiprocessor hold.
  static constexpr int kDepth = kChannels == 1 ? 3 : 2;
  static constexpr int kRingDepth = 2;  // the same where inputs and gates are
  const OnchipParams& p;
  const OnchipScan& scan;
  const OnchipMember& member;
  const OnchipBatches& batches;
  OnchipWork work;
  Source source;  // from this worker's vector of the first batch on, of this direction
  float* arrays;
  bool signals;  // whether this thread speaks for its warp

  __device__ __forceinline__ bool has(int batch) const {
    return batch * batches.stride + work.step < scan.steps;
  }
  // Whether to load for a batch. Loads of few words also go out where there is no such batch.
  __device__ __forceinline__ bool loads(int batch) const {
    return !Source::kLoadsManyWords || batch < batches.count;
  }
  // From the first batch's vector to this one's. Where there is none, that one is as good to read.
  __device__ __forceinline__ int at(int batch) const {
    return has(batch) ? batch * work.batchOffset : 0;
  }
  __device__ __forceinline__ OnchipPlace place(const OnchipBatch& batch) const {
    OnchipPlace place = work.place;
    place.index += batch.slot * work.batchIndex;
    return place;
  }

  __device__ __forceinline__ void weigh(const Inputs& inputs, const OnchipBatch& batch,
                                        uint32_t ready) const {
    if (has(batch.number)) {
      storeWeights(source.unpack(inputs), place(batch), p.normalize, arrays, scan.size);
    }
    __syncwarp();
    if (signals) barrierArrive(ready + 8 * batch.slot);
  }

  __device__ __forceinline__ void prepare(uint32_t ready) const {
    Inputs inputs[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      if (loads(i)) inputs[i] = source.load(at(i));
    }
    for (int first = 0; first < batches.count; first += kDepth) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const int now = first + i;
        if (now >= batches.count) break;
        weigh(inputs[i], {now, now, 0}, ready);
        if (loads(now + kDepth)) inputs[i] = source.load(at(now + kDepth));
      }
    }
  }

  // Sends m (u h + d x) to the block that owns it, once the batch is walked: into `target` there,
  // counted on `barrier`. A channel's parts of all directions lie ahead of the next one's.
  __device__ __forceinline__ void send(const Gates& loaded, const OnchipBatch& batch, uint32_t done,
                                       float merge, uint32_t target, uint32_t barrier) const {
    const int element = work.offset + at(batch.number);
    const int owner = member.ownerOf(element);
    const uint32_t to = clusterAddress(target + 4 * (element - owner * member.share), owner);
    const uint32_t signal = clusterAddress(barrier, owner);
    barrierWait(done + 8 * batch.slot, batch.parity());
    if (!has(batch.number)) return;
    const OnchipGates<T, kVector, kChannels>& gates = source.unpack(loaded);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      float parts[kVector];
      loadPlaces(arrays + (3 + c) * scan.size, place(batch), parts);
      gateStates(gates.u[c], source.d != nullptr, gates.d[c], gates.x[c], parts);
      const uint32_t channelTo = to + 4 * c * kOnchipDirections * member.share;
      if constexpr (kVector == 1) {
        storeRemote(channelTo, merge * parts[0], signal);
      } else {
        static_assert(kVector == 4, "unsupported vector");
        storeRemote(
            channelTo,
            make_float4(merge * parts[0], merge * parts[1], merge * parts[2], merge * parts[3]),
            signal);
      }
    }
  }

  __device__ __forceinline__ void gate(uint32_t done, uint32_t target, uint32_t barrier) const {
    Gates gates[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      if (loads(i)) gates[i] = source.loadGates(at(i));
    }
    const float merge = mergeWeight<T>(p.m, member.direction);  // no load goes out behind its use
    for (int first = 0; first < batches.count; first += kDepth) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const int now = first + i;
        if (now >= batches.count) break;
        send(gates[i], {now, now, 0}, done, merge, target, barrier);
        if (loads(now + kDepth)) gates[i] = source.loadGates(at(now + kDepth));
      }
    }
  }

  // Both, where batches take turns in slots.
  __device__ __forceinline__ void prepareAndGate(uint32_t ready, uint32_t done, uint32_t target,
                                                 uint32_t barrier) const {
    Inputs inputs[kRingDepth];
    Gates gates[kRingDepth];
#pragma unroll
    for (int i = 0; i < kRingDepth; ++i) {
      inputs[i] = source.load(at(i));
      gates[i] = source.loadGates(at(i));
    }
    const float merge = mergeWeight<T>(p.m, member.direction);
    __syncwarp();
    clusterWait();  // until the others' barriers exist
    OnchipBatch now{};
    for (int i = 0; i < batches.count + batches.slots;) {
#pragma unroll
      for (int j = 0; j < kRingDepth; ++j, ++i) {
        const OnchipBatch replaced = now.replaced(batches.slots);
        if (replaced.number >= 0 && replaced.number < batches.count) {
          send(gates[j], replaced, done, merge, target, barrier);
          gates[j] = source.loadGates(at(replaced.number + kRingDepth));
        }
        if (now.number < batches.count) {
          weigh(inputs[j], now, ready);
          inputs[j] = source.load(at(now.number + kRingDepth));
        }
        now = now.next(batches.slots);
      }
    }
  }
};

// The states of a direction on their way from block to block, where a ring has more than one.
template <int kRows, bool kRing>
struct OnchipRelay {
  static constexpr int kBytes = kWarpSize * kRows * static_cast<int>(sizeof(float));

  const OnchipMember& member;
  const OnchipBatches& batches;
  const int steps;  // of the scan
  const int lane;
  uint32_t states = 0, barrier = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ OnchipRelay(const OnchipScan& scan, const OnchipMember& member_,
                                         const OnchipBatches& batches_, int lane_)
      : member(member_), batches(batches_), steps(scan.steps), lane(lane_) {
    if constexpr (kRing) {
      OnchipHandover& handover = staticShared<OnchipHandover>();
      states = sharedAddress(handover.states) + 4 * kRows * lane;
      barrier = sharedAddress(&handover.handed);
      expect();
    }
  }

  // Takes what the walk of a batch begins with, from whoever had the one before.
  template <typename Walker>
  __device__ __forceinline__ void take(int batch, Walker& walker) {
    if constexpr (kRing) {
      const int first = batches.first + batch * batches.stride;
      if (member.relay == 1 || first == 0) return;
      barrierWaitCluster(barrier, parity);
      parity ^= 1U;
      loadSharedFloatsNow(states, walker.states());
      walker.goOn(first);
      expect();
    }
  }

  // Gives the next block what the walk of a batch has ended with.
  template <typename Walker>
  __device__ __forceinline__ void give(int batch, Walker& walker) const {
    if constexpr (kRing) {
      const int end = batches.first + batch * batches.stride + batches.steps;
      if (member.relay == 1 || end >= steps) return;
      const int turn = member.turn + 1 < member.relay ? member.turn + 1 : 0;
      const int next = member.rank - member.turn + turn;
      const uint32_t to = clusterAddress(states, next);
      const uint32_t signal = clusterAddress(barrier, next);
      const auto& from = walker.states();
#pragma unroll
      for (int r = 0; r < kRows; r += 2) {
        storeRemote(to + 4 * r, make_float2(from[r], from[r + 1]), signal);
      }
    }
  }

 private:
  // The next states: they may be on their way before this, but do not count as all.
  __device__ __forceinline__ void expect() const {
    if (member.relay == 1) return;
    __syncwarp();
    if (lane == 0) barrierArriveExpect(barrier, kBytes);
    __syncwarp();
  }
};

// Walks every batch once it is weighed, with so many positions to a lane.
template <int kRows, int kChannels, bool kRing>
__device__ __forceinline__ void walkBatches(const OnchipScan& scan, const OnchipMember& member,
                                            const OnchipBatches& batches, uint32_t arrays,
                                            int chunk, uint32_t ready, uint32_t done) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  OnchipWalker<kRows, kChannels> walker(scan, arrays, chunk, lane);
  OnchipRelay<kRows, kRing> relay(scan, member, batches, lane);
  waitForPreviousKernel();
  clusterWait();
  for (OnchipBatch batch{}; batch.number < batches.count;) {
    barrierWait(ready + 8 * batch.slot, batch.parity());
    relay.take(batch.number, walker);
    const int left = scan.steps - batches.first - batch.number * batches.stride;
    walker.walk(min(batches.steps, left));
    relay.give(batch.number, walker);
    __syncwarp();
    if (lane == 0) barrierArrive(done + 8 * batch.slot);
    batch = batch.next(batches.slots);
    if (kRing && batch.slot == 0) walker.rewind(batches.slots * batches.steps);
  }
}

// y of this block's share, `count` elements of each channel, from the four directions' parts.
template <typename T, int kVector, int kChannels>
__device__ __forceinline__ void mergeDirections(const float* parts, int share, int count, T* y,
                                                int elements) {
  for (int i = kVector * static_cast<int>(threadIdx.x); i < count;
       i += kVector * static_cast<int>(blockDim.x)) {
    AlignedVector<T, kVector> sums[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float* const own = parts + c * kOnchipDirections * share + i;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        float sum = own[j];
#pragma unroll
        for (int k = 1; k < kOnchipDirections; ++k) sum += own[k * share + j];
        sums[c].values[j] = fromFloat<T>(sum);
      }
    }
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      *reinterpret_cast<AlignedVector<T, kVector>*>(y + c * elements + i) = sums[c];
    }
  }
}

// The first element of a direction's channel, of planes from the first item to this one and
// channels from the first direction to this one.
template <gspn2_layout_t kLayout>
__device__ __forceinline__ int64_t firstElement(int64_t planes, int64_t channels, int64_t channel,
                                                int elements) {
  return kLayout == GSPN2_NCHW ? (planes + channels + channel) * elements
                               : planes * elements + channels + channel;
}

// Two blocks share a multiprocessor, but for rings.
template <typename T, int kRows, int kVector, int kChannels, gspn2_layout_t kLayout, bool kRing>
__global__ void __launch_bounds__(kWarpSize + (kRing ? kOnchipMaxRingWorkers : kOnchipMaxWorkers),
                                  kRing ? 1 : 2)
    prop2dClusterKernel(const __grid_constant__ OnchipParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  auto* const arrays = dynamicShared<float>();
  OnchipBarriers& barriers = staticShared<OnchipBarriers>();
  const int elements = p.height * p.width;
  const OnchipMember member(kRing ? p.relay : 1, elements);
  const int direction = member.direction;
  const OnchipScan scan(p, direction, kRows);
  const OnchipBatches batches(p, scan, member, kVector);
  float* const parts = arrays + (3 + kChannels) * scan.size;
  const int count = max(0, min(member.share, elements - member.rank * member.share));
  const uint32_t ready = sharedAddress(barriers.ready);
  const uint32_t done = sharedAddress(barriers.done);
  const uint32_t collected = sharedAddress(&barriers.collected);
  for (int i = threadIdx.x; i < batches.slots; i += blockDim.x) {
    barrierInit(ready + 8 * i, p.workers / kWarpSize);
    barrierInit(done + 8 * i, 1);
  }
  if (threadIdx.x == 0) {
    barrierInit(collected, 1);
    if constexpr (kRing) barrierInit(sharedAddress(&staticShared<OnchipHandover>().handed), 1);
  }
  barrierInitFence();
  __syncthreads();
  clusterArrive();  // the others send only after this block's barriers exist
  if (threadIdx.x == 0) {
    barrierArriveExpect(collected,
                        static_cast<uint32_t>(kChannels * kOnchipDirections * count * 4));
  }
  __syncwarp();
  letNextKernelStart();

  const int groups = p.channels / kChannels;
  const int slices = static_cast<int>(blockIdx.x) / member.blocks;
  const int64_t n = slices / groups;
  const int64_t c = (slices - n * groups) * kChannels;
  const int64_t feature = firstElement<kLayout>(n * p.featureBatch, 0, c, elements);
  const int64_t gate = firstElement<kLayout>(
      n * p.gateBatch, static_cast<int64_t>(direction) * p.channels, c, elements);
  const int64_t group = p.affinities == 1 ? 0 : c;
  const int64_t affinity = firstElement<kLayout>(
      n * p.affinityBatch, int64_t{3} * direction * p.affinities, group, elements);
  // All that a worker knows without its inputs, while the kernel before this one ends. Addresses
  // stay in registers: the compiler would work them out behind the wait.
  const OnchipWork work(scan, batches, p.width, kVector,
                        max(0, static_cast<int>(threadIdx.x) - kWarpSize));
  using Source = std::conditional_t<kLayout == GSPN2_NCHW, OnchipPlanes<T, kVector, kChannels>,
                                    OnchipRows<T, kVector, kChannels>>;
  const int first = work.offset * (kLayout == GSPN2_NCHW ? 1 : p.position);
  const Source source(p, keepInRegister(static_cast<const T*>(p.x) + feature + first),
                      keepInRegister(static_cast<const T*>(p.lam) + gate + first),
                      keepInRegister(static_cast<const T*>(p.w) + affinity + first),
                      static_cast<const T*>(p.u) + gate + first,
                      p.d == nullptr ? nullptr : static_cast<const T*>(p.d) + gate + first);
  T* const y = keepInRegister(static_cast<T*>(p.y) + (n * p.channels + c) * elements +
                              member.rank * member.share);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  if (threadIdx.x < kWarpSize) {
    constexpr int kShortRows = onchipLineRows(1, kRows);
    const uint32_t from = sharedAddress(arrays);
    if (kShortRows < kRows && scan.line <= kOnchipFourRowLine) {
      walkBatches<kShortRows, kChannels, kRing>(scan, member, batches, from, p.chunk, ready, done);
    } else {
      walkBatches<kRows, kChannels, kRing>(scan, member, batches, from, p.chunk, ready, done);
    }
  } else {
    const OnchipWorker<T, kRows, kVector, kChannels, Source> worker{
        p, scan, member, batches, work, source, arrays, lane == 0};
    const uint32_t target = sharedAddress(parts) + 4 * direction * member.share;
    waitForPreviousKernel();
    if constexpr (kRing) {
      worker.prepareAndGate(ready, done, target, collected);
    } else {
      worker.prepare(ready);
      __syncwarp();
      clusterWait();
      worker.gate(done, target, collected);
    }
  }
  barrierWaitCluster(collected, 0);
  mergeDirections<T, kVector, kChannels>(parts, member.share, count, y, elements);
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PROP2D_CLUSTER_CUH_
