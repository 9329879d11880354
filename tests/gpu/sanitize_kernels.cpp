// A reduced set of calls for compute-sanitizer: every buffer is an allocation of exactly its size,
// outputs and workspaces are left uninitialised. Run by tests/gpu/sanitize.py.
//
//   gspn2_sanitize_kernels [aligned|misaligned] [small] [portable] [--seconds N]
//
// misaligned: by one element, so that only the generic kernels take the propagations, and norms and
// convolutions read their parameters by element; tensors in GSPN2_NHWC8 stay aligned, as the ABI
// asks; small: maps of up to 4,096 elements alone, for tools that take minutes to a large one;
// portable: no clusters of more than eight blocks, for tools that do not know them; --seconds:
// begin no call later than that after the start. The calls come in rounds of one of every kind,
// each on another map, so that those that fit into little time are of every kind. Says how many of
// how many calls ran.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
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
bool gPortable = false;

// Device memory that ends exactly after `count` elements; begins one late where misaligned.
class Buffer {
 public:
  Buffer(int64_t count, gspn2_dtype_t dtype, bool alwaysAligned = false)
      : mBytes(static_cast<size_t>(count) * (dtype == GSPN2_FLOAT32 ? 4 : 2)) {
    if (mBytes == 0) return;
    const size_t offset = gMisaligned && !alwaysAligned ? mBytes / static_cast<size_t>(count) : 0;
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

constexpr int kDirections = 4;  // calls of gspn2_line_scan
constexpr int kOps = 6;         // these, and gspn2_prop2d of dense tensors and of parts of one
constexpr int64_t kVector = 8;  // channels of GSPN2_NHWC8

using Call = std::function<void(std::mt19937&)>;

void scan(const gspn2_problem_t& p, gspn2_direction_t direction, std::mt19937& random) {
  const int64_t map = p.n * p.c * p.h * p.w;
  Buffer x(map, p.dtype), lam(map, p.dtype), w(p.n * 3 * p.g * p.h * p.w, p.dtype);
  for (Buffer* input : {&x, &lam, &w}) input->fill(p.dtype, random);
  size_t bytes = 0;
  require(gspn2_line_scan_workspace(&p, direction, &bytes) == GSPN2_SUCCESS, "workspace");
  Buffer h(map, p.dtype);
  Workspace workspace(bytes);
  require(gspn2_line_scan(&p, direction, x.data(), lam.data(), w.data(), h.data(), workspace.data(),
                          bytes, nullptr) == GSPN2_SUCCESS,
          "gspn2_line_scan");
  require(cudaDeviceSynchronize() == cudaSuccess, "the scan");
  require(h.allFinite(p.dtype), "the states are not finite");
}

// Features, gates and affinities as parts of one tensor, with NaN behind each item's last plane or,
// in GSPN2_NHWC8, each position's last channel.
void mergePrediction(const gspn2_problem_t& p, gspn2_layout_t layout, bool options,
                     std::mt19937& random) {
  const bool rows = layout == GSPN2_NHWC8;
  const int64_t plane = p.h * p.w, map = p.n * p.c * plane;
  const int64_t channels = 13 * p.c + 12 * p.g;
  const int64_t whole = rows ? (channels / kVector + 1) * kVector : channels + 1;
  const gspn2_strides_t strides{whole * plane, whole * plane, whole * plane, rows ? whole : 1};
  Buffer prediction(p.n * strides.w, p.dtype, rows), m(4, p.dtype), y(map, p.dtype);
  for (Buffer* input : {&prediction, &m}) input->fill(p.dtype, random);
  const size_t element = p.dtype == GSPN2_FLOAT32 ? 4 : 2;
  char* const first = static_cast<char*>(prediction.data());
  const size_t channel = (rows ? 1 : plane) * element;  // bytes from one to the next
  require(cudaMemset2D(first + channels * channel, whole * channel, 0xff,
                       (whole - channels) * channel, rows ? p.n * plane : p.n) == cudaSuccess,
          "cudaMemset2D");
  const char* const lam = first;
  const char* const u = lam + 4 * p.c * channel;
  const char* const d = u + 4 * p.c * channel;
  const char* const w = d + 4 * p.c * channel;
  const char* const x = w + 12 * p.g * channel;
  size_t bytes = 0;
  require(gspn2_prop2d_workspace(&p, &strides, options ? 1 : 0, &bytes) == GSPN2_SUCCESS,
          "workspace");
  Workspace workspace(bytes);
  require(
      gspn2_prop2d(&p, &strides, x, lam, w, u, options ? d : nullptr, options ? m.data() : nullptr,
                   y.data(), workspace.data(), bytes, nullptr) == GSPN2_SUCCESS,
      "gspn2_prop2d");
  require(cudaDeviceSynchronize() == cudaSuccess, "the propagation");
  require(y.allFinite(p.dtype), "y is not finite");
}

void merge(const gspn2_problem_t& p, bool options, std::mt19937& random) {
  const int64_t map = p.n * p.c * p.h * p.w;
  Buffer x(map, p.dtype), lam(4 * map, p.dtype), u(4 * map, p.dtype), d(4 * map, p.dtype);
  Buffer w(p.n * 12 * p.g * p.h * p.w, p.dtype), m(4, p.dtype), y(map, p.dtype);
  for (Buffer* input : {&x, &lam, &u, &d, &w, &m}) input->fill(p.dtype, random);
  size_t bytes = 0;
  require(gspn2_prop2d_workspace(&p, nullptr, options ? 1 : 0, &bytes) == GSPN2_SUCCESS,
          "workspace");
  Workspace workspace(bytes);
  require(gspn2_prop2d(&p, nullptr, x.data(), lam.data(), w.data(), u.data(),
                       options ? d.data() : nullptr, options ? m.data() : nullptr, y.data(),
                       workspace.data(), bytes, nullptr) == GSPN2_SUCCESS,
          "gspn2_prop2d");
  require(cudaDeviceSynchronize() == cudaSuccess, "the propagation");
  require(y.allFinite(p.dtype), "y is not finite");
}

// Sigmoid with shared affinities, by as many channels as weigh them once, or softmax with
// per-channel ones and segments.
gspn2_problem_t makeProblem(int64_t height, int64_t width, int dtype, bool shared) {
  // Of up to seven slices a large map has clusters of sixteen blocks.
  return {gPortable ? 3 : 2,
          shared ? 4 : 3,
          height,
          width,
          shared ? 1 : 3,
          shared ? 0 : 5,
          static_cast<gspn2_dtype_t>(dtype),
          shared ? GSPN2_NORMALIZE_SIGMOID : GSPN2_NORMALIZE_SOFTMAX};
}

// x (N, C, H, W) in the layout, with NaN behind the last channel.
void fillMap(Buffer& x, const gspn2_norm_t& norm, std::mt19937& random) {
  x.fill(norm.dtype, random);
  const int64_t behind = -norm.c & (kVector - 1);
  if (norm.layout == GSPN2_NCHW || behind == 0) return;
  const size_t element = 2, pitch = static_cast<size_t>(norm.c + behind) * element;
  require(cudaMemset2D(static_cast<char*>(x.data()) + norm.c * element, pitch, 0xff,
                       static_cast<size_t>(behind) * element,
                       static_cast<size_t>(norm.n * norm.h * norm.w)) == cudaSuccess,
          "cudaMemset2D");
}

void normalise(const gspn2_norm_t& norm, bool response, bool projects, std::mt19937& random) {
  const bool rows = norm.layout == GSPN2_NHWC8;
  const int64_t channels = rows ? (norm.c + kVector - 1) / kVector * kVector : norm.c;
  const int64_t map = norm.n * channels * norm.h * norm.w;
  Buffer x(map, norm.dtype, rows), y(map, norm.dtype, rows);
  Buffer scale(norm.c, norm.dtype), shift(norm.c, norm.dtype);
  Buffer responseScale(norm.c, norm.dtype), responseShift(norm.c, norm.dtype);
  fillMap(x, norm, random);
  constexpr int64_t kProxies = GSPN2_PROJECTION_MAX_CHANNELS;
  Buffer proxy(norm.n * kProxies * norm.h * norm.w, norm.dtype);
  Buffer weight(kProxies * norm.c, norm.dtype), bias(norm.c, norm.dtype);
  for (Buffer* input : {&scale, &shift, &responseScale, &responseShift, &proxy, &weight, &bias}) {
    input->fill(norm.dtype, random);
  }
  const gspn2_projection_t projection{kProxies, proxy.data(), weight.data(), bias.data()};
  size_t bytes = 0;
  require(gspn2_channel_norm_workspace(&norm, response ? 1 : 0, &bytes) == GSPN2_SUCCESS,
          "workspace");
  Workspace workspace(bytes);
  require(gspn2_channel_norm(&norm, x.data(), projects ? &projection : nullptr, scale.data(),
                             shift.data(), response ? responseScale.data() : nullptr,
                             response ? responseShift.data() : nullptr, y.data(), workspace.data(),
                             bytes, nullptr) == GSPN2_SUCCESS,
          "gspn2_channel_norm");
  require(cudaDeviceSynchronize() == cudaSuccess, "the norm");
  require(y.allFinite(norm.dtype), "the norm is not finite");
}

void convolve(const gspn2_depthwise_t& conv, bool biased, std::mt19937& random) {
  const int64_t channels = (conv.c + kVector - 1) / kVector * kVector;
  const int64_t map = conv.n * channels * conv.h * conv.w;
  Buffer x(map, conv.dtype, true), y(map, conv.dtype, true);
  Buffer weight(conv.c * conv.kernel * conv.kernel, conv.dtype), bias(conv.c, conv.dtype);
  for (Buffer* input : {&x, &weight, &bias}) input->fill(conv.dtype, random);
  require(gspn2_depthwise(&conv, x.data(), weight.data(), biased ? bias.data() : nullptr, y.data(),
                          nullptr) == GSPN2_SUCCESS,
          "gspn2_depthwise");
  require(cudaDeviceSynchronize() == cudaSuccess, "the convolution");
  require(y.allFinite(conv.dtype), "the convolution is not finite");
}

void convolveAndNormalise(const gspn2_depthwise_t& conv, bool biased, std::mt19937& random) {
  const int64_t map = conv.n * conv.c * conv.h * conv.w;
  Buffer x(map, conv.dtype, true), y(map, conv.dtype, true), z(map, conv.dtype, true);
  Buffer weight(conv.c * conv.kernel * conv.kernel, conv.dtype), bias(conv.c, conv.dtype);
  Buffer scale(conv.c, conv.dtype), shift(conv.c, conv.dtype);
  for (Buffer* input : {&x, &weight, &bias, &scale, &shift}) input->fill(conv.dtype, random);
  require(gspn2_depthwise_norm(&conv, 1e-6F, x.data(), weight.data(),
                               biased ? bias.data() : nullptr, scale.data(), shift.data(), y.data(),
                               z.data(), nullptr) == GSPN2_SUCCESS,
          "gspn2_depthwise_norm");
  require(cudaDeviceSynchronize() == cudaSuccess, "the convolution and its norm");
  require(y.allFinite(conv.dtype) && z.allFinite(conv.dtype), "one of both is not finite");
}

constexpr int kScanKinds = 3 * 2 * kOps;  // by dtype, normalisation and op
constexpr int kRowsForms = 3;
constexpr int kRowsKinds = 2 * kRowsForms;  // by dtype and form
constexpr int kNormForms = 3;
constexpr int kNormKinds = (5 + 2) * kNormForms;  // by source, as makeNorm says, and form
constexpr int kDepthwiseKinds = 3 * 4;            // by the kernel's width, dtype and tile
constexpr int kDepthwiseBandKinds = 2 * 3;        // by the kernel's width and tile
constexpr int kDepthwiseNormKinds = 3 * 2;        // by the channels and dtype
constexpr int kKinds = kScanKinds + kRowsKinds + kNormKinds + kDepthwiseKinds +
                       kDepthwiseBandKinds + kDepthwiseNormKinds;

Call makeScan(const gspn2_problem_t& problem, int op) {
  return [=](std::mt19937& random) {
    if (op < kDirections) return scan(problem, static_cast<gspn2_direction_t>(op), random);
    if (op == kDirections) return merge(problem, problem.chunk != 0, random);
    mergePrediction(problem, GSPN2_NCHW, problem.chunk != 0, random);
  };
}

// Shared affinities, which small maps read as they lie; those of so many slices that two channels
// share a cluster; or per-channel ones.
Call makeRows(int kind, int64_t height, int64_t width) {
  enum Form { kShared, kMany, kPerChannel };
  const int form = kind % kRowsForms;
  constexpr int64_t kMostRead = 16;
  constexpr int64_t kManyItems = 34;  // of four channels, on up to 135 multiprocessors
  if (form == kMany) {
    height = std::min(height, kMostRead);
    width = std::min(width, kMostRead);
  }
  gspn2_problem_t problem = makeProblem(height, width, 1 + kind / kRowsForms, form != kPerChannel);
  if (form == kMany) problem.n = kManyItems;
  return
      [=](std::mt19937& random) { mergePrediction(problem, GSPN2_NHWC8, form != kShared, random); };
}

// A norm alone, one with the response in one launch, or one with that in three: a cluster reads
// planes of up to 64 positions again, or holds rows of up to 1024 channels.
Call makeNorm(int kind, int64_t height, int64_t width) {
  enum Form { kPlain, kCluster, kLaunches };
  // GSPN2_NCHW in three dtypes, GSPN2_NHWC8 in two, and that in two with a projection.
  const int source = kind / kNormForms;
  const int form = kind % kNormForms;
  const bool rows = source >= 3;
  const bool projects = source >= 5;
  constexpr int64_t kMostOfCluster = 8;
  constexpr int64_t kMostHeld = 1024;
  if (form == kCluster && !rows) {
    height = std::min(height, kMostOfCluster);
    width = std::min(width, kMostOfCluster);
  }
  const bool few = height * width <= kMostOfCluster * kMostOfCluster * 4;
  gspn2_norm_t norm{};
  constexpr int64_t kMostLargeClusters = 4;
  norm.n = form == kLaunches && few && !rows ? 17 : gPortable ? kMostLargeClusters + 1 : 2;
  norm.c = few ? 300 : 20;
  // Held, of either dtype, are whole vectors and others.
  if (rows && form == kCluster && (source - 3) % 2 == 0) norm.c += 4;
  if (rows && form == kLaunches) norm.c = kMostHeld + 4;
  norm.h = height;
  norm.w = width;
  norm.dtype = static_cast<gspn2_dtype_t>(rows ? 1 + (source - 3) % 2 : source);
  norm.layout = rows ? GSPN2_NHWC8 : GSPN2_NCHW;
  norm.epsilon = norm.response_epsilon = 1e-6F;
  return [=](std::mt19937& random) { normalise(norm, form != kPlain, projects, random); };
}

// The smaller tile takes maps of up to 7 x 7.
Call makeDepthwise(int kind, int64_t height, int64_t width) {
  constexpr int64_t kSmallTile = 7;
  const bool small = kind % 2 == 0;
  gspn2_depthwise_t conv{};
  conv.n = 2;
  conv.c = small ? 37 : 40;
  conv.h = small ? std::min(height, kSmallTile) : height;
  conv.w = small ? std::min(width, kSmallTile) : std::max(width, kSmallTile + 1);
  conv.dtype = kind / 2 % 2 == 0 ? GSPN2_FLOAT16 : GSPN2_BFLOAT16;
  conv.kernel = 3 + kind / 4 * 2;
  conv.activation = small ? GSPN2_SILU : GSPN2_IDENTITY;
  conv.residual = small ? 0 : 1;
  return [=](std::mt19937& random) { convolve(conv, conv.kernel != 5, random); };
}

// Of so many channels that tensor cores take most of them, on up to 134 multiprocessors: maps that
// share a block with others, and maps of a block and more.
Call makeDepthwiseBands(int kind, int64_t height, int64_t width) {
  constexpr int64_t kItems[] = {16, 4, 1};
  constexpr int64_t kLeast[] = {1, 8, 15};
  constexpr int64_t kMost[] = {7, 14, 30};
  const int tile = kind % 3;
  gspn2_depthwise_t conv{};
  conv.n = kItems[tile];
  conv.c = tile == 2 ? 2133 : 2136;
  conv.h = std::clamp(height, kLeast[tile], kMost[tile]);
  conv.w = std::clamp(width, kLeast[tile], kMost[tile]);
  conv.dtype = (kind + kind / 3) % 2 == 0 ? GSPN2_FLOAT16 : GSPN2_BFLOAT16;
  conv.kernel = 5 + kind / 3 * 2;
  conv.activation = tile == 0 ? GSPN2_SILU : GSPN2_IDENTITY;
  conv.residual = tile == 1 ? 1 : 0;
  return [=](std::mt19937& random) { convolve(conv, tile != 1, random); };
}

// Of one block, of sixteen and of nine of a cluster, or of eight and of seven; the larger maps have
// larger tiles, and of 640 channels fewer blocks.
Call makeDepthwiseNorm(int kind, int64_t height, int64_t width) {
  constexpr int64_t kAny[] = {40, 640, 720};
  constexpr int64_t kOfPortable[] = {40, 320, 280};
  const auto& channels = gPortable ? kOfPortable : kAny;
  gspn2_depthwise_t conv{};
  conv.n = 2;
  conv.c = channels[kind / 2];
  conv.h = height;
  conv.w = width;
  conv.dtype = kind % 2 == 0 ? GSPN2_FLOAT16 : GSPN2_BFLOAT16;
  conv.kernel = 3;
  conv.activation = kind % 2 == 0 ? GSPN2_IDENTITY : GSPN2_SILU;
  conv.residual = kind % 2 == 0 ? 1 : 0;
  return [=](std::mt19937& random) { convolveAndNormalise(conv, conv.residual == 0, random); };
}

Call makeCall(int kind, int64_t height, int64_t width) {
  if (kind < kScanKinds) {
    const bool shared = kind / kOps % 2 == 0;
    return makeScan(makeProblem(height, width, kind / kOps / 2, shared), kind % kOps);
  }
  kind -= kScanKinds;
  if (kind < kRowsKinds) return makeRows(kind, height, width);
  kind -= kRowsKinds;
  if (kind < kNormKinds) return makeNorm(kind, height, width);
  kind -= kNormKinds;
  if (kind < kDepthwiseKinds) return makeDepthwise(kind, height, width);
  kind -= kDepthwiseKinds;
  return kind < kDepthwiseBandKinds ? makeDepthwiseBands(kind, height, width)
                                    : makeDepthwiseNorm(kind - kDepthwiseBandKinds, height, width);
}

// Every kind of call on every map, one round of all kinds after the other. Neighbours are of other
// ops and dtypes, and on other maps.
std::vector<Call> makeCalls(bool small) {
  constexpr int64_t kSmall = 4096;  // elements
  const int64_t extents[][2] = {{1, 1},    {7, 7},    {16, 12},   {14, 33},  {33, 14},  {64, 64},
                                {8, 136},  {136, 8},  {40, 136},  {136, 72}, {8, 1030}, {1030, 8},
                                {256, 64}, {16, 520}, {200, 200}, {24, 264}};
  std::vector<const int64_t*> maps;
  for (const auto& extent : extents) {
    if (!small || extent[0] * extent[1] <= kSmall) maps.push_back(extent);
  }
  constexpr int kStride = 13;  // without a factor in common with the number of kinds
  std::vector<Call> calls;
  for (size_t round = 0; round < maps.size(); ++round) {
    for (int i = 0; i < kKinds; ++i) {
      const int kind = i * kStride % kKinds;
      const int64_t* extent = maps[(round + static_cast<size_t>(kind)) % maps.size()];
      calls.push_back(makeCall(kind, extent[0], extent[1]));
    }
  }
  // Many long rows of float32 are read in wide pieces.
  for (int k = 0; !small && k < 2; ++k) {
    calls.push_back(makeScan({1, 140, 128, 256, 1, 0, GSPN2_FLOAT32, GSPN2_NORMALIZE_NONE}, k));
  }
  // Long lines keep their state in the workspace.
  for (int k = 0; !small && k < kDirections; ++k) {
    calls.push_back(makeScan({1, 1, 3, 12301, 1, 0, GSPN2_FLOAT16, GSPN2_NORMALIZE_SIGMOID}, k));
  }
  return calls;
}

struct Options {
  bool small = false;
  double seconds = INFINITY;
};

bool readOption(Options& options, const char* word, const char* value) {
  char* end = nullptr;
  if (value != nullptr) {
    options.seconds = std::strtod(value, &end);
    return end != value && *end == '\0' && options.seconds > 0;
  }
  if (std::strcmp(word, "misaligned") == 0) return gMisaligned = true;
  if (std::strcmp(word, "small") == 0) return options.small = true;
  if (std::strcmp(word, "portable") == 0) return gPortable = true;
  return std::strcmp(word, "aligned") == 0;
}

Options readOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const char* const word = argv[i];
    const bool valued = std::strcmp(word, "--seconds") == 0 && i + 1 < argc;
    if (readOption(options, word, valued ? argv[++i] : nullptr)) continue;
    std::fprintf(stderr, "got %s, expected [aligned|misaligned] [small] [portable] [--seconds N]\n",
                 argv[i]);
    std::exit(2);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const auto start = std::chrono::steady_clock::now();
  const Options options = readOptions(argc, argv);
  std::mt19937 random(20261124);
  const std::vector<Call> calls = makeCalls(options.small);
  size_t ran = 0;
  for (const Call& call : calls) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    if (passed.count() >= options.seconds) break;
    call(random);
    ++ran;
  }
  const size_t kinds = ran < kKinds ? ran : kKinds;
  std::printf("%zu of %zu calls ran, %zu of %d kinds\n", ran, calls.size(), kinds, kKinds);
  return ran > 0 ? 0 : 1;
}
