// The TensorRT interfaces of this version: creators, clones, engines' states, and what is thrown
// inside staying inside.
#include <memory>

#include "fake_shapes.h"
#include "harness.h"
#include "parameters.h"
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

using nvinfer1::DimsExprs;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

PluginFieldCollection collect(const std::vector<PluginField>& fields) {
  PluginFieldCollection collection{};
  collection.nbFields = static_cast<int32_t>(fields.size());
  collection.fields = fields.data();
  return collection;
}

const int32_t kChunk = 3;
const std::vector<PluginField> kGoodFields = {{"normalize", "softmax", PluginFieldType::kCHAR, 7},
                                              {"chunk", &kChunk, PluginFieldType::kINT32, 1}};
const std::vector<PluginField> kBadFields = {{"normalize", "relu", PluginFieldType::kCHAR, 4}};
const int32_t kGroups = 1;
const int32_t kChannels = 2;
const int32_t kOffsets[] = {28, 0, 8, -1, 16};
const std::vector<PluginField> kPackedFields = {
    {"groups", &kGroups, PluginFieldType::kINT32, 1},
    {"channels", &kChannels, PluginFieldType::kINT32, 1},
    {"packed_offsets", kOffsets, PluginFieldType::kINT32, 5}};

// Inputs of GspnProp2D with m and without d, so that what was learnt of them must be kept.
struct Inputs {
  FakeShapes shapes;
  std::vector<DimsExprs> exprs = {shapes.make({-1, 2, 3, 5}), shapes.make({-1, 4, 2, 3, 5}),
                                  shapes.make({-1, 4, 3, 1, 3, 5}), shapes.make({-1, 4, 2, 3, 5}),
                                  shapes.make({4})};
};

// Inputs of a packed node with m, whose prediction holds x.
struct PackedInputs {
  FakeShapes shapes;
  std::vector<DimsExprs> exprs = {shapes.make({-1, 30, 3, 5}), shapes.make({4})};
};

void checkOutputOfPacked(const DimsExprs& output) {
  CHECK_EQ(output.nbDims, 4);
  CHECK(!output.d[0]->isConstant());
  CHECK_EQ(output.d[1]->getConstantValue(), kChannels);
  CHECK_EQ(output.d[3]->getConstantValue(), 5);
}

void checkPacked(const Parameters& parameters) {
  CHECK(parameters.optionals == Optionals::kM);
  CHECK_EQ(parameters.packing.groups, 1);
  CHECK_EQ(parameters.packing.channels, kChannels);
  CHECK_EQ(parameters.packing.x, 28);
  CHECK_EQ(parameters.packing.u, 8);
  CHECK_EQ(parameters.packing.d, -1);
  CHECK_EQ(parameters.packing.w, 16);
}

// What the plugin says of a call without buffers: the shapes have passed its own checks, and the
// kernel library refuses the null pointers before it looks for a GPU.
template <typename Plugin>
std::string complaint(Plugin* plugin) {
  const PluginTensorDesc inputs[] = {makeDesc({2, 2, 3, 5}), makeDesc({2, 4, 2, 3, 5}),
                                     makeDesc({2, 4, 3, 1, 3, 5}), makeDesc({2, 4, 2, 3, 5}),
                                     makeDesc({4})};
  const PluginTensorDesc output = makeDesc({2, 2, 3, 5});
  const void* in[kMaxInputs] = {};
  void* out[kMaxOutputs] = {};
  LogCapture log;
  CHECK(plugin->enqueue(inputs, &output, in, out, nullptr, nullptr) != 0);
  return log.take();
}

template <typename Plugin>
void checkConfigured(Plugin* plugin) {
  const std::string text = complaint(plugin);
  CHECK(text.find("enqueue: GspnProp2D") != std::string::npos);
  CHECK(text.find("not been configured") == std::string::npos);
}

#if GSPN2_TRT_V3

Parameters restored(const PluginFieldCollection* fields) {
  const PluginField& field = stateField(Op::kProp2D, fields);
  return deserialize(Op::kProp2D, field.data, static_cast<size_t>(field.length));
}

using nvinfer1::IPluginV3OneBuild;
using nvinfer1::IPluginV3OneCore;
using nvinfer1::IPluginV3OneRuntime;
using nvinfer1::PluginCapabilityType;
using nvinfer1::TensorRTPhase;

std::unique_ptr<nvinfer1::IPluginV3> create(const std::vector<PluginField>& fields,
                                            TensorRTPhase phase = TensorRTPhase::kBUILD) {
  CreatorV3 creator(Op::kProp2D);
  const PluginFieldCollection collection = collect(fields);
  return std::unique_ptr<nvinfer1::IPluginV3>(creator.createPlugin("node", &collection, phase));
}

template <typename Capability>
Capability* capability(nvinfer1::IPluginV3* plugin, PluginCapabilityType type) {
  return static_cast<Capability*>(plugin->getCapabilityInterface(type));
}

