// The propagations as plugin layers.
#ifndef GSPN2_TENSORRT_PROPAGATION_H_
#define GSPN2_TENSORRT_PROPAGATION_H_

#include "layer.h"
#include "parameters.h"
#include "shapes.h"

namespace gspn2 {
namespace plugin {

// One node: its attributes, and which optional inputs it has. A plain value; copies are clones.
//
// TensorRT passes no absent input, so the fifth of five inputs is d or m: its rank (5 or 1) tells.
// A packed node has x, unless the prediction holds it, the prediction and perhaps m.
class Propagation : public Layer {
 public:
  explicit Propagation(const Parameters& parameters) : mParameters(parameters) {}

  const Parameters& parameters() const { return mParameters; }

  Op op() const override { return mParameters.op; }
  std::unique_ptr<Layer> clone() const override { return std::make_unique<Propagation>(*this); }
  nvinfer1::DimsExprs inferShape(const nvinfer1::DimsExprs* inputs, int32_t count,
                                 nvinfer1::IExprBuilder& builder) override;
  void configure(const InputList& inputs) override;
  // Linear, one floating type for every tensor; a prediction that holds x also with eight channels
  // side by side, in half precision.
  bool supportsFormat(int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                      const nvinfer1::PluginTensorDesc& first, int32_t inputCount) const override;
  size_t workspaceBytes(const InputList& largest) const override;
  void enqueue(const nvinfer1::PluginTensorDesc* inputDescs,
               const nvinfer1::PluginTensorDesc* outputDescs, const void* const* inputs,
               void* const* outputs, void* workspace, cudaStream_t stream) const override;
  size_t stateBytes() const override { return kStateBytes; }
  std::vector<uint8_t> state() const override { return serialize(mParameters); }

  // The number of inputs; throws while it is not known.
  int32_t inputCount() const;

 private:
  bool isPacked() const { return mParameters.packing.isPacked(); }
  bool hasD() const;
  bool hasM() const;
  int32_t requiredInputs() const;
  // Of a packed node, the input that the prediction is.
  int32_t predictionInput() const { return mParameters.packing.holdsX() ? 0 : 1; }
  void learnOptionals(const int32_t* ranks, int32_t count);
  void checkTogether(const ShapeChecker& checker) const;
  // Whether the tensor at a position, among the inputs and then the output, may be in a format.
  bool takesFormat(int32_t position, nvinfer1::TensorFormat format, nvinfer1::DataType type) const;
  // Throws where a tensor of a call is in another format.
  void checkFormats(const InputList& inputs, const nvinfer1::PluginTensorDesc& output) const;
  gspn2_problem_t makeProblem(const InputList& inputs) const;
  // How a problem's tensors lie in a prediction of the inputs' channels, in that format.
  gspn2_strides_t makeStrides(const gspn2_problem_t& problem, const InputList& inputs,
                              nvinfer1::TensorFormat format) const;
  gspn2_status_t propagate(const gspn2_problem_t& problem, const void* const* inputs, void* y,
                           void* workspace, size_t bytes, cudaStream_t stream) const;
  gspn2_status_t propagatePacked(const gspn2_problem_t& problem, const gspn2_strides_t& strides,
                                 const void* const* inputs, void* y, void* workspace, size_t bytes,
                                 cudaStream_t stream) const;
  size_t queryWorkspace(const gspn2_problem_t& problem, const gspn2_strides_t& strides) const;

  Parameters mParameters;
};

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_PROPAGATION_H_
