// The plugins of this library, by their names in TensorRT.
#ifndef GSPN2_TENSORRT_OP_H_
#define GSPN2_TENSORRT_OP_H_

#include <cstdint>

namespace gspn2 {
namespace plugin {

constexpr char kPluginVersion[] = "1";

// Their numbers are in engines.
enum class Op : int32_t {
  kProp2D = 0,
  kLineScan = 1,
  kChannelNorm = 2,
  kDepthwise = 3,
  kDepthwiseNorm = 4
};
constexpr Op kOps[] = {Op::kProp2D, Op::kLineScan, Op::kChannelNorm, Op::kDepthwise,
                       Op::kDepthwiseNorm};

// The op type in ONNX and the plugin's name in TensorRT.
const char* opName(Op op);

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_OP_H_
