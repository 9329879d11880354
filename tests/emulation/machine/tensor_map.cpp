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

}  // namespace

DecodedMap decodeMap(const CUtensorMap& map) {
  DecodedMap decoded;
  static_assert(sizeof(decoded) <= sizeof(map), "a tensor map has 128 bytes");
  std::memcpy(&decoded, &map, sizeof(decoded));
  if (decoded.mark != kMark) fail("a copy by a tensor map that was never encoded");
  return decoded;
}

void TileCopy::load(char* memory) const {
  const int64_t bytes = map.elementBytes;
  const int64_t begin = std::clamp<int64_t>(corner[0], 0, map.extents[0]);
  const int64_t end = std::clamp<int64_t>(int64_t{corner[0]} + map.box[0], 0, map.extents[0]);
  std::memset(memory, 0, static_cast<size_t>(map.boxBytes()));
  for (int z = 0; z < map.box[2]; ++z) {
    for (int y = 0; y < map.box[1]; ++y, memory += map.box[0] * bytes) {
      const int64_t plane = int64_t{corner[2]} + z;
      const int64_t row = int64_t{corner[1]} + y;
      const bool inside = plane >= 0 && plane < map.extents[2] && row >= 0 && row < map.extents[1];
      if (!inside || begin >= end) continue;
      std::memcpy(memory + (begin - corner[0]) * bytes,
                  map.base + plane * map.strides[1] + row * map.strides[0] + begin * bytes,
                  static_cast<size_t>((end - begin) * bytes));
    }
  }
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
      swizzle != CU_TENSOR_MAP_SWIZZLE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE ||
      map == nullptr || address == nullptr ||
      reinterpret_cast<uintptr_t>(address) % kChunkBytes != 0 ||
      reinterpret_cast<uintptr_t>(map) % alignof(CUtensorMap) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  DecodedMap decoded{};
  decoded.mark = kMark;
  decoded.base = static_cast<char*>(address);
  decoded.elementBytes = elementBytes(type);
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
  if (decoded.box[0] * decoded.elementBytes % kChunkBytes != 0) return CUDA_ERROR_INVALID_VALUE;
  std::memset(map, 0, sizeof(*map));
  std::memcpy(map, &decoded, sizeof(decoded));
  return CUDA_SUCCESS;
}
