// gspn2_channel_norm with a response on GSPN2_NHWC8, in one launch: a cluster of blocks has a batch
// item, and holds it in shared memory from the one read to the one write. The blocks send each
// other their sums of squares. Compute capability 9.0 and later. A row's last vector may have
// less than eight channels: sums leave out what lies behind them, and y has 0 there.
#ifndef GSPN2_KERNELS_NORM_HELD_CUH_
#define GSPN2_KERNELS_NORM_HELD_CUH_

#include "norm_project.cuh"
#include "norm_rows.cuh"

namespace gspn2 {

constexpr int kHeldThreads = 512;       // of a block that has a multiprocessor to itself
constexpr int kHeldLeastThreads = 256;  // of another
constexpr int kHeldMostVectors = 4;     // of a row, to a lane
constexpr int kHeldCopies = 8;          // that bring a tile, at most

// The tensors of C that a block has in shared memory: the projection's weights stand behind the
// rest.
enum HeldParameter { kHeldScale, kHeldShift, kHeldResponseScale, kHeldResponseShift, kHeldBias };
constexpr int kHeldMostParameters = kHeldBias + 1 + GSPN2_PROJECTION_MAX_CHANNELS;

__host__ __device__ inline int heldParameters(const NormParams& p) {
  return p.proxies > 0 ? kHeldBias + 1 + p.proxies : kHeldBias;
}

// A block's shared memory, in floats; what is read in vectors is aligned to 16 bytes. C': p.pitch.
struct HeldLayout {
  int warpSums;    // of squares, (warps, C'), behind those of every block, (tiles, C')
  int affines;     // (2, C'): scales, then shifts
  int statistics;  // of the tile's rows
  int proxies;     // (P, tile)
  int parameters;  // of 16-bit values, (heldParameters, C')
  int rows;        // of 16-bit values, (tile, C')
  int size;

  __host__ __device__ HeldLayout(const NormParams& p, int threads)
      : warpSums(p.tiles * p.pitch),
        affines(warpSums + threads / kWarpSize * p.pitch),
        statistics(affines + 2 * p.pitch),
        proxies(rounded(statistics + 2 * p.tile)),
        parameters(rounded(proxies + p.proxies * p.tile)),
        rows(parameters + heldParameters(p) * p.pitch / 2),
        size(rows + p.tile * p.pitch / 2) {}

  __host__ __device__ static int rounded(int floats) { return (floats + 3) / 4 * 4; }
};

// The tensors of C, in shared memory.
template <typename T>
struct HeldParameters {
  const NormParams& p;
  T* const values;

