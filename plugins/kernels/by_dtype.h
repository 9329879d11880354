// From a problem's dtype to the translation unit, or the instance, that is for it.
#ifndef GSPN2_KERNELS_BY_DTYPE_H_
#define GSPN2_KERNELS_BY_DTYPE_H_

#include <cuda_runtime_api.h>

#include <type_traits>
#include <utility>

#include "gspn2/kernels.h"

namespace gspn2 {

// Calls the dtype's function; checkProblem has refused every other value.
template <typename... Parameters, typename... Arguments>
cudaError_t launchByDtype(gspn2_dtype_t dtype, cudaError_t (*float32)(Parameters...),
                          cudaError_t (*float16)(Parameters...),
                          cudaError_t (*bfloat16)(Parameters...), Arguments&&... arguments) {
  switch (dtype) {
    case GSPN2_FLOAT32:
      return float32(std::forward<Arguments>(arguments)...);
    case GSPN2_FLOAT16:
      return float16(std::forward<Arguments>(arguments)...);
    case GSPN2_BFLOAT16:
      return bfloat16(std::forward<Arguments>(arguments)...);
  }
  return cudaErrorInvalidValue;
}

// Calls `launch` with the normalisation as a constant.
template <typename Launch>
cudaError_t withNormalisation(gspn2_normalize_t normalize, const Launch& launch) {
  switch (normalize) {
    case GSPN2_NORMALIZE_NONE:
      return launch(std::integral_constant<gspn2_normalize_t, GSPN2_NORMALIZE_NONE>{});
    case GSPN2_NORMALIZE_SIGMOID:
      return launch(std::integral_constant<gspn2_normalize_t, GSPN2_NORMALIZE_SIGMOID>{});
    case GSPN2_NORMALIZE_SOFTMAX:
      return launch(std::integral_constant<gspn2_normalize_t, GSPN2_NORMALIZE_SOFTMAX>{});
  }
  return cudaErrorNotSupported;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_BY_DTYPE_H_
