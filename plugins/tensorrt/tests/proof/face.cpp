#include "face.h"

#include <dlfcn.h>

#include <cstring>
#include <stdexcept>

#include "fake_shapes.h"

namespace gspn2 {
namespace proof {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

void demand(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

Dims toDims(const Shape& shape) {
  Dims dims{};
  for (const int64_t extent : shape) {
    dims.d[dims.nbDims++] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(extent);
  }
  return dims;
}

// The node's attributes as the ONNX parser passes them.
class Fields {
 public:
  // The node must outlive them.
  explicit Fields(const Node& node) {
    const auto add = [this](const Field& field, const auto& values, PluginFieldType type) {
      mFields.emplace_back(field.name.c_str(), values.data(), type,
                           static_cast<int32_t>(values.size()));
    };
    for (const Field& field : node.fields) {
      if (!field.reals.empty()) {
        add(field, field.reals, PluginFieldType::kFLOAT32);
      } else if (!field.integers.empty()) {
        add(field, field.integers, PluginFieldType::kINT32);
      } else {
        add(field, field.text, PluginFieldType::kCHAR);
      }
    }
    mCollection.nbFields = static_cast<int32_t>(mFields.size());
    mCollection.fields = mFields.data();
  }
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;
  const PluginFieldCollection* get() const { return &mCollection; }

 private:
  std::vector<PluginField> mFields;
  PluginFieldCollection mCollection{};
};

// The tensors as the builder describes them: the inputs, then the outputs, which are like x.
std::vector<DynamicPluginTensorDesc> describe(const Node& node,
                                              const std::vector<InputRange>& inputs,
                                              DataType type) {
  std::vector<InputRange> tensors = inputs;
  InputRange output = inputs[0];
  if (const int64_t channels = ownChannels(node); channels != 0) {
    for (Shape* shape : {&output.smallest, &output.tuned, &output.largest}) (*shape)[1] = channels;
  }
  tensors.insert(tensors.end(), node.outputs.size(), output);
  std::vector<DynamicPluginTensorDesc> descriptions;
  for (const InputRange& range : tensors) {
    DynamicPluginTensorDesc description{};
    description.desc.dims = toDims(range.tuned);
    for (int32_t i = 0; i < description.desc.dims.nbDims; ++i) {
      if (range.smallest[i] != range.largest[i]) description.desc.dims.d[i] = -1;
    }
    description.desc.type = type;
    description.desc.format = TensorFormat::kLINEAR;
    description.min = toDims(range.smallest);
    description.max = toDims(range.largest);
    descriptions.push_back(description);
  }
  if (node.vectorised) descriptions.front().desc.format = TensorFormat::kHWC8;
  if (hasVectorisedOutputs(node)) {
    for (size_t i = inputs.size(); i < descriptions.size(); ++i) {
      descriptions[i].desc.format = TensorFormat::kHWC8;
    }
  }
  return descriptions;
}

// Symbolic shapes: unknown where the profile's ends differ.
std::vector<DimsExprs> symbolic(const std::vector<InputRange>& inputs,
                                plugin::tests::FakeShapes* shapes) {
  std::vector<DimsExprs> result;
  for (const InputRange& range : inputs) {
    Shape extents = range.tuned;
    for (size_t i = 0; i < extents.size(); ++i) {
      if (range.smallest[i] != range.largest[i]) extents[i] = plugin::tests::kDynamic;
    }
    result.push_back(shapes->make(extents));
  }
  return result;
}

void demandShapeOfX(const Node& node, const DimsExprs& output, const DimsExprs& first) {
  const int64_t channels = ownChannels(node);
  demand(output.nbDims == first.nbDims, "the output's rank is not that of x");
  for (int32_t i = 0; i < first.nbDims; ++i) {
    const bool own = i == 1 && channels != 0;
    demand(own ? output.d[i]->getConstantValue() == channels : output.d[i] == first.d[i],
           "the output's extents are not those of x");
  }
}

// The node's formats are taken; another type or format for one tensor is not.
template <typename Tensors, typename Supports>
void demandFormats(const Tensors& tensors, const Supports& supports) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto position = static_cast<int32_t>(i);
    demand(supports(position, tensors), "tensors in the node's formats are refused");
    Tensors other = tensors;
    TensorFormat& format = plugin::tests::tensorOf(&other[i])->format;
    const bool linear = format == TensorFormat::kLINEAR;
    format = TensorFormat::kCHW32;
    demand(!supports(position, other), "a format is taken that the kernels do not read");
    if (i == 0) continue;
    format = linear ? TensorFormat::kHWC8 : TensorFormat::kLINEAR;
    demand(!supports(position, other), "a format is taken that does not go with that of x");
    other = tensors;
    plugin::tests::tensorOf(&other[i])->type = DataType::kINT32;
    demand(!supports(position, other), "a mixture of types is taken");
  }
}

#if GSPN2_TRT_V3

using nvinfer1::IPluginV3;
using nvinfer1::IPluginV3OneBuild;
using nvinfer1::IPluginV3OneRuntime;
using nvinfer1::PluginCapabilityType;
using nvinfer1::TensorRTPhase;
using Creator = nvinfer1::IPluginCreatorV3One;

constexpr char kCreators[] = "getCreators";
using CreatorList = nvinfer1::IPluginCreatorInterface* const*;

IPluginV3OneRuntime* runtimeOf(IPluginV3* plugin) {
  return static_cast<IPluginV3OneRuntime*>(
      plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

class RunnerV3 : public Runner {
 public:
  explicit RunnerV3(IPluginV3* plugin) : mPlugin(plugin) {}
  void setShapes(const std::vector<PluginTensorDesc>& inputs,
                 const std::vector<PluginTensorDesc>& outputs) override {
    mInputs = inputs;
    mOutputs = outputs;
    demand(runtimeOf(mPlugin.get())
                   ->onShapeChange(mInputs.data(), static_cast<int32_t>(mInputs.size()),
                                   mOutputs.data(), static_cast<int32_t>(mOutputs.size())) == 0,
           "onShapeChange failed");
  }
  void enqueue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
               void* workspace, cudaStream_t stream) override {
    demand(runtimeOf(mPlugin.get())
                   ->enqueue(mInputs.data(), mOutputs.data(), inputs.data(), outputs.data(),
                             workspace, stream) == 0,
           "enqueue failed");
  }

 private:
  std::unique_ptr<IPluginV3> mPlugin;
  std::vector<PluginTensorDesc> mInputs;
  std::vector<PluginTensorDesc> mOutputs;
};

class LayerV3 : public Layer {
 public:
  LayerV3(Creator* creator, const Node& node, const std::vector<InputRange>& inputs,
          DataType type) {
    const Fields fields(node);
    const std::unique_ptr<IPluginV3> built(
        creator->createPlugin("node", fields.get(), TensorRTPhase::kBUILD));
    demand(built != nullptr, "createPlugin refused the node's fields");
    build(built.get(), node, inputs, type);
    const PluginFieldCollection* state = runtimeOf(built.get())->getFieldsToSerialize();
    demand(state != nullptr, "getFieldsToSerialize failed");
    mPlugin.reset(creator->createPlugin("node", state, TensorRTPhase::kRUNTIME));
    demand(mPlugin != nullptr, "createPlugin refused the engine's state");
  }
  size_t workspaceBytes() const override { return mWorkspace; }
  std::unique_ptr<Runner> makeRunner() override {
    IPluginV3* attached = runtimeOf(mPlugin.get())->attachToContext(nullptr);
    demand(attached != nullptr, "attachToContext failed");
    return std::make_unique<RunnerV3>(attached);
  }

 private:
  void build(IPluginV3* plugin, const Node& node, const std::vector<InputRange>& inputs,
             DataType type) {
    auto* build = static_cast<IPluginV3OneBuild*>(
        plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
    const auto count = static_cast<int32_t>(inputs.size());
    plugin::tests::FakeShapes shapes;
    const std::vector<DimsExprs> symbols = symbolic(inputs, &shapes);
    const auto outputs = static_cast<int32_t>(node.outputs.size());
    demand(build->getNbOutputs() == outputs, "the plugin has another number of outputs");
    std::vector<DimsExprs> extents(node.outputs.size());
    plugin::tests::FakeBuilder builder;
    demand(build->getOutputShapes(symbols.data(), count, nullptr, 0, extents.data(), outputs,
                                  builder) == 0,
           "getOutputShapes failed");
    for (const DimsExprs& output : extents) demandShapeOfX(node, output, symbols[0]);
    const std::vector<DataType> types(inputs.size(), type);
    std::vector<DataType> given(node.outputs.size());
    demand(build->getOutputDataTypes(given.data(), outputs, types.data(), count) == 0 &&
               given == std::vector<DataType>(node.outputs.size(), type),
           "the output's type is not that of x");
    const std::vector<DynamicPluginTensorDesc> tensors = describe(node, inputs, type);
    demandFormats(tensors, [&](int32_t position, const std::vector<DynamicPluginTensorDesc>& all) {
      return build->supportsFormatCombination(position, all.data(), count, outputs);
    });
    const DynamicPluginTensorDesc* const results = tensors.data() + count;
    demand(build->configurePlugin(tensors.data(), count, results, outputs) == 0,
           "configurePlugin failed");
    mWorkspace = build->getWorkspaceSize(tensors.data(), count, results, outputs);
  }

  std::unique_ptr<IPluginV3> mPlugin;
  size_t mWorkspace = 0;
};

using FaceLayer = LayerV3;

bool isNamed(nvinfer1::IPluginCreatorInterface* creator, const std::string& name) {
  return static_cast<Creator*>(creator)->getPluginName() == name;
}

#else

using nvinfer1::IPluginV2DynamicExt;
using Creator = nvinfer1::IPluginCreator;

constexpr char kCreators[] = "getPluginCreators";
using CreatorList = Creator* const*;

struct Destroy {
  void operator()(IPluginV2DynamicExt* plugin) const {
    plugin->terminate();
    plugin->destroy();
  }
};
using Plugin = std::unique_ptr<IPluginV2DynamicExt, Destroy>;

class RunnerV2 : public Runner {
 public:
  explicit RunnerV2(IPluginV2DynamicExt* plugin) : mPlugin(plugin) {
    mPlugin->attachToContext(nullptr, nullptr, nullptr);
  }
  ~RunnerV2() override { mPlugin->detachFromContext(); }
  // TensorRT 8 passes the shapes to enqueue alone.
  void setShapes(const std::vector<PluginTensorDesc>& inputs,
                 const std::vector<PluginTensorDesc>& outputs) override {
    mInputs = inputs;
    mOutputs = outputs;
  }
  void enqueue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
               void* workspace, cudaStream_t stream) override {
    demand(mPlugin->enqueue(mInputs.data(), mOutputs.data(), inputs.data(), outputs.data(),
                            workspace, stream) == 0,
           "enqueue failed");
  }

 private:
  Plugin mPlugin;
  std::vector<PluginTensorDesc> mInputs;
  std::vector<PluginTensorDesc> mOutputs;
};

class LayerV2 : public Layer {
 public:
  LayerV2(Creator* creator, const Node& node, const std::vector<InputRange>& inputs,
          DataType type) {
    const Fields fields(node);
    const Plugin built(
        static_cast<IPluginV2DynamicExt*>(creator->createPlugin("node", fields.get())));
    demand(built != nullptr, "createPlugin refused the node's fields");
    build(built.get(), node, inputs, type);
    std::vector<char> state(built->getSerializationSize());
    built->serialize(state.data());
    mPlugin.reset(static_cast<IPluginV2DynamicExt*>(
        creator->deserializePlugin("node", state.data(), state.size())));
    demand(mPlugin != nullptr, "deserializePlugin refused the engine's state");
    demand(mPlugin->initialize() == 0, "initialize failed");
  }
  size_t workspaceBytes() const override { return mWorkspace; }
  std::unique_ptr<Runner> makeRunner() override {
    IPluginV2DynamicExt* clone = mPlugin->clone();
    demand(clone != nullptr, "clone failed");
    return std::make_unique<RunnerV2>(clone);
  }

 private:
  void build(IPluginV2DynamicExt* plugin, const Node& node, const std::vector<InputRange>& inputs,
             DataType type) {
    const auto count = static_cast<int32_t>(inputs.size());
    plugin::tests::FakeShapes shapes;
    const std::vector<DimsExprs> symbols = symbolic(inputs, &shapes);
    plugin::tests::FakeBuilder builder;
    const auto outputs = static_cast<int32_t>(node.outputs.size());
    demand(plugin->getNbOutputs() == outputs, "the plugin has another number of outputs");
    const std::vector<DataType> types(inputs.size(), type);
    for (int32_t i = 0; i < outputs; ++i) {
      demandShapeOfX(node, plugin->getOutputDimensions(i, symbols.data(), count, builder),
                     symbols[0]);
      demand(plugin->getOutputDataType(i, types.data(), count) == type,
             "the output's type is not that of x");
    }
    const std::vector<DynamicPluginTensorDesc> tensors = describe(node, inputs, type);
    std::vector<PluginTensorDesc> largest;
    for (const DynamicPluginTensorDesc& tensor : tensors) {
      largest.push_back(tensor.desc);
      largest.back().dims = tensor.max;
    }
    demandFormats(largest, [&](int32_t position, const std::vector<PluginTensorDesc>& all) {
      return plugin->supportsFormatCombination(position, all.data(), count, outputs);
    });
    plugin->configurePlugin(tensors.data(), count, tensors.data() + count, outputs);
    mWorkspace = plugin->getWorkspaceSize(largest.data(), count, largest.data() + count, outputs);
  }

  Plugin mPlugin;
  size_t mWorkspace = 0;
};

using FaceLayer = LayerV2;

bool isNamed(Creator* creator, const std::string& name) { return creator->getPluginName() == name; }

#endif

}  // namespace

PluginLibrary::PluginLibrary(const std::string& path)
    : mLibrary(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (mLibrary == nullptr) throw std::runtime_error(dlerror());
}

std::unique_ptr<Layer> PluginLibrary::makeLayer(const Node& node,
                                                const std::vector<InputRange>& inputs,
                                                DataType type) const {
  auto* creators = reinterpret_cast<CreatorList (*)(int32_t&)>(dlsym(mLibrary, kCreators));
  demand(creators != nullptr, std::string("the library does not export ") + kCreators);
  int32_t count = 0;
  const CreatorList list = creators(count);
  for (int32_t i = 0; i < count; ++i) {
    if (!isNamed(list[i], node.op)) continue;
    return std::make_unique<FaceLayer>(static_cast<Creator*>(list[i]), node, inputs, type);
  }
  throw std::runtime_error("no creator of " + node.op);
}

}  // namespace proof
}  // namespace gspn2