  __device__ __forceinline__ T* of(int parameter) const { return values + parameter * p.pitch; }
  __device__ __forceinline__ const T* source(int parameter) const {
    // No array, which would be in local memory.
    const void* const tensor = parameter == kHeldScale           ? p.scale
                               : parameter == kHeldShift         ? p.shift
                               : parameter == kHeldResponseScale ? p.responseScale
                               : parameter == kHeldResponseShift ? p.responseShift
                               : parameter == kHeldBias          ? p.bias
                                                                 : p.weight;
    return static_cast<const T*>(tensor) + max(parameter - kHeldBias - 1, 0) * p.channels;
  }
  // By every thread of the launch: those of one block ask for them.
  __device__ __forceinline__ void prefetchAll() const {
    if (blockIdx.x > 0) return;
    constexpr int kLine = 128 / static_cast<int>(sizeof(T));
    const int lines = (p.channels + kLine - 1) / kLine;
    for (int i = static_cast<int>(threadIdx.x); i < lines * heldParameters(p);
         i += static_cast<int>(blockDim.x)) {
      prefetch(source(i / lines) + i % lines * kLine);
    }
  }
  // By one thread: starts the copies, counted on `barrier`. Whole aligned vectors alone, p.wide.
  __device__ __forceinline__ void fetch(uint32_t barrier) const {
    const int bytes = p.channels * static_cast<int>(sizeof(T));
    barrierArriveExpect(barrier, static_cast<uint32_t>(heldParameters(p) * bytes));
    for (int i = 0; i < heldParameters(p); ++i) {
      copyBulk(sharedAddress(of(i)), source(i), bytes, barrier, kEvictNormal);
    }
  }
  // By every thread of the block, by element; behind the last channel 0.
  __device__ __forceinline__ void read() const {
    for (int c = static_cast<int>(threadIdx.x); c < p.pitch; c += static_cast<int>(blockDim.x)) {
      T found[kHeldMostParameters] = {};  // all loads ahead of the stores
#pragma unroll
      for (int i = 0; i < kHeldMostParameters; ++i) {
        if (i < heldParameters(p) && c < p.channels) found[i] = source(i)[c];
      }
#pragma unroll
      for (int i = 0; i < kHeldMostParameters; ++i) {
        if (i < heldParameters(p)) of(i)[c] = found[i];
      }
    }
  }
  __device__ __forceinline__ float at(int parameter, int channel) const {
    return toFloat(of(parameter)[channel]);
  }
};

// Of four channels, the sums over rows of `pitch` values.
__device__ __forceinline__ float4 fourSumsOfRows(const float* values, int rows, int pitch,
                                                 int channel) {
  float4 sums{};
#pragma unroll 8
  for (int row = 0; row < rows; ++row) {
    const auto part = *reinterpret_cast<const float4*>(values + row * pitch + channel);
    sums.x += part.x;
    sums.y += part.y;
    sums.z += part.z;
    sums.w += part.w;
  }
  return sums;
}

// As respond(), of parameters and sums of squares in shared memory: a thread to a channel.
template <typename T>
__device__ __forceinline__ void respondHeld(const HeldParameters<T>& parameters,
                                            const float* squares, const Affines& affines) {
  struct Totals {
    float warps[kWarpSize];
  };
  auto& totals = staticShared<Totals>();
  const NormParams& p = parameters.p;
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  float total = 0.0F;
  for (int c = thread; c < p.channels; c += threads) {
    const float response = responseOf(p, sumOfRows(squares, p.tiles, p.pitch, c));
    affines.scales[c] = response;
    total += response;
  }
  total = laneSum<kWarpSize>(total);
  const int lane = thread % kWarpSize;
  if (lane == 0) totals.warps[thread / kWarpSize] = total;
  __syncthreads();
  const float part = lane < threads / kWarpSize ? totals.warps[lane] : 0.0F;
  const float mean = laneSum<kWarpSize>(part) / static_cast<float>(p.channels);
  for (int c = thread; c < p.channels; c += threads) {  // this thread's own
    const float factor = fmaf(parameters.at(kHeldResponseScale, c), affines.scales[c] / mean, 1.0F);
    const Affine channel{parameters.at(kHeldScale, c), parameters.at(kHeldShift, c)};
    affines.set(c, responded(channel, factor, parameters.at(kHeldResponseShift, c)));
  }
  __syncthreads();
}

// What of a lane's vectors are channels.
template <typename T, int kVectors, bool kWide>
struct HeldMasks {
  typename RowTile<T, kVectors>::Vector masks[kVectors];

  __device__ __forceinline__ explicit HeldMasks(const RowTile<T, kVectors>& tile) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      masks[i] = tile.mask(i);
#pragma unroll
      for (uint32_t& word : masks[i].words) word = keepInRegister(word);
    }
  }
  __device__ __forceinline__ const auto* all() const { return masks; }
  // The i-th vector with 0 behind the last channel.
  template <typename Vector>
  __device__ __forceinline__ Vector own(int i, const Vector& values) const {
    return values.masked(masks[i]);
  }
};
template <typename T, int kVectors>
struct HeldMasks<T, kVectors, true> {
  __device__ __forceinline__ explicit HeldMasks(const RowTile<T, kVectors>&) {}
  __device__ __forceinline__ const typename RowTile<T, kVectors>::Vector* all() const {
    return nullptr;
  }
  template <typename Vector>
  __device__ __forceinline__ const Vector& own(int, const Vector& values) const {
    return values;
  }
};

