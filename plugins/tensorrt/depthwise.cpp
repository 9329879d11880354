#include "depthwise.h"

#include <cinttypes>
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

constexpr Op kOp = Op::kDepthwise;
constexpr int32_t kLeastInputs = 2;
constexpr int32_t kMostInputs = 3;
constexpr int32_t kMapRank = 4;
constexpr int32_t kChannelAxis = 1;
constexpr size_t kBytes = kStateHeaderBytes + 3 * sizeof(uint32_t);
constexpr char kActivationField[] = "activation";
constexpr char kResidualField[] = "residual";
constexpr Choice kActivations[] = {{"identity", GSPN2_IDENTITY}, {"silu", GSPN2_SILU}};
constexpr const char* kInputNames[] = {"x", "weight", "bias"};
constexpr int32_t kRanks[] = {kMapRank, kMapRank, 1};

bool readFlag(const PluginField& field) {
  const int64_t value = readInteger(kOp, field);
  if (value == 0 || value == 1) return value == 1;
  fail("%s: %s is %" PRId64 "; expected 0 or 1", opName(kOp), field.name, value);
}

void checkRank(int32_t index, int32_t rank) {
  if (rank == kRanks[index]) return;
  fail("%s: the input %s has %d dimensions; expected %d", opName(kOp), kInputNames[index], rank,
       kRanks[index]);
}

void checkExtent(int32_t index, int32_t axis, int64_t extent, int64_t expected) {
  if (extent == expected) return;
  fail("%s: the input %s has extent %" PRId64 " on axis %d; expected %" PRId64, opName(kOp),
       kInputNames[index], extent, axis, expected);
}

}  // namespace

const PluginFieldCollection& depthwiseFields() {
  static const PluginField kFields[] = {{kActivationField, nullptr, PluginFieldType::kCHAR, 1},
                                        {kResidualField, nullptr, PluginFieldType::kINT32, 1}};
  static const PluginFieldCollection kCollection = [] {
    PluginFieldCollection collection{};
    collection.nbFields = 2;
    collection.fields = kFields;
    return collection;
  }();
  return kCollection;
}

DepthwiseParameters parseDepthwise(const PluginFieldCollection* fields) {
  const PluginFieldCollection& collection = checkCollection(kOp, fields);
  DepthwiseParameters parameters;
  for (int32_t i = 0; i < collection.nbFields; ++i) {
    const PluginField& field = collection.fields[i];
    const std::string name = field.name;
    if (name == kActivationField) {
      parameters.activation = static_cast<gspn2_activation_t>(readChoice(kOp, field, kActivations));
    } else if (name == kResidualField) {
      parameters.residual = readFlag(field);
    } else {
      fail("%s: unknown field \"%.64s\"; expected activation and residual", opName(kOp),
           field.name);
    }
  }
  return parameters;
}

DepthwiseParameters restoreDepthwise(const void* state, size_t bytes) {
  StateReader reader(kOp, state, bytes, kBytes);
  DepthwiseParameters parameters;
  parameters.activation =
      static_cast<gspn2_activation_t>(reader.getWithin("activation", GSPN2_IDENTITY, GSPN2_SILU));
  parameters.residual = reader.getWithin("residual", 0, 1) == 1;
  parameters.inputs = reader.getWithin("inputs", 0, kMostInputs);
  return parameters;
}

size_t Depthwise::stateBytes() const { return kBytes; }

std::vector<uint8_t> Depthwise::state() const {
  StateWriter writer(kOp, kBytes);
  writer.put(static_cast<int32_t>(mParameters.activation));
  writer.put(static_cast<int32_t>(mParameters.residual));
  writer.put(mParameters.inputs);
  return writer.take();
}

void Depthwise::learnInputs(int32_t count) {
  checkInputCount(kOp, count, kLeastInputs, kMostInputs);
  mParameters.inputs = count;
}

DimsExprs Depthwise::inferShape(const DimsExprs* inputs, int32_t count) {
  learnInputs(count);
  for (int32_t i = 0; i < count; ++i) checkRank(i, inputs[i].nbDims);
  const auto* channels = inputs[0].d[kChannelAxis];
  for (int32_t i = 1; i < count; ++i) {
    const auto* extent = inputs[i].d[0];
    if (!channels->isConstant() || !extent->isConstant()) continue;
    checkExtent(i, 0, extent->getConstantValue(), channels->getConstantValue());
  }
  return inputs[0];
}

void Depthwise::configure(const InputList& inputs) { learnInputs(inputs.count); }

bool Depthwise::supportsFormat(int32_t position, const PluginTensorDesc& tensor,
                               const PluginTensorDesc& first, int32_t inputCount) const {
  if (!isFloating(tensor.type) || tensor.type == DataType::kFLOAT || tensor.type != first.type) {
    return false;
  }
  const bool isParameter = position > 0 && position < inputCount;
  return tensor.format == (isParameter ? TensorFormat::kLINEAR : TensorFormat::kHWC8);
}

void Depthwise::enqueue(const PluginTensorDesc* inputDescs, const PluginTensorDesc& outputDesc,
                        const void* const* inputs, void* const* outputs, void*,
                        cudaStream_t stream) const {
  const int32_t count = mParameters.inputs;
  if (count == 0) {
    fail("%s: the layer has not been configured, so its inputs are not known", name());
  }
  const Dims& x = inputDescs[0].dims;
  const Dims& weight = inputDescs[1].dims;
  for (int32_t i = 0; i < count; ++i) {
    checkRank(i, inputDescs[i].dims.nbDims);
    if (i > 0) checkExtent(i, 0, inputDescs[i].dims.d[0], x.d[kChannelAxis]);
    if (inputDescs[i].type != inputDescs[0].type) {
      fail("%s: the input %s has data type %d; expected that of x, %d", name(), kInputNames[i],
           static_cast<int>(inputDescs[i].type), static_cast<int>(inputDescs[0].type));
    }
  }
  checkExtent(1, 1, weight.d[1], 1);
  checkExtent(1, 3, weight.d[3], weight.d[2]);
  checkOutput(kOp, inputDescs[0], outputDesc);
  const gspn2_depthwise_t conv{x.d[0],
                               x.d[1],
                               x.d[2],
                               x.d[3],
                               kernelType(kOp, inputDescs[0].type),
                               static_cast<int32_t>(weight.d[2]),
                               mParameters.activation,
                               mParameters.residual ? 1 : 0};
  checkStatus(kOp, gspn2_depthwise(&conv, inputs[0], inputs[1],
                                   count == kMostInputs ? inputs[2] : nullptr, outputs[0], stream));
}

}  // namespace plugin
}  // namespace gspn2
