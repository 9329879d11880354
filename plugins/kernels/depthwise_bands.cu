// Depthwise convolutions on GSPN2_NHWC8 by tensor cores, for many blocks.
//
// Eight adjacent results of a row are, of one channel and one row of the kernel, 16 values of a row
// of x times a banded matrix of 16 x 8: b[k][n] is the weight k - n, or 0. A unit is 16 patches of
// 7 x 8 results of a channel, whose places are free: a row of each of them is a row of the product.
// A warp walks the rows that reach its patches and adds each one, read once, to the up to seven
// rows of results that it is for. So it takes one m16n8k16 for 128 results and a row of the kernel,
// and the weights and sums of a unit stay in registers.
//
// A block has 16 channels of a tile of 4 x 4 patches of a map, or of four or 16 maps that have no
// more than 2 x 2 patches or one. Its values lie in shared memory channel by channel: they are
// turned round in registers, on the way in and on the way out.
//
// A value that is not finite makes NaN of products with the zeros beside the band. So results that
// are not finite are computed once more, one by one, from the values that are theirs.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common.cuh"
#include "depthwise_bands.h"
#include "hopper.cuh"
#include "launch.cuh"
#include "plan_arithmetic.h"

namespace gspn2 {

struct DepthwiseBandParams {
  const void *x, *weight, *bias;
  void* y;
  int64_t items;
  int height, width, channels;
  unsigned down, across;   // tiles of a map
  int rows, columns;       // of a tile's results
  unsigned channelBlocks;  // blocks of a tile
  bool silu, residual;
};

namespace {

constexpr int kOctet = 8;  // channels that are side by side
constexpr int kOctets = 2;
constexpr int kBlockChannels = kOctets * kOctet;
constexpr int kPatches = 16;  // of a unit
constexpr int kPatchRows = 7;
constexpr int kPatchColumns = 8;
constexpr int kUnitHalves = 8;  // 16-bit values of 16 bytes: shared memory is measured in these
constexpr int kUnitWords = 4;
static_assert(kDepthwiseBandRoom == kPatches * kPatchRows * kPatchColumns * kBlockChannels);

// Of tiles that are kSide x kSide patches.
template <int kKernel, int kSide>
struct BandTile {
  static constexpr int kItems = kPatches / (kSide * kSide);
  static constexpr bool kWhole = kItems > 1;  // whether a tile is a whole map
  static constexpr int kReach = kKernel / 2;
  static constexpr int kTaps = kKernel * kKernel;
  static constexpr int kRows = kPatchRows * kSide;
  // Of results. Narrower ones of whole maps, so that fewer of their patches are empty.
  static constexpr int kColumns = (kWhole ? kPatchRows : kPatchColumns) * kSide;
  static constexpr int kInRows = kRows + kKernel - 1;
  static constexpr int kThreads = kSide == 1 ? 512 : 256;
  static constexpr int kBlocks = 1024 / kThreads;  // of a multiprocessor, at least, by registers
  static constexpr int kWarps = kThreads / kWarpSize;
  static constexpr int kPasses = kBlockChannels / kWarps;  // channels of a warp
  static constexpr int kWeights =
      (kBlockChannels * kTaps + kThreads - 1) / kThreads;  // of a thread

