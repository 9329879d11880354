// The sums of a depthwise convolution, of a lane's patch: from shared memory into registers.
#ifndef GSPN2_KERNELS_DEPTHWISE_PATCH_CUH_
#define GSPN2_KERNELS_DEPTHWISE_PATCH_CUH_

#include "common.cuh"

namespace gspn2 {

constexpr int kDepthwisePair = 2;   // channels of a lane
constexpr int kDepthwiseStrip = 7;  // columns of a patch: maps of 7, 14, 28 and 56 have no odd one

// Adds to the sums of a patch of kRows rows. The positions that reach it begin at `reach`, a row of
// them every kPitch values and one every kChannels; addTap(tap, values, row) adds to a row's sums
// what one of the kernel's weights gives, of which values[o] is for the row's o-th: in what order
// its products come is the caller's, whose weights lie in registers or in shared memory.
template <int kKernel, int kPitch, int kChannels, int kRows, typename T, typename AddTap>
__device__ __forceinline__ void convolvePatch(const T* reach, bool residual,
                                              float (&sums)[kRows][kDepthwiseStrip][kDepthwisePair],
                                              const AddTap& addTap) {
  using Pair = AlignedVector<T, kDepthwisePair>;
  constexpr int kReach = kKernel / 2;
#pragma unroll
  for (int i = 0; i < kRows + kKernel - 1; ++i) {
    float values[kDepthwiseStrip + kKernel - 1][kDepthwisePair];
#pragma unroll
    for (int k = 0; k < kDepthwiseStrip + kKernel - 1; ++k) {
      const auto read = *reinterpret_cast<const Pair*>(reach + i * kPitch + k * kChannels);
#pragma unroll
      for (int c = 0; c < kDepthwisePair; ++c) values[k][c] = toFloat(read.values[c]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int ky = i - r;
      if (ky < 0 || ky >= kKernel) continue;
#pragma unroll
      for (int kx = 0; kx < kKernel; ++kx) {
        addTap(ky * kKernel + kx, values + kx, sums[r]);
      }
      if (ky == kReach && residual) {
#pragma unroll
        for (int o = 0; o < kDepthwiseStrip; ++o) {
#pragma unroll
          for (int c = 0; c < kDepthwisePair; ++c) sums[r][o][c] += values[o + kReach][c];
        }
      }
    }
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEPTHWISE_PATCH_CUH_
