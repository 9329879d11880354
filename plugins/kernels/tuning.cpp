#include "tuning.h"

#ifdef GSPN2_KERNELS_TUNING
#include <cstdlib>

namespace gspn2 {
namespace {
int gTuned = 0;
}

bool readTuning(const char* variable, int count, int* values) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return false;
  for (int i = 0; i < count; ++i) {
    char* end = nullptr;
    values[i] = static_cast<int>(std::strtol(text, &end, 10));
    text = *end == ',' ? end + 1 : end;
  }
  return true;
}

void countTuned() { ++gTuned; }

}  // namespace gspn2

int gspn2_tuned_plans(void) { return gspn2::gTuned; }
#endif
