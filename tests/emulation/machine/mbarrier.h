// mbarriers: phases that end once all threads have arrived and all announced bytes have landed.
#ifndef GSPN2_EMULATION_MBARRIER_H_
#define GSPN2_EMULATION_MBARRIER_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulation {

constexpr uint32_t kSlotShift = 20;  // of a block's number in a shared address

// Memory of any block of the running thread's cluster.
void* clusterShared(uint32_t address, size_t bytes);
// Fails unless there is an initialised barrier at the address.
void checkBarrier(uint32_t address);
void arrive(uint32_t address, uint32_t expectedBytes);
void completeBytes(uint32_t address, int bytes);
// "phase 1, 2 of 32 arrivals and 512 bytes to come"
std::string describeBarrier(uint32_t address);

}  // namespace emulation
#endif  // GSPN2_EMULATION_MBARRIER_H_
