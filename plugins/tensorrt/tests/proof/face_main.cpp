// face_proof PLUGIN_LIBRARY CASE_DIR...
//
// Drives the plugins of one build as TensorRT does, without TensorRT, on real GPU buffers: create,
// shapes, formats, workspace, serialize and recreate, several contexts on several streams, shapes
// that change, graph capture. Takes the cases of prepare_proof.py that say what their nodes are.
// Prints a line for each node and sample; exits with 1 when one fails.
#include <cstdio>
#include <exception>
#include <map>
#include <stdexcept>

#include "buffers.h"
#include "face.h"

namespace gspn2 {
namespace proof {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginTensorDesc;

constexpr int kContexts = 3;
constexpr int kReplays = 5;

DataType typeOf(const std::string& precision) {
  if (precision == "fp32") return DataType::kFLOAT;
  if (precision == "fp16") return DataType::kHALF;
#if GSPN2_TRT_BF16
  if (precision == "bf16") return DataType::kBF16;
#endif
  throw std::runtime_error("this TensorRT has no " + precision);
}

bool hasType(const std::string& precision) { return GSPN2_TRT_BF16 || precision != "bf16"; }

template <typename Named>
const Named& named(const std::vector<Named>& items, const std::string& name) {
  for (const Named& item : items) {
    if (item.name == name) return item;
  }
  throw std::runtime_error("the case has no " + name);
}

std::vector<InputRange> rangesOf(const Case& test, const Node& node) {
  std::vector<InputRange> ranges;
  for (const std::string& input : node.inputs) {
    const Shape fixed = named(test.samples.front().inputs, input).shape;
    InputRange range{fixed, fixed, fixed};
    for (const ProfileRange& item : test.profile) {
      if (item.input == input) range = {item.smallest, item.tuned, item.largest};
    }
    ranges.push_back(range);
  }
  return ranges;
}

PluginTensorDesc describe(const Shape& shape, DataType type, bool vectorised = false) {
  PluginTensorDesc description{};
  for (const int64_t extent : shape) {
    auto& dims = description.dims;
    dims.d[dims.nbDims++] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(extent);
  }
  description.type = type;
  description.format = vectorised ? nvinfer1::TensorFormat::kHWC8 : nvinfer1::TensorFormat::kLINEAR;
  return description;
}

// One context: its plugin, stream and workspace, fed with one sample after the other.
class Context {
 public:
  Context(Layer* layer, DataType type)
      : mRunner(layer->makeRunner()), mWorkspace(layer->workspaceBytes()), mType(type) {
    checkCuda(cudaStreamCreateWithFlags(&mStream, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~Context() {
    cudaStreamSynchronize(mStream);
    cudaStreamDestroy(mStream);
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Enqueues a sample; does not wait.
  void enqueue(const Node& node, const Sample& sample) {
    bind(node, sample);
    launch();
  }
  // Replays the sample as a graph; does not wait.
  void replay(int count) {
    cudaGraphExec_t graph = captureGraph(mStream, [this] { run(); });
    for (int i = 0; i < count; ++i) {
      poison();
      checkCuda(cudaGraphLaunch(graph, mStream), "cudaGraphLaunch");
    }
    checkCuda(cudaStreamSynchronize(mStream), "waiting for the graph");
    checkCuda(cudaGraphExecDestroy(graph), "cudaGraphExecDestroy");
  }
  // The outputs.
  std::vector<std::vector<uint8_t>> fetch() {
    checkCuda(cudaStreamSynchronize(mStream), "waiting for the stream");
    if (mWorkspace.overrun()) throw std::runtime_error("wrote past the workspace's end");
    std::vector<std::vector<uint8_t>> fetched;
    for (const auto& output : mOutputs) {
      if (output->overrun()) throw std::runtime_error("wrote past the output's end");
      std::vector<uint8_t> bytes(output->bytes());
      checkCuda(cudaMemcpy(bytes.data(), output->data(), bytes.size(), cudaMemcpyDeviceToHost),
                "cudaMemcpy");
      fetched.push_back(mVectorised ? fromVectorised(bytes, mShape) : bytes);
    }
    return fetched;
  }

 private:
  void bind(const Node& node, const Sample& sample) {
    std::vector<PluginTensorDesc> descriptions;
    mBuffers.clear();
    mVectorised = hasVectorisedOutputs(node);
    for (const std::string& name : node.inputs) {
      const InputData& input = named(sample.inputs, name);
      const bool vectorised = node.vectorised && mBuffers.empty();
      descriptions.push_back(describe(input.shape, mType, vectorised));
      const auto bytes = vectorised ? toVectorised(input.bytes, input.shape) : input.bytes;
      mBuffers.push_back(std::make_unique<GuardedBuffer>(bytes.size()));
      mBuffers.back()->upload(bytes);
    }
    mShape = named(sample.outputs, node.outputs[0]).shape;
    // As the first input, which then is x.
    const size_t bytes = mVectorised ? mBuffers.front()->bytes()
                                     : static_cast<size_t>(elements(mShape)) * elementBytes(mType);
    mOutputs.clear();
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      mOutputs.push_back(std::make_unique<GuardedBuffer>(bytes));
    }
    mRunner->setShapes(descriptions, {node.outputs.size(), describe(mShape, mType, mVectorised)});
  }
  void poison() {
    for (const auto& output : mOutputs) output->poison(mStream);
  }
  void launch() {
    poison();
    run();
  }
  void run() {
    std::vector<const void*> inputs;
    for (const auto& buffer : mBuffers) inputs.push_back(buffer->data());
    std::vector<void*> outputs;
    for (const auto& buffer : mOutputs) outputs.push_back(buffer->data());
    mRunner->enqueue(inputs, outputs, mWorkspace.data(), mStream);
  }

  std::unique_ptr<Runner> mRunner;
  GuardedBuffer mWorkspace;
  DataType mType;
  cudaStream_t mStream = nullptr;
  bool mVectorised = false;  // whether the outputs are
  Shape mShape;              // of each output
  std::vector<std::unique_ptr<GuardedBuffer>> mBuffers;
  std::vector<std::unique_ptr<GuardedBuffer>> mOutputs;
};

// Every sample in every context, two contexts a sample apart; then again as a graph.
std::string prove(const PluginLibrary& library, const Case& test, const Node& node) {
  const DataType type = typeOf(test.precision);
  const auto layer = library.makeLayer(node, rangesOf(test, node), type);
  std::vector<std::unique_ptr<Context>> contexts;
  for (int i = 0; i < kContexts; ++i) {
    contexts.push_back(std::make_unique<Context>(layer.get(), type));
  }
  std::map<std::string, std::vector<std::vector<uint8_t>>> first;
  double worst = 0;
  for (size_t round = 0; round < test.samples.size(); ++round) {
    for (size_t i = 0; i < contexts.size(); ++i) {
      contexts[i]->enqueue(node, test.samples[(round + i) % test.samples.size()]);
    }
    for (size_t i = 0; i < contexts.size(); ++i) {
      const Sample& sample = test.samples[(round + i) % test.samples.size()];
      const auto outputs = contexts[i]->fetch();
      for (size_t o = 0; o < outputs.size(); ++o) {
        const std::string& name = node.outputs[o];
        const double error = worstError(toFloat(type, outputs[o]), named(sample.outputs, name));
        if (!(error <= 1)) {
          throw std::runtime_error(sample.name + ", " + name + ": error " + std::to_string(error) +
                                   " of the tolerance");
        }
        worst = std::max(worst, error);
      }
      const auto known = first.emplace(sample.name, outputs).first;
      contexts[i]->replay(kReplays);
      if (known->second != outputs || contexts[i]->fetch() != outputs) {
        throw std::runtime_error(sample.name + ": contexts or a replayed graph differ in bits");
      }
    }
  }
  return "worst error " + std::to_string(worst) + " of the tolerance, workspace " +
         std::to_string(layer->workspaceBytes()) + " bytes";
}

int run(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s PLUGIN_LIBRARY CASE_DIR...\n", argv[0]);
    return 2;
  }
  const PluginLibrary library(argv[1]);
  int failures = 0;
  int proven = 0;
  for (int i = 2; i < argc; ++i) {
    const Case test = readCase(argv[i]);
    if (!hasType(test.precision)) continue;
    for (const Node& node : test.nodes) {
      const std::string what = test.name + ", " + node.op + " " + node.outputs[0];
      try {
        std::printf("ok      %s: %s\n", what.c_str(), prove(library, test, node).c_str());
        ++proven;
      } catch (const std::exception& error) {
        std::printf("FAILED  %s: %s\n", what.c_str(), error.what());
        ++failures;
      }
    }
  }
  const bool passed = failures == 0 && proven > 0;
  std::printf("%s: TensorRT %d.%d interface, %d nodes proven, %d failed\n",
              passed ? "PASS" : "FAIL", NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, proven, failures);
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace proof
}  // namespace gspn2

int main(int argc, char** argv) {
  try {
    return gspn2::proof::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "FAIL: %s\n", error.what());
    return 1;
  }
}
