// The inputs' shapes in terms of N, C, H, W and G, as gspn2_deploy/spec.py defines them, and P, the
// channels of a prediction.
#ifndef GSPN2_TENSORRT_SHAPES_H_
#define GSPN2_TENSORRT_SHAPES_H_

#include <cstdint>

#include "parameters.h"

namespace gspn2 {
namespace plugin {

// A negative axis stands for a named extent; a positive one is the extent itself.
enum Axis : int64_t { kN = -1, kC = -2, kH = -3, kW = -4, kG = -5, kP = -6 };
constexpr int32_t kNamedAxes = 6;
constexpr int32_t kMaxRank = 6;

struct TensorShape {
  const char* name;
  int32_t rank;
  int64_t axes[kMaxRank];
};

// The shape of a node's input `index`. The caller has checked `index`.
const TensorShape& inputShape(const Parameters& parameters, int32_t index);

// Holds extents against shapes as they come, input by input: an extent is either fixed by the
// shape, or named, and a name means the same extent everywhere. G must be 1 or C.
class ShapeChecker {
 public:
  explicit ShapeChecker(const char* op) : mOp(op) {}

  // Throws where `extent` contradicts what came before.
  void checkExtent(const TensorShape& shape, int32_t axis, int64_t extent);
  // Once all inputs have been seen.
  void checkAffinityChannels() const;
  // The same where they are part of a prediction, which must hold all that is looked for in it.
  void checkPrediction(const Packing& packing) const;
  // The extent of a name, or 0 where it has not been seen.
  int64_t extent(Axis axis) const { return mExtents[-axis - 1]; }

 private:
  const char* mOp;
  int64_t mExtents[kNamedAxes] = {};
};

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_SHAPES_H_
