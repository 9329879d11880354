#include "shapes.h"

#include <cinttypes>

#include "guard.h"

namespace gspn2 {
namespace plugin {
namespace {

constexpr const char* kAxisNames[kNamedAxes] = {"N", "C", "H", "W", "G", "P"};

constexpr TensorShape kProp2dShapes[] = {
    {"x", 4, {kN, kC, kH, kW}},       {"lam", 5, {kN, 4, kC, kH, kW}},
    {"w", 6, {kN, 4, 3, kG, kH, kW}}, {"u", 5, {kN, 4, kC, kH, kW}},
    {"d", 5, {kN, 4, kC, kH, kW}},    {"m", 1, {4}},
};
constexpr int32_t kProp2dM = 5;

constexpr TensorShape kPackedShapes[] = {
    {"x", 4, {kN, kC, kH, kW}},
    {"prediction", 4, {kN, kP, kH, kW}},
    {"m", 1, {4}},
};

constexpr TensorShape kLineScanShapes[] = {
    {"x", 4, {kN, kC, kH, kW}},
    {"lam", 4, {kN, kC, kH, kW}},
    {"w", 5, {kN, 3, kG, kH, kW}},
};

}  // namespace

const TensorShape& inputShape(const Parameters& parameters, int32_t index) {
  if (parameters.op == Op::kLineScan) return kLineScanShapes[index];
  const Packing& packing = parameters.packing;
  if (packing.isPacked()) return kPackedShapes[packing.holdsX() ? index + 1 : index];
  const bool isM = index == kProp2dM - 1 && parameters.optionals == Optionals::kM;
  return kProp2dShapes[isM ? kProp2dM : index];
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

void ShapeChecker::checkPrediction(const Packing& packing) const {
  const int64_t channels = packing.holdsX() ? packing.channels : extent(kC);
  const int64_t predicted = extent(kP);
  if (channels == 0) return;
  if (packing.groups != 1 && packing.groups != channels) {
    fail("%s: groups is %d; expected 1 (shared affinities) or C = %" PRId64 " (per channel)", mOp,
         packing.groups, channels);
  }
  const struct {
    const char* name;
    int64_t offset, count;
  } parts[] = {{"x", packing.x, channels},
               {"lam", packing.lam, 4 * channels},
               {"u", packing.u, 4 * channels},
               {"d", packing.d, 4 * channels},
               {"w", packing.w, int64_t{12} * packing.groups}};
  for (const auto& part : parts) {
    if (predicted == 0 || part.offset < 0 || part.offset + part.count <= predicted) continue;
    fail("%s: the input prediction has %" PRId64 " channels; expected %s in the %" PRId64
         " from channel %" PRId64 " on",
         mOp, predicted, part.name, part.count, part.offset);
  }
}

}  // namespace plugin
}  // namespace gspn2
