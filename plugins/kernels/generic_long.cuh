// The generic scan of lines of any length: a block strides over the positions.
#ifndef GSPN2_KERNELS_GENERIC_LONG_CUH_
#define GSPN2_KERNELS_GENERIC_LONG_CUH_

#include "generic_scan.cuh"

namespace gspn2 {

// m (u h + d x) of one element, added to what the earlier directions left; the last one writes y.
template <typename T>
__device__ __forceinline__ void mergeElement(const ScanParams<T>& p, const Item& item,
                                             int64_t offset, float merge, float h, float x) {
  float part = toFloat(p.u[item.gate + offset]) * h;
  if (p.d != nullptr) part = fmaf(toFloat(p.d[item.gate + offset]), x, part);
  part *= merge;
  if (p.accumulate) part += p.sums[item.x + offset];
  if (p.finalise) {
    p.out[item.x + offset] = fromFloat<T>(part);
  } else {
    p.sums[item.x + offset] = part;
  }
}

// The two lines of state stand in shared memory (kShared) or in the workspace.
template <typename T, bool kProp, bool kShared>
__global__ void __launch_bounds__(kMaxBlock)
    scanLongKernel(const __grid_constant__ ScanParams<T> p) {
  float* const lines = kShared ? dynamicShared<float>() : p.lines + 2 * p.line * blockIdx.x;
  const float merge = kProp && p.m != nullptr ? toFloat(*p.m) : 1.0F;
  const int64_t neighbour = p.affinities * p.plane;

  const int64_t items = p.slices * p.groups;
  for (int64_t index = blockIdx.x; index < items; index += gridDim.x) {
    const Item item = locateItem(p, index);
    int64_t phase = 0;  // steps since the segment's start
    for (int64_t t = 0; t < item.count; ++t) {
      const float* const last = lines + (t % 2) * p.line;
      float* const current = lines + ((t + 1) % 2) * p.line;
      const bool restart = phase == 0;
#pragma unroll 4
      for (int64_t position = threadIdx.x; position < p.line; position += blockDim.x) {
        const bool hasMinus = position > 0;
        const bool hasPlus = position + 1 < p.line;
        const int64_t offset = t * p.stepStride + position * p.lineStride;
        const T* w = p.w + item.w + offset;
        const float x = toFloat(__ldg(p.x + item.x + offset));
        const float input = toFloat(__ldg(p.lam + item.gate + offset)) * x;
        const Weights weights =
            normalise(p.normalize, toFloat(__ldg(w)), toFloat(__ldg(w + neighbour)),
                      toFloat(__ldg(w + 2 * neighbour)), hasMinus, hasPlus);
        // At a restart the previous line may not have been written at all.
        const float minus = hasMinus && !restart ? last[position - 1] : 0.0F;
        const float centre = restart ? 0.0F : last[position];
        const float plus = hasPlus && !restart ? last[position + 1] : 0.0F;
        const float h = stepState(weights, minus, centre, plus, input, restart);
        current[position] = h;
        if constexpr (kProp) {
          mergeElement(p, item, offset, merge, h, x);
        } else {
          p.out[item.x + offset] = fromFloat<T>(h);
        }
      }
      phase = phase + 1 == p.chunk ? 0 : phase + 1;
      __syncthreads();
    }
  }
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_GENERIC_LONG_CUH_
