#include "engine.h"

#include <NvOnnxParser.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "gspn2/tensorrt_plugin.h"

namespace gspn2 {
namespace proof {
namespace {

using nvinfer1::BuilderFlag;
using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::ILayer;
using nvinfer1::INetworkDefinition;
using nvinfer1::LayerType;
using nvinfer1::OptProfileSelector;
using nvinfer1::TacticSource;

constexpr size_t kWorkspaceBytes = size_t{1} << 30;

[[noreturn]] void refuse(const std::string& message) { throw std::runtime_error(message); }

void* open(const std::string& name) {
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) refuse(std::string("cannot open ") + name + ": " + dlerror());
  return library;
}

template <typename Function>
Function* find(void* library, const char* name) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) refuse(std::string("no function ") + name);
  return reinterpret_cast<Function*>(symbol);
}

Dims toDims(const Shape& shape) {
  Dims dims{};
  for (const int64_t extent : shape) dims.d[dims.nbDims++] = static_cast<int32_t>(extent);
  return dims;
}

// TensorRT 8 takes types as hints: this makes it keep the case's. Every layer is a plugin's.
void honourPrecision(INetworkDefinition* network, const std::string& precision,
                     nvinfer1::IBuilderConfig* config) {
  config->clearFlag(BuilderFlag::kTF32);
  if (precision == "fp32") return;
  config->setFlag(BuilderFlag::kFP16);
  config->setFlag(BuilderFlag::kOBEY_PRECISION_CONSTRAINTS);
  for (int32_t i = 0; i < network->getNbLayers(); ++i) {
    ILayer* layer = network->getLayer(i);
    if (layer->getType() != LayerType::kPLUGIN_V2) continue;
    layer->setPrecision(DataType::kHALF);
    for (int32_t k = 0; k < layer->getNbOutputs(); ++k) layer->setOutputType(k, DataType::kHALF);
  }
}

std::vector<std::string> pluginLayers(const INetworkDefinition& network) {
  std::vector<std::string> names;
  for (int32_t i = 0; i < network.getNbLayers(); ++i) {
    auto* layer = network.getLayer(i);
    if (layer->getType() != LayerType::kPLUGIN_V2) continue;
    const char* type = static_cast<nvinfer1::IPluginV2Layer*>(layer)->getPlugin().getPluginType();
    if (std::strncmp(type, "Gspn", 4) == 0) names.emplace_back(layer->getName());
  }
  return names;
}

void addProfile(nvinfer1::IBuilder* builder, nvinfer1::IBuilderConfig* config, const Case& test) {
  if (test.profile.empty()) return;
  auto* profile = builder->createOptimizationProfile();
  for (const ProfileRange& range : test.profile) {
    const char* name = range.input.c_str();
    if (!profile->setDimensions(name, OptProfileSelector::kMIN, toDims(range.smallest)) ||
        !profile->setDimensions(name, OptProfileSelector::kOPT, toDims(range.tuned)) ||
        !profile->setDimensions(name, OptProfileSelector::kMAX, toDims(range.largest))) {
      refuse("the profile of " + range.input + " was refused");
    }
  }
  if (config->addOptimizationProfile(profile) < 0) refuse("the profile was refused");
}

}  // namespace

void Logger::log(Severity severity, const char* message) noexcept {
  if (severity > Severity::kWARNING) return;
  const bool isError = severity != Severity::kWARNING;
  std::fprintf(stderr, "[TensorRT %s] %s\n", isError ? "error" : "warning", message);
  if (isError) mMessages.emplace_back(message);
}

TensorRT::TensorRT(const std::string& pluginPath, Logger* logger) : mLogger(logger) {
  const std::string major = std::to_string(NV_TENSORRT_MAJOR);
  mInfer = open("libnvinfer.so." + major);
  mParser = open("libnvonnxparser.so." + major);
  mVersion = std::to_string(find<int32_t()>(mInfer, "getInferLibVersion")());
  auto* init = find<bool(void*, const char*)>(open(pluginPath), "initLibGspn2Plugins");
  if (!init(logger, "") || !init(logger, "")) refuse("the plugin library did not register");
  auto* create = find<void*(void*, int32_t)>(mInfer, "createInferRuntime_INTERNAL");
  mRuntime.reset(static_cast<nvinfer1::IRuntime*>(create(logger, NV_TENSORRT_VERSION)));
  if (mRuntime == nullptr) refuse("no TensorRT runtime");
}

std::vector<std::string> TensorRT::parse(INetworkDefinition* network, const Case& test) const {
  auto* create = find<void*(void*, void*, int)>(mParser, "createNvOnnxParser_INTERNAL");
  const std::unique_ptr<nvonnxparser::IParser> parser(
      static_cast<nvonnxparser::IParser*>(create(network, mLogger, NV_ONNX_PARSER_VERSION)));
  const auto level = static_cast<int>(nvinfer1::ILogger::Severity::kWARNING);
  if (!parser->parseFromFile(test.model.c_str(), level)) refuse("parsing " + test.model);
  const std::vector<std::string> found = pluginLayers(*network);
  if (static_cast<int>(found.size()) != test.plugins) {
    refuse("the network holds " + std::to_string(found.size()) + " plugin layers, expected " +
           std::to_string(test.plugins));
  }
  return found;
}

std::vector<uint8_t> TensorRT::build(const Case& test,
                                     std::vector<std::string>* pluginLayers) const {
  auto* create = find<void*(void*, int32_t)>(mInfer, "createInferBuilder_INTERNAL");
  const std::unique_ptr<nvinfer1::IBuilder> builder(
      static_cast<nvinfer1::IBuilder*>(create(mLogger, NV_TENSORRT_VERSION)));
  if (builder == nullptr) refuse("no TensorRT builder");
  const auto flag = nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH;
  const std::unique_ptr<INetworkDefinition> network(
      builder->createNetworkV2(1U << static_cast<uint32_t>(flag)));
  const std::unique_ptr<nvinfer1::IBuilderConfig> config(builder->createBuilderConfig());
  *pluginLayers = parse(network.get(), test);
  addProfile(builder.get(), config.get(), test);
  config->setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, kWorkspaceBytes);
  config->setTacticSources(1U << static_cast<uint32_t>(TacticSource::kEDGE_MASK_CONVOLUTIONS) |
                           1U << static_cast<uint32_t>(TacticSource::kJIT_CONVOLUTIONS));
  config->setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED);
  config->setPreviewFeature(nvinfer1::PreviewFeature::kPROFILE_SHARING_0806, true);
  honourPrecision(network.get(), test.precision, config.get());
  const std::unique_ptr<nvinfer1::IHostMemory> plan(
      builder->buildSerializedNetwork(*network, *config));
  if (plan == nullptr) refuse("the build failed");
  const auto* begin = static_cast<const uint8_t*>(plan->data());
  return {begin, begin + plan->size()};
}

std::unique_ptr<nvinfer1::ICudaEngine> TensorRT::load(const std::vector<uint8_t>& plan) const {
  std::unique_ptr<nvinfer1::ICudaEngine> engine(
      mRuntime->deserializeCudaEngine(plan.data(), plan.size()));
  if (engine == nullptr) refuse("the engine does not load");
  return engine;
}

}  // namespace proof
}  // namespace gspn2
