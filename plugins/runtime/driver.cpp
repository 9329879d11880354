// The only file that knows TensorRT. It is compiled once for each major version that headers were
// found for, with `nvinfer1` renamed: the headers' inline functions have the same names in all
// versions and other bodies, and must not meet in one library. Nothing is linked; of TensorRT's
// functions only three are called by name, everything else through its interfaces' tables.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include "log.h"
#include "manifest.h"
#include "platform.h"
#include "tensor.h"

namespace gspn2 {
namespace runtime {
namespace {

class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    switch (severity) {
      case Severity::kINTERNAL_ERROR:
      case Severity::kERROR:
        return runtime::log(LogLevel::kError, message);
      case Severity::kWARNING:
        return runtime::log(LogLevel::kWarning, message);
      case Severity::kINFO:
        return runtime::log(LogLevel::kInfo, message);
      default:
        return runtime::log(LogLevel::kVerbose, message);
    }
  }
};

// TensorRT keeps the first logger that it is given for the rest of the process.
Logger& logger() {
  static auto* const kInstance = new Logger;
  return *kInstance;
}

[[noreturn]] void refuse(const std::string& problem, const std::string& got) {
  throw Error(ErrorKind::kEngine, problem, got, "",
              "this engine needs TensorRT's own API rather than libgspn2_runtime");
}

DataType fromTensorRT(nvinfer1::DataType dtype, const std::string& name) {
  switch (dtype) {
    case nvinfer1::DataType::kFLOAT:
      return DataType::kFloat32;
    case nvinfer1::DataType::kHALF:
      return DataType::kFloat16;
    case nvinfer1::DataType::kINT8:
      return DataType::kInt8;
    case nvinfer1::DataType::kINT32:
      return DataType::kInt32;
    case nvinfer1::DataType::kBOOL:
      return DataType::kBool;
    case nvinfer1::DataType::kUINT8:
      return DataType::kUint8;
#if NV_TENSORRT_MAJOR >= 9
    case nvinfer1::DataType::kBF16:
      return DataType::kBFloat16;
    case nvinfer1::DataType::kINT64:
      return DataType::kInt64;
#endif
    default:
      refuse("a tensor has an element type that this runtime does not know",
             name + ": nvinfer1::DataType " + std::to_string(static_cast<int32_t>(dtype)));
  }
}

Shape fromDims(const nvinfer1::Dims& dims) {
  Shape shape;
  for (int32_t i = 0; i < dims.nbDims; ++i) shape.push_back(dims.d[i]);
  return shape;
}

class ContextImpl : public Context {
 public:
  explicit ContextImpl(std::unique_ptr<nvinfer1::IExecutionContext> context)
      : mContext(std::move(context)) {}

  bool setInputShape(const std::string& input, const Shape& shape) override {
    nvinfer1::Dims dims{};
    if (shape.size() > static_cast<size_t>(nvinfer1::Dims::MAX_DIMS)) return false;
    dims.nbDims = static_cast<int32_t>(shape.size());
    for (size_t i = 0; i < shape.size(); ++i) {
      dims.d[i] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(shape[i]);
    }
    return mContext->setInputShape(input.c_str(), dims);
  }

  Shape shape(const std::string& tensor) const override {
    const nvinfer1::Dims dims = mContext->getTensorShape(tensor.c_str());
    return dims.nbDims < 0 ? Shape{-1} : fromDims(dims);
  }

  bool setAddress(const std::string& tensor, void* data) override {
    return mContext->setTensorAddress(tensor.c_str(), data);
  }

  bool enqueue(Stream stream) override { return mContext->enqueueV3(stream); }

 private:
  std::unique_ptr<nvinfer1::IExecutionContext> mContext;
};

class PlanImpl : public Plan {
 public:
  explicit PlanImpl(std::unique_ptr<nvinfer1::ICudaEngine> engine) : mEngine(std::move(engine)) {}

  std::vector<TensorInfo> tensors() const override {
    std::vector<TensorInfo> found;
    for (int32_t i = 0; i < mEngine->getNbIOTensors(); ++i) {
      const char* name = mEngine->getIOTensorName(i);
      TensorInfo info;
      info.name = name;
      info.dtype = fromTensorRT(mEngine->getTensorDataType(name), name);
      info.isInput = mEngine->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
      info.shape = fromDims(mEngine->getTensorShape(name));
      if (mEngine->isShapeInferenceIO(name)) {
        refuse("a tensor holds a shape and must lie in host memory", toText(info));
      }
      if (mEngine->getTensorFormat(name) != nvinfer1::TensorFormat::kLINEAR) {
        refuse("a tensor has a vectorised format", toText(info));
      }
      found.push_back(std::move(info));
    }
    return found;
  }

