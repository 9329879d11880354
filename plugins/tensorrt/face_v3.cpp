#include "face_v3.h"

#if GSPN2_TRT_V3

#include <algorithm>

#include "guard.h"
#include "state.h"

namespace gspn2 {
namespace plugin {
namespace {

constexpr char kNamespace[] = "";

}  // namespace

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginCapability;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorRTPhase;

IPluginCapability* PluginV3::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;  // a capability of a later TensorRT, which this plugin does not have
}

PluginV3* PluginV3::clone() noexcept {
  return guarded("clone", static_cast<PluginV3*>(nullptr),
                 [&] { return new PluginV3(mLayer->clone()); });
}

const char* PluginV3::getPluginName() const noexcept { return mLayer->name(); }
const char* PluginV3::getPluginVersion() const noexcept { return kPluginVersion; }
const char* PluginV3::getPluginNamespace() const noexcept { return kNamespace; }
int32_t PluginV3::getNbOutputs() const noexcept { return mLayer->outputCount(); }

int32_t PluginV3::configurePlugin(const DynamicPluginTensorDesc* in, int32_t nbInputs,
                                  const DynamicPluginTensorDesc*, int32_t) noexcept {
  return guardedStatus("configurePlugin", [&] { mLayer->configure(listInputs(in, nbInputs)); });
}

int32_t PluginV3::getOutputDataTypes(DataType* outputTypes, int32_t nbOutputs,
                                     const DataType* inputTypes, int32_t) const noexcept {
  std::fill_n(outputTypes, nbOutputs, inputTypes[0]);
  return 0;
}

int32_t PluginV3::getOutputShapes(const DimsExprs* inputs, int32_t nbInputs, const DimsExprs*,
                                  int32_t, DimsExprs* outputs, int32_t nbOutputs,
                                  nvinfer1::IExprBuilder& exprBuilder) noexcept {
  return guardedStatus("getOutputShapes", [&] {
    std::fill_n(outputs, nbOutputs, mLayer->inferShape(inputs, nbInputs, exprBuilder));
  });
}

bool PluginV3::supportsFormatCombination(int32_t pos, const DynamicPluginTensorDesc* tensors,
                                         int32_t nbInputs, int32_t) noexcept {
  return guarded("supportsFormatCombination", false, [&] {
    return mLayer->supportsFormat(pos, tensors[pos].desc, tensors[0].desc, nbInputs);
  });
}

size_t PluginV3::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t nbInputs,
                                  const DynamicPluginTensorDesc*, int32_t) const noexcept {
  return guarded("getWorkspaceSize", size_t{0},
                 [&] { return mLayer->workspaceBytes(listInputs(inputs, nbInputs)); });
}

int32_t PluginV3::onShapeChange(const PluginTensorDesc* in, int32_t nbInputs,
                                const PluginTensorDesc*, int32_t) noexcept {
  return guardedStatus("onShapeChange", [&] { mLayer->configure(listInputs(in, nbInputs)); });
}

int32_t PluginV3::enqueue(const PluginTensorDesc* inputDesc, const PluginTensorDesc* outputDesc,
                          const void* const* inputs, void* const* outputs, void* workspace,
                          cudaStream_t stream) noexcept {
  return guardedStatus("enqueue", [&] {
    mLayer->enqueue(inputDesc, outputDesc, inputs, outputs, workspace, stream);
  });
}

nvinfer1::IPluginV3* PluginV3::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return clone();
}

const PluginFieldCollection* PluginV3::getFieldsToSerialize() noexcept {
  return guarded("getFieldsToSerialize", static_cast<const PluginFieldCollection*>(nullptr), [&] {
    mState = mLayer->state();
    mStateField = {kStateField, mState.data(), nvinfer1::PluginFieldType::kINT8,
                   static_cast<int32_t>(mState.size())};
    mFields.nbFields = 1;
    mFields.fields = &mStateField;
    return static_cast<const PluginFieldCollection*>(&mFields);
  });
}

nvinfer1::IPluginV3* CreatorV3::createPlugin(const char*, const PluginFieldCollection* fc,
                                             TensorRTPhase phase) noexcept {
  return guarded("createPlugin", static_cast<PluginV3*>(nullptr), [&] {
    const bool building = phase == TensorRTPhase::kBUILD;
    return new PluginV3(building ? createLayer(mOp, fc) : restoreLayer(mOp, fc));
  });
}

const PluginFieldCollection* CreatorV3::getFieldNames() noexcept {
  return guarded("getFieldNames", static_cast<const PluginFieldCollection*>(nullptr),
                 [&] { return &fieldNames(mOp); });
}

const char* CreatorV3::getPluginName() const noexcept { return opName(mOp); }
const char* CreatorV3::getPluginVersion() const noexcept { return kPluginVersion; }
const char* CreatorV3::getPluginNamespace() const noexcept { return kNamespace; }

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TRT_V3
