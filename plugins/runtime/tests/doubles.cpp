#include "doubles.h"

#include <stdlib.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>

#include "log.h"
#include "sha256.h"

namespace gspn2 {
namespace runtime {

namespace tests {

void* FakeDevice::allocate(size_t bytes) {
  ++allocations;
  void* data = aligned_alloc(256, (bytes + 255) / 256 * 256);
  const std::lock_guard<std::mutex> lock(mutex);
  live.insert(data);
  return data;
}

void FakeDevice::release(void* data) noexcept {
  const std::lock_guard<std::mutex> lock(mutex);
  if (live.erase(data) > 0) free(data);
}

void FakeDevice::copyToDevice(void* device, const void* host, size_t bytes, Stream) {
  std::memcpy(device, host, bytes);
}

void FakeDevice::copyToHost(void* host, const void* device, size_t bytes, Stream) {
  std::memcpy(host, device, bytes);
}

bool FakeDevice::reaches(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  return live.count(const_cast<void*>(data)) > 0;
}

Stream FakeDevice::createStream() {
  ++streams;
  return reinterpret_cast<Stream>(new int(0));
}

void FakeDevice::destroyStream(Stream stream) noexcept {
  --streams;
  delete reinterpret_cast<int*>(stream);
}

namespace {

struct FakeContext : Context {
  explicit FakeContext(FakeEngine& owner) : engine(owner) { ++engine.contexts; }
  ~FakeContext() override { --engine.contexts; }

  bool setInputShape(const std::string&, const Shape& shape) override {
    if (engine.refuseShape) {
      log(LogLevel::kError, "TensorRT says no");
      return false;
    }
    input = shape;
    return true;
  }

  Shape shape(const std::string&) const override {
    return {input.empty() ? -1 : input[0], engine.classes};
  }

  bool setAddress(const std::string& tensor, void* data) override {
    addresses[tensor] = static_cast<float*>(data);
    return !engine.refuseAddress;
  }

  // scores[i, j] = 2 * images[i, j], for as many j as there are classes.
  bool enqueue(Stream stream) override {
    if (engine.refuseEnqueue) {
      log(LogLevel::kError, "TensorRT stumbled");
      return false;
    }
    engine.stream = stream;
    int64_t width = 1;
    for (size_t axis = 1; axis < input.size(); ++axis) width *= input[axis];
    for (int64_t i = 0; i < input[0]; ++i) {
      for (int64_t j = 0; j < engine.classes; ++j) {
        addresses["scores"][i * engine.classes + j] = 2 * addresses["images"][i * width + j];
      }
    }
    return true;
  }

  FakeEngine& engine;
  Shape input;
  std::map<std::string, float*> addresses;
};

struct FakePlan : Plan {
  explicit FakePlan(FakeEngine& owner) : engine(owner) { ++engine.plans; }
  ~FakePlan() override { --engine.plans; }
  std::vector<TensorInfo> tensors() const override { return engine.tensors; }
  int32_t profileCount() const override { return engine.profiles; }
  ShapeRange profileShape(int32_t, const std::string&) const override { return engine.range; }
  std::unique_ptr<Context> createContext(int32_t, Device&, Stream) override {
    if (engine.refuseContext) return nullptr;
    return std::make_unique<FakeContext>(engine);
  }
  FakeEngine& engine;
};

struct FakeTensorRT : TensorRT {
  explicit FakeTensorRT(FakePlatform& owner) : platform(owner) {}
  Version version() const override { return platform.version; }
  bool hasPlugin(const std::string& name, const std::string& pluginVersion,
                 const std::string& pluginNamespace) const override {
    return platform.registered.count(name + pluginVersion + pluginNamespace) > 0;
  }
  std::unique_ptr<Plan> deserialize(const void*, size_t, bool hostCode) override {
    ++platform.deserialised;
    platform.hostCodeAllowed = hostCode;
    if (platform.refusePlan) {
      log(LogLevel::kError, "the plan is not mine");
      return nullptr;
    }
    return std::make_unique<FakePlan>(platform.engine);
  }
  FakePlatform& platform;
};

}  // namespace

FakePlatform::FakePlatform() {
  engine.tensors = {{"images", DataType::kFloat32, true, {-1, 2, 2}},
                    {"scores", DataType::kFloat32, false, {-1, 3}}};
  engine.range = {{1, 2, 2}, {2, 2, 2}, {4, 2, 2}};
}

std::shared_ptr<Device> FakePlatform::device(int) {
  if (!hasGpu) throw Error(ErrorKind::kNoGpu, "no GPU can be used");
  return gpu;
}

std::shared_ptr<TensorRT> FakePlatform::openTensorRT(int32_t major, const std::string&) {
  if (!hasTensorRT) {
    throw Error(ErrorKind::kLibrary, "TensorRT cannot be loaded", "", std::to_string(major));
  }
  return std::make_shared<FakeTensorRT>(*this);
}

void FakePlatform::loadPlugin(const std::string& plugin, const std::vector<std::string>& libraries,
                              int32_t) {
  opened = libraries;
  opened.push_back(plugin);
  for (const std::string& name : pluginsInLibrary) registered.insert(name + "1");
}

Files::Files() {
  char name[] = "/tmp/gspn2-runtime-XXXXXX";
  mFolder = mkdtemp(name);
}

Files::~Files() {
  for (const char* name : {"a.plan", "a.plan.json", "bundle.json", "p.so", "k.so"}) {
    std::remove(path(name).c_str());
  }
  std::remove(mFolder.c_str());
}

void Files::write(const std::string& name, const std::string& content) {
  std::ofstream(path(name), std::ios::binary) << content;
}

std::string Files::manifest() const {
  return R"({"kind": "gspn2-deploy plan manifest", "schema": 1, "plan_file": "a.plan",
 "plan_bytes": )" +
         std::to_string(plan.size()) + R"(, "plan_sha256": ")" + sha256(plan.data(), plan.size()) +
         R"(", "backend": ")" + backend + R"(", "backend_version": ")" + backendVersion +
         R"(", "compute_capabilities": ["8.9", "9.0"], "build_seconds": 1.5e-1,
 "inputs": [{"name": "images", "dtype": ")" +
         inputDtype + R"(", "shape": ["batch", 2, null]}],
 "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", 3]}],
 "propagations": {"GspnProp2D": 3, "GspnLineScan": 0}, "options": )" +
         options + R"(, "host": "m\u00e9t\ud83d\ude00"})";
}

std::string Files::bundle() const {
  const auto entry = [](const std::string& name, const std::string& content) {
    return "\"" + name + "\": {\"bytes\": " + std::to_string(content.size()) + ", \"sha256\": \"" +
           sha256(content.data(), content.size()) + "\"}";
  };
  return R"({"kind": "gspn2-deploy bundle", "schema": 1, "plan": "a.plan",
 "manifest": "a.plan.json", "plugin": "p.so", "libraries": ["k.so"], "files": {)" +
         entry("a.plan", plan) + ", " + entry("a.plan.json", manifest()) + ", " +
         entry("p.so", "plugin") + ", " + entry("k.so", "kernels") + "}}";
}

void Files::writeAll() {
  write("a.plan", plan);
  write("a.plan.json", manifest());
  write("p.so", "plugin");
  write("k.so", "kernels");
  write("bundle.json", bundle());
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
