#include "face_v2.h"

#if !GSPN2_TRT_V3

#include <cstring>
#include <utility>

#include "guard.h"

namespace gspn2 {
namespace plugin {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginTensorDesc;

PluginV2::PluginV2(std::unique_ptr<Layer> layer, std::string pluginNamespace)
    : mLayer(std::move(layer)), mNamespace(std::move(pluginNamespace)) {}

const char* PluginV2::getPluginType() const noexcept { return mLayer->name(); }
const char* PluginV2::getPluginVersion() const noexcept { return kPluginVersion; }
int32_t PluginV2::getNbOutputs() const noexcept { return mLayer->outputCount(); }
int32_t PluginV2::initialize() noexcept { return 0; }
void PluginV2::terminate() noexcept {}
void PluginV2::destroy() noexcept { delete this; }
size_t PluginV2::getSerializationSize() const noexcept { return mLayer->stateBytes(); }

void PluginV2::serialize(void* buffer) const noexcept {
  guardedStatus("serialize", [&] {
    const std::vector<uint8_t> state = mLayer->state();
    std::memcpy(buffer, state.data(), state.size());
  });
}

void PluginV2::setPluginNamespace(const char* pluginNamespace) noexcept {
  guardedStatus("setPluginNamespace",
                [&] { mNamespace = pluginNamespace == nullptr ? "" : pluginNamespace; });
}

const char* PluginV2::getPluginNamespace() const noexcept { return mNamespace.c_str(); }

DataType PluginV2::getOutputDataType(int32_t, const DataType* inputTypes, int32_t) const noexcept {
  return inputTypes[0];
}

PluginV2* PluginV2::clone() const noexcept {
  return guarded("clone", static_cast<PluginV2*>(nullptr),
                 [&] { return new PluginV2(mLayer->clone(), mNamespace); });
}

DimsExprs PluginV2::getOutputDimensions(int32_t, const DimsExprs* inputs, int32_t nbInputs,
                                        nvinfer1::IExprBuilder& exprBuilder) noexcept {
  DimsExprs refused{};
  refused.nbDims = -1;
  return guarded("getOutputDimensions", refused,
                 [&] { return mLayer->inferShape(inputs, nbInputs, exprBuilder); });
}

bool PluginV2::supportsFormatCombination(int32_t pos, const PluginTensorDesc* tensors,
                                         int32_t nbInputs, int32_t) noexcept {
  return guarded("supportsFormatCombination", false,
                 [&] { return mLayer->supportsFormat(pos, tensors[pos], tensors[0], nbInputs); });
}

void PluginV2::configurePlugin(const DynamicPluginTensorDesc* in, int32_t nbInputs,
                               const DynamicPluginTensorDesc*, int32_t) noexcept {
  guardedStatus("configurePlugin", [&] { mLayer->configure(listInputs(in, nbInputs)); });
}

size_t PluginV2::getWorkspaceSize(const PluginTensorDesc* inputs, int32_t nbInputs,
                                  const PluginTensorDesc*, int32_t) const noexcept {
  return guarded("getWorkspaceSize", size_t{0},
                 [&] { return mLayer->workspaceBytes(listInputs(inputs, nbInputs)); });
}

int32_t PluginV2::enqueue(const PluginTensorDesc* inputDesc, const PluginTensorDesc* outputDesc,
                          const void* const* inputs, void* const* outputs, void* workspace,
                          cudaStream_t stream) noexcept {
  return guardedStatus("enqueue", [&] {
    mLayer->enqueue(inputDesc, outputDesc, inputs, outputs, workspace, stream);
  });
}

const char* CreatorV2::getPluginName() const noexcept { return opName(mOp); }
const char* CreatorV2::getPluginVersion() const noexcept { return kPluginVersion; }

const PluginFieldCollection* CreatorV2::getFieldNames() noexcept {
  return guarded("getFieldNames", static_cast<const PluginFieldCollection*>(nullptr),
                 [&] { return &fieldNames(mOp); });
}

nvinfer1::IPluginV2* CreatorV2::createPlugin(const char*,
                                             const PluginFieldCollection* fc) noexcept {
  return guarded("createPlugin", static_cast<PluginV2*>(nullptr),
                 [&] { return new PluginV2(createLayer(mOp, fc), mNamespace); });
}

nvinfer1::IPluginV2* CreatorV2::deserializePlugin(const char*, const void* serialData,
                                                  size_t serialLength) noexcept {
  return guarded("deserializePlugin", static_cast<PluginV2*>(nullptr), [&] {
    return new PluginV2(restoreLayer(mOp, serialData, serialLength), mNamespace);
  });
}

void CreatorV2::setPluginNamespace(const char* pluginNamespace) noexcept {
  guardedStatus("setPluginNamespace",
                [&] { mNamespace = pluginNamespace == nullptr ? "" : pluginNamespace; });
}

const char* CreatorV2::getPluginNamespace() const noexcept { return mNamespace.c_str(); }

}  // namespace plugin
}  // namespace gspn2
#endif  // !GSPN2_TRT_V3
