// What the library exports: the two entry points of IPluginRegistry::loadLibrary, and the explicit
// registration for programs that load it in another way. It links no TensorRT library; the one in
// the process is found by name.
#include <dlfcn.h>

#include <iterator>
#include <string>

#include "gspn2/kernels.h"
#include "gspn2/tensorrt_plugin.h"
#include "guard.h"
#include "op.h"
#include "trt.h"
#if GSPN2_TRT_V3
#include "face_v3.h"
#else
#include "face_v2.h"
#endif

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::IPluginRegistry;

#if GSPN2_TRT_V3
using Creator = CreatorV3;
using CreatorInterface = nvinfer1::IPluginCreatorInterface;

bool isRegistered(IPluginRegistry& registry, Op op, const char* pluginNamespace) {
  return registry.getCreator(opName(op), kPluginVersion, pluginNamespace) != nullptr;
}
#else
using Creator = CreatorV2;
using CreatorInterface = nvinfer1::IPluginCreator;

bool isRegistered(IPluginRegistry& registry, Op op, const char* pluginNamespace) {
  return registry.getPluginCreator(opName(op), kPluginVersion, pluginNamespace) != nullptr;
}
#endif

constexpr int32_t kCreators = static_cast<int32_t>(std::size(kOps));

Creator& creator(Op op) {
  static Creator kInstances[kCreators] = {Creator(Op::kProp2D), Creator(Op::kLineScan),
                                          Creator(Op::kChannelNorm), Creator(Op::kDepthwise),
                                          Creator(Op::kDepthwiseNorm)};
  return kInstances[static_cast<int32_t>(op)];
}

CreatorInterface* const* creators() {
  static CreatorInterface* const kList[kCreators] = {
      &creator(Op::kProp2D), &creator(Op::kLineScan), &creator(Op::kChannelNorm),
      &creator(Op::kDepthwise), &creator(Op::kDepthwiseNorm)};
  return kList;
}

// The kernel library is found by its name alone: any build of it may lie where this one looks.
void checkKernels() {
  const int found = gspn2_kernels_abi_version();
  if (found == GSPN2_KERNELS_ABI_VERSION) return;
  fail(
      "libgspn2_kernels.so has the ABI version %d, this library was built for %d; install both of "
      "one build",
      found, GSPN2_KERNELS_ABI_VERSION);
}

// How many creators TensorRT is handed: none that would call other kernels than they know.
int32_t countCreators(const char* where) noexcept {
  return guarded(where, int32_t{0}, [] {
    checkKernels();
    return kCreators;
  });
}

template <typename Function>
Function* findFunction(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

// The registry of the TensorRT that this process has loaded, of this build's major version.
IPluginRegistry& findRegistry() {
  const std::string name = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
  // Python's bindings load it privately, where RTLD_DEFAULT does not look. The handle is kept: the
  // registry points to our creators from now on.
  void* library = dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) library = RTLD_DEFAULT;
  auto* version = findFunction<int32_t()>(library, "getInferLibVersion");
  auto* registry = findFunction<IPluginRegistry*()>(library, "getPluginRegistry");
  if (version == nullptr || registry == nullptr) {
    fail("%s is not loaded in this process; load TensorRT before its plugins", name.c_str());
  }
  const int32_t loaded = version();
  // major * 1000 + minor * 100 + patch up to 9.x, major * 10000 + ... from 10.0 on.
  const int32_t major = loaded >= 100000 ? loaded / 10000 : loaded / 1000;
  if (major != NV_TENSORRT_MAJOR) {
    fail("TensorRT %d is loaded, this library was built for TensorRT %d; use the build for %d",
         major, NV_TENSORRT_MAJOR, major);
  }
  IPluginRegistry* found = registry();
  if (found == nullptr) fail("%s has no plugin registry", name.c_str());
  return *found;
}

void registerAll(const char* pluginNamespace) {
  // Engines name the plugin with the namespace of gspn2_deploy/spec.py, which is empty.
  if (pluginNamespace[0] != '\0') {
    fail("the plugin namespace is \"%s\"; expected \"\"", pluginNamespace);
  }
  checkKernels();
  IPluginRegistry& registry = findRegistry();
  for (const Op op : kOps) {
    if (isRegistered(registry, op, pluginNamespace)) continue;
    if (!registry.registerCreator(creator(op), pluginNamespace)) {
      fail("TensorRT refused to register %s, version %s, namespace \"%s\"", opName(op),
           kPluginVersion, pluginNamespace);
    }
  }
}

#if !GSPN2_TRT_LOADS_LIBRARIES
// TensorRT 8.5 has no loadLibrary: opening the library registers its plugins.
const bool kRegisteredAtLoad = initLibGspn2Plugins(nullptr, "");
#endif

}  // namespace
}  // namespace plugin
}  // namespace gspn2

extern "C" {

#if GSPN2_TRT_LOADS_LIBRARIES
GSPN2_PLUGIN_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  gspn2::plugin::setFinder(finder);
}
#endif

#if GSPN2_TRT_V3
GSPN2_PLUGIN_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  count = gspn2::plugin::countCreators("getCreators");
  return gspn2::plugin::creators();
}
#else
GSPN2_PLUGIN_API nvinfer1::IPluginCreator* const* getPluginCreators(int32_t& count) {
  count = gspn2::plugin::countCreators("getPluginCreators");
  return gspn2::plugin::creators();
}
#endif

bool initLibGspn2Plugins(void* logger, const char* pluginNamespace) {
  return gspn2::plugin::guarded("initLibGspn2Plugins", false, [&] {
    if (logger != nullptr) gspn2::plugin::setLogger(static_cast<nvinfer1::ILogger*>(logger));
    gspn2::plugin::registerAll(pluginNamespace == nullptr ? "" : pluginNamespace);
    return true;
  });
}

const char* gspn2TensorRTLastError(void) { return gspn2::plugin::lastError(); }

int32_t gspn2TensorRTHeaders(void) {
  return NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;
}

}  // extern "C"
