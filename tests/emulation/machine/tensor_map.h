// Tensor maps and the boxes that they move. Positions outside a tensor read as 0.
#ifndef GSPN2_EMULATION_TENSOR_MAP_H_
#define GSPN2_EMULATION_TENSOR_MAP_H_

#include <cuda.h>

#include <cstdint>

namespace emulation {

// What cuTensorMapEncodeTiled leaves in a CUtensorMap; always three dimensions.
struct DecodedMap {
  uint64_t mark;
  char* base;
  int64_t extents[3];
  int64_t strides[2];  // bytes between rows, between planes
  int32_t box[3];
  int32_t elementBytes;

  int boxBytes() const { return box[0] * box[1] * box[2] * elementBytes; }
};

// The map's content; fails where it was never encoded.
DecodedMap decodeMap(const CUtensorMap& map);

// One box on its way from the tensor.
struct TileCopy {
  DecodedMap map;
  int corner[3];

  void load(char* memory) const;
};

}  // namespace emulation
#endif  // GSPN2_EMULATION_TENSOR_MAP_H_
