// The tests' side: memory that faults past one end, and the shims' conversions.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <sys/mman.h>

#include <cstdint>

#include "emulation.h"
#include "segment.h"

namespace {

using emulation::kGuardBytes;
using emulation::kPageBytes;

size_t wholePages(size_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

}  // namespace

void* gspn2_emulation_allocate(size_t bytes, int at_end) {
  const size_t usable = wholePages(bytes);
  void* const whole =
      mmap(nullptr, usable + 2 * kGuardBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (whole == MAP_FAILED) return nullptr;
  char* const first = static_cast<char*>(whole) + kGuardBytes;
  if (mprotect(first, usable, PROT_READ | PROT_WRITE) != 0) return nullptr;
  return at_end != 0 ? first + (usable - bytes) : first;
}

void gspn2_emulation_free(void* memory, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(memory) / kPageBytes * kPageBytes;
  munmap(reinterpret_cast<char*>(address) - kGuardBytes, wholePages(bytes) + 2 * kGuardBytes);
}

float gspn2_emulation_from_half(unsigned short bits) { return __half2float(__half{bits}); }
unsigned short gspn2_emulation_to_half(float value) { return __float2half_rn(value).bits; }
unsigned short gspn2_emulation_to_bfloat16(float value) { return __float2bfloat16_rn(value).bits; }