// A block's tile, in shared memory.
template <typename T, int kVectors>
struct HeldRows {
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;

  const Tile& tile;
  T* const rows;
  const int count;    // rows
  const int perCopy;  // of them, but for the last copy

  __device__ __forceinline__ HeldRows(const Tile& whole, float* shared, int step)
      : tile(whole),
        rows(reinterpret_cast<T*>(shared)),
        count(max(0, static_cast<int>(whole.end - whole.begin))),
        perCopy(((whole.p.tile + step - 1) / step + kHeldCopies - 1) / kHeldCopies * step) {}

  // By one thread: starts the copies, each with its barrier.
  __device__ __forceinline__ void fetch(uint32_t barriers) const {
    const T* const source = static_cast<const T*>(tile.p.x) + tile.rowOffset(tile.begin);
    for (int first = 0, copy = 0; first < count; first += perCopy, ++copy) {
      const int bytes = min(perCopy, count - first) * tile.p.pitch * static_cast<int>(sizeof(T));
      barrierArriveExpect(barriers + 8 * copy, static_cast<uint32_t>(bytes));
      copyBulk(sharedAddress(rows + first * tile.p.pitch), source + int64_t{first} * tile.p.pitch,
               bytes, barriers + 8 * copy, kEvictFirst);
    }
  }
  // What a lane has of a row; 0 where there is none, and behind the last channel.
  template <typename Masks>
  __device__ __forceinline__ void read(int row, const Masks& masks,
                                       Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      values[i] = Vector{};
      if (row < count && tile.channel(i) < tile.p.pitch) {
        values[i] = masks.own(i, Vector::read(at(row, i)));
      }
    }
  }
  __device__ __forceinline__ void write(int row, const Vector (&values)[kVectors]) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (row < count && tile.channel(i) < tile.p.pitch) values[i].write(at(row, i));
    }
  }
  __device__ __forceinline__ T* at(int row, int i) const {
    return rows + row * tile.p.pitch + tile.channel(i);
  }
};

