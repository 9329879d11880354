#include "tensor_map.h"

#include <algorithm>
#include <cstring>

#include "device.h"

namespace emulation {
namespace {

constexpr uint64_t kMark = 0x6773706e326d6170ULL;
constexpr int kChunkBytes = 16;
constexpr int64_t kMaxExtent = int64_t{1} << 32;
constexpr int64_t kMaxStride = int64_t{1} << 40;
constexpr cuuint32_t kMaxBox = 256;

int elementBytes(CUtensorMapDataType type) {
  return type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4 : 2;
}

int swizzleBytes(CUtensorMapSwizzle swizzle) {
  switch (swizzle) {
    case CU_TENSOR_MAP_SWIZZLE_32B:
      return 32;
    case CU_TENSOR_MAP_SWIZZLE_64B:
      return 64;
    case CU_TENSOR_MAP_SWIZZLE_128B:
      return 128;
    case CU_TENSOR_MAP_SWIZZLE_NONE:
      break;
  }
  return 0;
}

// Bits 4.. of an address, as many as the swizzle spans, turned by the bits from 7 on.
uint32_t swizzled(uint32_t address, int bytes) {
  if (bytes == 0) return address;
  const uint32_t mask = static_cast<uint32_t>(bytes / kChunkBytes - 1);
  return address ^ ((address >> 7 & mask) << 4);
}

}  // namespace

DecodedMap decodeMap(const CUtensorMap& map) {
  DecodedMap decoded;
  static_assert(sizeof(decoded) <= sizeof(map), "a tensor map has 128 bytes");
  std::memcpy(&decoded, &map, sizeof(decoded));
  if (decoded.mark != kMark) fail("a copy by a tensor map that was never encoded");
  return decoded;
}

// Calls move(tensor offset or -1, offset in the dense box, shared offset, bytes) for every piece
// of a row that is at one place in all of them.
template <typename Move>
void TileCopy::forEachRun(Move move) const {
  const int rowBytes = map.box[0] * map.elementBytes;
  const int step = map.swizzleBytes == 0 ? rowBytes : kChunkBytes;
  int64_t dense = 0;
  for (int z = 0; z < map.box[2]; ++z) {
    for (int y = 0; y < map.box[1]; ++y, dense += rowBytes) {
      const int64_t plane = int64_t{corner[2]} + z;
      const int64_t row = int64_t{corner[1]} + y;
      const bool inside = plane >= 0 && plane < map.extents[2] && row >= 0 && row < map.extents[1];
      for (int at = 0; at < rowBytes; at += step) {
        const int64_t first = corner[0] + at / map.elementBytes;
        const int64_t last = first + step / map.elementBytes;
        const int64_t begin = inside ? std::clamp<int64_t>(first, 0, map.extents[0]) : last;
        const int64_t end = inside ? std::clamp<int64_t>(last, 0, map.extents[0]) : last;
        const auto place = swizzled(shared + static_cast<uint32_t>(dense) + at, map.swizzleBytes);
        const auto offsetOf = [&](int64_t column) {
          return static_cast<int>((column - first) * map.elementBytes);
        };
        if (begin >= end) {
          move(-1, dense + at, place, step);
          continue;
        }
        const int before = offsetOf(begin);
        const int within = offsetOf(end) - before;
        const int64_t tensor =
            plane * map.strides[1] + row * map.strides[0] + begin * map.elementBytes;
        if (before > 0) move(-1, dense + at, place, before);
        move(tensor, dense + at + before, place + before, within);
        const int used = before + within;
        if (used < step) move(-1, dense + at + used, place + used, step - used);
      }
    }
  }
}

void TileCopy::load(char* memory) const {
  forEachRun([&](int64_t tensor, int64_t, uint32_t place, int bytes) {
    char* const target = memory + (place - shared);
    if (tensor < 0) {
      std::memset(target, 0, static_cast<size_t>(bytes));
    } else {
      std::memcpy(target, map.base + tensor, static_cast<size_t>(bytes));
    }
  });
}

void TileCopy::read(const char* memory) {
  content.resize(static_cast<size_t>(map.boxBytes()));
  forEachRun([&](int64_t, int64_t dense, uint32_t place, int bytes) {
    std::memcpy(content.data() + dense, memory + (place - shared), static_cast<size_t>(bytes));
  });
}

void TileCopy::write() const {
  forEachRun([&](int64_t tensor, int64_t dense, uint32_t, int bytes) {
    if (tensor >= 0) {
      std::memcpy(map.base + tensor, content.data() + dense, static_cast<size_t>(bytes));
    }
  });
}

}  // namespace emulation

// Refuses what the driver refuses. Source: CUDA driver API, cuTensorMapEncodeTiled.
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* address, const cuuint64_t* extents, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* elementStrides,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  static_cast<void>(promotion);
  using namespace emulation;
  if (rank != 3 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
      fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE || map == nullptr || address == nullptr ||
      reinterpret_cast<uintptr_t>(address) % kChunkBytes != 0 ||
      reinterpret_cast<uintptr_t>(map) % alignof(CUtensorMap) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  DecodedMap decoded{};
  decoded.mark = kMark;
  decoded.base = static_cast<char*>(address);
  decoded.elementBytes = elementBytes(type);
  decoded.swizzleBytes = swizzleBytes(swizzle);
  for (int i = 0; i < 3; ++i) {
    if (extents[i] == 0 || extents[i] > static_cast<cuuint64_t>(kMaxExtent) || box[i] == 0 ||
        box[i] > kMaxBox || elementStrides[i] != 1) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    decoded.extents[i] = static_cast<int64_t>(extents[i]);
    decoded.box[i] = static_cast<int32_t>(box[i]);
  }
  cuuint64_t least = extents[0] * static_cast<cuuint64_t>(decoded.elementBytes);
  for (int i = 0; i < 2; ++i) {
    if (strides[i] % kChunkBytes != 0 || strides[i] >= static_cast<cuuint64_t>(kMaxStride) ||
        strides[i] < least) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    least = strides[i] * extents[i + 1];
    decoded.strides[i] = static_cast<int64_t>(strides[i]);
  }
  const int rowBytes = decoded.box[0] * decoded.elementBytes;
  if (rowBytes % kChunkBytes != 0 ||
      (decoded.swizzleBytes != 0 && rowBytes > decoded.swizzleBytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::memset(map, 0, sizeof(*map));
  std::memcpy(map, &decoded, sizeof(decoded));
  return CUDA_SUCCESS;
}