IPluginV3OneRuntime* runtime(nvinfer1::IPluginV3* plugin) {
  return capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

void infer(nvinfer1::IPluginV3* plugin) {
  auto* build = capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
  Inputs inputs;
  DimsExprs output{};
  nvinfer1::IExprBuilder* unused = nullptr;
  CHECK_EQ(build->getOutputShapes(inputs.exprs.data(), 5, nullptr, 0, &output, 1, *unused), 0);
  CHECK_EQ(output.nbDims, 4);
}

GSPN2_TEST(creator_describes_itself) {
  CreatorV3 creator(Op::kLineScan);
  CHECK_EQ(std::string(creator.getPluginName()), "GspnLineScan");
  CHECK_EQ(std::string(creator.getPluginVersion()), "1");
  CHECK_EQ(std::string(creator.getPluginNamespace()), "");
  CHECK_EQ(creator.getFieldNames()->nbFields, 3);
  const auto plugin = create(kGoodFields);
  auto* core = capability<IPluginV3OneCore>(plugin.get(), PluginCapabilityType::kCORE);
  CHECK_EQ(std::string(core->getPluginName()), "GspnProp2D");
  CHECK_EQ(std::string(core->getInterfaceInfo().kind), "PLUGIN_V3ONE_CORE");
  CHECK_EQ(std::string(runtime(plugin.get())->getInterfaceInfo().kind), "PLUGIN_V3ONE_RUNTIME");
}

GSPN2_TEST(clones_and_contexts_keep_what_was_learnt) {
  const auto plugin = create(kGoodFields);
  infer(plugin.get());
  const std::unique_ptr<nvinfer1::IPluginV3> clone(plugin->clone());
  CHECK(clone.get() != plugin.get());
  checkConfigured(runtime(clone.get()));
  const std::unique_ptr<nvinfer1::IPluginV3> first(runtime(clone.get())->attachToContext(nullptr));
  const std::unique_ptr<nvinfer1::IPluginV3> second(runtime(clone.get())->attachToContext(nullptr));
  CHECK(first.get() != second.get());
  checkConfigured(runtime(first.get()));
}

GSPN2_TEST(engine_state_recreates_the_plugin) {
  const auto plugin = create(kGoodFields);
  infer(plugin.get());
  const PluginFieldCollection* fields = runtime(plugin.get())->getFieldsToSerialize();
  const std::vector<PluginField> kept(fields->fields, fields->fields + fields->nbFields);
  const auto again = create(kept, TensorRTPhase::kRUNTIME);
  CHECK(again != nullptr);
  checkConfigured(runtime(again.get()));
  const PluginFieldCollection* same = runtime(again.get())->getFieldsToSerialize();
  CHECK(restored(same) == restored(fields));
  CHECK_EQ(restored(same).chunk, kChunk);
}

GSPN2_TEST(engine_state_keeps_a_packing) {
  const auto plugin = create(kPackedFields);
  auto* build = capability<IPluginV3OneBuild>(plugin.get(), PluginCapabilityType::kBUILD);
  PackedInputs inputs;
  DimsExprs output{};
  FakeBuilder builder;
  CHECK_EQ(build->getOutputShapes(inputs.exprs.data(), 2, nullptr, 0, &output, 1, builder), 0);
  checkOutputOfPacked(output);
  const PluginFieldCollection* fields = runtime(plugin.get())->getFieldsToSerialize();
  const std::vector<PluginField> kept(fields->fields, fields->fields + fields->nbFields);
  const auto again = create(kept, TensorRTPhase::kRUNTIME);
  checkPacked(restored(runtime(again.get())->getFieldsToSerialize()));
}

GSPN2_TEST(errors_stay_inside) {
  LogCapture log;
  CHECK(create(kBadFields) == nullptr);
  CHECK(log.take().find("createPlugin: GspnProp2D: normalize is \"relu\"") != std::string::npos);
  CHECK(create(kGoodFields, TensorRTPhase::kRUNTIME) == nullptr);
  CHECK(log.take().find("rebuild the engine") != std::string::npos);
  const auto plugin = create(kGoodFields);
  CHECK(complaint(runtime(plugin.get())).find("not been configured") != std::string::npos);
  auto* build = capability<IPluginV3OneBuild>(plugin.get(), PluginCapabilityType::kBUILD);
  Inputs inputs;
  DimsExprs output{};
  nvinfer1::IExprBuilder* unused = nullptr;
  LogCapture second;
  CHECK(build->getOutputShapes(inputs.exprs.data(), 3, nullptr, 0, &output, 1, *unused) != 0);
  CHECK(second.take().find("the node has 3 inputs") != std::string::npos);
}

#else

struct Destroy {
  void operator()(nvinfer1::IPluginV2* plugin) const { plugin->destroy(); }
};
using Plugin = std::unique_ptr<PluginV2, Destroy>;

Plugin create(const std::vector<PluginField>& fields) {
  CreatorV2 creator(Op::kProp2D);
  const PluginFieldCollection collection = collect(fields);
  return Plugin(static_cast<PluginV2*>(creator.createPlugin("node", &collection)));
}

void infer(PluginV2* plugin) {
  Inputs inputs;
  nvinfer1::IExprBuilder* unused = nullptr;
  const DimsExprs output = plugin->getOutputDimensions(0, inputs.exprs.data(), 5, *unused);
  CHECK_EQ(output.nbDims, 4);
}

std::vector<uint8_t> engineState(const PluginV2& plugin) {
  std::vector<uint8_t> state(plugin.getSerializationSize() + 1, 0xA5);
  plugin.serialize(state.data());
  CHECK_EQ(static_cast<int>(state.back()), 0xA5);  // not a byte more than announced
  state.pop_back();
  return state;
}

GSPN2_TEST(creator_describes_itself) {
  CreatorV2 creator(Op::kLineScan);
  CHECK_EQ(std::string(creator.getPluginName()), "GspnLineScan");
  CHECK_EQ(std::string(creator.getPluginVersion()), "1");
  CHECK_EQ(std::string(creator.getPluginNamespace()), "");
  CHECK_EQ(creator.getFieldNames()->nbFields, 3);
  const Plugin plugin = create(kGoodFields);
  CHECK_EQ(std::string(plugin->getPluginType()), "GspnProp2D");
  CHECK_EQ(plugin->getNbOutputs(), 1);
}

GSPN2_TEST(clones_and_contexts_keep_what_was_learnt) {
  const Plugin plugin = create(kGoodFields);
  plugin->setPluginNamespace("space");
  infer(plugin.get());
  const Plugin clone(plugin->clone());
  CHECK(clone.get() != plugin.get());
  CHECK_EQ(std::string(clone->getPluginNamespace()), "space");
  checkConfigured(clone.get());
}

GSPN2_TEST(engine_state_recreates_the_plugin) {
  const Plugin plugin = create(kGoodFields);
  infer(plugin.get());
  const std::vector<uint8_t> state = engineState(*plugin);
  CreatorV2 creator(Op::kProp2D);
  const Plugin again(
      static_cast<PluginV2*>(creator.deserializePlugin("node", state.data(), state.size())));
  CHECK(again != nullptr);
  checkConfigured(again.get());
  CHECK(engineState(*again) == state);
  CHECK_EQ(deserialize(Op::kProp2D, state.data(), state.size()).chunk, kChunk);
}

GSPN2_TEST(engine_state_keeps_a_packing) {
  const Plugin plugin = create(kPackedFields);
  PackedInputs inputs;
  FakeBuilder builder;
  checkOutputOfPacked(plugin->getOutputDimensions(0, inputs.exprs.data(), 2, builder));
  const std::vector<uint8_t> state = engineState(*plugin);
  CreatorV2 creator(Op::kProp2D);
  const Plugin again(
      static_cast<PluginV2*>(creator.deserializePlugin("node", state.data(), state.size())));
  CHECK(engineState(*again) == state);
  checkPacked(deserialize(Op::kProp2D, state.data(), state.size()));
}

GSPN2_TEST(errors_stay_inside) {
  LogCapture log;
  CHECK(create(kBadFields) == nullptr);
  CHECK(log.take().find("createPlugin: GspnProp2D: normalize is \"relu\"") != std::string::npos);
  CreatorV2 creator(Op::kProp2D);
  CHECK(creator.deserializePlugin("node", "short", 5) == nullptr);
  CHECK(log.take().find("rebuild the engine") != std::string::npos);
  const Plugin plugin = create(kGoodFields);
  CHECK(complaint(plugin.get()).find("not been configured") != std::string::npos);
  Inputs inputs;
  nvinfer1::IExprBuilder* unused = nullptr;
  LogCapture second;
  CHECK_EQ(plugin->getOutputDimensions(0, inputs.exprs.data(), 3, *unused).nbDims, -1);
  CHECK(second.take().find("the node has 3 inputs") != std::string::npos);
}

#endif

GSPN2_TEST(guard_turns_exceptions_into_failures) {
  LogCapture log;
  CHECK_EQ(guardedStatus("here", [] { throw 7; }), -1);
  CHECK(log.take().find("here: an exception of an unknown type") != std::string::npos);
  CHECK_EQ(std::string(lastError()), "gspn2 plugin, here: an exception of an unknown type");
  CHECK_EQ(guardedStatus("here", [] { throw std::bad_alloc(); }), -1);
  CHECK(log.take().find("bad_alloc") != std::string::npos);
  CHECK_EQ(guardedStatus("here", [] {}), 0);
  CHECK_EQ(log.take(), "");
}

}  // namespace
}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
