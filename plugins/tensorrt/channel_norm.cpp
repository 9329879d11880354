#include "channel_norm.h"

#include <cinttypes>
#include <iterator>
#include <limits>
#include <string>

#include "fields.h"
#include "guard.h"
#include "state.h"

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr Op kOp = Op::kChannelNorm;
constexpr int32_t kPlain = 3;
constexpr int32_t kWithResponse = 5;
constexpr int32_t kMapRank = 4;
constexpr int32_t kChannelAxis = 1;
constexpr size_t kBytes = kStateHeaderBytes + 3 * sizeof(uint32_t);
constexpr char kEpsilonField[] = "epsilon";
constexpr char kResponseEpsilonField[] = "response_epsilon";
constexpr const char* kInputNames[] = {"x", "scale", "shift", "response_scale", "response_shift"};

float checkEpsilon(const char* name, double value) {
  if (value >= 0 && value <= std::numeric_limits<float>::max()) return static_cast<float>(value);
  fail("%s: %s is %g; expected a finite float32 of at least 0", opName(kOp), name, value);
}

void checkRank(int32_t index, int32_t rank) {
  checkInputRank(kOp, kInputNames[index], rank, index == 0 ? kMapRank : 1);
}

void checkChannels(int32_t index, int64_t extent, int64_t channels) {
  if (extent == channels) return;
  fail("%s: the input %s has %" PRId64 " elements; expected C = %" PRId64 " as of x", opName(kOp),
       kInputNames[index], extent, channels);
}

bool isVectorised(TensorFormat format) { return format == TensorFormat::kHWC8; }

// Whether the kernel takes x with eight channels side by side.
bool canBeVectorised(const PluginTensorDesc& x) {
  if (x.type == DataType::kFLOAT || x.dims.nbDims != kMapRank) return false;
  const int64_t channels = x.dims.d[kChannelAxis];
  gspn2_norm_t norm{1, channels, 1, 1, kernelType(kOp, x.type), GSPN2_NHWC8, 0, 0};
  size_t bytes = 0;
  return channels > 0 && gspn2_channel_norm_workspace(&norm, 0, &bytes) == GSPN2_SUCCESS;
}

}  // namespace

const PluginFieldCollection& channelNormFields() {
  static const PluginField kFields[] = {
      {kEpsilonField, nullptr, PluginFieldType::kFLOAT32, 1},
      {kResponseEpsilonField, nullptr, PluginFieldType::kFLOAT32, 1}};
  static const PluginFieldCollection kCollection = announce(kFields, std::size(kFields));
  return kCollection;
}

ChannelNormParameters parseChannelNorm(const PluginFieldCollection* fields) {
  const PluginFieldCollection& collection = checkCollection(kOp, fields);
  ChannelNormParameters parameters;
  for (int32_t i = 0; i < collection.nbFields; ++i) {
    const PluginField& field = collection.fields[i];
    const std::string name = field.name;
    if (name == kEpsilonField) {
      parameters.epsilon = checkEpsilon(kEpsilonField, readReal(kOp, field));
    } else if (name == kResponseEpsilonField) {
      parameters.responseEpsilon = checkEpsilon(kResponseEpsilonField, readReal(kOp, field));
    } else {
      fail("%s: unknown field \"%.64s\"; expected epsilon and response_epsilon", opName(kOp),
           field.name);
    }
  }
  return parameters;
}

ChannelNormParameters restoreChannelNorm(const void* state, size_t bytes) {
  StateReader reader(kOp, state, bytes, kBytes);
  ChannelNormParameters parameters;
  parameters.epsilon = checkEpsilon(kEpsilonField, reader.getReal());
  parameters.responseEpsilon = checkEpsilon(kResponseEpsilonField, reader.getReal());
  parameters.inputs = reader.getInputs({kPlain, kWithResponse});
  return parameters;
}

size_t ChannelNorm::stateBytes() const { return kBytes; }

