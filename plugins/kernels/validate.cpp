#include "validate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "channel_norm.h"
#include "depthwise.h"
#include "depthwise_norm.h"
#include "errors.h"
#include "plan_arithmetic.h"

namespace gspn2 {
namespace {

bool overlaps(const void* a, size_t aBytes, const void* b, size_t bBytes) {
  const auto aBegin = reinterpret_cast<uintptr_t>(a);
  const auto bBegin = reinterpret_cast<uintptr_t>(b);
  return aBegin < bBegin + bBytes && bBegin < aBegin + aBytes;
}

gspn2_status_t checkPointer(const Buffer& buffer, int64_t alignment) {
  if (buffer.data == nullptr) {
    if (buffer.optional) return GSPN2_SUCCESS;
    return fail(GSPN2_INVALID_ARGUMENT, "%s is null; expected a device pointer to %lld elements",
                buffer.name, static_cast<long long>(buffer.elements));
  }
  if (reinterpret_cast<uintptr_t>(buffer.data) % static_cast<uintptr_t>(alignment) != 0) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "%s is at %p, which is not aligned to its %lld-byte elements; pass a pointer to a "
                "whole element",
                buffer.name, buffer.data, static_cast<long long>(alignment));
  }
  return GSPN2_SUCCESS;
}

// Turns the stride of a tensor of so many planes into the one that it stands for. The planes of
// GSPN2_NHWC8 are as many as a position's stride.
gspn2_status_t checkStride(const gspn2_problem_t& problem, int64_t position, const char* tensors,
                           int64_t planes, int64_t* stride) {
  const int64_t unit = problem.h * problem.w * position;
  const int64_t dense = position == 1 ? planes * unit : unit;
  if (*stride == 0) *stride = dense;
  const int64_t most = std::numeric_limits<int64_t>::max() / elementBytes(problem.dtype);
  if (*stride >= dense && *stride % unit == 0 && *stride <= most / problem.n) {
    return GSPN2_SUCCESS;
  }
  return fail(GSPN2_INVALID_ARGUMENT,
              "the batch stride of %s is %lld; expected 0 (dense) or a multiple of h * w%s = %lld, "
              "no less than the %lld elements of an item, and n of them below 2^63 bytes",
              tensors, static_cast<long long>(*stride), position == 1 ? "" : " * position",
              static_cast<long long>(unit), static_cast<long long>(dense));
}

// The stride of positions, 1 in GSPN2_NCHW.
gspn2_status_t checkPosition(const gspn2_problem_t& problem, int64_t position) {
  if (position == 1) return GSPN2_SUCCESS;
  const int64_t least =
      kDirectionCount * std::max(problem.c, kNeighbours * problem.g);  // of lam and of w
  const int64_t most = std::numeric_limits<int64_t>::max() / (problem.h * problem.w) / problem.n /
                       static_cast<int64_t>(sizeof(float));
  if (position < least || position > most || position % kNormVector != 0) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "the position stride is %lld; expected 0 or 1 (NCHW), or the channels of a tensor "
                "in NHWC8: a multiple of %lld, no less than the %lld of lam or w, and "
                "4 * n * h * w * position below 2^63",
                static_cast<long long>(position), static_cast<long long>(kNormVector),
                static_cast<long long>(least));
  }
  if (problem.dtype != GSPN2_FLOAT32) return GSPN2_SUCCESS;
  return fail(GSPN2_UNSUPPORTED,
              "the position stride is %lld with dtype 0; expected float16 or bfloat16 for layout "
              "NHWC8, or 0",
              static_cast<long long>(position));
}

// Extents n, c, h, w of a problem whose widest buffer has `maps` times as many elements.
gspn2_status_t checkExtents(const std::array<int64_t, 4>& extents, int64_t maps) {
  constexpr const char* kNames[] = {"n", "c", "h", "w"};
  int64_t bytes = maps * static_cast<int64_t>(sizeof(float));  // offsets count bytes
  for (size_t i = 0; i < extents.size(); ++i) {
    if (extents[i] < 1) {
      return fail(GSPN2_INVALID_ARGUMENT, "%s is %lld; every extent must be at least 1", kNames[i],
                  static_cast<long long>(extents[i]));
    }
    if (bytes > std::numeric_limits<int64_t>::max() / extents[i]) {
      return fail(GSPN2_INVALID_ARGUMENT,
                  "n=%lld, c=%lld, h=%lld, w=%lld overflow 64-bit offsets; expected "
                  "%lld * n * c * h * w below 2^63",
                  static_cast<long long>(extents[0]), static_cast<long long>(extents[1]),
                  static_cast<long long>(extents[2]), static_cast<long long>(extents[3]),
                  static_cast<long long>(maps * static_cast<int64_t>(sizeof(float))));
    }
    bytes *= extents[i];
  }
  return GSPN2_SUCCESS;
}

