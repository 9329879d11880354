// What the path heuristics need to know of the current device, read once per device.
#ifndef GSPN2_KERNELS_DEVICE_H_
#define GSPN2_KERNELS_DEVICE_H_

#include "gspn2/kernels.h"

namespace gspn2 {

struct DeviceInfo {
  int computeCapability;  // major * 10 + minor
  int multiprocessors;
  int sharedBytesPerBlock;  // dynamic shared memory that a block may opt in to
  int l2Bytes;
};

// Describes the current device; fails with GSPN2_UNSUPPORTED below compute capability 8.0.
// Neither allocates on the device nor synchronises it.
gspn2_status_t currentDevice(DeviceInfo* info);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_DEVICE_H_