std::vector<uint8_t> ChannelNorm::state() const {
  StateWriter writer(kOp, kBytes);
  writer.putReal(mParameters.epsilon);
  writer.putReal(mParameters.responseEpsilon);
  writer.put(mParameters.inputs);
  return writer.take();
}

void ChannelNorm::learnInputs(int32_t count) {
  if (count != kPlain && count != kWithResponse) {
    fail("%s: the node has %d inputs; expected %d, or %d with a response", name(), count, kPlain,
         kWithResponse);
  }
  mParameters.inputs = count;
}

DimsExprs ChannelNorm::inferShape(const DimsExprs* inputs, int32_t count) {
  learnInputs(count);
  for (int32_t i = 0; i < count; ++i) checkRank(i, inputs[i].nbDims);
  const auto* channels = inputs[0].d[kChannelAxis];
  for (int32_t i = 1; i < count; ++i) {
    const auto* extent = inputs[i].d[0];
    if (!channels->isConstant() || !extent->isConstant()) continue;
    checkChannels(i, extent->getConstantValue(), channels->getConstantValue());
  }
  return inputs[0];
}

void ChannelNorm::configure(const InputList& inputs) { learnInputs(inputs.count); }

bool ChannelNorm::supportsFormat(int32_t position, const PluginTensorDesc& tensor,
                                 const PluginTensorDesc& first, int32_t inputCount) const {
  checkPosition(kOp, position, inputCount);
  if (!isFloating(tensor.type) || tensor.type != first.type) return false;
  if (position > 0 && position < inputCount) return tensor.format == TensorFormat::kLINEAR;
  if (tensor.format != first.format) return false;
  return tensor.format == TensorFormat::kLINEAR ||
         (isVectorised(tensor.format) && canBeVectorised(first));
}

gspn2_norm_t ChannelNorm::makeNorm(const InputList& inputs) const {
  const Dims& x = inputs.items[0].dims;
  for (int32_t i = 0; i < inputs.count; ++i) {
    checkRank(i, inputs.items[i].dims.nbDims);
    if (i > 0) checkChannels(i, inputs.items[i].dims.d[0], x.d[kChannelAxis]);
    checkInputType(kOp, kInputNames[i], inputs.items[i].type, inputs.items[0].type);
  }
  return {x.d[0],
          x.d[1],
          x.d[2],
          x.d[3],
          kernelType(kOp, inputs.items[0].type),
          GSPN2_NCHW,
          mParameters.epsilon,
          mParameters.responseEpsilon};
}

size_t ChannelNorm::workspaceBytes(const InputList& largest) const {
  checkWorkspaceInputs(kOp, largest.count, mParameters.inputs);
  const gspn2_norm_t norm = makeNorm(largest);  // of either layout the same
  size_t bytes = 0;
  checkStatus(kOp, gspn2_channel_norm_workspace(&norm, mParameters.hasResponse() ? 1 : 0, &bytes));
  return bytes;
}

void ChannelNorm::enqueue(const PluginTensorDesc* inputDescs, const PluginTensorDesc& outputDesc,
                          const void* const* inputs, void* const* outputs, void* workspace,
                          cudaStream_t stream) const {
  const int32_t count = mParameters.inputs;
  if (count == 0) failUnconfigured(kOp);
  gspn2_norm_t norm = makeNorm(listInputs(inputDescs, count));
  checkOutput(kOp, inputDescs[0], outputDesc);
  if (isVectorised(inputDescs[0].format)) norm.layout = GSPN2_NHWC8;
  const bool response = mParameters.hasResponse();
  if (response && inputs[3] == nullptr && inputs[4] == nullptr) {  // to the kernels: no response
    fail("%s: response_scale and response_shift are null", name());
  }
  size_t bytes = 0;
  checkStatus(kOp, gspn2_channel_norm_workspace(&norm, response ? 1 : 0, &bytes));
  checkStatus(kOp, gspn2_channel_norm(
                       &norm, inputs[0], inputs[1], inputs[2], response ? inputs[3] : nullptr,
                       response ? inputs[4] : nullptr, outputs[0], workspace, bytes, stream));
}

}  // namespace plugin
}  // namespace gspn2
