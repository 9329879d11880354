// What both faces share: shape inference, format support, workspace and the launch. It throws
// PluginError; the faces turn that into what their TensorRT interface asks for.
#ifndef GSPN2_TENSORRT_CORE_H_
#define GSPN2_TENSORRT_CORE_H_

#include <cstddef>
#include <cstdint>

#include "gspn2/kernels.h"
#include "parameters.h"
#include "shapes.h"
#include "trt.h"

namespace gspn2 {
namespace plugin {

constexpr int32_t kOutputs = 1;
constexpr int32_t kMaxInputs = 6;  // x, lam, w, u, d, m

// A tensor as the checks see it, whatever descriptor TensorRT passed it in.
struct TensorView {
  nvinfer1::Dims dims;
  nvinfer1::DataType type;
};

// The inputs of one call, without an allocation.
struct InputList {
  TensorView items[kMaxInputs];
  int32_t count;
};

InputList listInputs(const nvinfer1::PluginTensorDesc* inputs, int32_t count);
// At the largest shapes of the profile.
InputList listInputs(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t count);

// One node: its attributes, and which optional inputs it has. A plain value; copies are clones.
//
// TensorRT passes no absent input, so the fifth of five inputs is d or m: its rank (5 or 1) tells.
// A packed node has x, the prediction and perhaps m.
class Core {
 public:
  explicit Core(const Parameters& parameters) : mParameters(parameters) {}

  const Parameters& parameters() const { return mParameters; }
  const char* name() const { return opName(mParameters.op); }

  // Learns which optional inputs there are, and checks ranks and every extent that is known.
  // Returns the output's extents: those of x.
  nvinfer1::DimsExprs inferShape(const nvinfer1::DimsExprs* inputs, int32_t count);

  // Learns the same from the descriptors that TensorRT configures a layer with.
  void configure(const InputList& inputs);

  // Linear, one floating type for every tensor. `position` counts the inputs, then the output.
  bool supportsFormat(int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                      const nvinfer1::PluginTensorDesc& first, int32_t inputCount) const;

  // Bytes that every call of these shapes or smaller ones can do with.
  size_t workspaceBytes(const InputList& largest) const;

  // Checks the shapes and launches on the stream. Allocates nothing, synchronises nothing.
  void enqueue(const nvinfer1::PluginTensorDesc* inputDescs,
               const nvinfer1::PluginTensorDesc& outputDesc, const void* const* inputs,
               void* const* outputs, void* workspace, cudaStream_t stream) const;

  // The number of inputs; throws while it is not known.
  int32_t inputCount() const;

 private:
  bool isPacked() const { return mParameters.packing.isPacked(); }
  bool hasD() const;
  bool hasM() const;
  int32_t requiredInputs() const;
  void learnOptionals(const int32_t* ranks, int32_t count);
  void checkTogether(const ShapeChecker& checker) const;
  gspn2_problem_t makeProblem(const InputList& inputs) const;
  gspn2_status_t propagate(const gspn2_problem_t& problem, const void* const* inputs, void* y,
                           void* workspace, size_t bytes, cudaStream_t stream) const;
  gspn2_status_t propagatePacked(const gspn2_problem_t& problem, int64_t channels,
                                 const void* const* inputs, void* y, void* workspace, size_t bytes,
                                 cudaStream_t stream) const;
  size_t queryWorkspace(const gspn2_problem_t& problem) const;

  Parameters mParameters;
};

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_CORE_H_
