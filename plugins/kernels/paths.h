// The fast paths. Each one says whether it takes a call on a device and launches it; api.cpp asks
// them, lets path_choice.h decide where two line scans take a call, and falls back to generic.h.
// None of them allocates or synchronises.
//
// A path's `supports` also looks at the pointers' alignment, so it is asked per call. Workspace is
// asked for without pointers, so that it is the largest of what the generic path and the strips
// want; the others make do with none. Those two know x with dense items alone, and find a dense
// copy of any other at the workspace's front; likewise planes of tensors in GSPN2_NHWC8, of which
// on chip reads some.
#ifndef GSPN2_KERNELS_PATHS_H_
#define GSPN2_KERNELS_PATHS_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "device.h"
#include "generic.h"  // LineScanCall, Prop2dCall
#include "gspn2/kernels.h"

namespace gspn2 {

// Vertical scans, tiles of a slice in shared memory, long lines split over thread-block clusters:
// compute capability 9.0 or later, W * sizeof(T) and every pointer a multiple of 16 bytes.
bool tiledLineScanSupports(const LineScanCall& call, const DeviceInfo& device);
cudaError_t launchTiledLineScan(const LineScanCall& call, const DeviceInfo& device);

// Scans of both orientations, strips of a line to a warp, parts of a line to the blocks of a
// cluster: W * sizeof(T) and every pointer a multiple of 16 bytes, lines up to 8 parts of some
// hundred positions, or one before compute capability 9.0.
bool stripLineScanSupports(const LineScanCall& call, const DeviceInfo& device);
cudaError_t launchStripLineScan(const LineScanCall& call, const DeviceInfo& device);
size_t stripLineScanWorkspace(const gspn2_problem_t& problem, gspn2_direction_t direction);

// Four directions, a scan each: the horizontal ones by strips, the vertical ones by strips or
// tiles; of few slices all side by side, by strips, and a launch that merges their sums.
bool stripProp2dSupports(const Prop2dCall& call, const DeviceInfo& device);
cudaError_t launchStripProp2d(const Prop2dCall& call, const DeviceInfo& device);
size_t stripProp2dWorkspace(const gspn2_problem_t& problem);

// A whole map on chip, a block to a slice or a cluster with one and more to each direction: compute
// capability 9.0 or later, H and W up to 256, any alignment, items of x any stride apart. No
// workspace.
bool onchipProp2dSupports(const Prop2dCall& call, const DeviceInfo& device);
cudaError_t launchOnchipProp2d(const Prop2dCall& call, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PATHS_H_
