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

// The number of the cluster that a thread is in.
__device__ __forceinline__ int stripCluster(const StripParams& p) {
  return static_cast<int>(keepInRegister(blockIdx.x)) / p.parts;
}

// Some units of a slice, in the order in which the scan visits them.
struct StripSpan {
  int slice, first, end;
};

// One slice to each cluster.
class StripSlice {
 public:
  __device__ explicit StripSlice(const StripParams& p) : mSlice(stripCluster(p)) {}
  __device__ int count() const { return 1; }
  __device__ StripSpan span(int) const { return {mSlice, 0, 1}; }

 private:
  int mSlice;
};

class StripTour {
 public:
  __device__ explicit StripTour(const StripParams& p) : StripTour(p, stripCluster(p)) {}
  __host__ __device__ StripTour(const StripParams& p, int cluster)
      : mClusters(p.clusters), mUnits(p.units), mCluster(cluster), mWhole(p.slices / p.clusters) {
    const int remaining = (p.slices - mWhole * mClusters) * mUnits;
    mShare = remaining / mClusters;
    mLarger = remaining - mShare * mClusters;
    mBegin = beginOf(mCluster);
    mEnd = beginOf(mCluster + 1);
    // Of these units some end a slice that another cluster has begun, and some begin the next one.
    const int slice = mBegin / mUnits;
    mBorder = min(mEnd, (slice + 1) * mUnits);
    mTurn = min(mCluster - clusterOf(slice * mUnits), mWhole);
  }

  __host__ __device__ int count() const {
    return mWhole + (mBegin < mBorder ? 1 : 0) + (mBorder < mEnd ? 1 : 0);
  }

  // The n-th, or nothing behind the last one.
  __host__ __device__ StripSpan span(int n) const {
    if (mBorder < mEnd && n-- == 0) return remainder(mBorder, mEnd);
    if (mBegin < mBorder) {
      if (n == mTurn) return remainder(mBegin, mBorder);
      if (n > mTurn) --n;
    }
    return n < mWhole ? StripSpan{n * mClusters + mCluster, 0, mUnits} : StripSpan{0, 0, 0};
  }

 private:
  __host__ __device__ static int min(int a, int b) { return a < b ? a : b; }
  // The first of a cluster's units.
  __host__ __device__ int beginOf(int cluster) const {
    return cluster * mShare + min(cluster, mLarger);
  }
  // The cluster that has a unit.
  __host__ __device__ int clusterOf(int unit) const {
    const int larger = mLarger * (mShare + 1);  // units of the clusters that have one more
    if (unit < larger || mShare == 0) return unit / (mShare + 1);
    return mLarger + (unit - larger) / mShare;
  }
  __host__ __device__ StripSpan remainder(int begin, int end) const {
    const int slice = begin / mUnits;
    return {mWhole * mClusters + slice, begin - slice * mUnits, end - slice * mUnits};
  }

  int mClusters, mUnits, mCluster, mWhole;
  int mShare, mLarger;        // units to a cluster, clusters with one more
  int mBegin, mBorder, mEnd;  // this one's
  int mTurn;                  // whole slices before those up to mBorder
};

}  // namespace gspn2
#endif  // GSPN2_KERNELS_STRIP_TOUR_CUH_
