// One execution context with its own stream and buffers.
#ifndef GSPN2_PROOF_SESSION_H_
#define GSPN2_PROOF_SESSION_H_

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "case_file.h"

namespace gspn2 {
namespace proof {

void checkCuda(cudaError_t error, const char* doing);

using Outputs = std::map<std::string, std::vector<uint8_t>>;

// Device memory with guard bands on both sides, all bytes 0xFF (a NaN in every float type).
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes);
  ~GuardedBuffer();
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  void* data() const;
  size_t bytes() const { return mBytes; }
  void poison(cudaStream_t stream);
  // Whether a byte outside the buffer has changed.
  bool overrun() const;

 private:
  char* mBase = nullptr;
  size_t mBytes;
};

class Session {
 public:
  // Binds a sample's shapes and inputs.
  Session(nvinfer1::ICudaEngine* engine, const Sample& sample);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Poisons the outputs and enqueues; does not wait.
  void enqueue();
  // Records one enqueue as a graph. The first plain enqueue must have been made.
  void capture();
  // Poisons the outputs and replays the graph; does not wait.
  void replay();
  // Milliseconds of one replay: the median of `count`, each timed by events.
  double replayTime(int count);
  // Waits, then reads the outputs. Throws when a guard band was written.
  Outputs fetch();
  std::vector<float> toFloat(const std::string& output, const std::vector<uint8_t>& bytes) const;

  nvinfer1::IExecutionContext* context() { return mContext.get(); }

 private:
  void poisonOutputs();

  nvinfer1::ICudaEngine* mEngine;
  std::unique_ptr<nvinfer1::IExecutionContext> mContext;
  cudaStream_t mStream = nullptr;
  cudaGraphExec_t mGraph = nullptr;
  std::map<std::string, std::unique_ptr<GuardedBuffer>> mInputs, mOutputs;
};

}  // namespace proof
}  // namespace gspn2
#endif  // GSPN2_PROOF_SESSION_H_
