// load_library LIBNVINFER PLUGIN_LIBRARY NAME...
//
// Lets TensorRT's registry load the plugin library, as trtexec --dynamicPlugins does, and prints
// whether it did, then for every name: whether its creator was there before, while it was loaded,
// and after it was unloaded again. Exits with 1 when TensorRT cannot be opened.
#include <dlfcn.h>

#include <cstdio>

#include "trt.h"

namespace {

constexpr char kVersion[] = "1";

bool isThere(nvinfer1::IPluginRegistry& registry, const char* name) {
#if GSPN2_TRT_V3
  return registry.getCreator(name, kVersion, "") != nullptr;
#else
  return registry.getPluginCreator(name, kVersion, "") != nullptr;
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s LIBNVINFER PLUGIN_LIBRARY NAME...\n", argv[0]);
    return 2;
  }
  void* tensorrt = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  void* symbol = tensorrt == nullptr ? nullptr : dlsym(tensorrt, "getPluginRegistry");
  if (symbol == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  auto& registry = *reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(symbol)();
  for (int i = 3; i < argc; ++i) std::printf("before %s %d\n", argv[i], isThere(registry, argv[i]));
  const auto handle = registry.loadLibrary(argv[2]);
  std::printf("loaded %d\n", handle != nullptr);
  for (int i = 3; i < argc; ++i) std::printf("while %s %d\n", argv[i], isThere(registry, argv[i]));
  std::printf("again %d\n", registry.loadLibrary(argv[2]) != nullptr);
  if (handle != nullptr) registry.deregisterLibrary(handle);
  for (int i = 3; i < argc; ++i) std::printf("after %s %d\n", argv[i], isThere(registry, argv[i]));
  return 0;
}