  // Where the rows of a channel of an item begin. The rows of eight patches that are read at once
  // are in different banks: those of two rows of four patches in a map, of two adjacent patches of
  // four maps, or of eight maps.
  static constexpr int kPitch = kSide + 1;
  __host__ __device__ static constexpr int rowUnit(int row) {
    return row * kPitch + (kWhole ? 0 : static_cast<int>(static_cast<unsigned>(row) / kPatchRows));
  }
  // The empty rows behind an item are those ahead of the next one.
  static constexpr int kItemRows = (kRows + kReach) * kPitch;
  static constexpr int kEvenRows = kItemRows + kItemRows % 2;
  static constexpr int kItemPitch = kSide == 4   ? 0
                                    : kSide == 1 ? kItemRows | 1
                                                 : kEvenRows + (kEvenRows % 8 == 0 ? 2 : 0);
  // Of four items whose pitch is half a row of banks, the last two are a quarter further.
  __host__ __device__ static constexpr int itemUnit(int item) {
    return item * kItemPitch + (kSide == 2 && kItemPitch % 8 == 4 ? item & ~1 : 0);
  }
  static constexpr int kSpan = itemUnit(kItems - 1) + rowUnit(kInRows - 1) + kPitch;
  // So are those behind a channel's last item.
  static constexpr int kEmpty = kWhole ? kReach * kPitch : 0;
  static constexpr int kPlane = kSpan - kEmpty;
  // Octets are apart so that a warp, which has both of them, writes to different banks, as far as
  // that can be.
  static constexpr int kOctetUnits = kOctet * kPlane + (kSide == 4 ? 4 : kSide == 1 ? 1 : 0);
  // A row of the kernel as the bands have it: every two adjacent weights, zeros beside them.
  static constexpr int kPairs = kKernel + 1;
  static constexpr int kZeros = (kKernel * kPairs + kUnitWords - 1) / kUnitWords;
  static constexpr int kUnits = kOctets * kOctetUnits + (kEmpty < kZeros ? kZeros : kEmpty);

  // Pairs of columns that may have values of x, and of results.
  static constexpr int kFirstPair = kWhole ? kReach / 2 : 0;
  static constexpr int kLastPair =
      kWhole ? (kReach + kColumns - 1) / 2 : (kColumns + kKernel - 2) / 2;
  static constexpr int kInPairs = kLastPair - kFirstPair + 1;
  static constexpr int kOutPairs = (kColumns + 1) / 2;
  // Threads of a row, and rows at once.
  static constexpr int kInSlots = kInPairs * kOctets;
  static constexpr int kInLines = kThreads / kInSlots;
  static constexpr int kOutSlots = kOutPairs * kOctets;
  static constexpr int kOutLines = kThreads / kOutSlots;
  // Rows whose loads of a thread are under way.
  static constexpr int kRound = kSide == 4 ? 3 : 2;

  struct alignas(16) Shared {
    uint32_t values[kUnits * kUnitWords];  // kZeros units of zeros at the end
    uint16_t weights[kBlockChannels][kKernel][kPairs][2];
  };
  // A multiprocessor of compute capability 9.0 has 228 KiB, of which a block takes one besides.
  static_assert((sizeof(Shared) + 1024) * kBlocks <= 228 * 1024);
};

// of / by, and the rest, of what is not negative.
__device__ __forceinline__ int split(int of, int by, int& rest) {
  const unsigned whole = static_cast<unsigned>(of) / static_cast<unsigned>(by);
  rest = of - static_cast<int>(whole) * by;
  return static_cast<int>(whole);
}

__device__ __forceinline__ uint32_t lowHalves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ __forceinline__ uint32_t highHalves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x7632);
}

template <typename T>
__device__ __forceinline__ uint16_t bitsOf(T value) {
  uint16_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

__device__ __forceinline__ float siluFast(float x) {
  constexpr float kLog2E = 1.44269504F;
  return x * reciprocalHardware(1.0F + exp2Approximate(-kLog2E * x));
}

// A lane's results of a unit: of a row of the patches, those of patch lane / 4, then of the patch
// eight further, two columns each.
using BandSums = float[kPatchRows][4];

// Adds up what the tensor cores add up; row(i) reads the patches' i-th rows.
template <int kKernel, typename T, typename ReadRow>
__device__ __forceinline__ void addBands(const uint32_t (&bands)[kKernel][2], BandSums& sums,
                                         const T* type, const ReadRow& row) {
#pragma unroll
  for (int i = 0; i < kPatchRows + kKernel - 1; ++i) {
    uint32_t values[4];
    row(i, values);
#pragma unroll
    for (int ky = 0; ky < kKernel; ++ky) {
      const int r = i - ky;
      if (r >= 0 && r < kPatchRows) multiplyAdd(sums[r], values, bands[ky], type);
    }
  }
}

// Puts compute(i) in the place of the i-th of a lane's results where that is not finite. A loop of
// few instructions: it seldom runs.
template <typename Compute>
__device__ __forceinline__ void mendSums(BandSums& sums, const Compute& compute) {
#pragma unroll 1
  for (int i = 0; i < kPatchRows * 4; ++i) {
    float value = 0.0F;
#pragma unroll
    for (int j = 0; j < kPatchRows * 4; ++j) value = i == j ? sums[j / 4][j % 4] : value;
    if (value * 0.0F == 0.0F) continue;
    value = compute(i);
#pragma unroll
    for (int j = 0; j < kPatchRows * 4; ++j) {
      if (i == j) sums[j / 4][j % 4] = value;
    }
  }
}

}  // namespace

