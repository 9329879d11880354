// Which slices, and parts of slices, the clusters of a horizontal strip scan work on, in turn.
//
// As many clusters as the device has at once share the slices: the warps that load go on to the
// next slice while those that walk end one. What remains where each has as many whole slices as any
// other may be cut in its steps, at multiples of a unit: each cluster takes as many units, and
// hands the states behind its last one to the cluster behind it, in words in the workspace. A
// slice's first part comes first of all in its cluster's tour, the k-th behind k whole slices, so
// that nobody waits long; and whoever is waited for has a lower number, so that it has begun.
#ifndef GSPN2_KERNELS_STRIP_TOUR_CUH_
#define GSPN2_KERNELS_STRIP_TOUR_CUH_

#include <cstdint>

#include "hopper.cuh"
#include "strip_layout.h"

namespace gspn2 {

constexpr uint32_t kStripHandedNumber = 1;  // of a word with a state that has been handed on

// Some units of a slice, in the order in which the scan visits them; none: end is 0.
struct StripSpan {
  int slice, first, end;
};

class StripTour {
 public:
  __device__ __forceinline__ explicit StripTour(const StripParams& p)
      : mParams(p), mCluster(static_cast<int>(keepInRegister(blockIdx.x)) / p.parts) {}

  __device__ __forceinline__ int cluster() const { return mCluster; }

  // The n-th, or none behind the last one.
  __device__ __forceinline__ StripSpan span(int n) const {
    if (mParams.units == 1) {
      const int slice = n * mParams.clusters + mCluster;
      return {slice, 0, slice < mParams.slices ? 1 : 0};
    }
    // Of the remaining units that are this cluster's some end a slice that another one has begun,
    // and some begin the next slice.
    const int begin = beginOf(mCluster);
    const int end = beginOf(mCluster + 1);
    const int slice = begin / mParams.units;
    const int border = min(end, (slice + 1) * mParams.units);
    if (border < end && n-- == 0) return remainder(slice + 1, border, end);
    if (begin < border) {
      const int turn = min(mCluster - clusterOf(slice * mParams.units), mParams.whole);
      if (n == turn) return remainder(slice, begin, border);
      if (n > turn) --n;
    }
    return {n * mParams.clusters + mCluster, 0, n < mParams.whole ? mParams.units : 0};
  }

 private:
  // The first of a cluster's remaining units.
  __device__ __forceinline__ int beginOf(int cluster) const {
    return cluster * mParams.share + min(cluster, mParams.larger);
  }
  // The cluster that has a unit.
  __device__ __forceinline__ int clusterOf(int unit) const {
    // Units of the clusters that have one more.
    const int larger = mParams.larger * (mParams.share + 1);
    if (unit < larger || mParams.share == 0) return unit / (mParams.share + 1);
    return mParams.larger + (unit - larger) / mParams.share;
  }
  __device__ __forceinline__ StripSpan remainder(int slice, int begin, int end) const {
    return {mParams.whole * mParams.clusters + slice, begin - slice * mParams.units,
            end - slice * mParams.units};
  }

  const StripParams& mParams;
  const int mCluster;
};

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_TOUR_CUH_
