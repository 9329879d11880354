// One plugin as TensorRT drives it, whichever interface this version has: created from fields,
// asked for shapes, formats and workspace, configured, written into an engine and read back.
#ifndef GSPN2_PROOF_FACE_H_
#define GSPN2_PROOF_FACE_H_

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <vector>

#include "case_file.h"
#include "trt.h"

namespace gspn2 {
namespace proof {

// A node's input with the range of its profile.
struct InputRange {
  Shape smallest, tuned, largest;
};

// What an execution context holds: runs on real buffers.
class Runner {
 public:
  virtual ~Runner() = default;
  // Announces the shapes, as TensorRT does when they change.
  virtual void setShapes(const std::vector<nvinfer1::PluginTensorDesc>& inputs,
                         const std::vector<nvinfer1::PluginTensorDesc>& outputs) = 0;
  // Throws where the plugin reports a failure.
  virtual void enqueue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                       void* workspace, cudaStream_t stream) = 0;
};

// What an engine holds: a plugin that went through its serialized form.
class Layer {
 public:
  virtual ~Layer() = default;
  virtual size_t workspaceBytes() const = 0;
  // The plugin of one more context. The layer must outlive it.
  virtual std::unique_ptr<Runner> makeRunner() = 0;
};

class PluginLibrary {
 public:
  explicit PluginLibrary(const std::string& path);

  // Takes a node from its fields to what an engine holds. Throws where the plugin refuses, or where
  // its answers are not those that the node's definition asks for.
  std::unique_ptr<Layer> makeLayer(const Node& node, const std::vector<InputRange>& inputs,
                                   nvinfer1::DataType type) const;

 private:
  void* mLibrary;
};

}  // namespace proof
}  // namespace gspn2
#endif  // GSPN2_PROOF_FACE_H_