template <typename T, int kKernel, int kSide>
__global__ void __launch_bounds__(BandTile<kKernel, kSide>::kThreads,
                                  BandTile<kKernel, kSide>::kBlocks)
    depthwiseBandKernel(const __grid_constant__ DepthwiseBandParams p) {
  using Tile = BandTile<kKernel, kSide>;
  using Shared = typename Tile::Shared;
  constexpr int kReach = Tile::kReach;
  constexpr int kTaps = Tile::kTaps;
  constexpr int kItems = Tile::kItems;
  auto& shared = *dynamicShared<Shared>();
  const int thread = static_cast<int>(threadIdx.x);
  int lane;
  const int warp = split(thread, kWarpSize, lane);
  unsigned block = blockIdx.x;
  const int firstChannel = static_cast<int>(block % p.channelBlocks) * kBlockChannels;
  block /= p.channelBlocks;
  const int left = static_cast<int>(block % p.across) * p.columns;
  block /= p.across;
  const int top = static_cast<int>(block % p.down) * p.rows;
  const int64_t firstItem = int64_t{block / p.down} * kItems;
  const int items = static_cast<int>(min(static_cast<int64_t>(kItems), p.items - firstItem));
  const int own = min(kBlockChannels, p.channels - firstChannel);  // one octet or both
  const int rowValues = p.width * p.channels;
  const int itemValues = p.height * rowValues;  // of all of a block's items, 32 bits hold them
  const int64_t map = firstItem * itemValues + firstChannel;

  // Zeros everywhere: outside the map, and beside the bands.
  constexpr int kUnits = Tile::kUnits;
#pragma unroll
  for (int i = 0; i <= kUnits / Tile::kThreads; ++i) {
    const int at = thread + i * Tile::kThreads;
    if (i == kUnits / Tile::kThreads && at >= kUnits) continue;
    storeSharedVector(sharedAddress(shared.values + at * kUnitWords), make_uint4(0, 0, 0, 0));
  }
  if (thread < kBlockChannels * kKernel) {
    uint16_t (&row)[Tile::kPairs][2] = shared.weights[0][thread];
    row[0][0] = row[kKernel][1] = 0;
  }
  const T* const weight = static_cast<const T*>(p.weight) + int64_t{firstChannel} * kTaps;
  if (blockIdx.x < p.channelBlocks) {  // once is enough
    constexpr int kLineValues = 64;
    if (thread * kLineValues < own * kTaps) prefetch(weight + thread * kLineValues);
  }
  __syncthreads();
  waitForPreviousKernel();

  uint16_t weights[Tile::kWeights];
#pragma unroll
  for (int i = 0; i < Tile::kWeights; ++i) {
    const int at = thread + i * Tile::kThreads;
    weights[i] = at < own * kTaps ? bitsOf(weight[at]) : uint16_t{0};
  }
  T biases[Tile::kPasses] = {};
#pragma unroll
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    const int channel = warp + pass * Tile::kWarps;
    if (p.bias != nullptr && channel < own) {
      biases[pass] = static_cast<const T*>(p.bias)[firstChannel + channel];
    }
  }

  // A thread takes an octet of two adjacent positions of every kInLines-th row, and gives two
  // values of each channel.
  const T* const x = keepInRegister(static_cast<const T*>(p.x) + map);
  {
    int slot, octet;
    const int line = split(thread, Tile::kInSlots, slot);
    const int pair = split(slot, kOctets, octet) + Tile::kFirstPair;
    const int column = left + 2 * pair - kReach;
    const int lastColumn = min(left + p.columns + kReach, p.width);
    const int firstRow = Tile::kWhole ? kReach : max(0, kReach - top);
    const int lastRow = min(p.rows + 2 * kReach, p.height - top + kReach);
    const int lines = Tile::kWhole ? items * Tile::kRows : lastRow - firstRow;
    const bool hasAny = line < Tile::kInLines && octet * kOctet < own;
    const bool hasFirst = hasAny && column >= 0 && column < lastColumn;
    const bool hasSecond = hasAny && column >= -1 && column < lastColumn - 1;
    const int place = (top + firstRow - kReach) * rowValues + column * p.channels + octet * kOctet;
    uint32_t* const values = shared.values + octet * Tile::kOctetUnits * kUnitWords + pair;
#pragma unroll 1
    for (int first = line; first < lines; first += Tile::kRound * Tile::kInLines) {
      uint4 vectors[Tile::kRound][2];
#pragma unroll
      for (int i = 0; i < Tile::kRound; ++i) {
        const int at = first + i * Tile::kInLines;
        int row = at;
        const int item = Tile::kWhole ? split(at, Tile::kRows, row) : 0;
        const bool isInside = at < lines && (!Tile::kWhole || row < p.height);
        const T* const source = x + (place + item * itemValues + row * rowValues);
        vectors[i][0] = vectors[i][1] = make_uint4(0, 0, 0, 0);
        if (isInside && hasFirst) vectors[i][0] = loadGlobalWordsNow(source);
        if (isInside && hasSecond) vectors[i][1] = loadGlobalWordsNow(source + p.channels);
      }
#pragma unroll
      for (int i = 0; i < Tile::kRound; ++i) {
        const int at = first + i * Tile::kInLines;
        if (at >= lines || !(hasFirst || hasSecond)) continue;
        int row = at;
        const int item = Tile::kWhole ? split(at, Tile::kRows, row) : 0;
        uint32_t* const target =
            values + (Tile::itemUnit(item) + Tile::rowUnit(row + firstRow)) * kUnitWords;
        const uint4 a = vectors[i][0];
        const uint4 b = vectors[i][1];
        const uint32_t words[kOctet] = {
            lowHalves(a.x, b.x), highHalves(a.x, b.x), lowHalves(a.y, b.y), highHalves(a.y, b.y),
            lowHalves(a.z, b.z), highHalves(a.z, b.z), lowHalves(a.w, b.w), highHalves(a.w, b.w)};
#pragma unroll
        for (int c = 0; c < kOctet; ++c) target[c * Tile::kPlane * kUnitWords] = words[c];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < Tile::kWeights; ++i) {
    const int at = thread + i * Tile::kThreads;
    if (at >= own * kTaps) continue;
    int kx;
    uint16_t (&row)[Tile::kPairs][2] = shared.weights[0][split(at, kKernel, kx)];
    row[kx][1] = row[kx + 1][0] = weights[i];
  }
  __syncthreads();

  int q;
  const int g = split(lane, 4, q);
  // Of a unit's patches: those of a row of patches first, then those of the next item.
  const auto patchUnit = [](int patch) {
    int across, item;
    const int down = split(split(patch, kSide, across), kItems, item);
    return Tile::itemUnit(item) + Tile::rowUnit(down * kPatchRows) + across;
  };
  const T* const type = nullptr;
#pragma unroll 1
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    const int channel = warp + pass * Tile::kWarps;
    if (channel >= own) break;
    T bias = biases[0];
    if (Tile::kPasses > 1 && pass > 0) bias = biases[Tile::kPasses - 1];
    uint32_t bands[kKernel][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int tap = 2 * q + 8 * half - g;
      const bool isInBand = tap >= -1 && tap < kKernel;
      const uint32_t* const pairs =
          isInBand ? reinterpret_cast<const uint32_t*>(shared.weights[channel][0][tap + 1])
                   : shared.values + (Tile::kUnits - Tile::kZeros) * kUnitWords;
#pragma unroll
      for (int ky = 0; ky < kKernel; ++ky) bands[ky][half] = pairs[ky * Tile::kPairs];
    }
    int inOctet;
    const int octet = split(channel, kOctet, inOctet);
    uint32_t* const plane =
        shared.values + (octet * Tile::kOctetUnits + inOctet * Tile::kPlane) * kUnitWords;
    // The patches' first columns for lanes 0 to 15, and those eight further for the others.
    const uint32_t address = sharedAddress(
        plane + (patchUnit(lane & (kPatches - 1)) + (lane >= kPatches ? 1 : 0)) * kUnitWords);
    const auto readRow = [&](int row, uint32_t (&values)[4]) {
      loadMatrices(address + Tile::rowUnit(row) * kUnitWords * 4, values);
    };
    BandSums sums;
#pragma unroll
    for (int r = 0; r < kPatchRows; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[r][i] = toFloat(bias);
    }
    addBands<kKernel>(bands, sums, type, readRow);
    if (p.residual) {
      const uint32_t one = bitsOf(fromFloat<T>(1.0F));
      uint32_t unit[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int tap = 2 * q + 8 * half - g;
        unit[half] = tap == kReach ? one : tap + 1 == kReach ? one << 16 : 0;
      }
#pragma unroll
      for (int r = 0; r < kPatchRows; ++r) {
        uint32_t values[4];
        readRow(r + kReach, values);
        multiplyAdd(sums[r], values, unit, type);
      }
    }
    float zeros[4] = {};
#pragma unroll
    for (int r = 0; r < kPatchRows; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) zeros[i] = fmaf(sums[r][i], 0.0F, zeros[i]);
    }
    const bool isFinite = zeros[0] + zeros[1] + zeros[2] + zeros[3] == 0.0F;
    if (__any_sync(kFullMask, !isFinite)) {
      mendSums(sums, [&](int i) {
        const int row = i / 4;
        const T* const values = reinterpret_cast<const T*>(plane) +
                                patchUnit(g + i / 2 % 2 * 8) * kUnitHalves + 2 * q + i % 2;
        float sum = toFloat(bias);
#pragma unroll 1
        for (int ky = 0; ky < kKernel; ++ky) {
          const T* const line = values + Tile::rowUnit(row + ky) * kUnitHalves;
#pragma unroll 1
          for (int kx = 0; kx < kKernel; ++kx) {
            T tap;
            memcpy(&tap, &shared.weights[channel][ky][kx + 1][0], sizeof(tap));
            sum = fmaf(toFloat(line[kx]), toFloat(tap), sum);
          }
          if (ky == kReach && p.residual) sum += toFloat(line[kReach]);
        }
        return sum;
      });
    }
    if (p.silu) {
#pragma unroll
      for (int r = 0; r < kPatchRows; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[r][i] = siluFast(sums[r][i]);
      }
    }
    // In the place of what the warp has read: the rows of zeros remain, as other warps read them.
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t* const target = plane + patchUnit(g + half * 8) * kUnitWords + q;
#pragma unroll
      for (int r = 0; r < kPatchRows; ++r) {
        const AlignedVector<T, 2> pair = {fromFloat<T>(sums[r][2 * half]),
                                          fromFloat<T>(sums[r][2 * half + 1])};
        memcpy(target + Tile::rowUnit(r + kReach) * kUnitWords, &pair, sizeof(pair));
      }
    }
  }
  __syncthreads();

  T* const y = keepInRegister(static_cast<T*>(p.y) + map);
  int slot, octet;
  const int line = split(thread, Tile::kOutSlots, slot);
  const int pair = split(slot, kOctets, octet);
  const int rows = min(p.rows, p.height - top);
  const int columns = min(p.columns, p.width - left);
  const int lines = Tile::kWhole ? items * Tile::kRows : rows;
  if (line >= Tile::kOutLines || octet * kOctet >= own || 2 * pair >= columns) return;
  const bool hasSecond = 2 * pair + 1 < columns;
  const int place = top * rowValues + (left + 2 * pair) * p.channels + octet * kOctet;
  const uint32_t* const values = shared.values + octet * Tile::kOctetUnits * kUnitWords + pair;
