#include "tensor_map.h"

namespace gspn2 {
namespace {

using EncodeFunction = decltype(&cuTensorMapEncodeTiled);

// Asked of the driver at run time: linking libcuda would keep the library from loading without it.
EncodeFunction findEncode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                              12000, cudaEnableDefault, &result);
#else
  const cudaError_t status =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &result);
#endif
  if (status != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<EncodeFunction>(function);
}

CUtensorMapDataType dataType(gspn2_dtype_t dtype) {
  if (dtype == GSPN2_FLOAT32) return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  if (dtype == GSPN2_FLOAT16) return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

}  // namespace

cudaError_t encodeTensorMap(CUtensorMap* map, gspn2_dtype_t dtype, const void* data,
                            const TileShape& shape) {
  static const EncodeFunction encode = findEncode();
  if (encode == nullptr) return cudaErrorNotSupported;
  const uint64_t bytes = dtype == GSPN2_FLOAT32 ? 4 : 2;
  const cuuint64_t extents[] = {static_cast<cuuint64_t>(shape.columns),
                                static_cast<cuuint64_t>(shape.rows),
                                static_cast<cuuint64_t>(shape.planes)};
  const cuuint64_t strides[] = {extents[0] * bytes, extents[0] * extents[1] * bytes};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(shape.boxColumns),
                            static_cast<cuuint32_t>(shape.boxRows), 1};
  const cuuint32_t elementStrides[] = {1, 1, 1};
  const CUresult result =
      encode(map, dataType(dtype), 3, const_cast<void*>(data), extents, strides, box,
             elementStrides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace gspn2
