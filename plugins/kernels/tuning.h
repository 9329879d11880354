// Plans from the environment instead of the heuristics: in builds for benchmarks/sweep_plans.py
// alone, which set GSPN2_KERNELS_TUNING.
#ifndef GSPN2_KERNELS_TUNING_H_
#define GSPN2_KERNELS_TUNING_H_

#ifdef GSPN2_KERNELS_TUNING
#include "gspn2/kernels.h"
#endif

namespace gspn2 {

#ifdef GSPN2_KERNELS_TUNING
// Reads `count` comma-separated integers; false where the variable is unset or empty.
bool readTuning(const char* variable, int count, int* values);
// Counts a plan that was taken from the environment.
void countTuned();
#else
inline bool readTuning(const char*, int, int*) { return false; }
inline void countTuned() {}
#endif

}  // namespace gspn2

#ifdef GSPN2_KERNELS_TUNING
// How many plans have been taken from the environment.
extern "C" GSPN2_API int gspn2_tuned_plans(void);
#endif
#endif  // GSPN2_KERNELS_TUNING_H_
