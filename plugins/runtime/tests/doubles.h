// Test doubles of the machine: a GPU whose memory is the host's and whose streams run at once, and
// a TensorRT whose engine multiplies its input by two. They record what was asked of them.
#ifndef GSPN2_RUNTIME_TESTS_DOUBLES_H_
#define GSPN2_RUNTIME_TESTS_DOUBLES_H_

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "interfaces.h"

namespace gspn2 {
namespace runtime {
namespace tests {

struct FakeDevice : Device {
  std::string computeCapability() const override { return capability; }
  int enter() override { return 0; }
  void leave(int) noexcept override {}
  void* allocate(size_t bytes) override;
  void release(void* data) noexcept override;
  void copyToDevice(void* device, const void* host, size_t bytes, Stream stream) override;
  void copyToHost(void* host, const void* device, size_t bytes, Stream stream) override;
  bool reaches(const void* data) override;
  Stream createStream() override;
  void destroyStream(Stream stream) noexcept override;
  bool capturing(Stream) override { return isCapturing; }
  void wait(Stream) override { ++waits; }
  void waitForAll() noexcept override {}

  std::string capability = "9.0";
  bool isCapturing = false;
  std::atomic<int> waits{0};
  std::atomic<int> allocations{0};
  std::atomic<int> streams{0};
  std::mutex mutex;
  std::set<void*> live;
};

// What the plan is, and what the double refuses.
struct FakeEngine {
  std::vector<TensorInfo> tensors;
  ShapeRange range;
  int32_t profiles = 1;
  int64_t classes = 3;
  bool refuseContext = false;
  bool refuseShape = false;
  bool refuseAddress = false;
  bool refuseEnqueue = false;
  std::atomic<int> contexts{0};
  std::atomic<int> plans{0};
  std::atomic<Stream> stream{nullptr};  // of the last run
};

struct FakePlatform : Platform {
  FakePlatform();
  std::shared_ptr<Device> device(int index) override;
  std::shared_ptr<TensorRT> openTensorRT(int32_t major, const std::string& where) override;
  void loadPlugin(const std::string& plugin, const std::vector<std::string>& libraries,
                  int32_t major) override;

  std::shared_ptr<FakeDevice> gpu = std::make_shared<FakeDevice>();
  FakeEngine engine;
  bool hasGpu = true;
  bool hasTensorRT = true;
  bool refusePlan = false;
  Version version{8, 6, 0};
  std::vector<std::string> pluginsInLibrary{"GspnProp2D", "GspnLineScan"};
  std::set<std::string> registered;
  std::vector<std::string> opened;  // libraries, then the plugin
  int deserialised = 0;
  bool hostCodeAllowed = false;
};

// The machine that runtime_tests opens engines on through the public API, or null.
Platform*& testPlatform();

// A folder with a plan and its manifest, or a bundle of both, removed at the end.
class Files {
 public:
  Files();
  ~Files();
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  void write(const std::string& name, const std::string& content);
  std::string path(const std::string& name) const { return mFolder + "/" + name; }
  const std::string& folder() const { return mFolder; }

  // What the manifest and bundle.json say; edit, then write() again.
  std::string plan = "the plan's bytes";
  std::string manifest() const;
  std::string bundle() const;
  std::string backend = "tensorrt";
  std::string backendVersion = "8.6.0";
  std::string inputDtype = "float32";
  std::string options = "{}";
  void writeAll();

 private:
  std::string mFolder;
};

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_TESTS_DOUBLES_H_
