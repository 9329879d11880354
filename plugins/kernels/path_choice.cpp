#include "path_choice.h"

#include <cstdlib>
#include <cstring>

namespace gspn2 {
namespace {

constexpr int64_t kShortLine = 64;  // positions
constexpr int64_t kManySlices = 4;  // to a multiprocessor
constexpr int64_t kLongLine = 512;
constexpr int64_t kSpreadParts = 4;  // multiprocessors to a slice

}  // namespace

PathChoice pathChoice() {
  static const PathChoice choice = [] {
    const char* const value = std::getenv("GSPN2_KERNELS_PATHS");
    if (value != nullptr && std::strcmp(value, "generic") == 0) return PathChoice::kGeneric;
    return PathChoice::kFastest;
  }();
  return choice;
}

// On an H100, line scans by strips against tiles, in ms:
//   1x768x64x64 fp32 0.0302, 0.0372; 32x196x32x32 fp16 0.0407, 0.0475: a short line is one warp's,
//     which meets nobody, and many slices fill the device;
//   1x8x1024x1024 fp16 0.175, 0.213: few slices, whose lines the strips split further;
//   1x32x64x64 0.0131, 0.0112; 64x2x56x56 0.0121, 0.0112; 16x8x1024x1024 fp16 0.633, 0.566;
//     1x128x512x512 fp32 0.296, 0.279; 8x64x256x256 fp16 0.167, 0.149: all else.
// The directions of GspnProp2D follow the same rule: see strip_paths.cpp.
bool isFasterByStrips(const gspn2_problem_t& problem, const DeviceInfo& device) {
  const int64_t slices = problem.n * problem.c;
  if (problem.w <= kShortLine) return slices >= kManySlices * device.multiprocessors;
  return problem.w >= kLongLine && slices <= device.multiprocessors / kSpreadParts;
}

}  // namespace gspn2