  int32_t profileCount() const override { return mEngine->getNbOptimizationProfiles(); }

  ShapeRange profileShape(int32_t profile, const std::string& input) const override {
    const auto at = [&](nvinfer1::OptProfileSelector select) {
      return fromDims(mEngine->getProfileShape(input.c_str(), profile, select));
    };
    return {at(nvinfer1::OptProfileSelector::kMIN), at(nvinfer1::OptProfileSelector::kOPT),
            at(nvinfer1::OptProfileSelector::kMAX)};
  }

  std::unique_ptr<Context> createContext(int32_t profile, Device& device, Stream stream) override {
    std::unique_ptr<nvinfer1::IExecutionContext> context(mEngine->createExecutionContext());
    if (context == nullptr) return nullptr;
    // A first context has profile 0 already; TensorRT 8 would take it from the context that has it.
    if (context->getOptimizationProfile() != profile &&
        !context->setOptimizationProfileAsync(profile, stream)) {
      return nullptr;
    }
    device.wait(stream);
    return std::make_unique<ContextImpl>(std::move(context));
  }

 private:
  std::unique_ptr<nvinfer1::ICudaEngine> mEngine;
};

class TensorRTImpl : public TensorRT {
 public:
  using CreateRuntime = void*(void* logger, int32_t version);

  TensorRTImpl(int32_t version, nvinfer1::IPluginRegistry* registry, CreateRuntime* createRuntime)
      : mVersion(version), mRegistry(registry), mCreateRuntime(createRuntime) {}

  Version version() const override {
    // major * 1000 + minor * 100 + patch up to 9.x, major * 10000 + ... from 10.0 on.
    const int32_t unit = mVersion >= 100000 ? 10000 : 1000;
    return {mVersion / unit, mVersion % unit / 100, mVersion % 100};
  }

  bool hasPlugin(const std::string& name, const std::string& version,
                 const std::string& pluginNamespace) const override {
#if NV_TENSORRT_MAJOR >= 10
    return mRegistry != nullptr &&
           mRegistry->getCreator(name.c_str(), version.c_str(), pluginNamespace.c_str()) != nullptr;
#else
    return mRegistry != nullptr && mRegistry->getPluginCreator(name.c_str(), version.c_str(),
                                                               pluginNamespace.c_str()) != nullptr;
#endif
  }

  std::unique_ptr<Plan> deserialize(const void* data, size_t bytes, bool hostCode) override {
    // Made here and not earlier: without a GPU TensorRT refuses even this.
    if (mRuntime == nullptr) {
      // The library's own version: what is used here has been in all of its major version.
      mRuntime.reset(static_cast<nvinfer1::IRuntime*>(mCreateRuntime(&logger(), mVersion)));
    }
    if (mRuntime == nullptr) return nullptr;
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 6
    // Not before: plans that hold code are built by 8.6 and later, and run with no earlier one.
    if (hostCode) mRuntime->setEngineHostCodeAllowed(true);
#else
    (void)hostCode;
#endif
    std::unique_ptr<nvinfer1::ICudaEngine> engine(mRuntime->deserializeCudaEngine(data, bytes));
    if (engine == nullptr) return nullptr;
    return std::make_unique<PlanImpl>(std::move(engine));
  }

 private:
  int32_t mVersion;
  nvinfer1::IPluginRegistry* mRegistry;
  CreateRuntime* mCreateRuntime;
  std::unique_ptr<nvinfer1::IRuntime> mRuntime;
};

template <typename Function>
Function* find(void* library, const char* name) {
  auto* found = reinterpret_cast<Function*>(dlsym(library, name));
  if (found == nullptr) log(LogLevel::kError, std::string("no function ") + name);
  return found;
}

}  // namespace

std::shared_ptr<TensorRT> GSPN2_OPEN_TENSORRT(void* library) {
  auto* version = find<int32_t()>(library, "getInferLibVersion");
  auto* registry = find<nvinfer1::IPluginRegistry*()>(library, "getPluginRegistry");
  auto* create = find<TensorRTImpl::CreateRuntime>(library, "createInferRuntime_INTERNAL");
  if (version == nullptr || registry == nullptr || create == nullptr) return nullptr;
  const auto opened = std::make_shared<TensorRTImpl>(version(), registry(), create);
  // An interface of another major version has another table: nothing of it may be called. Tensors
  // have names since 8.5.
  const Version found = opened->version();
  if (found[0] != NV_TENSORRT_MAJOR || found < Version{8, 5, 0}) {
    log(LogLevel::kError, "it is TensorRT " + toText(found));
    return nullptr;
  }
  return opened;
}

}  // namespace runtime
}  // namespace gspn2
