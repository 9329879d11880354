// One execution context with its own stream and buffers.
#ifndef GSPN2_PROOF_SESSION_H_
#define GSPN2_PROOF_SESSION_H_

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "buffers.h"
#include "case_file.h"

namespace gspn2 {
namespace proof {

using Outputs = std::map<std::string, std::vector<uint8_t>>;

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
  std::vector<float> values(const std::string& output, const std::vector<uint8_t>& bytes) const;

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
