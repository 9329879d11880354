// The pieces of the real machine.
#ifndef GSPN2_RUNTIME_PLATFORM_H_
#define GSPN2_RUNTIME_PLATFORM_H_

#include <memory>
#include <string>
#include <vector>

#include "interfaces.h"

namespace gspn2 {
namespace runtime {

std::shared_ptr<Device> openCudaDevice(int index);

// Opens a library, which then stays open for good: TensorRT's registry points into it. Returns null
// and the loader's reason.
void* openLibrary(const std::string& name, std::string* reason);

// Throws Error(kPlugin).
void openPlugin(const std::string& plugin, const std::vector<std::string>& libraries,
                int32_t major);

// One per TensorRT major version: driver.cpp, compiled against that version's headers. `library` is
// the opened libnvinfer. Null when it lacks a function or refuses to start.
using OpenDriver = std::shared_ptr<TensorRT>(void* library);
OpenDriver openTensorRT8;
OpenDriver openTensorRT10;
OpenDriver openTensorRT11;

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_PLATFORM_H_
