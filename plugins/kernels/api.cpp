// The C ABI: checks every argument, picks a path, launches it.
#include <algorithm>
#include <cstdint>

#include "channel_norm.h"
#include "depthwise.h"
#include "depthwise_norm.h"
#include "device.h"
#include "errors.h"
#include "generic.h"
#include "gspn2/kernels.h"
#include "path_choice.h"
#include "paths.h"
#include "plan_arithmetic.h"
#include "planes.h"
#include "validate.h"

namespace gspn2 {
namespace {

constexpr size_t kMaxPitch = INT32_MAX;  // bytes from a row of a copy to the next

int64_t mapElements(const gspn2_problem_t& problem) {
  return problem.n * problem.c * problem.h * problem.w;
}

int64_t affinityElements(const gspn2_problem_t& problem) {
  return problem.n * kNeighbours * problem.g * problem.h * problem.w;
}

// From a tensor's first element to its last: it ends with its last item, whatever lies between
// them.
int64_t spannedElements(const gspn2_problem_t& problem, const gspn2_strides_t& strides,
                        int64_t batch, int64_t channels) {
  const int64_t plane = problem.h * problem.w;
  const int64_t item =
      isInRows(strides) ? (plane - 1) * strides.position + channels : channels * plane;
  return (problem.n - 1) * batch + item;
}

gspn2_status_t checkOut(const void* bytes) {
  if (bytes != nullptr) return GSPN2_SUCCESS;
  return fail(GSPN2_INVALID_ARGUMENT, "bytes is null; expected a pointer to the result");
}

// Bytes at a workspace's front that hold x densely where its items lie apart, in planes.
size_t denseBytes(const gspn2_problem_t& problem, const gspn2_strides_t& strides) {
  const int64_t map = mapElements(problem);
  if (isInRows(strides) || strides.x == map / problem.n) return 0;
  return workspaceRoundUp(static_cast<size_t>(map * elementBytes(problem.dtype)));
}

// Lets a call read x from a dense copy where its items lie apart.
cudaError_t makeDense(Prop2dCall* call) {
  const size_t bytes = denseBytes(call->problem, call->strides);
  if (bytes == 0) return cudaSuccess;
  const auto n = static_cast<size_t>(call->problem.n);
  const int64_t item = mapElements(call->problem) / call->problem.n;
  const int64_t element = elementBytes(call->problem.dtype);
  const auto width = static_cast<size_t>(item * element);
  const auto pitch = static_cast<size_t>(call->strides.x * element);
  const auto* const from = static_cast<const char*>(call->x);
  auto* const to = static_cast<char*>(call->workspace);
  call->x = to;
  call->strides.x = item;
  call->workspace = to + bytes;
  if (pitch <= kMaxPitch) {
    return cudaMemcpy2DAsync(to, width, from, pitch, width, n, cudaMemcpyDeviceToDevice,
                             call->stream);
  }
  cudaError_t status = cudaSuccess;
  for (size_t i = 0; i < n && status == cudaSuccess; ++i) {
    status = cudaMemcpyAsync(to + i * width, from + i * pitch, width, cudaMemcpyDeviceToDevice,
                             call->stream);
  }
  return status;
}

size_t prop2dWorkspace(const gspn2_problem_t& problem, const gspn2_strides_t& strides, bool hasD) {
  return planesBytes(problem, strides, hasD) + denseBytes(problem, strides) +
         std::max(genericProp2dWorkspace(problem), stripProp2dWorkspace(problem));
}

// The fastest path that takes the call; the generic one takes every call.
cudaError_t dispatch(const LineScanCall& call, const DeviceInfo& device) {
  if (pathChoice() == PathChoice::kGeneric) return launchGenericLineScan(call);
  const bool strips = stripLineScanSupports(call, device);
  if (tiledLineScanSupports(call, device) && !(strips && isFasterByStrips(call.problem, device))) {
    return launchTiledLineScan(call, device);
  }
  return strips ? launchStripLineScan(call, device) : launchGenericLineScan(call);
}

cudaError_t dispatch(const Prop2dCall& given, const DeviceInfo& device) {
  const bool fast = pathChoice() != PathChoice::kGeneric;
  if (fast && onchipProp2dSupports(given, device)) return launchOnchipProp2d(given, device);
  Prop2dCall call = given;
  if (isInRows(given.strides)) {
    const cudaError_t status = makePlanes(&call);
    return status == cudaSuccess ? dispatch(call, device) : status;
  }
  const cudaError_t status = makeDense(&call);
  if (status != cudaSuccess) return status;
  if (fast && stripProp2dSupports(call, device)) return launchStripProp2d(call, device);
  return launchGenericProp2d(call);
}

}  // namespace
}  // namespace gspn2

