// The attributes of both propagations: read from plugin fields, written into engines and read back.
#ifndef GSPN2_TENSORRT_PARAMETERS_H_
#define GSPN2_TENSORRT_PARAMETERS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gspn2/kernels.h"
#include "op.h"
#include "trt.h"

namespace gspn2 {
namespace plugin {

// Where the tensors of a packed GspnProp2D lie: the first channel of each in one prediction
// (N, P, H, W), which the node has in place of lam, w, u and d, and perhaps of x.
struct Packing {
  int32_t groups = 0;    // G; 0: the node is not packed
  int32_t channels = 0;  // C; 0: x is an input of its own
  int32_t x = -1;        // -1: likewise
  int32_t lam = -1, u = -1;
  int32_t d = -1;  // -1: there is none
  int32_t w = -1;

  bool isPacked() const { return groups != 0; }
  bool holdsX() const { return channels != 0; }
};

// Which optional inputs a node has. Known once TensorRT has shown the inputs' shapes.
enum class Optionals : int32_t { kUnknown = -1, kNone = 0, kD = 1, kM = 2, kBoth = 3 };

struct Parameters {
  Op op = Op::kProp2D;
  gspn2_normalize_t normalize = GSPN2_NORMALIZE_SIGMOID;
  gspn2_direction_t direction = GSPN2_LEFT_TO_RIGHT;  // GspnLineScan only
  int64_t chunk = 0;
  Packing packing;  // GspnProp2D only
  Optionals optionals = Optionals::kUnknown;
};

bool operator==(const Parameters& a, const Parameters& b);

// The fields that a creator announces: names and types, no data. Lives as long as the library.
const nvinfer1::PluginFieldCollection& propagationFields(Op op);

// Reads what the ONNX parser (or a caller) passes. A missing field has its default; an unknown or
// repeated one, a wrong type or length and a value out of range throw PluginError.
Parameters parseFields(Op op, const nvinfer1::PluginFieldCollection* fields);

// The state in an engine (state.h).
constexpr size_t kStateBytes = 64;
std::vector<uint8_t> serialize(const Parameters& parameters);
Parameters deserialize(Op op, const void* data, size_t bytes);

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_PARAMETERS_H_
