// The face for TensorRT 8.5 to 9.x: IPluginV2DynamicExt.
#ifndef GSPN2_TENSORRT_FACE_V2_H_
#define GSPN2_TENSORRT_FACE_V2_H_

#include "trt.h"

#if !GSPN2_TRT_V3

#include <memory>
#include <string>

#include "layer.h"

namespace gspn2 {
namespace plugin {

class PluginV2 : public nvinfer1::IPluginV2DynamicExt {
 public:
  PluginV2(std::unique_ptr<Layer> layer, std::string pluginNamespace);

  // IPluginV2
  const char* getPluginType() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  int32_t getNbOutputs() const noexcept override;
  int32_t initialize() noexcept override;
  void terminate() noexcept override;
  size_t getSerializationSize() const noexcept override;
  void serialize(void* buffer) const noexcept override;
  void destroy() noexcept override;
  void setPluginNamespace(const char* pluginNamespace) noexcept override;
  const char* getPluginNamespace() const noexcept override;

  // IPluginV2Ext
  nvinfer1::DataType getOutputDataType(int32_t index, const nvinfer1::DataType* inputTypes,
                                       int32_t nbInputs) const noexcept override;

  // IPluginV2DynamicExt
  PluginV2* clone() const noexcept override;
  nvinfer1::DimsExprs getOutputDimensions(int32_t outputIndex, const nvinfer1::DimsExprs* inputs,
                                          int32_t nbInputs,
                                          nvinfer1::IExprBuilder& exprBuilder) noexcept override;
  bool supportsFormatCombination(int32_t pos, const nvinfer1::PluginTensorDesc* tensors,
                                 int32_t nbInputs, int32_t nbOutputs) noexcept override;
  void configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t nbInputs,
                       const nvinfer1::DynamicPluginTensorDesc* out,
                       int32_t nbOutputs) noexcept override;
  size_t getWorkspaceSize(const nvinfer1::PluginTensorDesc* inputs, int32_t nbInputs,
                          const nvinfer1::PluginTensorDesc* outputs,
                          int32_t nbOutputs) const noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* inputDesc,
                  const nvinfer1::PluginTensorDesc* outputDesc, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;

 private:
  std::unique_ptr<Layer> mLayer;
  std::string mNamespace;
};

class CreatorV2 : public nvinfer1::IPluginCreator {
 public:
  explicit CreatorV2(Op op) : mOp(op) {}

  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  nvinfer1::IPluginV2* createPlugin(const char* name,
                                    const nvinfer1::PluginFieldCollection* fc) noexcept override;
  nvinfer1::IPluginV2* deserializePlugin(const char* name, const void* serialData,
                                         size_t serialLength) noexcept override;
  void setPluginNamespace(const char* pluginNamespace) noexcept override;
  const char* getPluginNamespace() const noexcept override;

 private:
  Op mOp;
  std::string mNamespace;
};

}  // namespace plugin
}  // namespace gspn2
#endif  // !GSPN2_TRT_V3
#endif  // GSPN2_TENSORRT_FACE_V2_H_
