// What the host side of the kernels computes with.
#ifndef GSPN2_KERNELS_PLAN_ARITHMETIC_H_
#define GSPN2_KERNELS_PLAN_ARITHMETIC_H_

#include <cstddef>
#include <cstdint>

#include "gspn2/kernels.h"

namespace gspn2 {

constexpr int kPlanAccessBytes = 16;  // of an asynchronous copy, and its alignment
constexpr size_t kWorkspaceAlignment = 256;

inline int planCeilDiv(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }
inline int planRoundUp(int64_t a, int64_t unit) {
  return static_cast<int>((a + unit - 1) / unit * unit);
}

inline size_t workspaceRoundUp(size_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

inline int planElementBytes(gspn2_dtype_t dtype) { return dtype == GSPN2_FLOAT32 ? 4 : 2; }

inline bool isCopyAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kPlanAccessBytes == 0;
}

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PLAN_ARITHMETIC_H_