gspn2_status_t checkDtype(gspn2_dtype_t dtype) {
  if (elementBytes(dtype) != 0) return GSPN2_SUCCESS;
  return fail(GSPN2_INVALID_ARGUMENT,
              "dtype is %d; expected 0 (float32), 1 (float16) or 2 (bfloat16)",
              static_cast<int>(dtype));
}

bool isEpsilon(float value) { return value >= 0.0F && std::isfinite(value); }

}  // namespace

int64_t elementBytes(gspn2_dtype_t dtype) {
  switch (static_cast<int>(dtype)) {
    case GSPN2_FLOAT32:
      return 4;
    case GSPN2_FLOAT16:
    case GSPN2_BFLOAT16:
      return 2;
    default:
      return 0;
  }
}

gspn2_status_t checkProblem(const gspn2_problem_t* problem) {
  if (problem == nullptr) {
    return fail(GSPN2_INVALID_ARGUMENT, "problem is null; expected a gspn2_problem_t");
  }
  // The widest buffer is w, (N, 4, 3, G, H, W), with G up to C.
  const gspn2_status_t status =
      checkExtents({problem->n, problem->c, problem->h, problem->w}, kDirectionCount * kNeighbours);
  if (status != GSPN2_SUCCESS) return status;
  if (problem->g != 1 && problem->g != problem->c) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "g is %lld; expected 1 (affinities shared by the channels) or c = %lld",
                static_cast<long long>(problem->g), static_cast<long long>(problem->c));
  }
  if (problem->chunk < 0) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "chunk is %lld; expected 0 (the whole line) or a positive number of steps",
                static_cast<long long>(problem->chunk));
  }
  const gspn2_status_t dtype = checkDtype(problem->dtype);
  if (dtype != GSPN2_SUCCESS) return dtype;
  const int normalize = static_cast<int>(problem->normalize);
  if (normalize < GSPN2_NORMALIZE_NONE || normalize > GSPN2_NORMALIZE_SOFTMAX) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "normalize is %d; expected 0 (none), 1 (sigmoid) or 2 (softmax)", normalize);
  }
  return GSPN2_SUCCESS;
}

gspn2_status_t checkNorm(const gspn2_norm_t* norm) {
  if (norm == nullptr) return fail(GSPN2_INVALID_ARGUMENT, "norm is null; expected a gspn2_norm_t");
  gspn2_status_t status = checkExtents({norm->n, norm->c, norm->h, norm->w}, kNormVector);
  if (status == GSPN2_SUCCESS) status = checkDtype(norm->dtype);
  if (status != GSPN2_SUCCESS) return status;
  const int layout = static_cast<int>(norm->layout);
  if (layout != GSPN2_NCHW && layout != GSPN2_NHWC8) {
    return fail(GSPN2_INVALID_ARGUMENT, "layout is %d; expected 0 (NCHW) or 1 (NHWC8)", layout);
  }
  if (!isEpsilon(norm->epsilon) || !isEpsilon(norm->response_epsilon)) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "epsilon is %g and response_epsilon %g; expected finite numbers of at least 0",
                static_cast<double>(norm->epsilon), static_cast<double>(norm->response_epsilon));
  }
  if (layout == GSPN2_NHWC8 && (norm->dtype == GSPN2_FLOAT32 || norm->c > kNormMaxChannels)) {
    return fail(GSPN2_UNSUPPORTED,
                "layout NHWC8 with dtype %d and c = %lld; expected float16 or bfloat16 and at most "
                "%lld channels, or layout NCHW",
                static_cast<int>(norm->dtype), static_cast<long long>(norm->c),
                static_cast<long long>(kNormMaxChannels));
  }
  if (norm->c > std::numeric_limits<int32_t>::max() || channelNormTiles(*norm) > kNormMaxTiles) {
    return fail(GSPN2_UNSUPPORTED,
                "n=%lld, c=%lld, h=%lld, w=%lld: expected c and n * h * w / 32 below 2^31",
                static_cast<long long>(norm->n), static_cast<long long>(norm->c),
                static_cast<long long>(norm->h), static_cast<long long>(norm->w));
  }
  return GSPN2_SUCCESS;
}

