#include "op.h"

namespace gspn2 {
namespace plugin {

const char* opName(Op op) {
  constexpr const char* kNames[] = {"GspnProp2D", "GspnLineScan", "GspnChannelNorm",
                                    "GspnDepthwise", "GspnDepthwiseNorm"};
  return kNames[static_cast<int32_t>(op)];
}

}  // namespace plugin
}  // namespace gspn2
