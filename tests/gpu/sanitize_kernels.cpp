// A reduced set of calls for compute-sanitizer: every buffer is an allocation of exactly its size,
// outputs and workspaces are left uninitialised. Run by tests/gpu/sanitize.py.
//
//   gspn2_sanitize_kernels [aligned|misaligned] [small]
//
// misaligned: by one element, so that only the generic kernels take the calls; small: maps of up to
// 4,096 elements alone, for tools that take minutes to a large one.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "gspn2/kernels.h"

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s: %s\n", what, gspn2_last_error());
  std::exit(1);
}

bool gMisaligned = false;

// Device memory that ends exactly after `count` elements; begins one late where misaligned.
class Buffer {
 public:
  Buffer(int64_t count, gspn2_dtype_t dtype)
      : mBytes(static_cast<size_t>(count) * (dtype == GSPN2_FLOAT32 ? 4 : 2)) {
    if (mBytes == 0) return;
    const size_t offset = gMisaligned ? mBytes / static_cast<size_t>(count) : 0;
    require(cudaMalloc(&mAllocation, mBytes + offset) == cudaSuccess, "cudaMalloc");
    mData = static_cast<char*>(mAllocation) + offset;
  }
  ~Buffer() { cudaFree(mAllocation); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Values in [-1, 1): random mantissas under a fixed exponent, the same bits for every dtype size.
  void fill(gspn2_dtype_t dtype, std::mt19937& random) {
    std::vector<uint16_t> halves(mBytes / 2);
    std::vector<float> floats(mBytes / 4);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    const void* source = halves.data();
    if (dtype == GSPN2_FLOAT32) {
      for (float& value : floats) value = uniform(random);
      source = floats.data();
    } else {
      // Sign and mantissa at random, exponent of 0.5: 0x3800 in float16, 0x3f00 in bfloat16.
      const bool half = dtype == GSPN2_FLOAT16;
      for (uint16_t& value : halves) {
        const auto bits = static_cast<uint16_t>(random());
        value = static_cast<uint16_t>((bits & 0x8000U) | (bits & (half ? 0x3ffU : 0x7fU)) |
                                      (half ? 0x3800U : 0x3f00U));
      }
    }
    require(cudaMemcpy(mData, source, mBytes, cudaMemcpyHostToDevice) == cudaSuccess, "copy in");
  }

  bool allFinite(gspn2_dtype_t dtype) const {
    std::vector<uint16_t> halves(mBytes / 2);
    require(cudaMemcpy(halves.data(), mData, mBytes, cudaMemcpyDeviceToHost) == cudaSuccess,
            "copy out");
    const uint16_t exponent = dtype == GSPN2_FLOAT16 ? 0x7c00 : 0x7f80;
    // A float32's upper half is a bfloat16 with the same exponent.
    const size_t stride = dtype == GSPN2_FLOAT32 ? 2 : 1;
    for (size_t i = stride - 1; i < halves.size(); i += stride) {
      if ((halves[i] & exponent) == exponent) return false;
    }
    return true;
  }

  void* data() const { return mData; }
  size_t bytes() const { return mBytes; }

 private:
  size_t mBytes;
  void* mAllocation = nullptr;
  void* mData = nullptr;
};

// A workspace is always aligned, as the ABI asks.
class Workspace {
 public:
  explicit Workspace(size_t bytes) {
    if (bytes > 0) require(cudaMalloc(&mData, bytes) == cudaSuccess, "cudaMalloc");
  }
  ~Workspace() { cudaFree(mData); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* data() const { return mData; }

 private:
  void* mData = nullptr;
};

int gCalls = 0;

void scanAll(const gspn2_problem_t& p, std::mt19937& random) {
  const int64_t map = p.n * p.c * p.h * p.w;
  Buffer x(map, p.dtype), lam(map, p.dtype), w(p.n * 3 * p.g * p.h * p.w, p.dtype);
  for (Buffer* input : {&x, &lam, &w}) input->fill(p.dtype, random);
  for (int k = 0; k < 4; ++k) {
    const auto direction = static_cast<gspn2_direction_t>(k);
    size_t bytes = 0;
    require(gspn2_line_scan_workspace(&p, direction, &bytes) == GSPN2_SUCCESS, "workspace");
    Buffer h(map, p.dtype);
    Workspace workspace(bytes);
    require(gspn2_line_scan(&p, direction, x.data(), lam.data(), w.data(), h.data(),
                            workspace.data(), bytes, nullptr) == GSPN2_SUCCESS,
            "gspn2_line_scan");
    require(cudaDeviceSynchronize() == cudaSuccess, "the scan");
    require(h.allFinite(p.dtype), "the states are not finite");
    ++gCalls;
  }
}

void mergeAll(const gspn2_problem_t& p, bool options, std::mt19937& random) {
  const int64_t map = p.n * p.c * p.h * p.w;
  Buffer x(map, p.dtype), lam(4 * map, p.dtype), u(4 * map, p.dtype), d(4 * map, p.dtype);
  Buffer w(p.n * 12 * p.g * p.h * p.w, p.dtype), m(4, p.dtype), y(map, p.dtype);
  for (Buffer* input : {&x, &lam, &u, &d, &w, &m}) input->fill(p.dtype, random);
  size_t bytes = 0;
  require(gspn2_prop2d_workspace(&p, options ? 1 : 0, &bytes) == GSPN2_SUCCESS, "workspace");
  Workspace workspace(bytes);
  require(gspn2_prop2d(&p, x.data(), lam.data(), w.data(), u.data(), options ? d.data() : nullptr,
                       options ? m.data() : nullptr, y.data(), workspace.data(), bytes,
                       nullptr) == GSPN2_SUCCESS,
          "gspn2_prop2d");
  require(cudaDeviceSynchronize() == cudaSuccess, "the propagation");
  require(y.allFinite(p.dtype), "y is not finite");
  ++gCalls;
}

}  // namespace

int main(int argc, char** argv) {
  gMisaligned = argc > 1 && std::strcmp(argv[1], "misaligned") == 0;
  const bool small = argc > 2 && std::strcmp(argv[2], "small") == 0;
  constexpr int64_t kSmall = 4096;  // elements
  std::mt19937 random(20261124);
  const int64_t extents[][2] = {{1, 1},    {7, 7},    {14, 33},  {33, 14},  {64, 64},
                                {8, 136},  {136, 8},  {40, 136}, {136, 72}, {8, 1030},
                                {1030, 8}, {256, 64}, {16, 520}, {200, 200}};
  const int64_t chunks[] = {0, 5};
  for (const auto& extent : extents) {
    if (small && extent[0] * extent[1] > kSmall) continue;
    for (int dtype = 0; dtype < 3; ++dtype) {
      for (const int64_t chunk : chunks) {
        // Sigmoid with shared affinities, by as many channels as weigh them once, softmax with
        // per-channel ones.
        const bool shared = chunk == 0;
        const gspn2_problem_t problem{2,
                                      shared ? 4 : 3,
                                      extent[0],
                                      extent[1],
                                      shared ? 1 : 3,
                                      chunk,
                                      static_cast<gspn2_dtype_t>(dtype),
                                      shared ? GSPN2_NORMALIZE_SIGMOID : GSPN2_NORMALIZE_SOFTMAX};
        scanAll(problem, random);
        mergeAll(problem, !shared, random);
      }
    }
  }
  // Long lines keep their state in the workspace.
  if (!small) scanAll({1, 1, 3, 12301, 1, 0, GSPN2_FLOAT16, GSPN2_NORMALIZE_SIGMOID}, random);
  std::printf("%d calls\n", gCalls);
  return 0;
}
