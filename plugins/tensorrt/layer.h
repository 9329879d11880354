// What the faces ask of a plugin layer: shape inference, formats, workspace, the launch, and what
// an engine keeps. Layers throw PluginError; the faces turn that into what their interface asks
// for.
#ifndef GSPN2_TENSORRT_LAYER_H_
#define GSPN2_TENSORRT_LAYER_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "gspn2/kernels.h"
#include "op.h"
#include "trt.h"

namespace gspn2 {
namespace plugin {

constexpr int32_t kMaxOutputs = 2;  // of GspnDepthwiseNorm
constexpr int32_t kMaxInputs = 8;   // of GspnChannelNorm with all that it may have

// A tensor as the checks see it, whatever descriptor TensorRT passed it in.
struct TensorView {
  nvinfer1::Dims dims;
  nvinfer1::DataType type;
  nvinfer1::TensorFormat format;
};

// The inputs of one call, without an allocation.
struct InputList {
  TensorView items[kMaxInputs];
  int32_t count;
};

InputList listInputs(const nvinfer1::PluginTensorDesc* inputs, int32_t count);
// At the largest shapes of the profile.
InputList listInputs(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t count);

bool isFloating(nvinfer1::DataType type);
gspn2_dtype_t kernelType(Op op, nvinfer1::DataType type);
// Turns a refusal of the kernel library into a PluginError.
void checkStatus(Op op, gspn2_status_t status);
void checkInputRank(Op op, const char* input, int32_t rank, int32_t expected);
// An extent, of an input or expected, that TensorRT does not know while it builds; it fits any.
constexpr int64_t kUnknownExtent = -1;
// An extent, or kUnknownExtent.
int64_t knownExtent(const nvinfer1::IDimensionExpr& extent);
void checkInputExtent(Op op, const char* input, int32_t axis, int64_t extent, int64_t expected);
// Every input must have the type of x, which the first is or holds.
void checkInputType(Op op, const char* input, nvinfer1::DataType type, nvinfer1::DataType first);
// What a layer says whose inputs TensorRT has not shown.
[[noreturn]] void failUnconfigured(Op op);
// The workspace must be asked for the inputs that the layer is configured for.
void checkWorkspaceInputs(Op op, int32_t asked, int32_t configured);
void checkInputCount(Op op, int32_t count, int32_t low, int32_t high);
// Of a format, among the inputs and then the outputs.
void checkPosition(Op op, int32_t position, int32_t tensorCount);
// The output must be as x.
void checkOutput(Op op, const nvinfer1::PluginTensorDesc& x,
                 const nvinfer1::PluginTensorDesc& output);

// Layer::supportsFormat where x and the outputs have eight channels side by side, in half
// precision, and all other inputs are linear.
bool supportsRows(Op op, int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                  const nvinfer1::PluginTensorDesc& first, int32_t inputCount, int32_t outputCount);

class Layer {
 public:
  virtual ~Layer() = default;

  virtual Op op() const = 0;
  const char* name() const { return opName(op()); }
  virtual std::unique_ptr<Layer> clone() const = 0;

  // Learns which optional inputs there are, and checks ranks and every extent that is known.
  // Returns every output's extents, which are those of x.
  virtual nvinfer1::DimsExprs inferShape(const nvinfer1::DimsExprs* inputs, int32_t count,
                                         nvinfer1::IExprBuilder& builder) = 0;
  virtual int32_t outputCount() const { return 1; }

  // Learns the same from the descriptors that TensorRT configures a layer with.
  virtual void configure(const InputList& inputs) = 0;

  // `position` counts the inputs, then the outputs; `first` is the first input, which was asked for
  // before.
  virtual bool supportsFormat(int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                              const nvinfer1::PluginTensorDesc& first,
                              int32_t inputCount) const = 0;

  // Bytes that every call of these shapes or smaller ones can do with.
  virtual size_t workspaceBytes(const InputList& largest) const = 0;

  // Checks the shapes and launches on the stream. Allocates nothing, synchronises nothing.
  virtual void enqueue(const nvinfer1::PluginTensorDesc* inputDescs,
                       const nvinfer1::PluginTensorDesc* outputDescs, const void* const* inputs,
                       void* const* outputs, void* workspace, cudaStream_t stream) const = 0;

  virtual size_t stateBytes() const = 0;
  virtual std::vector<uint8_t> state() const = 0;
};

// The fields that a creator announces: names and types, no data. Lives as long as the library.
const nvinfer1::PluginFieldCollection& fieldNames(Op op);
// From what the ONNX parser (or a caller) passes.
std::unique_ptr<Layer> createLayer(Op op, const nvinfer1::PluginFieldCollection* fields);
// From what an engine holds; of the second form is an IPluginV3's.
std::unique_ptr<Layer> restoreLayer(Op op, const void* state, size_t bytes);
std::unique_ptr<Layer> restoreLayer(Op op, const nvinfer1::PluginFieldCollection* fields);

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_LAYER_H_
