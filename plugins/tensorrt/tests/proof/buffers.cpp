#include "buffers.h"

#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace gspn2 {
namespace proof {
namespace {

constexpr size_t kGuardBytes = 4096;
constexpr int kPoison = 0xFF;

float halfValue(uint16_t bits) {
  __half_raw raw;
  raw.x = bits;
  return __half2float(__half(raw));
}

// bfloat16 is the upper half of a float32.
float brainValue(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

constexpr size_t kVector = 8;
constexpr size_t kHalfBytes = 2;

// Calls `each` with the place of every element of a map (N, C, H, W), and with its place where
// eight channels are side by side. Returns the elements there.
template <typename Each>
size_t forEachElement(const std::vector<int64_t>& shape, const Each& each) {
  const auto n = static_cast<size_t>(shape.at(0)), c = static_cast<size_t>(shape.at(1));
  const auto plane = static_cast<size_t>(shape.at(2) * shape.at(3));
  const size_t pitch = (c + kVector - 1) / kVector * kVector;
  for (size_t i = 0; i < n; ++i) {
    for (size_t channel = 0; channel < c; ++channel) {
      for (size_t at = 0; at < plane; ++at) {
        each((i * c + channel) * plane + at, (i * plane + at) * pitch + channel);
      }
    }
  }
  return n * plane * pitch;
}

}  // namespace

void checkCuda(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(doing) + ": " + cudaGetErrorString(error));
}

GuardedBuffer::GuardedBuffer(size_t bytes) : mBytes(bytes) {
  const size_t whole = bytes + 2 * kGuardBytes;
  checkCuda(cudaMalloc(reinterpret_cast<void**>(&mBase), whole), "cudaMalloc");
  checkCuda(cudaMemset(mBase, kPoison, whole), "cudaMemset");
  checkCuda(cudaStreamSynchronize(cudaStreamLegacy), "filling a buffer");
}

GuardedBuffer::~GuardedBuffer() { cudaFree(mBase); }

void* GuardedBuffer::data() const { return mBase + kGuardBytes; }

void GuardedBuffer::upload(const std::vector<uint8_t>& bytes) {
  if (bytes.size() != mBytes) throw std::runtime_error("wrong data size");
  checkCuda(cudaMemcpy(data(), bytes.data(), mBytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  checkCuda(cudaStreamSynchronize(cudaStreamLegacy), "filling a buffer");
}

void GuardedBuffer::poison(cudaStream_t stream) {
  checkCuda(cudaMemsetAsync(data(), kPoison, mBytes, stream), "cudaMemsetAsync");
}

bool GuardedBuffer::overrun() const {
  std::vector<unsigned char> bands(2 * kGuardBytes);
  checkCuda(cudaMemcpy(bands.data(), mBase, kGuardBytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  checkCuda(cudaMemcpy(bands.data() + kGuardBytes, mBase + kGuardBytes + mBytes, kGuardBytes,
                       cudaMemcpyDeviceToHost),
            "cudaMemcpy");
  return std::any_of(bands.begin(), bands.end(), [](unsigned char b) { return b != kPoison; });
}

size_t elementBytes(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return 4;
    case nvinfer1::DataType::kHALF:
#if GSPN2_TRT_BF16
    case nvinfer1::DataType::kBF16:
#endif
      return 2;
    default:
      throw std::runtime_error("the proof handles float32, float16 and bfloat16");
  }
}

std::vector<float> toFloat(nvinfer1::DataType type, const std::vector<uint8_t>& bytes) {
  std::vector<float> values(bytes.size() / elementBytes(type));
  if (type == nvinfer1::DataType::kFLOAT) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  std::vector<uint16_t> bits(values.size());
  std::memcpy(bits.data(), bytes.data(), bytes.size());
  std::transform(bits.begin(), bits.end(), values.begin(),
                 type == nvinfer1::DataType::kHALF ? halfValue : brainValue);
  return values;
}

std::vector<uint8_t> toVectorised(const std::vector<uint8_t>& bytes,
                                  const std::vector<int64_t>& shape) {
  const size_t elements = forEachElement(shape, [](size_t, size_t) {});
  std::vector<uint8_t> result(elements * kHalfBytes, kPoison);
  forEachElement(shape, [&](size_t from, size_t to) {
    std::memcpy(&result.at(to * kHalfBytes), &bytes.at(from * kHalfBytes), kHalfBytes);
  });
  return result;
}

std::vector<uint8_t> fromVectorised(const std::vector<uint8_t>& bytes,
                                    const std::vector<int64_t>& shape) {
  std::vector<uint8_t> rest = bytes;
  std::vector<uint8_t> result(bytes.size());
  size_t count = 0;
  forEachElement(shape, [&](size_t to, size_t from) {
    std::memcpy(&result.at(to * kHalfBytes), &rest.at(from * kHalfBytes), kHalfBytes);
    std::memset(&rest.at(from * kHalfBytes), 0, kHalfBytes);
    ++count;
  });
  if (std::any_of(rest.begin(), rest.end(), [](uint8_t byte) { return byte != 0; })) {
    throw std::runtime_error("what is behind the last channel is not 0");
  }
  result.resize(count * kHalfBytes);
  return result;
}

cudaGraphExec_t captureGraph(cudaStream_t stream, const std::function<void()>& enqueue) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  checkCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture");
  enqueue();
  checkCuda(cudaStreamEndCapture(stream, &graph), "end capture");
  checkCuda(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  checkCuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
  return executable;
}

}  // namespace proof
}  // namespace gspn2
