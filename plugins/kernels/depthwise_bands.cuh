// A block's share of a depthwise convolution by tensor cores: depthwise_bands.cu says how.
#ifndef GSPN2_KERNELS_DEPTHWISE_BANDS_CUH_
#define GSPN2_KERNELS_DEPTHWISE_BANDS_CUH_

#include <cstdint>
#include <cstring>

#include "common.cuh"
#include "depthwise_bands.h"
#include "hopper.cuh"

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

// Where a block's tile is.
struct BandPlace {
  int64_t map;                // of x and y: its first item's first value of its first channel
  int left, top;              // in the map
  int items;                  // that there are
  int own;                    // its channels: one octet or both
  int rowValues, itemValues;  // from one to the next; 32 bits hold a block's items
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

// From x to shared memory, in which there are zeros. A thread takes an octet of two adjacent
// positions of every kInLines-th row, and gives two values of each channel.
template <typename T, int kKernel, int kSide>
__device__ __forceinline__ void loadMaps(const DepthwiseBandParams& p, const BandPlace& place,
                                         int thread, uint32_t* shared) {
  using Tile = BandTile<kKernel, kSide>;
  constexpr int kReach = Tile::kReach;
  const T* const x = keepInRegister(static_cast<const T*>(p.x) + place.map);
  int slot, octet;
  const int line = split(thread, Tile::kInSlots, slot);
  const int pair = split(slot, kOctets, octet) + Tile::kFirstPair;
  const int column = place.left + 2 * pair - kReach;
  const int lastColumn = min(place.left + p.columns + kReach, p.width);
  const int firstRow = Tile::kWhole ? kReach : max(0, kReach - place.top);
  const int lastRow = min(p.rows + 2 * kReach, p.height - place.top + kReach);
  const int lines = Tile::kWhole ? place.items * Tile::kRows : lastRow - firstRow;
  const bool hasAny = line < Tile::kInLines && octet * kOctet < place.own;
  const bool hasFirst = hasAny && column >= 0 && column < lastColumn;
  const bool hasSecond = hasAny && column >= -1 && column < lastColumn - 1;
  const int first =
      (place.top + firstRow - kReach) * place.rowValues + column * p.channels + octet * kOctet;
  uint32_t* const values = shared + octet * Tile::kOctetUnits * kUnitWords + pair;
#pragma unroll 1
  for (int turn = line; turn < lines; turn += Tile::kRound * Tile::kInLines) {
    uint4 vectors[Tile::kRound][2];
#pragma unroll
    for (int i = 0; i < Tile::kRound; ++i) {
      const int at = turn + i * Tile::kInLines;
      int row = at;
      const int item = Tile::kWhole ? split(at, Tile::kRows, row) : 0;
      const bool isInside = at < lines && (!Tile::kWhole || row < p.height);
      const T* const source = x + (first + item * place.itemValues + row * place.rowValues);
      vectors[i][0] = vectors[i][1] = make_uint4(0, 0, 0, 0);
      if (isInside && hasFirst) vectors[i][0] = loadGlobalWordsNow(source);
      if (isInside && hasSecond) vectors[i][1] = loadGlobalWordsNow(source + p.channels);
    }
#pragma unroll
    for (int i = 0; i < Tile::kRound; ++i) {
      const int at = turn + i * Tile::kInLines;
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

// From shared memory to y.
template <typename T, int kKernel, int kSide>
__device__ __forceinline__ void storeMaps(const DepthwiseBandParams& p, const BandPlace& place,
                                          int thread, const uint32_t* shared) {
  using Tile = BandTile<kKernel, kSide>;
  constexpr int kReach = Tile::kReach;
  T* const y = keepInRegister(static_cast<T*>(p.y) + place.map);
  int slot, octet;
  const int line = split(thread, Tile::kOutSlots, slot);
  const int pair = split(slot, kOctets, octet);
  const int rows = min(p.rows, p.height - place.top);
  const int columns = min(p.columns, p.width - place.left);
  const int lines = Tile::kWhole ? place.items * Tile::kRows : rows;
  if (line >= Tile::kOutLines || octet * kOctet >= place.own || 2 * pair >= columns) return;
  const bool hasSecond = 2 * pair + 1 < columns;
  const int first =
      place.top * place.rowValues + (place.left + 2 * pair) * p.channels + octet * kOctet;
  const uint32_t* const values = shared + octet * Tile::kOctetUnits * kUnitWords + pair;
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
    T* const target = y + (first + item * place.itemValues + row * place.rowValues);
    *reinterpret_cast<uint4*>(target) =
        make_uint4(lowHalves(words[0], words[1]), lowHalves(words[2], words[3]),
                   lowHalves(words[4], words[5]), lowHalves(words[6], words[7]));
    if (!hasSecond) continue;
    *reinterpret_cast<uint4*>(target + p.channels) =
        make_uint4(highHalves(words[0], words[1]), highHalves(words[2], words[3]),
                   highHalves(words[4], words[5]), highHalves(words[6], words[7]));
  }
}

// A warp's unit: a channel, whose results take the place of what they are of.
template <typename T, int kKernel, int kSide>
__device__ __forceinline__ void convolveChannel(const DepthwiseBandParams& p, int channel, T bias,
                                                int lane,
                                                typename BandTile<kKernel, kSide>::Shared& shared) {
  using Tile = BandTile<kKernel, kSide>;
  constexpr int kReach = Tile::kReach;
  const T* const type = nullptr;
  int q;
  const int g = split(lane, 4, q);
  // Of a unit's patches: those of a row of patches first, then those of the next item.
  const auto patchUnit = [](int patch) {
    int across, item;
    const int down = split(split(patch, kSide, across), Tile::kItems, item);
    return Tile::itemUnit(item) + Tile::rowUnit(down * kPatchRows) + across;
  };
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

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_BANDS_CUH_
