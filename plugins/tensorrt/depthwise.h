// GspnDepthwise: a depthwise convolution with the residual or the activation behind it. No exported
// file has it: a build puts it in the place of standard ops (gspn2_deploy/build/depthwise.py).
//
// Inputs: x (N, C, H, W), weight (C, 1, K, K) and perhaps bias (C).
#ifndef GSPN2_TENSORRT_DEPTHWISE_H_
#define GSPN2_TENSORRT_DEPTHWISE_H_

#include "layer.h"

namespace gspn2 {
namespace plugin {

struct DepthwiseParameters {
  gspn2_activation_t activation = GSPN2_IDENTITY;
  bool residual = false;
  int32_t inputs = 0;  // 2 or 3, 0 while TensorRT has not shown them
};

const nvinfer1::PluginFieldCollection& depthwiseFields();
// A missing field has its default; what is wrong throws PluginError.
DepthwiseParameters parseDepthwise(const nvinfer1::PluginFieldCollection* fields);
DepthwiseParameters restoreDepthwise(const void* state, size_t bytes);

constexpr int64_t kDepthwiseMultiple = 8;  // of the channels
// What the kernels are to do with x, whose shape has been checked.
gspn2_depthwise_t makeDepthwise(Op op, const nvinfer1::PluginTensorDesc& x, int32_t kernel,
                                gspn2_activation_t activation, bool residual);

class Depthwise : public Layer {
 public:
  explicit Depthwise(const DepthwiseParameters& parameters) : mParameters(parameters) {}

  const DepthwiseParameters& parameters() const { return mParameters; }

  Op op() const override { return Op::kDepthwise; }
  std::unique_ptr<Layer> clone() const override { return std::make_unique<Depthwise>(*this); }
  nvinfer1::DimsExprs inferShape(const nvinfer1::DimsExprs* inputs, int32_t count,
                                 nvinfer1::IExprBuilder& builder) override;
  void configure(const InputList& inputs) override;
  // x and the output have eight channels side by side, in half precision.
  bool supportsFormat(int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                      const nvinfer1::PluginTensorDesc& first, int32_t inputCount) const override;
  size_t workspaceBytes(const InputList&) const override { return 0; }
  void enqueue(const nvinfer1::PluginTensorDesc* inputDescs,
               const nvinfer1::PluginTensorDesc* outputDescs, const void* const* inputs,
               void* const* outputs, void* workspace, cudaStream_t stream) const override;
  size_t stateBytes() const override;
  std::vector<uint8_t> state() const override;

 private:
  void learnInputs(int32_t count);

  DepthwiseParameters mParameters;
};

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_DEPTHWISE_H_
