#include "segment.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace emulation {
namespace {

constexpr unsigned char kPattern = 0xa5;
constexpr int kPoison = 0xff;  // a NaN in every dtype

char* mapBetweenGuards(size_t bytes) {
  void* const whole = mmap(nullptr, bytes + 2 * kGuardBytes, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole == MAP_FAILED) throw std::bad_alloc();
  char* const first = static_cast<char*>(whole) + kGuardBytes;
  if (mprotect(first, bytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  return first;
}

size_t roundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

Segment::Segment(size_t dynamicBytes)
    : mBytes(roundUp(kStaticBytes + dynamicBytes, kPageBytes)), mDynamicBytes(dynamicBytes) {
  mDynamicOffset = (mBytes - dynamicBytes) / kDynamicAlignment * kDynamicAlignment;
  mBase = mapBetweenGuards(mBytes);
}

Segment::~Segment() { munmap(mBase - kGuardBytes, mBytes + 2 * kGuardBytes); }

void Segment::reset(size_t staticEnd) {
  std::memset(mBase, kPattern, mDynamicOffset);
  std::memset(dynamic(), kPoison, mDynamicBytes);
  std::memset(dynamic() + mDynamicBytes, kPattern, mBytes - mDynamicOffset - mDynamicBytes);
  mStaticEnd = kReservedBytes;
  extendStatic(staticEnd);
}

void Segment::extendStatic(size_t end) {
  std::memset(mBase + mStaticEnd, kPoison, end - mStaticEnd);
  mStaticEnd = end;
}

int64_t Segment::damaged() const {
  const auto changed = [this](size_t begin, size_t end) -> int64_t {
    for (size_t i = begin; i < end; ++i) {
      if (static_cast<unsigned char>(mBase[i]) != kPattern) return static_cast<int64_t>(i);
    }
    return -1;
  };
  int64_t found = changed(0, kReservedBytes);
  if (found < 0) found = changed(mStaticEnd, mDynamicOffset);
  if (found < 0) found = changed(mDynamicOffset + mDynamicBytes, mBytes);
  return found;
}

bool Segment::owns(uint32_t offset, size_t bytes) const {
  if (offset >= mDynamicOffset) return offset + bytes <= mDynamicOffset + mDynamicBytes;
  return offset >= kReservedBytes && offset + bytes <= mStaticEnd;
}

}  // namespace emulation
