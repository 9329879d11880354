// The ring of stages in shared memory as one of its users sees it.
#ifndef GSPN2_KERNELS_STAGE_CURSOR_CUH_
#define GSPN2_KERNELS_STAGE_CURSOR_CUH_

#include <cstdint>

namespace gspn2 {

// A place in the ring, and how often the ring has been passed.
struct StageCursor {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STAGE_CURSOR_CUH_
