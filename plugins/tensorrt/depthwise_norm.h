// GspnDepthwiseNorm: a depthwise convolution of 3x3 with the residual or the activation behind it,
// and the layer normalisation of that over the channels of each position. No exported file has it:
// a build puts it in the place of a GspnDepthwise and a GspnChannelNorm
// (gspn2_deploy/build/depthwise_norms.py).
//
// Inputs: x (N, C, H, W), weight (C, 1, 3, 3), and bias, scale and shift (C). Outputs: what the
// convolution gives, and what the normalisation makes of it.
#ifndef GSPN2_TENSORRT_DEPTHWISE_NORM_H_
#define GSPN2_TENSORRT_DEPTHWISE_NORM_H_

#include "layer.h"

namespace gspn2 {
namespace plugin {

struct DepthwiseNormParameters {
  float epsilon = 1e-5F;
  gspn2_activation_t activation = GSPN2_IDENTITY;
  bool residual = false;
};

const nvinfer1::PluginFieldCollection& depthwiseNormFields();
// A missing field has its default; what is wrong throws PluginError.
DepthwiseNormParameters parseDepthwiseNorm(const nvinfer1::PluginFieldCollection* fields);
DepthwiseNormParameters restoreDepthwiseNorm(const void* state, size_t bytes);

class DepthwiseNorm : public Layer {
 public:
  explicit DepthwiseNorm(const DepthwiseNormParameters& parameters) : mParameters(parameters) {}

  Op op() const override { return Op::kDepthwiseNorm; }
  std::unique_ptr<Layer> clone() const override { return std::make_unique<DepthwiseNorm>(*this); }
  nvinfer1::DimsExprs inferShape(const nvinfer1::DimsExprs* inputs, int32_t count,
                                 nvinfer1::IExprBuilder& builder) override;
  int32_t outputCount() const override { return 2; }
  void configure(const InputList& inputs) override;
  // x and the outputs have eight channels side by side, in half precision.
  bool supportsFormat(int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                      const nvinfer1::PluginTensorDesc& first, int32_t inputCount) const override;
  size_t workspaceBytes(const InputList&) const override { return 0; }
  void enqueue(const nvinfer1::PluginTensorDesc* inputDescs,
               const nvinfer1::PluginTensorDesc* outputDescs, const void* const* inputs,
               void* const* outputs, void* workspace, cudaStream_t stream) const override;
  size_t stateBytes() const override;
  std::vector<uint8_t> state() const override;

 private:
  DepthwiseNormParameters mParameters;
};

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_DEPTHWISE_NORM_H_
