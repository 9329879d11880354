#include "channel_norm.h"

#include <algorithm>
#include <cinttypes>
#include <initializer_list>
#include <iterator>
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
constexpr int32_t kMapRank = 4;
constexpr int32_t kChannelAxis = 1;
constexpr size_t kBytes = kStateHeaderBytes + 3 * sizeof(uint32_t);
constexpr char kEpsilonField[] = "epsilon";
constexpr char kResponseEpsilonField[] = "response_epsilon";

struct Input {
  const char* name;
  int32_t rank;
  int32_t channelAxis;  // whose extent is C; -1 where none is
};
constexpr Input kInputs[] = {{"x", kMapRank, kChannelAxis},
                             {"scale", 1, 0},
                             {"shift", 1, 0},
                             {"response_scale", 1, 0},
                             {"response_shift", 1, 0},
                             {"proxy", kMapRank, -1},
                             {"weight", 2, 1},
                             {"bias", 1, 0}};
constexpr int32_t kPlain = 3;       // inputs of every node
constexpr int32_t kProxy = 5;       // the first of a projection in kInputs
constexpr int32_t kProjection = 3;  // inputs of one

// The inputs of every form.
constexpr std::initializer_list<int32_t> kCounts = {kPlain, kProxy, kPlain + kProjection,
                                                    kProxy + kProjection};

// What the input `index` of `count` is.
const Input& inputOf(int32_t index, int32_t count) {
  const bool skipsResponse = count == kPlain + kProjection && index >= kPlain;
  return kInputs[skipsResponse ? index + kProxy - kPlain : index];
}

// Where the proxy is among the inputs of a node with a projection.
int32_t proxyIndex(int32_t count) { return count - kProjection; }

void checkChannels(const Input& input, int64_t extent, int64_t channels) {
  if (extent == channels) return;
  fail("%s: the input %s has %" PRId64 " elements; expected C = %" PRId64 " as of x", opName(kOp),
       input.name, extent, channels);
}

void checkProxies(int64_t proxies, int64_t rows) {
  if (proxies > GSPN2_PROJECTION_MAX_CHANNELS) {
    fail("%s: the input proxy has %" PRId64 " channels; expected at most %d", opName(kOp), proxies,
         GSPN2_PROJECTION_MAX_CHANNELS);
  }
  if (rows == proxies) return;
  fail("%s: the input weight has %" PRId64 " rows; expected P = %" PRId64 " as of proxy",
       opName(kOp), rows, proxies);
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
      parameters.epsilon = checkEpsilon(kOp, kEpsilonField, readReal(kOp, field));
    } else if (name == kResponseEpsilonField) {
      parameters.responseEpsilon = checkEpsilon(kOp, kResponseEpsilonField, readReal(kOp, field));
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
  parameters.epsilon = checkEpsilon(kOp, kEpsilonField, reader.getReal());
  parameters.responseEpsilon = checkEpsilon(kOp, kResponseEpsilonField, reader.getReal());
  parameters.inputs = reader.getInputs(kCounts);
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
  if (std::find(kCounts.begin(), kCounts.end(), count) == kCounts.end()) {
    fail(
        "%s: the node has %d inputs; expected %d, %d with a response, and %d more with a "
        "projection",
        name(), count, kPlain, kProxy, kProjection);
  }
  mParameters.inputs = count;
}

DimsExprs ChannelNorm::inferShape(const DimsExprs* inputs, int32_t count, nvinfer1::IExprBuilder&) {
  learnInputs(count);
  const auto extent = [&](int32_t index, int32_t axis) {
    return knownExtent(*inputs[index].d[axis]);
  };
  for (int32_t i = 0; i < count; ++i) {
    const Input& input = inputOf(i, count);
    checkInputRank(kOp, input.name, inputs[i].nbDims, input.rank);
    if (input.channelAxis < 0) continue;
    const int64_t channels = extent(0, kChannelAxis);
    const int64_t given = extent(i, input.channelAxis);
    if (channels >= 0 && given >= 0) checkChannels(input, given, channels);
  }
  if (mParameters.isProjected()) {
    const int32_t proxy = proxyIndex(count);
    const int64_t proxies = extent(proxy, kChannelAxis);
    const int64_t rows = extent(proxy + 1, 0);
    if (proxies >= 0 && rows >= 0) checkProxies(proxies, rows);
  }
  return inputs[0];
}

