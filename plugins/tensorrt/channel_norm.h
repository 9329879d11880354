// GspnChannelNorm: layer normalisation over the channels of each position, and perhaps the response
// normalisation behind it, and a projection that is added ahead of it. No exported file has it: a
// build puts it in the place of what TensorRT would fuse (gspn2_deploy/build/norms.py).
//
// Inputs: x (N, C, H, W), scale and shift (C), perhaps the response's scale and shift (C), and
// perhaps the projection's proxy (N, P, H, W), weight (P, C) and bias (C).
#ifndef GSPN2_TENSORRT_CHANNEL_NORM_H_
#define GSPN2_TENSORRT_CHANNEL_NORM_H_

#include "layer.h"

namespace gspn2 {
namespace plugin {

struct ChannelNormParameters {
  float epsilon = 1e-5F;
  float responseEpsilon = 0.0F;
  int32_t inputs = 0;  // 3, 5, 6 or 8, 0 while TensorRT has not shown them

  bool hasResponse() const { return inputs == 5 || inputs == 8; }
  bool isProjected() const { return inputs == 6 || inputs == 8; }
};

const nvinfer1::PluginFieldCollection& channelNormFields();
// A missing field has its default; what is wrong throws PluginError.
ChannelNormParameters parseChannelNorm(const nvinfer1::PluginFieldCollection* fields);
ChannelNormParameters restoreChannelNorm(const void* state, size_t bytes);

class ChannelNorm : public Layer {
 public:
  explicit ChannelNorm(const ChannelNormParameters& parameters) : mParameters(parameters) {}

  const ChannelNormParameters& parameters() const { return mParameters; }

  Op op() const override { return Op::kChannelNorm; }
  std::unique_ptr<Layer> clone() const override { return std::make_unique<ChannelNorm>(*this); }
  nvinfer1::DimsExprs inferShape(const nvinfer1::DimsExprs* inputs, int32_t count,
                                 nvinfer1::IExprBuilder& builder) override;
  void configure(const InputList& inputs) override;
  // x and the output alike: linear, or eight channels side by side where the kernel takes that; it
  // takes nothing else with a projection. All else is linear.
  bool supportsFormat(int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                      const nvinfer1::PluginTensorDesc& first, int32_t inputCount) const override;
  size_t workspaceBytes(const InputList& largest) const override;
  void enqueue(const nvinfer1::PluginTensorDesc* inputDescs,
               const nvinfer1::PluginTensorDesc* outputDescs, const void* const* inputs,
               void* const* outputs, void* workspace, cudaStream_t stream) const override;
  size_t stateBytes() const override;
  std::vector<uint8_t> state() const override;

 private:
  void learnInputs(int32_t count);
  gspn2_norm_t makeNorm(const InputList& inputs) const;

  ChannelNormParameters mParameters;
};

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_CHANNEL_NORM_H_
