// A block's shared memory, and memory for tensors that faults past its end.
#ifndef GSPN2_EMULATION_SEGMENT_H_
#define GSPN2_EMULATION_SEGMENT_H_

#include <cstddef>
#include <cstdint>

#include "device.h"

namespace emulation {

constexpr size_t kPageBytes = 4096;
constexpr size_t kGuardBytes = 1 << 20;          // that may not be touched, on either side
constexpr size_t kStaticBytes = 4 * kPageBytes;  // for the objects of staticShared()
constexpr size_t kReservedBytes = 1024;          // no object has the address 0
constexpr size_t kDynamicAlignment = 1024;       // as shared_memory.cuh promises

// Between two guards: static objects, then the dynamic part, less than 1024
// bytes of which separate from the end. Bytes that belong to nobody hold a pattern.
class Segment {
 public:
  explicit Segment(size_t dynamicBytes);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // Fills what the block may use with NaN and the rest with the pattern.
  void reset(size_t staticEnd);
  // Gives the block what lies before `end`, full of NaN; an offset from the base.
  void extendStatic(size_t end);
  // The first byte outside every object that has lost the pattern, or -1.
  int64_t damaged() const;
  char* base() const { return mBase; }
  char* dynamic() const { return mBase + mDynamicOffset; }
  size_t dynamicBytes() const { return mDynamicBytes; }
  size_t bytes() const { return mBytes; }
  bool owns(uint32_t offset, size_t bytes) const;

 private:
  char* mBase;
  size_t mBytes, mDynamicBytes, mDynamicOffset;
  size_t mStaticEnd = kReservedBytes;
};

}  // namespace emulation
#endif  // GSPN2_EMULATION_SEGMENT_H_
