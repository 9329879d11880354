#include "session.h"

#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace gspn2 {
namespace proof {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;

constexpr size_t kGuardBytes = 4096;
constexpr int kPoison = 0xFF;

size_t elementBytes(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return 4;
    case DataType::kHALF:
      return 2;
    default:
      throw std::runtime_error("the proof handles float32 and float16 inputs and outputs");
  }
}

size_t countElements(const Dims& dims) {
  size_t count = 1;
  for (int32_t i = 0; i < dims.nbDims; ++i) {
    if (dims.d[i] < 0) throw std::runtime_error("an output's shape is not known");
    count *= static_cast<size_t>(dims.d[i]);
  }
  return count;
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
}

GuardedBuffer::~GuardedBuffer() { cudaFree(mBase); }

void* GuardedBuffer::data() const { return mBase + kGuardBytes; }

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

Session::Session(nvinfer1::ICudaEngine* engine, const Sample& sample)
    : mEngine(engine), mContext(engine->createExecutionContext()) {
  if (mContext == nullptr) throw std::runtime_error("no execution context");
  checkCuda(cudaStreamCreateWithFlags(&mStream, cudaStreamNonBlocking), "cudaStreamCreate");
  for (const InputData& input : sample.inputs) {
    const char* name = input.name.c_str();
    const size_t bytes =
        static_cast<size_t>(elements(input.shape)) * elementBytes(engine->getTensorDataType(name));
    if (bytes != input.bytes.size()) throw std::runtime_error(input.name + ": wrong data size");
    Dims dims{};
    for (const int64_t extent : input.shape) dims.d[dims.nbDims++] = static_cast<int32_t>(extent);
    if (!mContext->setInputShape(name, dims)) throw std::runtime_error(input.name + ": refused");
    auto& buffer = mInputs[input.name] = std::make_unique<GuardedBuffer>(bytes);
    checkCuda(cudaMemcpy(buffer->data(), input.bytes.data(), bytes, cudaMemcpyHostToDevice),
              "cudaMemcpy");
    mContext->setTensorAddress(name, buffer->data());
  }
  for (const ExpectedOutput& output : sample.outputs) {
    const char* name = output.name.c_str();
    const size_t bytes = countElements(mContext->getTensorShape(name)) *
                         elementBytes(engine->getTensorDataType(name));
    auto& buffer = mOutputs[output.name] = std::make_unique<GuardedBuffer>(bytes);
    mContext->setTensorAddress(name, buffer->data());
  }
}

Session::~Session() {
  cudaStreamSynchronize(mStream);
  if (mGraph != nullptr) cudaGraphExecDestroy(mGraph);
  mContext.reset();
  cudaStreamDestroy(mStream);
}

void Session::poisonOutputs() {
  for (auto& entry : mOutputs) entry.second->poison(mStream);
}

void Session::enqueue() {
  poisonOutputs();
  if (!mContext->enqueueV3(mStream)) throw std::runtime_error("enqueueV3 failed");
}

void Session::capture() {
  cudaGraph_t graph = nullptr;
  checkCuda(cudaStreamBeginCapture(mStream, cudaStreamCaptureModeThreadLocal), "begin capture");
  const bool enqueued = mContext->enqueueV3(mStream);
  checkCuda(cudaStreamEndCapture(mStream, &graph), "end capture");
  if (!enqueued || graph == nullptr) throw std::runtime_error("enqueueV3 failed under capture");
  checkCuda(cudaGraphInstantiate(&mGraph, graph, 0), "cudaGraphInstantiate");
  checkCuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

void Session::replay() {
  poisonOutputs();
  checkCuda(cudaGraphLaunch(mGraph, mStream), "cudaGraphLaunch");
}

double Session::replayTime(int count) {
  cudaEvent_t begin, end;
  checkCuda(cudaEventCreate(&begin), "cudaEventCreate");
  checkCuda(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times;
  for (int i = 0; i < count; ++i) {
    float milliseconds = 0;
    checkCuda(cudaEventRecord(begin, mStream), "cudaEventRecord");
    checkCuda(cudaGraphLaunch(mGraph, mStream), "cudaGraphLaunch");
    checkCuda(cudaEventRecord(end, mStream), "cudaEventRecord");
    checkCuda(cudaEventSynchronize(end), "cudaEventSynchronize");
    checkCuda(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    times.push_back(milliseconds);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + count / 2, times.end());
  return times[static_cast<size_t>(count / 2)];
}

Outputs Session::fetch() {
  checkCuda(cudaStreamSynchronize(mStream), "waiting for the stream");
  Outputs outputs;
  for (const auto& entry : mOutputs) {
    std::vector<uint8_t> bytes(entry.second->bytes());
    checkCuda(cudaMemcpy(bytes.data(), entry.second->data(), bytes.size(), cudaMemcpyDeviceToHost),
              "cudaMemcpy");
    if (entry.second->overrun()) throw std::runtime_error(entry.first + ": wrote past its end");
    outputs[entry.first] = std::move(bytes);
  }
  return outputs;
}

std::vector<float> Session::toFloat(const std::string& output,
                                    const std::vector<uint8_t>& bytes) const {
  if (mEngine->getTensorDataType(output.c_str()) == DataType::kFLOAT) {
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  std::vector<__half> halves(bytes.size() / sizeof(__half));
  std::memcpy(halves.data(), bytes.data(), bytes.size());
  std::vector<float> values;
  for (const __half value : halves) values.push_back(__half2float(value));
  return values;
}

}  // namespace proof
}  // namespace gspn2
