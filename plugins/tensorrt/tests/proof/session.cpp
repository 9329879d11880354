#include "session.h"

#include <algorithm>
#include <stdexcept>

namespace gspn2 {
namespace proof {
namespace {

using nvinfer1::Dims;

size_t countElements(const Dims& dims) {
  size_t count = 1;
  for (int32_t i = 0; i < dims.nbDims; ++i) {
    if (dims.d[i] < 0) throw std::runtime_error("an output's shape is not known");
    count *= static_cast<size_t>(dims.d[i]);
  }
  return count;
}

}  // namespace

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
    buffer->upload(input.bytes);
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
  mGraph = captureGraph(mStream, [this] {
    if (!mContext->enqueueV3(mStream)) throw std::runtime_error("enqueueV3 failed under capture");
  });
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

std::vector<float> Session::values(const std::string& output,
                                   const std::vector<uint8_t>& bytes) const {
  return toFloat(mEngine->getTensorDataType(output.c_str()), bytes);
}

}  // namespace proof
}  // namespace gspn2
