// What the path heuristics need to know of the current device, read once per device.
#ifndef GSPN2_KERNELS_DEVICE_H_
#define GSPN2_KERNELS_DEVICE_H_

#include <cuda_runtime_api.h>

#include "gspn2/kernels.h"

namespace gspn2 {

struct DeviceInfo {
  int ordinal;
  int computeCapability;  // major * 10 + minor; no more than what its image was compiled for
  int multiprocessors;
  int sharedBytesPerBlock;  // dynamic shared memory that a block may opt in to
  int l2Bytes;
};

// The compute capability that brought clusters and the bulk tensor copy engine.
constexpr int kClusterCapability = 90;
constexpr int kPortableClusterBlocks = 8;  // the largest cluster that all devices with such have
constexpr int kLargeClusterBlocks = 16;

// Describes the current device; fails with GSPN2_UNSUPPORTED below compute capability 8.0.
// Neither allocates on the device nor synchronises it.
gspn2_status_t currentDevice(DeviceInfo* info);

// The architecture for which the kernels were compiled that the current device runs, as major * 10
// + minor: less than the device's own where the library holds no image for it.
cudaError_t imageCapability(int* capability);

// How many clusters of kLargeClusterBlocks blocks, a multiprocessor each, the current device, which
// `info` describes, has at once; 0: no such. To find out loads a kernel: it is done once per
// device, for the first call that would take such clusters.
int largeClusters(const DeviceInfo& info);

// How many of them with `sharedBytes` to a block the current device says that it has.
cudaError_t countLargeClusters(int sharedBytes, int* clusters);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEVICE_H_
