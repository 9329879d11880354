// Loads libgspn2_tensorrt.so through its own C entry points (plugins/tensorrt/include/gspn2/
// tensorrt_plugin.h), which, unlike IPluginRegistry::loadLibrary, say which TensorRT it is for and
// may be called again.
#include <dlfcn.h>

#include <cstdint>

#include "platform.h"

namespace gspn2 {
namespace runtime {
namespace {

constexpr char kHeadersFunction[] = "gspn2TensorRTHeaders";
constexpr char kInitFunction[] = "initLibGspn2Plugins";
constexpr char kErrorFunction[] = "gspn2TensorRTLastError";

std::string lastError(void* library) {
  auto* function = reinterpret_cast<const char* (*)()>(dlsym(library, kErrorFunction));
  const char* message = function == nullptr ? nullptr : function();
  return message == nullptr ? "no reason given" : message;
}

}  // namespace

void openPlugin(const std::string& plugin, const std::vector<std::string>& libraries,
                int32_t major) {
  std::string reason;
  // Opened first, they satisfy what the plugin asks for by name, whatever its RPATH says.
  for (const std::string& library : libraries) {
    if (openLibrary(library, &reason) == nullptr) {
      throw Error(ErrorKind::kPlugin, "a library that the plugin needs cannot be loaded", reason,
                  library);
    }
  }
  void* library = openLibrary(plugin, &reason);
  if (library == nullptr) {
    throw Error(ErrorKind::kPlugin, "the plugin library cannot be loaded", reason, plugin,
                "name libgspn2_tensorrt.so, with libgspn2_kernels.so beside it");
  }
  auto* headers = reinterpret_cast<int32_t (*)()>(dlsym(library, kHeadersFunction));
  auto* init = reinterpret_cast<bool (*)(void*, const char*)>(dlsym(library, kInitFunction));
  if (headers == nullptr || init == nullptr) {
    throw Error(ErrorKind::kPlugin, "the plugin library is something else",
                plugin + " has no " + (headers == nullptr ? kHeadersFunction : kInitFunction),
                "libgspn2_tensorrt.so");
  }
  const int32_t built = headers() / 10000;
  if (built != major) {
    throw Error(ErrorKind::kPlugin, "the plugin library is for another TensorRT",
                plugin + " is for TensorRT " + std::to_string(built),
                "a build for TensorRT " + std::to_string(major),
                "use the one in lib/tensorrt-" + std::to_string(major) + ".*");
  }
  if (!init(nullptr, "")) {
    throw Error(ErrorKind::kPlugin, "the plugin library did not register its plugins",
                plugin + ": " + lastError(library));
  }
}

}  // namespace runtime
}  // namespace gspn2