gspn2_status_t checkProjection(const gspn2_norm_t& norm, const gspn2_projection_t* given,
                               gspn2_projection_t* projection) {
  *projection = {};
  if (given == nullptr) return GSPN2_SUCCESS;
  if (given->c < 1) {
    return fail(GSPN2_INVALID_ARGUMENT, "the projection's c is %lld; expected at least 1",
                static_cast<long long>(given->c));
  }
  if (given->c > GSPN2_PROJECTION_MAX_CHANNELS || norm.layout != GSPN2_NHWC8) {
    return fail(
        GSPN2_UNSUPPORTED,
        "a projection of %lld channels in layout %d; expected 1 to %d channels in layout %d "
        "(NHWC8)",
        static_cast<long long>(given->c), static_cast<int>(norm.layout),
        GSPN2_PROJECTION_MAX_CHANNELS, static_cast<int>(GSPN2_NHWC8));
  }
  *projection = *given;
  return GSPN2_SUCCESS;
}

gspn2_status_t checkDepthwise(const gspn2_depthwise_t* conv) {
  if (conv == nullptr) {
    return fail(GSPN2_INVALID_ARGUMENT, "conv is null; expected a gspn2_depthwise_t");
  }
  gspn2_status_t status = checkExtents({conv->n, conv->c, conv->h, conv->w}, kNormVector);
  if (status == GSPN2_SUCCESS) status = checkDtype(conv->dtype);
  if (status != GSPN2_SUCCESS) return status;
  const int activation = static_cast<int>(conv->activation);
  if (activation != GSPN2_IDENTITY && activation != GSPN2_SILU) {
    return fail(GSPN2_INVALID_ARGUMENT, "activation is %d; expected 0 (identity) or 1 (SiLU)",
                activation);
  }
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - 16;
  if (conv->dtype == GSPN2_FLOAT32 || !hasDepthwise(conv->kernel) || conv->c > kMost ||
      conv->h > kMost || conv->w > kMost) {
    return fail(
        GSPN2_UNSUPPORTED,
        "dtype %d, c = %lld, h = %lld, w = %lld, kernel = %d; expected float16 or bfloat16, "
        "a kernel of 3, 5 or 7, and each extent below 2^31 - 16",
        static_cast<int>(conv->dtype), static_cast<long long>(conv->c),
        static_cast<long long>(conv->h), static_cast<long long>(conv->w),
        static_cast<int>(conv->kernel));
  }
  if (depthwiseBlocks(*conv) > kDepthwiseMaxBlocks) {
    return fail(GSPN2_UNSUPPORTED,
                "n=%lld, c=%lld, h=%lld, w=%lld take %lld blocks; expected fewer than 2^31",
                static_cast<long long>(conv->n), static_cast<long long>(conv->c),
                static_cast<long long>(conv->h), static_cast<long long>(conv->w),
                static_cast<long long>(depthwiseBlocks(*conv)));
  }
  return GSPN2_SUCCESS;
}

gspn2_status_t checkDepthwiseNorm(const gspn2_depthwise_t* conv, float epsilon) {
  const gspn2_status_t status = checkDepthwise(conv);
  if (status != GSPN2_SUCCESS) return status;
  if (!isEpsilon(epsilon)) {
    return fail(GSPN2_INVALID_ARGUMENT, "epsilon is %g; expected a finite number of at least 0",
                static_cast<double>(epsilon));
  }
  const int64_t most = kDepthwiseNormMaxPositions / conv->n / conv->h;
  if (conv->kernel == GSPN2_DEPTHWISE_NORM_KERNEL && conv->c % kNormVector == 0 &&
      conv->c <= GSPN2_DEPTHWISE_NORM_MAX_CHANNELS && conv->w <= most) {
    return GSPN2_SUCCESS;
  }
  return fail(GSPN2_UNSUPPORTED,
              "n=%lld, c=%lld, h=%lld, w=%lld, kernel = %d; expected a kernel of %d, a multiple of "
              "%lld and at most %d channels, and n * h * w below 2^30, for a norm behind a "
              "convolution",
              static_cast<long long>(conv->n), static_cast<long long>(conv->c),
              static_cast<long long>(conv->h), static_cast<long long>(conv->w),
              static_cast<int>(conv->kernel), GSPN2_DEPTHWISE_NORM_KERNEL,
              static_cast<long long>(kNormVector), GSPN2_DEPTHWISE_NORM_MAX_CHANNELS);
}

gspn2_status_t checkVectorAligned(std::initializer_list<Buffer> tensors) {
  for (const Buffer& tensor : tensors) {
    if (isCopyAligned(tensor.data)) continue;
    return fail(GSPN2_INVALID_ARGUMENT,
                "%s is at %p; expected multiples of %d bytes for layout NHWC8", tensor.name,
                tensor.data, kPlanAccessBytes);
  }
  return GSPN2_SUCCESS;
}