// kWide: as p.wide.
template <typename T, int kVectors, bool kProjects, bool kWide>
__global__ void __launch_bounds__(kHeldThreads, 1)
    normHeldKernel(const __grid_constant__ NormParams p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  using Tile = RowTile<T, kVectors>;
  using Vector = typename Tile::Vector;
  constexpr int kVector = Tile::kVector;
  constexpr int kRows = kHeldMostVectors / kVectors;  // that a lane has at once
  struct Barriers {
    uint64_t copied[kHeldCopies];    // a part of the tile
    uint64_t parameters, collected;  // tensors of C; every block's sums
  };
  auto& barriers = staticShared<Barriers>();
  const uint32_t copied = sharedAddress(barriers.copied);
  const uint32_t ready = sharedAddress(&barriers.parameters);
  const uint32_t collected = sharedAddress(&barriers.collected);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  if (thread < kHeldCopies) barrierInit(copied + 8 * thread, 1);
  if (thread == kHeldCopies) barrierInit(ready, 1);
  if (thread == kHeldCopies + 1) barrierInit(collected, 1);
  barrierInitFence();
  __syncthreads();
  clusterArrive();  // the others send only after this block's barriers exist
  if (threads == kHeldThreads) letNextKernelStart();

  const Tile tile(p);
  const int step = tile.groups * kRows;
  const HeldLayout layout(p, threads);
  float* const sums = dynamicShared<float>();
  float* const warpSums = sums + layout.warpSums;
  float* const proxies = sums + layout.proxies;
  const Affines affines{sums + layout.affines, sums + layout.affines + p.pitch};
  auto* const statistics = reinterpret_cast<Statistics*>(sums + layout.statistics);
  const HeldParameters<T> parameters{p, reinterpret_cast<T*>(sums + layout.parameters)};
  const HeldRows<T, kVectors> held(tile, sums + layout.rows, step);
  const HeldMasks<T, kVectors, kWide> masks(tile);
  parameters.prefetchAll();
  waitForPreviousKernel();
  if (thread == 0) held.fetch(copied);
  if (thread == kWarpSize) {  // a copy takes its thread a while
    if constexpr (kWide) parameters.fetch(ready);
    barrierArriveExpect(collected, static_cast<uint32_t>(4 * p.tiles * p.pitch));
  }
  __syncwarp();
  if constexpr (!kWide) parameters.read();
  if constexpr (kProjects) shareProxies(tile, proxies);
  __syncthreads();
  if constexpr (kWide) barrierWait(ready, 0);

  const auto parameter = [&](int which, int i) {
    Vector values;
    if (tile.channel(i) < p.pitch) {
      values = Vector::read(parameters.of(which) + tile.channel(i));
    }
    return values;
  };
  {
    RowAffines<T, kVectors> ahead;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      ahead.scales[i] = parameter(kHeldScale, i);
      ahead.shifts[i] = parameter(kHeldShift, i);
    }
    float squares[kVectors][kVector] = {};
    int copy = 0;
    for (int base = 0; base < held.count; base += step) {  // whole warps: they meet in shuffles
      if (base == copy * held.perCopy) barrierWait(copied + 8 * copy++, 0);
      const int first = base + tile.group;
      Vector values[kRows][kVectors];
#pragma unroll
      for (int r = 0; r < kRows; ++r) held.read(first + r * tile.groups, masks, values[r]);
      if constexpr (kProjects) {
        project(
            tile, proxies, first, [&](int which, int i) { return parameter(kHeldBias + which, i); },
            values);
#pragma unroll
        for (int r = 0; r < kRows; ++r) held.write(first + r * tile.groups, values[r]);
      }
      RowStatistics<T, kVectors, kRows> rows;
      rows.template find<kWide, !kWide>(tile, values, masks.all());
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int row = first + r * tile.groups;
        if (row >= held.count) break;
        if (tile.lane == 0) statistics[row] = rows.statistics[r];
#pragma unroll
        for (int i = 0; i < kVectors; ++i) {
#pragma unroll
          for (int j = 0; j < kVector; ++j) {
            const float z = rows.normalised(r, i, j, ahead.of(i, j));
            squares[i][j] = fmaf(z, z, squares[i][j]);
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      for (int other = p.lanes; other < kWarpSize; other *= 2) {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          squares[i][j] += __shfl_xor_sync(kFullMask, squares[i][j], other);
        }
      }
      if (thread % kWarpSize < p.lanes && tile.channel(i) < p.pitch) {
        writeFloats(warpSums + thread / kWarpSize * p.pitch + tile.channel(i), squares[i]);
      }
    }
  }
  __syncthreads();
  clusterWait();
  const auto rank = static_cast<int>(clusterRank());
  for (int c = 4 * thread; c < p.pitch; c += 4 * threads) {
    const float4 sum = fourSumsOfRows(warpSums, threads / kWarpSize, p.pitch, c);
    const uint32_t target = sharedAddress(sums + rank * p.pitch + c);
    for (int other = 0; other < p.tiles; ++other) {
      storeRemote(clusterAddress(target, other), sum, clusterAddress(collected, other));
    }
  }
  barrierWaitCluster(collected, 0);
  respondHeld(parameters, sums, affines);

#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (tile.channel(i) >= p.pitch) break;
    float scales[kVector], shifts[kVector];
    readFloats(affines.scales + tile.channel(i), scales);
    readFloats(affines.shifts + tile.channel(i), shifts);
#pragma unroll 4
    for (int row = tile.group; row < held.count; row += tile.groups) {
      const Statistics position = statistics[row];
      const Vector value = Vector::read(held.at(row, i));
      Vector result;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        result.set(j, normalised(value[j], position, Affine{scales[j], shifts[j]}));
      }
      tile.write(tile.begin + row, i, masks.own(i, result));
    }
  }
#endif
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_NORM_HELD_CUH_
