// What a running kernel may ask of the emulated machine. The shims and the seam stand on it.
#ifndef GSPN2_EMULATION_DEVICE_H_
#define GSPN2_EMULATION_DEVICE_H_

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#define GSPN2_EMULATION_HIDDEN __attribute__((visibility("hidden")))

struct uint3 {
  unsigned x, y, z;
};

// The running thread's.
GSPN2_EMULATION_HIDDEN extern uint3 threadIdx, blockIdx;
// The launch's.
GSPN2_EMULATION_HIDDEN extern uint3 blockDim, gridDim;

namespace emulation {

// Ends the launch with an error: the machine's message names the running thread.
[[noreturn]] GSPN2_EMULATION_HIDDEN void fail(const char* format, ...)
    __attribute__((format(printf, 1, 2)));

// ---- scheduling --------------------------------------------------------------------------------

// Other threads may go first from here.
GSPN2_EMULATION_HIDDEN void mayYield();

// ---- barriers of a block, a warp, a cluster ----------------------------------------------------

GSPN2_EMULATION_HIDDEN void syncBlock();
GSPN2_EMULATION_HIDDEN void syncNamed(int id, int threads);
GSPN2_EMULATION_HIDDEN void syncWarp(uint32_t mask);
// Every lane of the mask gives `value` and gets that of the lane `source` of its warp.
GSPN2_EMULATION_HIDDEN uint64_t shuffle(uint32_t mask, uint64_t value, int source);
// The lanes of the mask that gave true.
GSPN2_EMULATION_HIDDEN uint32_t ballot(uint32_t mask, bool value);
// Of all lanes of a warp, as hopper.cuh has them; two adjacent values of a and b for each word.
GSPN2_EMULATION_HIDDEN void loadMatrices(uint32_t address, uint32_t (&words)[4]);
GSPN2_EMULATION_HIDDEN void multiplyAdd(const float (&a)[8], const float (&b)[4], float (&sums)[4]);
GSPN2_EMULATION_HIDDEN uint32_t liveLanes();
GSPN2_EMULATION_HIDDEN uint32_t clusterRank();
GSPN2_EMULATION_HIDDEN void arriveCluster();
GSPN2_EMULATION_HIDDEN void waitCluster();

// ---- global memory -----------------------------------------------------------------------------

// Fails unless the address is a multiple of `bytes`, as an access of that width needs.
GSPN2_EMULATION_HIDDEN void checkAligned(const void* address, size_t bytes);

// ---- shared memory -----------------------------------------------------------------------------
// A 32-bit address holds the block's number in its upper bits and a byte offset in its lower ones.

GSPN2_EMULATION_HIDDEN void* dynamicShared();
// The block's object for `key`, full of NaN at first.
GSPN2_EMULATION_HIDDEN void* staticShared(const void* key, size_t bytes, size_t alignment);
GSPN2_EMULATION_HIDDEN uint32_t sharedAddress(const void* pointer);
// From an address to memory; fails outside the running block, or misaligned.
GSPN2_EMULATION_HIDDEN void* ownShared(uint32_t address, size_t bytes);
// The same offset in block `rank` of the cluster.
GSPN2_EMULATION_HIDDEN uint32_t clusterAddress(uint32_t address, uint32_t rank);

// ---- mbarriers ---------------------------------------------------------------------------------

GSPN2_EMULATION_HIDDEN void initBarrier(uint32_t address, uint32_t arrivals);
GSPN2_EMULATION_HIDDEN void arriveBarrier(uint32_t address);
GSPN2_EMULATION_HIDDEN void arriveBarrierExpecting(uint32_t address, uint32_t bytes);
GSPN2_EMULATION_HIDDEN void waitBarrier(uint32_t address, uint32_t parity);

// ---- words: a value and its number in one access -----------------------------------------------

// Into any block of the cluster.
GSPN2_EMULATION_HIDDEN void storeWord(uint32_t address, uint32_t value, uint32_t number);
// Waits until the block's own word carries the number.
GSPN2_EMULATION_HIDDEN uint32_t awaitWord(uint32_t address, uint32_t number);
// The same in global memory.
GSPN2_EMULATION_HIDDEN void storeWordGlobal(uint64_t* target, uint32_t value, uint32_t number);
GSPN2_EMULATION_HIDDEN uint32_t awaitWordGlobal(const uint64_t* source, uint32_t number);

// ---- copies behind the threads' backs ----------------------------------------------------------

// 16 bytes, or as many zeros where `bytes` is 0.
GSPN2_EMULATION_HIDDEN void copyChunk(uint32_t target, const void* source, int bytes);
GSPN2_EMULATION_HIDDEN void arriveAfterCopies(uint32_t barrier);
GSPN2_EMULATION_HIDDEN void loadTile(uint32_t target, const CUtensorMap& map, int column, int row,
                                     int plane, uint32_t barrier);
// A multiple of 16 bytes.
GSPN2_EMULATION_HIDDEN void copyBulk(uint32_t target, const void* source, int bytes,
                                     uint32_t barrier);
// `bytes` bytes, 4 or 16, into a block of the cluster, counted on its barrier.
GSPN2_EMULATION_HIDDEN void storeRemote(uint32_t address, const void* value, int bytes,
                                        uint32_t barrier);

}  // namespace emulation
#endif  // GSPN2_EMULATION_DEVICE_H_
