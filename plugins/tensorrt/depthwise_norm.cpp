#include "depthwise_norm.h"

#include <cinttypes>
#include <iterator>
#include <string>

#include "depthwise.h"
#include "fields.h"
#include "guard.h"
#include "state.h"

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::DimsExprs;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

constexpr Op kOp = Op::kDepthwiseNorm;
constexpr int32_t kInputs = 5;
constexpr int32_t kChannelAxis = 1;
constexpr int32_t kKernel = GSPN2_DEPTHWISE_NORM_KERNEL;
constexpr int64_t kMostChannels = GSPN2_DEPTHWISE_NORM_MAX_CHANNELS;
constexpr size_t kBytes = kStateHeaderBytes + 3 * sizeof(uint32_t);
constexpr char kEpsilonField[] = "epsilon";
constexpr char kActivationField[] = "activation";
constexpr char kResidualField[] = "residual";
constexpr const char* kInputNames[] = {"x", "weight", "bias", "scale", "shift"};
constexpr int32_t kRanks[] = {4, 4, 1, 1, 1};

// `extentOf` gives the extent of an input on an axis, or kUnknownExtent.
template <typename ExtentOf>
void checkExtents(const ExtentOf& extentOf) {
  const int64_t channels = extentOf(0, kChannelAxis);
  const auto check = [&](int32_t index, int32_t axis, int64_t expected) {
    checkInputExtent(kOp, kInputNames[index], axis, extentOf(index, axis), expected);
  };
  for (int32_t i = 1; i < kInputs; ++i) check(i, 0, channels);
  check(1, 1, 1);
  check(1, 2, kKernel);
  check(1, 3, kKernel);
  if (channels == kUnknownExtent ||
      (channels % kDepthwiseMultiple == 0 && channels <= kMostChannels)) {
    return;
  }
  fail("%s: C is %" PRId64 "; expected a multiple of %" PRId64 " and at most %" PRId64, opName(kOp),
       channels, kDepthwiseMultiple, kMostChannels);
}

}  // namespace

const PluginFieldCollection& depthwiseNormFields() {
  static const PluginField kFields[] = {{kEpsilonField, nullptr, PluginFieldType::kFLOAT32, 1},
                                        {kActivationField, nullptr, PluginFieldType::kCHAR, 1},
                                        {kResidualField, nullptr, PluginFieldType::kINT32, 1}};
  static const PluginFieldCollection kCollection = announce(kFields, std::size(kFields));
  return kCollection;
}

DepthwiseNormParameters parseDepthwiseNorm(const PluginFieldCollection* fields) {
  const PluginFieldCollection& collection = checkCollection(kOp, fields);
  DepthwiseNormParameters parameters;
  for (int32_t i = 0; i < collection.nbFields; ++i) {
    const PluginField& field = collection.fields[i];
    const std::string name = field.name;
    if (name == kEpsilonField) {
      parameters.epsilon = checkEpsilon(kOp, kEpsilonField, readReal(kOp, field));
    } else if (name == kActivationField) {
      parameters.activation = readActivation(kOp, field);
    } else if (name == kResidualField) {
      parameters.residual = readFlag(kOp, field);
    } else {
      fail("%s: unknown field \"%.64s\"; expected epsilon, activation and residual", opName(kOp),
           field.name);
    }
  }
  return parameters;
}

DepthwiseNormParameters restoreDepthwiseNorm(const void* state, size_t bytes) {
  StateReader reader(kOp, state, bytes, kBytes);
  DepthwiseNormParameters parameters;
  parameters.epsilon = checkEpsilon(kOp, kEpsilonField, reader.getReal());
  parameters.activation = static_cast<gspn2_activation_t>(
      reader.getWithin(kActivationField, GSPN2_IDENTITY, GSPN2_SILU));
  parameters.residual = reader.getWithin(kResidualField, 0, 1) == 1;
  return parameters;
}

size_t DepthwiseNorm::stateBytes() const { return kBytes; }

std::vector<uint8_t> DepthwiseNorm::state() const {
  StateWriter writer(kOp, kBytes);
  writer.putReal(mParameters.epsilon);
  writer.put(static_cast<int32_t>(mParameters.activation));
  writer.put(static_cast<int32_t>(mParameters.residual));
  return writer.take();
}

DimsExprs DepthwiseNorm::inferShape(const DimsExprs* inputs, int32_t count,
                                    nvinfer1::IExprBuilder&) {
  checkInputCount(kOp, count, kInputs, kInputs);
  for (int32_t i = 0; i < kInputs; ++i) {
    checkInputRank(kOp, kInputNames[i], inputs[i].nbDims, kRanks[i]);
  }
  checkExtents([&](int32_t index, int32_t axis) { return knownExtent(*inputs[index].d[axis]); });
  return inputs[0];
}

void DepthwiseNorm::configure(const InputList& inputs) {
  checkInputCount(kOp, inputs.count, kInputs, kInputs);
}

bool DepthwiseNorm::supportsFormat(int32_t position, const PluginTensorDesc& tensor,
                                   const PluginTensorDesc& first, int32_t inputCount) const {
  return supportsRows(kOp, position, tensor, first, inputCount, outputCount());
}

void DepthwiseNorm::enqueue(const PluginTensorDesc* inputDescs, const PluginTensorDesc* outputDescs,
                            const void* const* inputs, void* const* outputs, void*,
                            cudaStream_t stream) const {
  for (int32_t i = 0; i < kInputs; ++i) {
    checkInputRank(kOp, kInputNames[i], inputDescs[i].dims.nbDims, kRanks[i]);
    checkInputType(kOp, kInputNames[i], inputDescs[i].type, inputDescs[0].type);
  }
  checkExtents(
      [&](int32_t index, int32_t axis) { return int64_t{inputDescs[index].dims.d[axis]}; });
  for (int32_t i = 0; i < outputCount(); ++i) checkOutput(kOp, inputDescs[0], outputDescs[i]);
  if (inputs[2] == nullptr) fail("%s: bias is null", name());
  const gspn2_depthwise_t conv =
      makeDepthwise(kOp, inputDescs[0], kKernel, mParameters.activation, mParameters.residual);
  checkStatus(kOp, gspn2_depthwise_norm(&conv, mParameters.epsilon, inputs[0], inputs[1], inputs[2],
                                        inputs[3], inputs[4], outputs[0], outputs[1], stream));
}

}  // namespace plugin
}  // namespace gspn2
