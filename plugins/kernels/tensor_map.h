// Tensor maps for the bulk copy engine over dense row-major maps.
#ifndef GSPN2_KERNELS_TENSOR_MAP_H_
#define GSPN2_KERNELS_TENSOR_MAP_H_

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "gspn2/kernels.h"

namespace gspn2 {

// A box of `boxRows` x `boxColumns` elements of one plane of (planes, rows, columns). Positions
// outside the tensor read as 0.
struct TileShape {
  int64_t planes, rows, columns;
  int boxRows, boxColumns;
};

cudaError_t encodeTensorMap(CUtensorMap* map, gspn2_dtype_t dtype, const void* data,
                            const TileShape& shape);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TENSOR_MAP_H_
