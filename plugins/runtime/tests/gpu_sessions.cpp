// gpu_sessions BUNDLE [TENSORRT]
//
// Runs a real engine on a GPU in every way that the runtime offers, and holds the ways against each
// other: host memory, device memory, page-locked memory in a CUDA graph, several sessions at once
// in threads. Then what must be refused. The engine needs one float32 input with a dynamic batch.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>

#include "harness.h"

namespace gspn2 {
namespace runtime {
namespace tests {
namespace {

void checkCuda(cudaError_t status) {
  if (status != cudaSuccess) throw CheckFailed(cudaGetErrorString(status));
}

struct Setup {
  explicit Setup(const Engine& opened) : engine(opened) {
    for (const TensorInfo& tensor : engine.tensors()) {
      (tensor.isInput ? input : output) = tensor.name;
    }
    range = engine.profileShape(0, input);
  }

  Session session(const Shape& shape) const {
    Session created = engine.createSession();
    created.setInputShape(input, shape);
    return created;
  }

  // Something else for each seed.
  std::vector<float> values(const Session& session, int seed) const {
    std::vector<float> made(session.bytes(input) / sizeof(float));
    for (size_t i = 0; i < made.size(); ++i) {
      made[i] = std::sin(0.37F * static_cast<float>(i) + static_cast<float>(seed));
    }
    return made;
  }

