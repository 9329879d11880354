#include <cuda_runtime_api.h>

#include "interfaces.h"
#include "platform.h"

namespace gspn2 {
namespace runtime {
namespace {

void check(cudaError_t status, const char* doing, ErrorKind kind = ErrorKind::kExecution) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported here must not surface in the caller's next call
  throw Error(kind, std::string("CUDA failed: ") + doing,
              std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status));
}

class CudaDevice : public Device {
 public:
  explicit CudaDevice(int index) : mIndex(index) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) cudaGetLastError();
    if (status == cudaSuccess && index >= 0 && index < count) return;
    const bool none = status != cudaSuccess || count == 0;
    throw Error(ErrorKind::kNoGpu, none ? "no GPU can be used" : "there is no GPU of that number",
                status != cudaSuccess
                    ? cudaGetErrorString(status)
                    : "GPU " + std::to_string(index) + " of " + std::to_string(count),
                none ? "an NVIDIA GPU with its driver" : "a number below " + std::to_string(count),
                none ? "nvidia-smi says what the driver sees; a container needs --gpus" : "");
  }

  std::string computeCapability() const override {
    int major = 0, minor = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, mIndex),
          "reading the compute capability", ErrorKind::kNoGpu);
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, mIndex),
          "reading the compute capability", ErrorKind::kNoGpu);
    return std::to_string(major) + "." + std::to_string(minor);
  }

  int enter() override {
    int previous = 0;
    check(cudaGetDevice(&previous), "asking for the current device");
    if (previous != mIndex) check(cudaSetDevice(mIndex), "setting the device");
    return previous;
  }

  void leave(int previous) noexcept override {
    if (previous != mIndex) cudaSetDevice(previous);
  }

  void* allocate(size_t bytes) override {
    void* data = nullptr;
    check(cudaMalloc(&data, bytes), "allocating memory for a host buffer", ErrorKind::kMemory);
    return data;
  }

  void release(void* data) noexcept override { cudaFree(data); }

  void copyToDevice(void* device, const void* host, size_t bytes, Stream stream) override {
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copying an input");
  }

  void copyToHost(void* host, const void* device, size_t bytes, Stream stream) override {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream),
          "copying an output");
  }

  bool reaches(const void* data) override {
    cudaPointerAttributes attributes{};
    const cudaError_t status = cudaPointerGetAttributes(&attributes, data);
    if (status != cudaSuccess) cudaGetLastError();
    return status == cudaSuccess && attributes.devicePointer != nullptr &&
           (attributes.type == cudaMemoryTypeManaged || attributes.device == mIndex);
  }

  Stream createStream() override {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    return stream;
  }

  void destroyStream(Stream stream) noexcept override { cudaStreamDestroy(stream); }

  bool capturing(Stream stream) override {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream, &status), "asking whether the stream is capturing");
    return status != cudaStreamCaptureStatusNone;
  }

  void wait(Stream stream) override { check(cudaStreamSynchronize(stream), "running the engine"); }

  void waitForAll() noexcept override { cudaDeviceSynchronize(); }

 private:
  int mIndex;
};

}  // namespace

std::shared_ptr<Device> openCudaDevice(int index) { return std::make_shared<CudaDevice>(index); }

}  // namespace runtime
}  // namespace gspn2