#pragma unroll 2
  for (int at = line; at < lines; at += Tile::kOutLines) {
    int row = at;
    const int item = Tile::kWhole ? split(at, Tile::kRows, row) : 0;
    if (Tile::kWhole && row >= rows) continue;
    const uint32_t* const source =
        values + (Tile::itemUnit(item) + Tile::rowUnit(row + kReach)) * kUnitWords;
    uint32_t words[kOctet];
#pragma unroll
    for (int c = 0; c < kOctet; ++c) words[c] = source[c * Tile::kPlane * kUnitWords];
    T* const target = y + (place + item * itemValues + row * rowValues);
    *reinterpret_cast<uint4*>(target) =
        make_uint4(lowHalves(words[0], words[1]), lowHalves(words[2], words[3]),
                   lowHalves(words[4], words[5]), lowHalves(words[6], words[7]));
    if (!hasSecond) continue;
    *reinterpret_cast<uint4*>(target + p.channels) =
        make_uint4(highHalves(words[0], words[1]), highHalves(words[2], words[3]),
                   highHalves(words[4], words[5]), highHalves(words[6], words[7]));
  }
}

namespace {

// The patches of a side of a tile.
int sideOf(const gspn2_depthwise_t& conv) {
  const int64_t longer = std::max(conv.h, conv.w);
  return longer <= kPatchRows ? 1 : longer <= 2 * kPatchRows ? 2 : 4;
}

struct BandGrid {
  int down, across, channelBlocks, items;
  int64_t blocks;
};

BandGrid gridOf(const gspn2_depthwise_t& conv) {
  const int side = sideOf(conv);
  const int columns = (side == 4 ? kPatchColumns : kPatchRows) * side;
  BandGrid grid{};
  grid.down = planCeilDiv(conv.h, int64_t{kPatchRows} * side);
  grid.across = planCeilDiv(conv.w, columns);
  grid.channelBlocks = planCeilDiv(conv.c, kBlockChannels);
  grid.items = kPatches / (side * side);
  grid.blocks =
      (conv.n + grid.items - 1) / grid.items * grid.down * grid.across * grid.channelBlocks;
  return grid;
}

template <typename T, int kKernel, int kSide>
cudaError_t launchTiles(const DepthwiseCall& call, const DeviceInfo& device) {
  using Tile = BandTile<kKernel, kSide>;
  const gspn2_depthwise_t& conv = call.conv;
  const BandGrid grid = gridOf(conv);
  DepthwiseBandParams params{};
  params.x = call.x;
  params.weight = call.weight;
  params.bias = call.bias;
  params.y = call.y;
  params.items = conv.n;
  params.height = static_cast<int>(conv.h);
  params.width = static_cast<int>(conv.w);
  params.channels = static_cast<int>(conv.c);
  params.down = grid.down;
  params.across = grid.across;
  // Tiles of one size, as nearly as may be.
  params.rows = planCeilDiv(conv.h, grid.down);
  params.columns = planCeilDiv(conv.w, grid.across);
  params.channelBlocks = grid.channelBlocks;
  params.silu = conv.activation == GSPN2_SILU;
  params.residual = conv.residual != 0;
  return launchClusters(depthwiseBandKernel<T, kKernel, kSide>, static_cast<unsigned>(grid.blocks),
                        Tile::kThreads, 1, sizeof(typename Tile::Shared), call.stream, params,
                        device.computeCapability >= 90);
}

template <typename T, int kKernel>
cudaError_t launchKernelOf(const DepthwiseCall& call, const DeviceInfo& device) {
  switch (sideOf(call.conv)) {
    case 1:
      return launchTiles<T, kKernel, 1>(call, device);
    case 2:
      return launchTiles<T, kKernel, 2>(call, device);
    default:
      return launchTiles<T, kKernel, 4>(call, device);
  }
}

template <typename T>
cudaError_t launch(const DepthwiseCall& call, const DeviceInfo& device) {
  switch (call.conv.kernel) {
    case 3:
      return launchKernelOf<T, 3>(call, device);
    case 5:
      return launchKernelOf<T, 5>(call, device);
    default:
      return launchKernelOf<T, 7>(call, device);
  }
}

}  // namespace

int64_t depthwiseBandBlocks(const gspn2_depthwise_t& conv) {
  constexpr int64_t kMostValues = INT32_MAX / 2;  // of a block's maps, rows past them included
  const BandGrid grid = gridOf(conv);
  const bool fits = conv.h * conv.w * conv.c <= kMostValues / grid.items;
  return fits && grid.blocks <= kDepthwiseMaxBlocks ? grid.blocks : 0;
}

cudaError_t launchDepthwiseBands(const DepthwiseCall& call, const DeviceInfo& device) {
  return call.conv.dtype == GSPN2_FLOAT16 ? launch<__half>(call, device)
                                          : launch<__nv_bfloat16>(call, device);
}

}  // namespace gspn2
