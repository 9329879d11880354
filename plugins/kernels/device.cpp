#include "device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "errors.h"

namespace gspn2 {
namespace {

constexpr int kCachedDevices = 64;  // devices past this many are asked on every call

std::mutex gMutex;
DeviceInfo gKnown[kCachedDevices];  // computeCapability is 0 until the device has been asked
std::optional<int> gLargeClusters[kCachedDevices];

gspn2_status_t queryDevice(int device, DeviceInfo* info) {
  int major = 0;
  int minor = 0;
  const struct {
    cudaDeviceAttr attribute;
    int* value;
  } queries[] = {{cudaDevAttrComputeCapabilityMajor, &major},
                 {cudaDevAttrComputeCapabilityMinor, &minor},
                 {cudaDevAttrMultiProcessorCount, &info->multiprocessors},
                 {cudaDevAttrMaxSharedMemoryPerBlockOptin, &info->sharedBytesPerBlock},
                 {cudaDevAttrL2CacheSize, &info->l2Bytes}};
  for (const auto& query : queries) {
    const gspn2_status_t status =
        checkCuda(cudaDeviceGetAttribute(query.value, query.attribute, device),
                  "reading the device's attributes");
    if (status != GSPN2_SUCCESS) return status;
  }
  int image = 0;
  const gspn2_status_t status =
      checkCuda(imageCapability(&image), "asking what the kernels were compiled for");
  if (status != GSPN2_SUCCESS) return status;
  // What an older image left out, a newer device does not run either.
  info->computeCapability = std::min(major * 10 + minor, image);
  info->ordinal = device;
  return GSPN2_SUCCESS;
}

int queryLargeClusters(const DeviceInfo& info) {
  int clusters = 0;
  if (countLargeClusters(info.sharedBytesPerBlock, &clusters) == cudaSuccess) return clusters;
  (void)cudaGetLastError();
  return 0;  // all goes without them
}

}  // namespace

gspn2_status_t currentDevice(DeviceInfo* info) {
  int device = 0;
  gspn2_status_t status = checkCuda(cudaGetDevice(&device), "asking for the current device");
  if (status != GSPN2_SUCCESS) return status;
  if (device < kCachedDevices) {
    const std::lock_guard<std::mutex> lock(gMutex);
    DeviceInfo& known = gKnown[device];
    if (known.computeCapability == 0) status = queryDevice(device, &known);
    *info = known;
  } else {
    status = queryDevice(device, info);
  }
  if (status != GSPN2_SUCCESS) return status;
  if (info->computeCapability < 80) {
    return fail(GSPN2_UNSUPPORTED,
                "device %d has compute capability %d.%d; these kernels need 8.0 or later", device,
                info->computeCapability / 10, info->computeCapability % 10);
  }
  return GSPN2_SUCCESS;
}

int largeClusters(const DeviceInfo& info) {
  if (info.computeCapability < 90) return 0;
  if (info.ordinal >= kCachedDevices) return queryLargeClusters(info);
  const std::lock_guard<std::mutex> lock(gMutex);
  std::optional<int>& known = gLargeClusters[info.ordinal];
  if (!known) known = queryLargeClusters(info);
  return *known;
}

}  // namespace gspn2
