#include "platform.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include "files.h"
#include "log.h"

namespace gspn2 {
namespace runtime {
namespace {

struct Driver {
  int32_t major;
  OpenDriver* open;
};

// What this build was compiled for; CMakeLists.txt defines the macros.
constexpr Driver kDrivers[] = {
#ifdef GSPN2_TENSORRT_8
    {8, openTensorRT8},
#endif
#ifdef GSPN2_TENSORRT_10
    {10, openTensorRT10},
#endif
#ifdef GSPN2_TENSORRT_11
    {11, openTensorRT11},
#endif
};

OpenDriver* findDriver(int32_t major) {
  std::string known;
  for (const Driver& driver : kDrivers) {
    if (driver.major == major) return driver.open;
    known += (known.empty() ? "" : ", ") + std::to_string(driver.major);
  }
  throw Error(ErrorKind::kVersion, "this build of libgspn2_runtime cannot run the plan",
              "a plan of TensorRT " + std::to_string(major), "TensorRT " + known,
              "build libgspn2_runtime with the headers of that version (GSPN2_TENSORRT_ROOTS)");
}

bool isFolder(const std::string& path) {
  struct stat status{};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

class RealPlatform : public Platform {
 public:
  std::shared_ptr<Device> device(int index) override { return openCudaDevice(index); }

  std::shared_ptr<TensorRT> openTensorRT(int32_t major, const std::string& where) override {
    OpenDriver* open = findDriver(major);
    const std::string soname = "libnvinfer.so." + std::to_string(major);
    const std::string name =
        where.empty() ? soname : (isFolder(where) ? within(where, soname) : where);
    std::string reason;
    void* library = openLibrary(name, &reason);
    if (library == nullptr) {
      throw Error(ErrorKind::kLibrary, "TensorRT cannot be loaded", reason, name,
                  "install TensorRT " + std::to_string(major) +
                      ", put its folder into LD_LIBRARY_PATH, or name it in Options::tensorrt");
    }
    takeErrors();
    std::shared_ptr<TensorRT> tensorrt = open(library);
    if (tensorrt == nullptr) {
      throw Error(ErrorKind::kLibrary, "the library is not TensorRT", name + ": " + takeErrors(),
                  soname);
    }
    return tensorrt;
  }

  void loadPlugin(const std::string& plugin, const std::vector<std::string>& libraries,
                  int32_t major) override {
    openPlugin(plugin, libraries, major);
  }
};

}  // namespace

void* openLibrary(const std::string& name, std::string* reason) {
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* error = dlerror();
    *reason = error == nullptr ? "unknown reason" : error;
  }
  return library;
}

Platform& realPlatform() {
  static RealPlatform instance;
  return instance;
}

}  // namespace runtime
}  // namespace gspn2
