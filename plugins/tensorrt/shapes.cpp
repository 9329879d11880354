#include "shapes.h"

#include <cinttypes>

#include "guard.h"

namespace gspn2 {
namespace plugin {
namespace {

constexpr const char* kAxisNames[kNamedAxes] = {"N", "C", "H", "W", "G"};

constexpr TensorShape kProp2dShapes[] = {
    {"x", 4, {kN, kC, kH, kW}},       {"lam", 5, {kN, 4, kC, kH, kW}},
    {"w", 6, {kN, 4, 3, kG, kH, kW}}, {"u", 5, {kN, 4, kC, kH, kW}},
    {"d", 5, {kN, 4, kC, kH, kW}},    {"m", 1, {4}},
};
constexpr int32_t kProp2dM = 5;

constexpr TensorShape kLineScanShapes[] = {
    {"x", 4, {kN, kC, kH, kW}},
    {"lam", 4, {kN, kC, kH, kW}},
    {"w", 5, {kN, 3, kG, kH, kW}},
};

}  // namespace

const TensorShape& inputShape(Op op, Optionals optionals, int32_t index) {
  if (op == Op::kLineScan) return kLineScanShapes[index];
  const bool isM = index == kProp2dM - 1 && optionals == Optionals::kM;
  return kProp2dShapes[isM ? kProp2dM : index];
}

void ShapeChecker::checkRank(const TensorShape& shape, int32_t rank) const {
  if (rank == shape.rank) return;
  fail("%s: the input %s has %d dimensions; expected %d", mOp, shape.name, rank, shape.rank);
}

void ShapeChecker::checkExtent(const TensorShape& shape, int32_t axis, int64_t extent) {
  const int64_t named = shape.axes[axis];
  if (named > 0) {
    if (extent == named) return;
    fail("%s: the input %s has extent %" PRId64 " on axis %d; expected %" PRId64, mOp, shape.name,
         extent, axis, named);
  }
  const int32_t index = static_cast<int32_t>(-named - 1);
  int64_t& known = mExtents[index];
  if (known == 0) known = extent;
  if (known == extent) return;
  fail("%s: the input %s has extent %" PRId64 " on axis %d; expected %s = %" PRId64
       " as in the inputs before it",
       mOp, shape.name, extent, axis, kAxisNames[index], known);
}

void ShapeChecker::checkAffinityChannels() const {
  const int64_t channels = extent(kC);
  const int64_t affinities = extent(kG);
  if (channels == 0 || affinities == 0 || affinities == 1 || affinities == channels) return;
  fail("%s: the input w has %" PRId64 " channels; expected 1 (shared) or C = %" PRId64
       " (per channel)",
       mOp, affinities, channels);
}

}  // namespace plugin
}  // namespace gspn2
