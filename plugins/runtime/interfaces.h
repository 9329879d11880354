// What the runtime needs of CUDA and of TensorRT, without a header of either: its own logic stands
// on these, is compiled once, and is tested without a GPU.
#ifndef GSPN2_RUNTIME_INTERFACES_H_
#define GSPN2_RUNTIME_INTERFACES_H_

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "gspn2/runtime.hpp"

namespace gspn2 {
namespace runtime {

// One GPU. Everything may throw Error(kExecution) unless said otherwise.
class Device {
 public:
  virtual ~Device() = default;

  // As in "9.0". Throws Error(kNoGpu).
  virtual std::string computeCapability() const = 0;

  // Makes it the calling thread's device, and returns the one before, for leave().
  virtual int enter() = 0;
  virtual void leave(int previous) noexcept = 0;

  virtual void* allocate(size_t bytes) = 0;  // throws Error(kMemory)
  virtual void release(void* data) noexcept = 0;
  virtual void copyToDevice(void* device, const void* host, size_t bytes, Stream stream) = 0;
  virtual void copyToHost(void* host, const void* device, size_t bytes, Stream stream) = 0;

  // Whether kernels of this GPU can reach the memory: false when it was freed, is pageable memory
  // of the host, or lies on another GPU.
  virtual bool reaches(const void* data) = 0;

  virtual Stream createStream() = 0;
  virtual void destroyStream(Stream stream) noexcept = 0;
  virtual bool capturing(Stream stream) = 0;
  virtual void wait(Stream stream) = 0;
  virtual void waitForAll() noexcept = 0;
};

// Makes a device the calling thread's for a block.
class DeviceScope {
 public:
  explicit DeviceScope(Device& device) : mDevice(device), mPrevious(device.enter()) {}
  ~DeviceScope() { mDevice.leave(mPrevious); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  Device& mDevice;
  int mPrevious;
};

// One execution context; false and empty results are TensorRT's refusals.
class Context {
 public:
  virtual ~Context() = default;
  virtual bool setInputShape(const std::string& input, const Shape& shape) = 0;
  virtual Shape shape(const std::string& tensor) const = 0;  // -1 where it is not known yet
  virtual bool setAddress(const std::string& tensor, void* data) = 0;
  virtual bool enqueue(Stream stream) = 0;
};

// A deserialised plan.
class Plan {
 public:
  virtual ~Plan() = default;
  // Throws Error(kEngine) for what this runtime cannot bind: shape tensors, vectorised formats.
  virtual std::vector<TensorInfo> tensors() const = 0;
  virtual int32_t profileCount() const = 0;
  virtual ShapeRange profileShape(int32_t profile, const std::string& input) const = 0;
  // Null when TensorRT refuses. The stream is used to set the profile and is waited for.
  virtual std::unique_ptr<Context> createContext(int32_t profile, Device& device,
                                                 Stream stream) = 0;
};

using Version = std::array<int32_t, 3>;  // major, minor, patch

// TensorRT as this process has loaded it.
class TensorRT {
 public:
  virtual ~TensorRT() = default;
  virtual Version version() const = 0;
  virtual bool hasPlugin(const std::string& name, const std::string& version,
                         const std::string& pluginNamespace) const = 0;
  // Null when TensorRT refuses. A plan that holds code for the host needs leave to run it.
  virtual std::unique_ptr<Plan> deserialize(const void* data, size_t bytes, bool hostCode) = 0;
};

// The machine.
class Platform {
 public:
  virtual ~Platform() = default;
  virtual std::shared_ptr<Device> device(int index) = 0;
  // Throws Error(kLibrary), or Error(kVersion) for a major version without a driver.
  virtual std::shared_ptr<TensorRT> openTensorRT(int32_t major, const std::string& where) = 0;
  // Opens the plugin and the libraries that it needs, and registers it. Throws Error(kPlugin).
  virtual void loadPlugin(const std::string& plugin, const std::vector<std::string>& libraries,
                          int32_t major) = 0;
};

Platform& realPlatform();

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_INTERFACES_H_
