// Building an engine from a case with the plugin, and loading it again. TensorRT is opened by name
// when the program runs, so that the program builds where only its headers are.
#ifndef GSPN2_PROOF_ENGINE_H_
#define GSPN2_PROOF_ENGINE_H_

#include <NvInfer.h>

#include <memory>
#include <string>
#include <vector>

#include "case_file.h"

namespace gspn2 {
namespace proof {

// Keeps errors, prints them and warnings.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override;
  std::vector<std::string> mMessages;
};

class TensorRT {
 public:
  // Opens libnvinfer and libnvonnxparser, and registers the plugin library's creators.
  TensorRT(const std::string& pluginPath, Logger* logger);

  // The serialized engine, and the names of its plugin layers. Throws when one is missing or the
  // build fails.
  std::vector<uint8_t> build(const Case& test, std::vector<std::string>* pluginLayers) const;
  std::unique_ptr<nvinfer1::ICudaEngine> load(const std::vector<uint8_t>& plan) const;
  std::string version() const { return mVersion; }

 private:
  std::vector<std::string> parse(nvinfer1::INetworkDefinition* network, const Case& test) const;

  Logger* mLogger;
  std::string mVersion;
  void* mInfer;
  void* mParser;
  std::unique_ptr<nvinfer1::IRuntime> mRuntime;
};

}  // namespace proof
}  // namespace gspn2
#endif  // GSPN2_PROOF_ENGINE_H_