extern "C" {

int gspn2_kernels_abi_version(void) { return GSPN2_KERNELS_ABI_VERSION; }

gspn2_status_t gspn2_line_scan_workspace(const gspn2_problem_t* problem,
                                         gspn2_direction_t direction, size_t* bytes) {
  gspn2_status_t status = gspn2::checkProblem(problem);
  if (status == GSPN2_SUCCESS) status = gspn2::checkDirection(direction);
  if (status == GSPN2_SUCCESS) status = gspn2::checkOut(bytes);
  if (status != GSPN2_SUCCESS) return status;
  *bytes = std::max(gspn2::genericLineScanWorkspace(*problem, direction),
                    gspn2::stripLineScanWorkspace(*problem, direction));
  return GSPN2_SUCCESS;
}

gspn2_status_t gspn2_line_scan(const gspn2_problem_t* problem, gspn2_direction_t direction,
                               const void* x, const void* lam, const void* w, void* h,
                               void* workspace, size_t workspace_bytes, gspn2_stream_t stream) {
  size_t required = 0;
  gspn2_status_t status = gspn2_line_scan_workspace(problem, direction, &required);
  if (status != GSPN2_SUCCESS) return status;
  const int64_t map = gspn2::mapElements(*problem);
  status = gspn2::checkBuffers(
      problem->dtype,
      {{"x", x, map}, {"lam", lam, map}, {"w", w, gspn2::affinityElements(*problem)}},
      {{"h", h, map}}, workspace, workspace_bytes);
  if (status != GSPN2_SUCCESS) return status;
  status = gspn2::checkWorkspace(workspace, workspace_bytes, required, "gspn2_line_scan_workspace");
  if (status != GSPN2_SUCCESS) return status;
  gspn2::DeviceInfo device{};
  status = gspn2::currentDevice(&device);
  if (status != GSPN2_SUCCESS) return status;
  const gspn2::LineScanCall call{*problem, direction, x, lam, w, h, workspace, stream};
  return gspn2::checkCuda(gspn2::dispatch(call, device), "launching gspn2_line_scan");
}

gspn2_status_t gspn2_prop2d_workspace(const gspn2_problem_t* problem,
                                      const gspn2_strides_t* strides, int has_d, size_t* bytes) {
  gspn2_strides_t between{};
  gspn2_status_t status = gspn2::checkProblem(problem);
  if (status == GSPN2_SUCCESS) status = gspn2::checkStrides(*problem, strides, &between);
  if (status == GSPN2_SUCCESS) status = gspn2::checkOut(bytes);
  if (status != GSPN2_SUCCESS) return status;
  *bytes = gspn2::prop2dWorkspace(*problem, between, has_d != 0);
  return GSPN2_SUCCESS;
}

gspn2_status_t gspn2_prop2d(const gspn2_problem_t* problem, const gspn2_strides_t* strides,
                            const void* x, const void* lam, const void* w, const void* u,
                            const void* d, const void* m, void* y, void* workspace,
                            size_t workspace_bytes, gspn2_stream_t stream) {
  gspn2_strides_t between{};
  gspn2_status_t status = gspn2::checkProblem(problem);
  if (status == GSPN2_SUCCESS) status = gspn2::checkStrides(*problem, strides, &between);
  if (status != GSPN2_SUCCESS) return status;
  const int64_t map = gspn2::mapElements(*problem);
  const int64_t gates = gspn2::kDirectionCount * problem->c;
  const int64_t affinities = gspn2::kDirectionCount * gspn2::kNeighbours * problem->g;
  const int64_t feature = gspn2::spannedElements(*problem, between, between.x, problem->c);
  const int64_t gate = gspn2::spannedElements(*problem, between, between.gates, gates);
  const int64_t affinity = gspn2::spannedElements(*problem, between, between.w, affinities);
  status = gspn2::checkBuffers(problem->dtype,
                               {{"x", x, feature},
                                {"lam", lam, gate},
                                {"w", w, affinity},
                                {"u", u, gate},
                                {"d", d, gate, true},
                                {"m", m, gspn2::kDirectionCount, true}},
                               {{"y", y, map}}, workspace, workspace_bytes);
  if (status != GSPN2_SUCCESS) return status;
  status = gspn2::checkWorkspace(workspace, workspace_bytes,
                                 gspn2::prop2dWorkspace(*problem, between, d != nullptr),
                                 "gspn2_prop2d_workspace");
  if (status != GSPN2_SUCCESS) return status;
  gspn2::DeviceInfo device{};
  status = gspn2::currentDevice(&device);
  if (status != GSPN2_SUCCESS) return status;
  const gspn2::Prop2dCall call{*problem, between, x, lam, w, u, d, m, y, workspace, stream};
  return gspn2::checkCuda(gspn2::dispatch(call, device), "launching gspn2_prop2d");
}

gspn2_status_t gspn2_channel_norm_workspace(const gspn2_norm_t* norm, int has_response,
                                            size_t* bytes) {
  gspn2_status_t status = gspn2::checkNorm(norm);
  if (status == GSPN2_SUCCESS) status = gspn2::checkOut(bytes);
  if (status != GSPN2_SUCCESS) return status;
  *bytes = gspn2::channelNormWorkspace(*norm, has_response != 0);
  return GSPN2_SUCCESS;
}

gspn2_status_t gspn2_channel_norm(const gspn2_norm_t* norm, const void* x,
                                  const gspn2_projection_t* projection, const void* scale,
                                  const void* shift, const void* response_scale,
                                  const void* response_shift, void* y, void* workspace,
                                  size_t workspace_bytes, gspn2_stream_t stream) {
  const bool hasResponse = response_scale != nullptr;
  size_t required = 0;
  gspn2_status_t status = gspn2_channel_norm_workspace(norm, hasResponse ? 1 : 0, &required);
  if (status != GSPN2_SUCCESS) return status;
  if (hasResponse != (response_shift != nullptr)) {
    return gspn2::fail(GSPN2_INVALID_ARGUMENT,
                       "one of response_scale and response_shift is null; expected both or none");
  }
  gspn2_projection_t projected{};
  status = gspn2::checkProjection(*norm, projection, &projected);
  if (status != GSPN2_SUCCESS) return status;
  const bool isProjected = projected.c > 0;
  const int64_t map = gspn2::channelNormElements(*norm);
  status = gspn2::checkBuffers(
      norm->dtype,
      {{"x", x, map},
       {"proxy", projected.proxy, norm->n * projected.c * norm->h * norm->w, !isProjected},
       {"weight", projected.weight, projected.c * norm->c, !isProjected},
       {"bias", projected.bias, norm->c, !isProjected},
       {"scale", scale, norm->c},
       {"shift", shift, norm->c},
       {"response_scale", response_scale, norm->c, true},
       {"response_shift", response_shift, norm->c, true}},
      {{"y", y, map}}, workspace, workspace_bytes);
  if (status != GSPN2_SUCCESS) return status;
  if (norm->layout == GSPN2_NHWC8)
    status = gspn2::checkVectorAligned({{"x", x, map}, {"y", y, map}});
  if (status != GSPN2_SUCCESS) return status;
  status =
      gspn2::checkWorkspace(workspace, workspace_bytes, required, "gspn2_channel_norm_workspace");
  if (status != GSPN2_SUCCESS) return status;
  gspn2::DeviceInfo device{};
  status = gspn2::currentDevice(&device);
  if (status != GSPN2_SUCCESS) return status;
  const gspn2::ChannelNormCall call{*norm,          projected,      x, scale,     shift,
                                    response_scale, response_shift, y, workspace, stream};
  return gspn2::checkCuda(gspn2::launchChannelNorm(call, device), "launching gspn2_channel_norm");
}

gspn2_status_t gspn2_depthwise(const gspn2_depthwise_t* conv, const void* x, const void* weight,
                               const void* bias, void* y, gspn2_stream_t stream) {
  gspn2_status_t status = gspn2::checkDepthwise(conv);
  if (status != GSPN2_SUCCESS) return status;
  const int64_t map = gspn2::depthwiseElements(*conv);
  status = gspn2::checkBuffers(conv->dtype,
                               {{"x", x, map},
                                {"weight", weight, conv->c * conv->kernel * conv->kernel},
                                {"bias", bias, conv->c, true}},
                               {{"y", y, map}}, nullptr, 0);
  if (status == GSPN2_SUCCESS) status = gspn2::checkVectorAligned({{"x", x, map}, {"y", y, map}});
  if (status != GSPN2_SUCCESS) return status;
  gspn2::DeviceInfo device{};
  status = gspn2::currentDevice(&device);
  if (status != GSPN2_SUCCESS) return status;
  const gspn2::DepthwiseCall call{*conv, x, weight, bias, y, stream};
  return gspn2::checkCuda(gspn2::launchDepthwise(call, device), "launching gspn2_depthwise");
}

gspn2_status_t gspn2_depthwise_norm(const gspn2_depthwise_t* conv, float epsilon, const void* x,
                                    const void* weight, const void* bias, const void* scale,
                                    const void* shift, void* y, void* z, gspn2_stream_t stream) {
  gspn2_status_t status = gspn2::checkDepthwiseNorm(conv, epsilon);
  if (status != GSPN2_SUCCESS) return status;
  const int64_t map = gspn2::depthwiseElements(*conv);
  status = gspn2::checkBuffers(conv->dtype,
                               {{"x", x, map},
                                {"weight", weight, conv->c * conv->kernel * conv->kernel},
                                {"bias", bias, conv->c, true},
                                {"scale", scale, conv->c},
                                {"shift", shift, conv->c}},
                               {{"y", y, map}, {"z", z, map}}, nullptr, 0);
  if (status == GSPN2_SUCCESS) {
    status = gspn2::checkVectorAligned({{"x", x, map}, {"y", y, map}, {"z", z, map}});
  }
  if (status != GSPN2_SUCCESS) return status;
  gspn2::DeviceInfo device{};
  status = gspn2::currentDevice(&device);
  if (status != GSPN2_SUCCESS) return status;
  const gspn2::DepthwiseNormCall call{*conv, epsilon, x, weight, bias, scale, shift, y, z, stream};
  return gspn2::checkCuda(gspn2::launchDepthwiseNorm(call, device),
                          "launching gspn2_depthwise_norm");
}

}  // extern "C"
