// How the tiled scan cuts a problem up: see tiled_plan.cpp for the reasons.
#ifndef GSPN2_KERNELS_TILED_PLAN_H_
#define GSPN2_KERNELS_TILED_PLAN_H_

#include <cuda_runtime_api.h>

#include "device.h"
#include "direction_scan.h"

namespace gspn2 {

constexpr int kMaxBox = 256;         // the copy engine's limit on a box's extents
constexpr int kMaxClusterParts = 8;  // the portable cluster size

struct TiledPlan {
  int parts;      // blocks of a cluster, each with a part of the line
  int own;        // positions of a part, a multiple of 8
  int tileSteps;  // steps of a tile; halo positions on either side where parts > 1
  int stages;     // tiles in shared memory

  int extent() const { return own + (parts > 1 ? 2 * tileSteps : 0); }
  int boxes() const { return (extent() + kMaxBox - 1) / kMaxBox; }
  // A box's shared memory must start at a multiple of 128 bytes.
  int boxPositions() const { return ((extent() + boxes() - 1) / boxes() + 15) / 16 * 16; }
};

// The plan of a scan, or parts == 0 where tiles do not take it.
TiledPlan planTiledScan(const DirectionScan& scan, const DeviceInfo& device);
cudaError_t launchTiledScan(const DirectionScan& scan, const TiledPlan& plan);

// One translation unit per dtype.
cudaError_t launchTiledScanFloat32(const DirectionScan& scan, const TiledPlan& plan);
cudaError_t launchTiledScanFloat16(const DirectionScan& scan, const TiledPlan& plan);
cudaError_t launchTiledScanBfloat16(const DirectionScan& scan, const TiledPlan& plan);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_TILED_PLAN_H_
