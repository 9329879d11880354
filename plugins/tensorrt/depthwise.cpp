#include "depthwise.h"

#include <cinttypes>
#include <iterator>
#include <string>

#include "fields.h"
#include "guard.h"
#include "state.h"

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

constexpr Op kOp = Op::kDepthwise;
constexpr int32_t kLeastInputs = 2;
constexpr int32_t kMostInputs = 3;
constexpr int32_t kMapRank = 4;
constexpr int32_t kChannelAxis = 1;
constexpr size_t kBytes = kStateHeaderBytes + 3 * sizeof(uint32_t);
constexpr char kActivationField[] = "activation";
constexpr char kResidualField[] = "residual";
constexpr const char* kInputNames[] = {"x", "weight", "bias"};
constexpr int32_t kRanks[] = {kMapRank, kMapRank, 1};

void checkRank(int32_t index, int32_t rank) {
  checkInputRank(kOp, kInputNames[index], rank, kRanks[index]);
}

// `extentOf` gives the extent of an input on an axis, or kUnknownExtent.
template <typename ExtentOf>
void checkExtents(int32_t count, const ExtentOf& extentOf) {
  const int64_t channels = extentOf(0, kChannelAxis);
  const int64_t kernel = extentOf(1, 2);
  const auto check = [&](int32_t index, int32_t axis, int64_t expected) {
    checkInputExtent(kOp, kInputNames[index], axis, extentOf(index, axis), expected);
  };
  for (int32_t i = 1; i < count; ++i) check(i, 0, channels);
  check(1, 1, 1);
  check(1, 3, kernel);
  const bool hasKernel = kernel == 3 || kernel == 5 || kernel == 7 || kernel == kUnknownExtent;
  if (hasKernel && (channels == kUnknownExtent || channels % kDepthwiseMultiple == 0)) return;
  fail("%s: C is %" PRId64 " and the kernel %" PRId64 " wide; expected a multiple of %" PRId64
       " and 3, 5 or 7",
       opName(kOp), channels, kernel, kDepthwiseMultiple);
}

}  // namespace

const PluginFieldCollection& depthwiseFields() {
  static const PluginField kFields[] = {{kActivationField, nullptr, PluginFieldType::kCHAR, 1},
                                        {kResidualField, nullptr, PluginFieldType::kINT32, 1}};
  static const PluginFieldCollection kCollection = announce(kFields, std::size(kFields));
  return kCollection;
}

DepthwiseParameters parseDepthwise(const PluginFieldCollection* fields) {
  const PluginFieldCollection& collection = checkCollection(kOp, fields);
  DepthwiseParameters parameters;
  for (int32_t i = 0; i < collection.nbFields; ++i) {
    const PluginField& field = collection.fields[i];
    const std::string name = field.name;
    if (name == kActivationField) {
      parameters.activation = readActivation(kOp, field);
    } else if (name == kResidualField) {
      parameters.residual = readFlag(kOp, field);
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
  parameters.activation = static_cast<gspn2_activation_t>(
      reader.getWithin(kActivationField, GSPN2_IDENTITY, GSPN2_SILU));
  parameters.residual = reader.getWithin(kResidualField, 0, 1) == 1;
  parameters.inputs = reader.getInputs({kLeastInputs, kMostInputs});
  return parameters;
}

gspn2_depthwise_t makeDepthwise(Op op, const PluginTensorDesc& x, int32_t kernel,
                                gspn2_activation_t activation, bool residual) {
  const Dims& dims = x.dims;
  return {dims.d[0], dims.d[1],  dims.d[2],       dims.d[3], kernelType(op, x.type),
          kernel,    activation, residual ? 1 : 0};
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

DimsExprs Depthwise::inferShape(const DimsExprs* inputs, int32_t count, nvinfer1::IExprBuilder&) {
  learnInputs(count);
  for (int32_t i = 0; i < count; ++i) checkRank(i, inputs[i].nbDims);
  checkExtents(count,
               [&](int32_t index, int32_t axis) { return knownExtent(*inputs[index].d[axis]); });
  return inputs[0];
}

void Depthwise::configure(const InputList& inputs) { learnInputs(inputs.count); }

bool Depthwise::supportsFormat(int32_t position, const PluginTensorDesc& tensor,
                               const PluginTensorDesc& first, int32_t inputCount) const {
  return supportsRows(kOp, position, tensor, first, inputCount, outputCount());
}

void Depthwise::enqueue(const PluginTensorDesc* inputDescs, const PluginTensorDesc* outputDescs,
                        const void* const* inputs, void* const* outputs, void*,
                        cudaStream_t stream) const {
  const int32_t count = mParameters.inputs;
  if (count == 0) failUnconfigured(kOp);
  for (int32_t i = 0; i < count; ++i) {
    checkRank(i, inputDescs[i].dims.nbDims);
    checkInputType(kOp, kInputNames[i], inputDescs[i].type, inputDescs[0].type);
  }
  checkExtents(
      count, [&](int32_t index, int32_t axis) { return int64_t{inputDescs[index].dims.d[axis]}; });
  checkOutput(kOp, inputDescs[0], outputDescs[0]);
  if (count == kMostInputs && inputs[2] == nullptr) fail("%s: bias is null", name());
  const gspn2_depthwise_t conv =
      makeDepthwise(kOp, inputDescs[0], static_cast<int32_t>(inputDescs[1].dims.d[2]),
                    mParameters.activation, mParameters.residual);
  checkStatus(kOp, gspn2_depthwise(&conv, inputs[0], inputs[1],
                                   count == kMostInputs ? inputs[2] : nullptr, outputs[0], stream));
}

}  // namespace plugin
}  // namespace gspn2