  Engine engine;
  std::string input, output;
  ShapeRange range;
};

std::vector<char> onHost(const Setup& setup, const Shape& shape, int seed) {
  Session session = setup.session(shape);
  std::vector<float> in = setup.values(session, seed);
  std::vector<char> out(session.bytes(setup.output), 1);
  session.bindHost(setup.input, in.data(), in.size() * sizeof(float), DataType::kFloat32);
  session.bindHost(setup.output, out.data(), out.size(), setup.engine.tensor(setup.output).dtype);
  session.run();
  return out;
}

void deviceMemoryGivesTheSame(const Setup& setup) {
  Session session = setup.session(setup.range.max);
  const std::vector<float> in = setup.values(session, 1);
  std::vector<char> out(session.bytes(setup.output));
  void *deviceIn = nullptr, *deviceOut = nullptr;
  cudaStream_t stream = nullptr;
  checkCuda(cudaStreamCreate(&stream));
  checkCuda(cudaMalloc(&deviceIn, in.size() * sizeof(float)));
  checkCuda(cudaMalloc(&deviceOut, out.size()));
  checkCuda(cudaMemcpy(deviceIn, in.data(), in.size() * sizeof(float), cudaMemcpyHostToDevice));
  const DataType dtype = setup.engine.tensor(setup.output).dtype;
  session.bindDevice(setup.input, deviceIn, in.size() * sizeof(float), DataType::kFloat32);
  session.bindDevice(setup.output, deviceOut, out.size(), dtype);
  session.enqueue(stream);
  checkCuda(cudaMemcpyAsync(out.data(), deviceOut, out.size(), cudaMemcpyDeviceToHost, stream));
  checkCuda(cudaStreamSynchronize(stream));
  CHECK(out == onHost(setup, setup.range.max, 1));

  checkCuda(cudaFree(deviceIn));
  checkRefused(ErrorKind::kBinding, [&] { session.enqueue(stream); }, {"freed"});
  checkCuda(cudaGetLastError());
  alignas(256) static char host[256];
  session.bindDevice(setup.output, host, sizeof(host), dtype);
  checkRefused(ErrorKind::kBinding, [&] { session.enqueue(stream); }, {});
  checkCuda(cudaFree(deviceOut));
  checkCuda(cudaStreamDestroy(stream));
}

void graphsGiveTheSame(const Setup& setup) {
  Session session = setup.session(setup.range.min);
  const std::vector<float> first = setup.values(session, 2), second = setup.values(session, 3);
  const size_t inBytes = first.size() * sizeof(float), outBytes = session.bytes(setup.output);
  void *in = nullptr, *out = nullptr;
  checkCuda(cudaMallocHost(&in, inBytes));
  checkCuda(cudaMallocHost(&out, outBytes));
  session.bindHost(setup.input, in, inBytes, DataType::kFloat32);
  session.bindHost(setup.output, out, outBytes, setup.engine.tensor(setup.output).dtype);
  std::memcpy(in, first.data(), inBytes);
  session.run();
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  checkCuda(cudaStreamCreate(&stream));
  checkCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  session.enqueue(stream);
  checkCuda(cudaStreamEndCapture(stream, &graph));
  checkCuda(cudaGraphInstantiateWithFlags(&replay, graph, 0));
  std::memcpy(in, second.data(), inBytes);
  checkCuda(cudaGraphLaunch(replay, stream));
  checkCuda(cudaStreamSynchronize(stream));
  const std::vector<char> expected = onHost(setup, setup.range.min, 3);
  CHECK(expected != onHost(setup, setup.range.min, 2));
  CHECK_EQ(std::memcmp(out, expected.data(), outBytes), 0);
  checkCuda(cudaGraphExecDestroy(replay));
  checkCuda(cudaGraphDestroy(graph));
  checkCuda(cudaStreamDestroy(stream));
  checkCuda(cudaFreeHost(in));
  checkCuda(cudaFreeHost(out));
}

void threadsGiveTheSame(const Setup& setup) {
  constexpr int kThreads = 4, kRounds = 20;
  std::vector<std::string> wrong(kThreads);
  std::vector<std::vector<char>> expected;
  for (int seed = 0; seed < kThreads; ++seed) {
    expected.push_back(onHost(setup, setup.range.opt, seed));
  }
  std::vector<std::thread> threads;
  for (int seed = 0; seed < kThreads; ++seed) {
    threads.emplace_back([&, seed] {
      try {
        const auto index = static_cast<size_t>(seed);
        for (int i = 0; i < kRounds; ++i) {
          if (onHost(setup, setup.range.opt, seed) != expected[index])
            wrong[index] = "other values";
        }
      } catch (const std::exception& error) {
        wrong[static_cast<size_t>(seed)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& reason : wrong) CHECK_EQ(reason, "");
}

void wrongUseIsRefused(const Setup& setup) {
  Session session = setup.engine.createSession();
  Shape large = setup.range.max;
  ++large[0];
  checkRefused(ErrorKind::kShape, [&] { session.setInputShape(setup.input, large); }, {"profile"});
  checkRefused(ErrorKind::kShape, [&] { session.bytes(setup.output); }, {"is not set"});
  session.setInputShape(setup.input, setup.range.min);
  checkRefused(ErrorKind::kBinding, [&] { session.run(); }, {"no buffer"});
  char buffer[1];
  checkRefused(ErrorKind::kDtype,
               [&] { session.bindHost(setup.input, buffer, 1, DataType::kInt8); }, {"int8"});
}

int runAll(const Setup& setup) {
  const std::pair<const char*, void (*)(const Setup&)> steps[] = {
      {"device memory", deviceMemoryGivesTheSame},
      {"CUDA graphs", graphsGiveTheSame},
      {"threads", threadsGiveTheSame},
      {"wrong use", wrongUseIsRefused}};
  int failures = 0;
  for (const auto& [name, step] : steps) {
    try {
      step(setup);
      std::printf("ok      %s\n", name);
    } catch (const std::exception& error) {
      std::printf("FAILED  %s: %s\n", name, error.what());
      ++failures;
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tests
}  // namespace runtime
}  // namespace gspn2

int main(int argc, char** argv) {
  using namespace gspn2::runtime::tests;
  if (argc < 2) return 2;
  gspn2::Options options;
  if (argc > 2) options.tensorrt = argv[2];
  try {
    return runAll(Setup(gspn2::Engine::openBundle(argv[1], options)));
  } catch (const gspn2::Error& error) {
    std::printf("%s\n%s\n", gspn2::errorKindName(error.kind()), error.what());
    return 3;
  }
}
