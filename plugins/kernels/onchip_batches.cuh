// How a cluster of GspnProp2D on chip is made up, and how its directions' steps lie in batches in
// its blocks.
#ifndef GSPN2_KERNELS_ONCHIP_BATCHES_CUH_
#define GSPN2_KERNELS_ONCHIP_BATCHES_CUH_

#include "onchip_scan.cuh"

namespace gspn2 {

// A block's place in its cluster. Each direction has `relay` blocks, which take its batches in
// turn; each block owns a share of the sums.
struct OnchipMember {
  int rank, direction;
  int relay, turn;
  int blocks;  // of the cluster
  int share;   // elements of the map
  float inverseShare;

  __device__ __forceinline__ OnchipMember(int relay_, int elements)
      : rank(static_cast<int>(clusterRank())),
        direction(rank / relay_),
        relay(relay_),
        turn(rank - direction * relay_),
        blocks(kOnchipDirections * relay_),
        share(onchipShare(elements, blocks)),
        inverseShare(1.0F / static_cast<float>(share)) {}

  // The block that owns an element. Below 2^17, no product is as near to a whole number as its
  // rounding.
  __device__ __forceinline__ int ownerOf(int element) const {
    if (blocks == kOnchipDirections) {
      return (element >= share) + (element >= 2 * share) + (element >= 3 * share);
    }
    return static_cast<int>((static_cast<float>(element) + 0.5F) * inverseShare);
  }
};

// A batch of this block's, the slot in shared memory that it takes, and the slot's turn.
struct OnchipBatch {
  int number, slot;
  uint32_t turn;  // of which barriers know the parity

  __device__ __forceinline__ uint32_t parity() const { return turn & 1U; }
  __device__ __forceinline__ OnchipBatch next(int slots) const {
    return slot + 1 < slots ? OnchipBatch{number + 1, slot + 1, turn}
                            : OnchipBatch{number + 1, 0, turn + 1};
  }
  // The one that the slot had before.
  __device__ __forceinline__ OnchipBatch replaced(int slots) const {
    return {number - slots, slot, turn - 1};
  }
};

// The block's steps in batches.
struct OnchipBatches {
  int steps;         // of a batch
  int first;         // step of the first one
  int stride;        // steps from one to the next
  int count;         // of batches
  int slots;         // for them, in shared memory: even
  int groupVectors;  // of a row that neighbouring workers take

  __device__ __forceinline__ OnchipBatches(const OnchipParams& p, const OnchipScan& scan,
                                           const OnchipMember& member, int vector)
      : steps(onchipBatch(scan.horizontal, scan.line, vector, p.workers)),
        first(member.turn * steps),
        stride(member.relay * steps),
        count(onchipTurns(scan.steps, steps, member.relay, member.turn)),
        groupVectors(onchipGroup(scan.horizontal, scan.line, vector, p.workers)) {
    const int held = min(count * steps, scan.steps);
    slots = scan.size >= held * scan.pitch
                ? count + count % 2
                : min(scan.size / (steps * scan.pitch), kOnchipMaxBatches) / 2 * 2;
  }
};

// A worker's vector of a batch; the same one in every batch, a batch's steps further on.
struct OnchipWork {
  int step;         // its first in scan order, or too large where there is no vector
  int offset;       // of its first element in the map, or 0
  int batchOffset;  // elements of the map from one batch to the next
  int batchIndex;   // elements of an array from one slot to the next
  OnchipPlace place;

  __device__ __forceinline__ OnchipWork(const OnchipScan& scan, const OnchipBatches& batches,
                                        int width, int vector, int worker)
      : place(scan, 0, 0, 1) {
    const int line = worker / batches.groupVectors;
    const int within = worker - line * batches.groupVectors;
    int row, column, last;
    if (scan.horizontal) {
      const int unit = line / scan.line;
      step = (unit * batches.groupVectors + within) * vector;
      last = step + vector - 1;
      row = line - unit * scan.line;
      column = scan.reverse ? scan.steps - 1 - last : step;
    } else {
      step = last = line;
      row = scan.reverse ? scan.steps - 1 - line : line;
      column = within * vector;
    }
    place = OnchipPlace(scan, row, column, vector);
    const int along = (scan.reverse ? -1 : 1) * (scan.horizontal ? 1 : width);  // to the next step
    offset = row * width + column + along * batches.first;
    batchOffset = along * batches.stride;
    batchIndex = batches.steps * scan.pitch;
    if (last >= batches.steps || last + batches.first >= scan.steps) {
      step = 1 << 24;
      offset = 0;
    } else {
      step += batches.first;
    }
  }
};

}  // namespace gspn2
#endif  // GSPN2_KERNELS_ONCHIP_BATCHES_CUH_
