// Which paths the environment lets a call take, and which of two runs where both take a call.
#ifndef GSPN2_KERNELS_PATH_CHOICE_H_
#define GSPN2_KERNELS_PATH_CHOICE_H_

#include "device.h"
#include "gspn2/kernels.h"

namespace gspn2 {

// Whether GSPN2_KERNELS_PATHS is "generic": the generic kernels alone, to compare with or to rule a
// fast path out. Read once; anything else is every path.
bool isGenericOnly();

// Whether a vertical line scan is faster by strips than by tiles.
bool isFasterByStrips(const gspn2_problem_t& problem, const DeviceInfo& device);

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PATH_CHOICE_H_