void ChannelNorm::configure(const InputList& inputs) { learnInputs(inputs.count); }

bool ChannelNorm::supportsFormat(int32_t position, const PluginTensorDesc& tensor,
                                 const PluginTensorDesc& first, int32_t inputCount) const {
  checkPosition(kOp, position, inputCount + outputCount());
  if (!isFloating(tensor.type) || tensor.type != first.type) return false;
  if (position > 0 && position < inputCount) return tensor.format == TensorFormat::kLINEAR;
  if (tensor.format != first.format) return false;
  if (isVectorised(tensor.format)) return canBeVectorised(first);
  const bool isProjected = inputCount >= kPlain + kProjection;
  return tensor.format == TensorFormat::kLINEAR && !isProjected;
}

gspn2_norm_t ChannelNorm::makeNorm(const InputList& inputs) const {
  const Dims& x = inputs.items[0].dims;
  for (int32_t i = 0; i < inputs.count; ++i) {
    const Input& input = inputOf(i, inputs.count);
    const TensorView& given = inputs.items[i];
    checkInputRank(kOp, input.name, given.dims.nbDims, input.rank);
    if (input.channelAxis >= 0) {
      checkChannels(input, given.dims.d[input.channelAxis], x.d[kChannelAxis]);
    }
    checkInputType(kOp, input.name, given.type, inputs.items[0].type);
  }
  if (mParameters.isProjected()) {
    const int32_t index = proxyIndex(inputs.count);
    const Dims& proxy = inputs.items[index].dims;
    checkProxies(proxy.d[kChannelAxis], inputs.items[index + 1].dims.d[0]);
    for (const int32_t axis : {0, 2, 3}) {
      if (proxy.d[axis] == x.d[axis]) continue;
      fail("%s: the input proxy has extent %" PRId64 " on axis %d; expected %" PRId64 " as of x",
           name(), static_cast<int64_t>(proxy.d[axis]), axis, static_cast<int64_t>(x.d[axis]));
    }
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

void ChannelNorm::enqueue(const PluginTensorDesc* inputDescs, const PluginTensorDesc* outputDescs,
                          const void* const* inputs, void* const* outputs, void* workspace,
                          cudaStream_t stream) const {
  const int32_t count = mParameters.inputs;
  if (count == 0) failUnconfigured(kOp);
  gspn2_norm_t norm = makeNorm(listInputs(inputDescs, count));
  checkOutput(kOp, inputDescs[0], outputDescs[0]);
  if (isVectorised(inputDescs[0].format)) norm.layout = GSPN2_NHWC8;
  const bool response = mParameters.hasResponse();
  if (response && inputs[3] == nullptr && inputs[4] == nullptr) {  // to the kernels: no response
    fail("%s: response_scale and response_shift are null", name());
  }
  size_t bytes = 0;
  checkStatus(kOp, gspn2_channel_norm_workspace(&norm, response ? 1 : 0, &bytes));
  gspn2_projection_t projection{};
  if (mParameters.isProjected()) {
    const int32_t proxy = proxyIndex(count);
    projection = {inputDescs[proxy].dims.d[kChannelAxis], inputs[proxy], inputs[proxy + 1],
                  inputs[proxy + 2]};
  }
  checkStatus(kOp, gspn2_channel_norm(
                       &norm, inputs[0], mParameters.isProjected() ? &projection : nullptr,
                       inputs[1], inputs[2], response ? inputs[3] : nullptr,
                       response ? inputs[4] : nullptr, outputs[0], workspace, bytes, stream));
}

}  // namespace plugin
}  // namespace gspn2
