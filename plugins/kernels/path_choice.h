// Which paths the environment lets a call take.
#ifndef GSPN2_KERNELS_PATH_CHOICE_H_
#define GSPN2_KERNELS_PATH_CHOICE_H_

namespace gspn2 {

enum class PathChoice {
  kGeneric,  // the generic kernels alone, to compare with or to rule a fast path out
  kProven,   // and the fast paths that the GPU tests have run through the C ABI: the default
  kAll,      // and the others: docs/kernels.md names them
};

// GSPN2_KERNELS_PATHS: generic, proven or all; read once. Anything else is the default.
PathChoice pathChoice();

}  // namespace gspn2
#endif  // GSPN2_KERNELS_PATH_CHOICE_H_
