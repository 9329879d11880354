// The layers beside the propagations through the TensorRT interfaces of this version: creators,
// clones, and engines' states.
#include "layer_parts.h"
#include "state.h"
#if GSPN2_TRT_V3
#include "face_v3.h"
#else
#include "face_v2.h"
#endif

namespace gspn2 {
namespace plugin {
namespace tests {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

const float kEpsilon = 1e-6F;
const float kNegative = -1.0F;
const int32_t kOne = 1;

// A node of a layer, with all of its inputs and no default among its fields.
struct Node {
  Op op;
  std::vector<PluginField> fields;
  std::vector<PluginField> badFields;
  const char* refusal;  // of these
  std::vector<PluginTensorDesc> inputs;
  int32_t outputs;
  bool learns;  // how many inputs it has
};

std::vector<Node> nodes() {
  const auto half = [](Extents extents) { return makeDesc(extents, DataType::kHALF); };
  const PluginTensorDesc x = inFormat(half({2, 8, 5, 7}), TensorFormat::kHWC8);
  return {
      {Op::kChannelNorm,
       {realField("epsilon", &kEpsilon), realField("response_epsilon", &kEpsilon)},
       {realField("epsilon", &kNegative)},
       "createPlugin: GspnChannelNorm: epsilon is -1",
       {x, half({8}), half({8}), half({8}), half({8}), half({2, 2, 5, 7}), half({2, 8}), half({8})},
       1,
       true},
      {Op::kDepthwise,
       {textField("activation", "silu"), integerField("residual", &kOne)},
       {textField("activation", "relu")},
       "createPlugin: GspnDepthwise: activation is \"relu\"",
       {x, half({8, 1, 3, 3}), half({8})},
       1,
       true},
      {Op::kDepthwiseNorm,
       {realField("epsilon", &kEpsilon), textField("activation", "silu"),
        integerField("residual", &kOne)},
       {realField("epsilon", &kNegative)},
       "createPlugin: GspnDepthwiseNorm: epsilon is -1",
       {x, half({8, 1, 3, 3}), half({8}), half({8}), half({8})},
       2,
       false}};
}

int32_t inputCount(const Node& node) { return static_cast<int32_t>(node.inputs.size()); }

// The node's inputs as TensorRT shows them while it builds, with an unknown batch.
std::vector<DimsExprs> symbolic(const Node& node, FakeShapes* shapes) {
  std::vector<DimsExprs> list;
  for (const PluginTensorDesc& input : node.inputs) {
    std::vector<int64_t> extents(input.dims.d, input.dims.d + input.dims.nbDims);
    if (list.empty()) extents[0] = kDynamic;
    list.push_back(shapes->make(extents));
  }
  return list;
}

// As the layer of a node must be in an engine.
Bytes expectedState(const Node& node) {
  const auto fields = collect(node.fields);
  const auto layer = createLayer(node.op, &fields);
  layer->configure(listInputs(node.inputs.data(), inputCount(node)));
  return layer->state();
}

// A call without buffers: the layer's own checks pass, and what is null is refused.
template <typename Plugin>
std::string complaint(Plugin* plugin, const Node& node) {
  const void* in[kMaxInputs] = {};
  void* out[kMaxOutputs] = {};
  const std::vector<PluginTensorDesc> outputs(kMaxOutputs, node.inputs[0]);
  LogCapture log;
  CHECK(plugin->enqueue(node.inputs.data(), outputs.data(), in, out, nullptr, nullptr) != 0);
  return log.take();
}

template <typename Plugin>
void checkConfigured(Plugin* plugin, const Node& node) {
  const std::string text = complaint(plugin, node);
  CHECK(text.find(std::string("enqueue: ") + opName(node.op)) != std::string::npos);
  CHECK(text.find("null") != std::string::npos);
}

template <typename Plugin>
void checkNotConfigured(Plugin* plugin, const Node& node) {
  if (!node.learns) return;
  CHECK(complaint(plugin, node).find("not been configured") != std::string::npos);
}

#if GSPN2_TRT_V3

using nvinfer1::IPluginV3OneBuild;
using nvinfer1::IPluginV3OneCore;
using nvinfer1::IPluginV3OneRuntime;
using nvinfer1::PluginCapabilityType;
using nvinfer1::TensorRTPhase;
using Plugin = std::unique_ptr<nvinfer1::IPluginV3>;

Plugin create(Op op, const std::vector<PluginField>& fields,
              TensorRTPhase phase = TensorRTPhase::kBUILD) {
  CreatorV3 creator(op);
  const auto collection = collect(fields);
  return Plugin(creator.createPlugin("node", &collection, phase));
}

IPluginV3OneBuild* buildOf(const Plugin& plugin) {
  return static_cast<IPluginV3OneBuild*>(
      plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
}
IPluginV3OneRuntime* runtimeOf(const Plugin& plugin) {
  return static_cast<IPluginV3OneRuntime*>(
      plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

int32_t infer(const Plugin& plugin, const Node& node, int32_t count, DimsExprs* outputs) {
  FakeShapes shapes;
  const auto inputs = symbolic(node, &shapes);
  nvinfer1::IExprBuilder* unused = nullptr;
  return buildOf(plugin)->getOutputShapes(inputs.data(), count, nullptr, 0, outputs, node.outputs,
                                          *unused);
}

std::vector<PluginField> keptFields(const Plugin& plugin) {
  const auto* fields = runtimeOf(plugin)->getFieldsToSerialize();
  return {fields->fields, fields->fields + fields->nbFields};
}

Bytes keptState(const Plugin& plugin) {
  const std::vector<PluginField> fields = keptFields(plugin);
  CHECK_EQ(fields.size(), size_t{1});
  CHECK_EQ(std::string(fields[0].name), "state");
  const auto* bytes = static_cast<const uint8_t*>(fields[0].data);
  return {bytes, bytes + fields[0].length};
}

GSPN2_TEST(creators_of_layers_describe_themselves) {
  for (const Node& node : nodes()) {
    CreatorV3 creator(node.op);
    CHECK_EQ(std::string(creator.getPluginName()), opName(node.op));
    CHECK_EQ(std::string(creator.getPluginVersion()), "1");
    CHECK_EQ(std::string(creator.getPluginNamespace()), "");
    CHECK_EQ(creator.getFieldNames()->nbFields, static_cast<int32_t>(node.fields.size()));
    const Plugin plugin = create(node.op, node.fields);
    auto* core =
        static_cast<IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
    CHECK_EQ(std::string(core->getPluginName()), opName(node.op));
    CHECK_EQ(buildOf(plugin)->getNbOutputs(), node.outputs);
  }
}

GSPN2_TEST(layers_are_cloned_with_what_they_learnt) {
  for (const Node& node : nodes()) {
    const Plugin plugin = create(node.op, node.fields);
    checkNotConfigured(runtimeOf(plugin), node);
    DimsExprs outputs[kMaxOutputs] = {};
    CHECK_EQ(infer(plugin, node, inputCount(node), outputs), 0);
    DataType types[kMaxInputs] = {DataType::kHALF};
    DataType given[kMaxOutputs] = {};
    CHECK_EQ(buildOf(plugin)->getOutputDataTypes(given, node.outputs, types, inputCount(node)), 0);
    for (int32_t i = 0; i < node.outputs; ++i) {
      CHECK_EQ(outputs[i].nbDims, 4);
      CHECK(given[i] == DataType::kHALF);
    }
    const Plugin clone(plugin->clone());
    CHECK(clone.get() != plugin.get());
    checkConfigured(runtimeOf(clone), node);
    const Plugin attached(runtimeOf(clone)->attachToContext(nullptr));
    checkConfigured(runtimeOf(attached), node);
    CHECK(keptState(attached) == expectedState(node));
  }
}

GSPN2_TEST(engine_states_recreate_layers) {
  for (const Node& node : nodes()) {
    const Plugin plugin = create(node.op, node.fields);
    DimsExprs outputs[kMaxOutputs] = {};
    CHECK_EQ(infer(plugin, node, inputCount(node), outputs), 0);
    CHECK(keptState(plugin) == expectedState(node));
    const Plugin again = create(node.op, keptFields(plugin), TensorRTPhase::kRUNTIME);
    CHECK(again != nullptr);
    checkConfigured(runtimeOf(again), node);
    CHECK(keptState(again) == expectedState(node));
    // No other plugin takes it.
    for (const Op other : kOps) {
      if (other == node.op) continue;
      LogCapture log;
      CHECK(create(other, keptFields(plugin), TensorRTPhase::kRUNTIME) == nullptr);
      CHECK(log.take().find(std::string("belongs to ") + opName(node.op)) != std::string::npos);
    }
  }
}

GSPN2_TEST(layers_are_configured_and_asked_through_their_interface) {
  for (const Node& node : nodes()) {
    const Plugin plugin = create(node.op, node.fields);
    std::vector<DynamicPluginTensorDesc> tensors;
    for (const PluginTensorDesc& input : node.inputs) {
      tensors.push_back({input, input.dims, input.dims, input.dims});
    }
    const int32_t count = inputCount(node);
    tensors.resize(static_cast<size_t>(count + node.outputs), tensors[0]);
    const DynamicPluginTensorDesc* const outputs = tensors.data() + count;
    IPluginV3OneBuild* build = buildOf(plugin);
    CHECK_EQ(build->configurePlugin(tensors.data(), count, outputs, node.outputs), 0);
    for (int32_t i = 0; i < count + node.outputs; ++i) {
      CHECK(build->supportsFormatCombination(i, tensors.data(), count, node.outputs));
    }
    const size_t bytes = build->getWorkspaceSize(tensors.data(), count, outputs, node.outputs);
    CHECK_EQ(bytes > 0, node.op == Op::kChannelNorm);
    checkConfigured(runtimeOf(plugin), node);
    const std::vector<PluginTensorDesc> described(kMaxOutputs, node.inputs[0]);
    const Plugin fresh = create(node.op, node.fields);
    CHECK_EQ(
        runtimeOf(fresh)->onShapeChange(node.inputs.data(), count, described.data(), node.outputs),
        0);
    checkConfigured(runtimeOf(fresh), node);
  }
}

GSPN2_TEST(errors_of_layers_stay_inside) {
  for (const Node& node : nodes()) {
    LogCapture log;
    CHECK(create(node.op, node.badFields) == nullptr);
    CHECK(log.take().find(node.refusal) != std::string::npos);
    CHECK(create(node.op, node.fields, TensorRTPhase::kRUNTIME) == nullptr);
    CHECK(log.take().find("rebuild the engine") != std::string::npos);
    const Plugin plugin = create(node.op, node.fields);
    DimsExprs outputs[kMaxOutputs] = {};
    CHECK(infer(plugin, node, 1, outputs) != 0);
    CHECK(log.take().find("the node has 1 inputs") != std::string::npos);
  }
}

#else

struct Destroy {
  void operator()(nvinfer1::IPluginV2* plugin) const { plugin->destroy(); }
};
using Plugin = std::unique_ptr<PluginV2, Destroy>;

Plugin create(Op op, const std::vector<PluginField>& fields) {
  CreatorV2 creator(op);
  const auto collection = collect(fields);
  return Plugin(static_cast<PluginV2*>(creator.createPlugin("node", &collection)));
}

Plugin recreate(Op op, const Bytes& state) {
  CreatorV2 creator(op);
  return Plugin(
      static_cast<PluginV2*>(creator.deserializePlugin("node", state.data(), state.size())));
}

int32_t infer(const Plugin& plugin, const Node& node, int32_t count) {
  FakeShapes shapes;
  const auto inputs = symbolic(node, &shapes);
  nvinfer1::IExprBuilder* unused = nullptr;
  const int32_t last = node.outputs - 1;
  return plugin->getOutputDimensions(last, inputs.data(), count, *unused).nbDims;
}

Bytes keptState(const Plugin& plugin) {
  Bytes state(plugin->getSerializationSize() + 1, 0xA5);
  plugin->serialize(state.data());
  CHECK_EQ(static_cast<int>(state.back()), 0xA5);  // not a byte more than announced
  state.pop_back();
  return state;
}

GSPN2_TEST(creators_of_layers_describe_themselves) {
  for (const Node& node : nodes()) {
    CreatorV2 creator(node.op);
    CHECK_EQ(std::string(creator.getPluginName()), opName(node.op));
    CHECK_EQ(std::string(creator.getPluginVersion()), "1");
    CHECK_EQ(std::string(creator.getPluginNamespace()), "");
    CHECK_EQ(creator.getFieldNames()->nbFields, static_cast<int32_t>(node.fields.size()));
    const Plugin plugin = create(node.op, node.fields);
    CHECK_EQ(std::string(plugin->getPluginType()), opName(node.op));
    CHECK_EQ(plugin->getNbOutputs(), node.outputs);
  }
}

GSPN2_TEST(layers_are_cloned_with_what_they_learnt) {
  for (const Node& node : nodes()) {
    const Plugin plugin = create(node.op, node.fields);
    checkNotConfigured(plugin.get(), node);
    plugin->setPluginNamespace("space");
    CHECK_EQ(infer(plugin, node, inputCount(node)), 4);
    const DataType types[kMaxInputs] = {DataType::kHALF};
    CHECK(plugin->getOutputDataType(node.outputs - 1, types, inputCount(node)) == DataType::kHALF);
    const Plugin clone(plugin->clone());
    CHECK(clone.get() != plugin.get());
    CHECK_EQ(std::string(clone->getPluginNamespace()), "space");
    checkConfigured(clone.get(), node);
    CHECK(keptState(clone) == expectedState(node));
  }
}

GSPN2_TEST(engine_states_recreate_layers) {
  for (const Node& node : nodes()) {
    const Plugin plugin = create(node.op, node.fields);
    CHECK_EQ(infer(plugin, node, inputCount(node)), 4);
    const Bytes state = keptState(plugin);
    CHECK(state == expectedState(node));
    const Plugin again = recreate(node.op, state);
    CHECK(again != nullptr);
    checkConfigured(again.get(), node);
    CHECK(keptState(again) == state);
    // No other plugin takes it.
    for (const Op other : kOps) {
      if (other == node.op) continue;
      LogCapture log;
      CHECK(recreate(other, state) == nullptr);
      CHECK(log.take().find(std::string("belongs to ") + opName(node.op)) != std::string::npos);
    }
  }
}

GSPN2_TEST(layers_are_configured_and_asked_through_their_interface) {
  for (const Node& node : nodes()) {
    const Plugin plugin = create(node.op, node.fields);
    std::vector<PluginTensorDesc> tensors = node.inputs;
    const int32_t count = inputCount(node);
    tensors.resize(static_cast<size_t>(count + node.outputs), tensors[0]);
    std::vector<DynamicPluginTensorDesc> dynamic;
    for (const PluginTensorDesc& tensor : tensors) {
      dynamic.push_back({tensor, tensor.dims, tensor.dims});
    }
    plugin->configurePlugin(dynamic.data(), count, dynamic.data() + count, node.outputs);
    for (int32_t i = 0; i < count + node.outputs; ++i) {
      CHECK(plugin->supportsFormatCombination(i, tensors.data(), count, node.outputs));
    }
    const size_t bytes =
        plugin->getWorkspaceSize(tensors.data(), count, tensors.data() + count, node.outputs);
    CHECK_EQ(bytes > 0, node.op == Op::kChannelNorm);
    checkConfigured(plugin.get(), node);
  }
}

GSPN2_TEST(errors_of_layers_stay_inside) {
  for (const Node& node : nodes()) {
    LogCapture log;
    CHECK(create(node.op, node.badFields) == nullptr);
    CHECK(log.take().find(node.refusal) != std::string::npos);
    CHECK(recreate(node.op, {'s', 'h', 'o', 'r', 't'}) == nullptr);
    CHECK(log.take().find("rebuild the engine") != std::string::npos);
    const Plugin plugin = create(node.op, node.fields);
    CHECK_EQ(infer(plugin, node, 1), -1);
    CHECK(log.take().find("the node has 1 inputs") != std::string::npos);
  }
}

#endif

}  // namespace
}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