gspn2_status_t checkStrides(const gspn2_problem_t& problem, const gspn2_strides_t* given,
                            gspn2_strides_t* strides) {
  *strides = given == nullptr ? gspn2_strides_t{} : *given;
  if (strides->position == 0) strides->position = 1;
  const int64_t position = strides->position;
  gspn2_status_t status = checkPosition(problem, position);
  if (status == GSPN2_SUCCESS) {
    status = checkStride(problem, position, "x", problem.c, &strides->x);
  }
  if (status == GSPN2_SUCCESS) {
    status = checkStride(problem, position, "lam, u and d", kDirectionCount * problem.c,
                         &strides->gates);
  }
  if (status == GSPN2_SUCCESS) {
    status =
        checkStride(problem, position, "w", kDirectionCount * kNeighbours * problem.g, &strides->w);
  }
  // A single item is dense.
  if (problem.n == 1 && position == 1) strides->x = problem.c * problem.h * problem.w;
  return status;
}

gspn2_status_t checkDirection(gspn2_direction_t direction) {
  const int value = static_cast<int>(direction);
  if (value >= GSPN2_LEFT_TO_RIGHT && value <= GSPN2_BOTTOM_TO_TOP) return GSPN2_SUCCESS;
  return fail(GSPN2_INVALID_ARGUMENT,
              "direction is %d; expected 0 (left to right), 1 (right to left), 2 (top to bottom) "
              "or 3 (bottom to top)",
              value);
}

gspn2_status_t checkBuffers(gspn2_dtype_t dtype, std::initializer_list<Buffer> inputs,
                            std::initializer_list<Buffer> outputs, const void* workspace,
                            size_t workspaceBytes) {
  const int64_t alignment = elementBytes(dtype);
  const auto bytesOf = [&](const Buffer& buffer) {
    return static_cast<size_t>(buffer.elements * alignment);
  };
  for (const auto& buffers : {outputs, inputs}) {
    for (const Buffer& buffer : buffers) {
      const gspn2_status_t status = checkPointer(buffer, alignment);
      if (status != GSPN2_SUCCESS) return status;
    }
  }
  const auto checkApart = [&](const Buffer& output, const Buffer& other, const char* kind) {
    const size_t bytes = bytesOf(output);
    const size_t otherBytes = bytesOf(other);
    if (other.data == nullptr || !overlaps(other.data, otherBytes, output.data, bytes)) {
      return GSPN2_SUCCESS;
    }
    return fail(GSPN2_INVALID_ARGUMENT,
                "%s (%zu bytes at %p) overlaps the %s %s (%zu bytes at %p); the op does not run in "
                "place, pass a separate output",
                output.name, bytes, output.data, kind, other.name, otherBytes, other.data);
  };
  const auto checkWorkspaceApart = [&](const Buffer& other, const char* kind) {
    const size_t bytes = bytesOf(other);
    if (workspace == nullptr || other.data == nullptr ||
        !overlaps(other.data, bytes, workspace, workspaceBytes)) {
      return GSPN2_SUCCESS;
    }
    return fail(GSPN2_INVALID_ARGUMENT,
                "workspace (%zu bytes at %p) overlaps the %s %s (%zu bytes at %p)", workspaceBytes,
                workspace, kind, other.name, bytes, other.data);
  };
  for (const Buffer& input : inputs) {
    for (const Buffer& output : outputs) {
      const gspn2_status_t status = checkApart(output, input, "input");
      if (status != GSPN2_SUCCESS) return status;
    }
    const gspn2_status_t status = checkWorkspaceApart(input, "input");
    if (status != GSPN2_SUCCESS) return status;
  }
  for (const Buffer* output = outputs.begin(); output != outputs.end(); ++output) {
    for (const Buffer* other = outputs.begin(); other != output; ++other) {
      const gspn2_status_t status = checkApart(*output, *other, "output");
      if (status != GSPN2_SUCCESS) return status;
    }
    const gspn2_status_t status = checkWorkspaceApart(*output, "output");
    if (status != GSPN2_SUCCESS) return status;
  }
  return GSPN2_SUCCESS;
}

gspn2_status_t checkWorkspace(const void* workspace, size_t bytes, size_t required,
                              const char* query) {
  if (required == 0) return GSPN2_SUCCESS;
  if (workspace == nullptr || bytes < required) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "workspace is %zu bytes at %p; expected at least %zu bytes, as %s says", bytes,
                workspace, required, query);
  }
  if (reinterpret_cast<uintptr_t>(workspace) % kWorkspaceAlignment != 0) {
    return fail(GSPN2_INVALID_ARGUMENT,
                "workspace is at %p; expected a pointer aligned to %zu bytes, as cudaMalloc gives",
                workspace, kWorkspaceAlignment);
  }
  return GSPN2_SUCCESS;
}

}  // namespace gspn2
