#include "layer.h"

#include <algorithm>
#include <cinttypes>

#include "channel_norm.h"
#include "depthwise.h"
#include "depthwise_norm.h"
#include "guard.h"
#include "propagation.h"
#include "state.h"

namespace gspn2 {
namespace plugin {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

InputList listInputs(const PluginTensorDesc* inputs, int32_t count) {
  InputList list{};
  list.count = count;
  for (int32_t i = 0; i < std::min(count, kMaxInputs); ++i) {
    list.items[i] = {inputs[i].dims, inputs[i].type, inputs[i].format};
  }
  return list;
}

InputList listInputs(const DynamicPluginTensorDesc* inputs, int32_t count) {
  InputList list{};
  list.count = count;
  for (int32_t i = 0; i < std::min(count, kMaxInputs); ++i) {
    list.items[i] = {inputs[i].max, inputs[i].desc.type, inputs[i].desc.format};
  }
  return list;
}

bool isFloating(DataType type) {
#if GSPN2_TRT_BF16
  if (type == DataType::kBF16) return true;
#endif
  return type == DataType::kFLOAT || type == DataType::kHALF;
}

gspn2_dtype_t kernelType(Op op, DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return GSPN2_FLOAT32;
    case DataType::kHALF:
      return GSPN2_FLOAT16;
#if GSPN2_TRT_BF16
    case DataType::kBF16:
      return GSPN2_BFLOAT16;
#endif
    default:
      fail("%s: the data type %d is not supported; expected float32, float16 or bfloat16",
           opName(op), static_cast<int>(type));
  }
}

void checkStatus(Op op, gspn2_status_t status) {
  if (status != GSPN2_SUCCESS) fail("%s: %s", opName(op), gspn2_last_error());
}

void checkInputRank(Op op, const char* input, int32_t rank, int32_t expected) {
  if (rank == expected) return;
  fail("%s: the input %s has %d dimensions; expected %d", opName(op), input, rank, expected);
}

int64_t knownExtent(const nvinfer1::IDimensionExpr& extent) {
  return extent.isConstant() ? int64_t{extent.getConstantValue()} : kUnknownExtent;
}

void checkInputExtent(Op op, const char* input, int32_t axis, int64_t extent, int64_t expected) {
  if (extent == expected || extent == kUnknownExtent || expected == kUnknownExtent) return;
  fail("%s: the input %s has extent %" PRId64 " on axis %d; expected %" PRId64, opName(op), input,
       extent, axis, expected);
}

void checkInputType(Op op, const char* input, DataType type, DataType first) {
  if (type == first) return;
  fail("%s: the input %s has data type %d; expected that of x, %d", opName(op), input,
       static_cast<int>(type), static_cast<int>(first));
}

void failUnconfigured(Op op) {
  fail("%s: the layer has not been configured, so its inputs are not known", opName(op));
}

void checkWorkspaceInputs(Op op, int32_t asked, int32_t configured) {
  if (asked == configured) return;
  fail("%s: asked for the workspace of %d inputs, configured for %d", opName(op), asked,
       configured);
}

void checkInputCount(Op op, int32_t count, int32_t low, int32_t high) {
  if (count >= low && count <= high) return;
  fail("%s: the node has %d inputs; expected %d to %d", opName(op), count, low, high);
}

void checkPosition(Op op, int32_t position, int32_t tensorCount) {
  if (position >= 0 && position < tensorCount) return;
  fail("%s: a format was asked for at position %d of %d", opName(op), position, tensorCount);
}

void checkOutput(Op op, const PluginTensorDesc& x, const PluginTensorDesc& output) {
  const Dims& dims = x.dims;
  if (output.dims.nbDims != dims.nbDims ||
      !std::equal(dims.d, dims.d + dims.nbDims, output.dims.d) || output.type != x.type) {
    fail("%s: the output's shape or data type differs from that of x", opName(op));
  }
}

bool supportsRows(Op op, int32_t position, const PluginTensorDesc& tensor,
                  const PluginTensorDesc& first, int32_t inputCount, int32_t outputCount) {
  checkPosition(op, position, inputCount + outputCount);
  if (!isFloating(tensor.type) || tensor.type == DataType::kFLOAT || tensor.type != first.type) {
    return false;
  }
  const bool isParameter = position > 0 && position < inputCount;
  return tensor.format == (isParameter ? TensorFormat::kLINEAR : TensorFormat::kHWC8);
}

const PluginFieldCollection& fieldNames(Op op) {
  switch (op) {
    case Op::kChannelNorm:
      return channelNormFields();
    case Op::kDepthwise:
      return depthwiseFields();
    case Op::kDepthwiseNorm:
      return depthwiseNormFields();
    default:
      return propagationFields(op);
  }
}

std::unique_ptr<Layer> createLayer(Op op, const PluginFieldCollection* fields) {
  switch (op) {
    case Op::kChannelNorm:
      return std::make_unique<ChannelNorm>(parseChannelNorm(fields));
    case Op::kDepthwise:
      return std::make_unique<Depthwise>(parseDepthwise(fields));
    case Op::kDepthwiseNorm:
      return std::make_unique<DepthwiseNorm>(parseDepthwiseNorm(fields));
    default:
      return std::make_unique<Propagation>(parseFields(op, fields));
  }
}

std::unique_ptr<Layer> restoreLayer(Op op, const void* state, size_t bytes) {
  switch (op) {
    case Op::kChannelNorm:
      return std::make_unique<ChannelNorm>(restoreChannelNorm(state, bytes));
    case Op::kDepthwise:
      return std::make_unique<Depthwise>(restoreDepthwise(state, bytes));
    case Op::kDepthwiseNorm:
      return std::make_unique<DepthwiseNorm>(restoreDepthwiseNorm(state, bytes));
    default:
      return std::make_unique<Propagation>(deserialize(op, state, bytes));
  }
}

std::unique_ptr<Layer> restoreLayer(Op op, const PluginFieldCollection* fields) {
  const PluginField& field = stateField(op, fields);
  return restoreLayer(op, field.data, static_cast<size_t>(field.length));
}

}  // namespace plugin
}  // namespace gspn2
