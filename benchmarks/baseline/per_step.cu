// Yardsticks: a scan that launches one kernel per step, an empty kernel, and a bare serial chain.
//
// The per-step scan stands for how GSPN (arXiv 2501.12381) ran: the state goes through device
// memory between two launches. Weights are taken as they are, per channel.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#define BASELINE_API extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kBlock = 256;

__device__ float toFloat(float value) { return value; }
__device__ float toFloat(__half value) { return __half2float(value); }
__device__ void store(float* target, float value) { *target = value; }
__device__ void store(__half* target, float value) { *target = __float2half_rn(value); }

struct Extents {
  int64_t slices, channels, line, plane, stepStride, lineStride;
};

// One step for every position of every slice.
template <typename T>
__global__ void stepKernel(const T* x, const T* lam, const T* w, T* h, Extents e, int64_t step,
                           bool first) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= e.slices * e.line) return;
  const int64_t slice = index / e.line;
  const int64_t position = index - slice * e.line;
  const int64_t here = step * e.stepStride + position * e.lineStride;
  const int64_t at = slice * e.plane + here;
  float value = toFloat(lam[at]) * toFloat(x[at]);
  if (!first) {
    const int64_t n = slice / e.channels;
    const int64_t c = slice - n * e.channels;
    const T* weights = w + (n * 3 * e.channels + c) * e.plane + here;
    const T* last = h + at - e.stepStride;
    for (int j = 0; j < 3; ++j) {
      const int64_t neighbour = position + j - 1;
      if (neighbour < 0 || neighbour >= e.line) continue;
      value += toFloat(weights[j * e.channels * e.plane]) * toFloat(last[(j - 1) * e.lineStride]);
    }
  }
  store(h + at, value);
}

template <typename T>
int scan(int64_t n, int64_t c, int64_t height, int64_t width, bool horizontal, const void* x,
         const void* lam, const void* w, void* h, cudaStream_t stream) {
  const int64_t steps = horizontal ? width : height;
  const int64_t line = horizontal ? height : width;
  const Extents extents{
      n * c, c, line, height * width, horizontal ? 1 : width, horizontal ? width : 1};
  const auto grid = static_cast<unsigned>((n * c * line + kBlock - 1) / kBlock);
  for (int64_t step = 0; step < steps; ++step) {
    stepKernel<T><<<grid, kBlock, 0, stream>>>(static_cast<const T*>(x), static_cast<const T*>(lam),
                                               static_cast<const T*>(w), static_cast<T*>(h),
                                               extents, step, step == 0);
  }
  return static_cast<int>(cudaGetLastError());
}

__global__ void emptyKernel() {}

// `steps` dependent steps of the recurrence on one line: the floor that no fused scan gets under.
__global__ void chainKernel(float* out, int steps) {
  extern __shared__ float lines[];  // two lines between zeros
  const int pitch = static_cast<int>(blockDim.x) + 2;
  const int at = static_cast<int>(threadIdx.x) + 1;
  float h = static_cast<float>(at);
  lines[at] = h;
  if (threadIdx.x < 4) lines[(threadIdx.x / 2) * pitch + (threadIdx.x % 2) * (pitch - 1)] = 0.0F;
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const float* last = lines + (step % 2) * pitch;
    h = fmaf(0.25F, last[at - 1], fmaf(0.5F, h, fmaf(0.25F, last[at + 1], 1.0F)));
    lines[((step + 1) % 2) * pitch + at] = h;
    __syncthreads();
  }
  out[threadIdx.x] = h;
}

}  // namespace

BASELINE_API int gspn2_baseline_per_step(int64_t n, int64_t c, int64_t h, int64_t w, int horizontal,
                                         int half, const void* x, const void* lam,
                                         const void* affinity, void* out, cudaStream_t stream) {
  return half != 0 ? scan<__half>(n, c, h, w, horizontal != 0, x, lam, affinity, out, stream)
                   : scan<float>(n, c, h, w, horizontal != 0, x, lam, affinity, out, stream);
}

BASELINE_API int gspn2_baseline_empty(cudaStream_t stream) {
  emptyKernel<<<1, 32, 0, stream>>>();
  return static_cast<int>(cudaGetLastError());
}

BASELINE_API int gspn2_baseline_chain(float* out, int line, int steps, cudaStream_t stream) {
  chainKernel<<<1, line, 2 * sizeof(float) * (line + 2), stream>>>(out, steps);
  return static_cast<int>(cudaGetLastError());
}
