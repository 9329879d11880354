// Which paths the environment lets a call take, and which of two runs where both take a call.
#ifndef GSPN2_KERNELS_PATH_CHOICE_H_
#define GSPN2_KERNELS_PATH_CHOICE_H_

#include "device.h"
#include "gspn2/kernels.h"

namespace gspn2 {

// What GSPN2_KERNELS_PATHS says, read once.
enum class PathChoice {
  kGeneric,  // "generic": the generic kernels alone, to compare with or to rule a fast path out
  kFastest   // anything else: the path that was measured to be the fastest
};
PathChoice pathChoice();

// Whether a vertical scan is faster by strips than by tiles, where both take it.
bool isFasterByStrips(const gspn2_problem_t& problem, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PATH_CHOICE_H_
