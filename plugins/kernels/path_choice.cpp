#include "path_choice.h"

#include <cstdlib>
#include <cstring>

namespace gspn2 {

PathChoice pathChoice() {
  static const PathChoice choice = [] {
    const char* const value = std::getenv("GSPN2_KERNELS_PATHS");
    if (value != nullptr && std::strcmp(value, "generic") == 0) return PathChoice::kGeneric;
    if (value != nullptr && std::strcmp(value, "all") == 0) return PathChoice::kAll;
    return PathChoice::kProven;
  }();
  return choice;
}

}  // namespace gspn2
