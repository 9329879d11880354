// engine_proof PLUGIN_LIBRARY OUT_DIR CASE_DIR...
//
// For every case: builds an engine with the plugin, loads it from its bytes alone, and proves that
// the plugin layers run, that every sample's outputs are as expected, that several contexts on
// several streams and replayed CUDA graphs give the same bits, and that nothing is written past an
// output. Prints a line for each check, writes plans, layer lists and proof.json to OUT_DIR, and
// exits with 1 when a check fails.
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <set>
#include <sstream>

#include "engine.h"
#include "session.h"

namespace gspn2 {
namespace proof {
namespace {

constexpr int kRepeats = 20;
constexpr int kTimedReplays = 200;

// Collects the verdicts of one case.
class Report {
 public:
  explicit Report(std::string name) : mName(std::move(name)) {}

  void check(bool passed, const std::string& what) {
    std::printf("%-7s %s: %s\n", passed ? "ok" : "FAILED", mName.c_str(), what.c_str());
    std::fflush(stdout);
    mFailures += passed ? 0 : 1;
    ++mChecks;
  }
  void note(const std::string& key, const std::string& json) {
    mNotes += ", \"" + key + "\": " + json;
  }
  int failures() const { return mFailures; }
  std::string json() const {
    return "{\"case\": \"" + mName + "\", \"checks\": " + std::to_string(mChecks) +
           ", \"failures\": " + std::to_string(mFailures) + mNotes + "}";
  }

 private:
  std::string mName;
  std::string mNotes;
  int mChecks = 0;
  int mFailures = 0;
};

// The plugin's share of a layer-by-layer timed run: proof that its layers execute.
class PluginTimer : public nvinfer1::IProfiler {
 public:
  explicit PluginTimer(const std::vector<std::string>& layers)
      : mKnown(layers.begin(), layers.end()) {}
  void reportLayerTime(const char* layerName, float milliseconds) noexcept override {
    mTotal += milliseconds;
    if (mKnown.count(layerName) == 0 || milliseconds <= 0) return;
    mRan.insert(layerName);
    mPlugins += milliseconds;
  }
  std::set<std::string> mKnown, mRan;
  float mPlugins = 0, mTotal = 0;
};

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, value);
  return text;
}

void compare(const Sample& sample, Session* session, const Outputs& got, Report* report) {
  for (const ExpectedOutput& expected : sample.outputs) {
    const std::vector<float> values = session->values(expected.name, got.at(expected.name));
    const double worst = worstError(values, expected);
    report->check(worst <= 1, sample.name + ", " + expected.name + " " + toString(expected.shape) +
                                  ": worst error " + format("%.3f", worst) + " of the tolerance");
  }
}

void proveLayers(nvinfer1::ICudaEngine* engine, const Case& test,
                 const std::vector<std::string>& layers, Report* report) {
  Session session(engine, test.samples.front());
  PluginTimer timer(layers);
  session.context()->setProfiler(&timer);
  session.enqueue();
  session.fetch();
  report->check(timer.mRan == timer.mKnown, std::to_string(timer.mRan.size()) + " of " +
                                                std::to_string(timer.mKnown.size()) +
                                                " plugin layers ran");
  report->note("plugin_share_first_run", format("%.4f", timer.mPlugins / timer.mTotal));
}

// Every sample at once, each on its own stream, again and again: all give their first bits.
void proveStreams(nvinfer1::ICudaEngine* engine, const Case& test,
                  const std::vector<Outputs>& first, Report* report) {
  std::vector<std::unique_ptr<Session>> sessions;
  for (int copy = 0; copy < 2; ++copy) {
    for (const Sample& sample : test.samples) {
      sessions.push_back(std::make_unique<Session>(engine, sample));
    }
  }
  bool same = true;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    for (auto& session : sessions) session->enqueue();
    for (size_t i = 0; i < sessions.size(); ++i) {
      same = sessions[i]->fetch() == first[i % first.size()] && same;
    }
  }
  report->check(same, std::to_string(sessions.size()) + " contexts on as many streams, " +
                          std::to_string(kRepeats) + " times: the same bits");
}

void proveGraph(Session* session, const Sample& sample, const Outputs& first, Report* report) {
  session->capture();
  bool same = true;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    session->replay();
    same = session->fetch() == first && same;
  }
  report->check(same, sample.name + ": a captured graph gives the same bits");
  report->note("graph_ms_" + sample.name, format("%.5f", session->replayTime(kTimedReplays)));
}

void writeFile(const std::string& path, const void* data, size_t bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  if (!stream) throw std::runtime_error("cannot write " + path);
}

void prove(const TensorRT& tensorrt, const Case& test, const std::string& out, Report* report) {
  const auto began = std::chrono::steady_clock::now();
  std::vector<std::string> pluginLayers;
  const std::vector<uint8_t> plan = tensorrt.build(test, &pluginLayers);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
  report->check(true, "built with " + std::to_string(test.plugins) + " plugin layers in " +
                          format("%.1f s", seconds.count()));
  report->note("build_seconds", format("%.1f", seconds.count()));
  const auto engine = tensorrt.load(plan);
  const std::unique_ptr<nvinfer1::IEngineInspector> inspector(engine->createEngineInspector());
  const std::string layers =
      inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON);
  writeFile(out + "/" + test.name + ".layers.json", layers.data(), layers.size());
  proveLayers(engine.get(), test, pluginLayers, report);
  std::vector<Outputs> first;
  for (const Sample& sample : test.samples) {
    Session session(engine.get(), sample);
    session.enqueue();
    first.push_back(session.fetch());
    compare(sample, &session, first.back(), report);
    proveGraph(&session, sample, first.back(), report);
  }
  proveStreams(engine.get(), test, first, report);
}

int run(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s PLUGIN_LIBRARY OUT_DIR CASE_DIR...\n", argv[0]);
    return 2;
  }
  Logger logger;
  const TensorRT tensorrt(argv[1], &logger);
  const std::string out = argv[2];
  std::string json;
  int failures = 0;
  for (int i = 3; i < argc; ++i) {
    const Case test = readCase(argv[i]);
    if (!GSPN2_TRT_BF16 && test.precision == "bf16") {
      std::printf("skipped %s: this TensorRT has no bfloat16\n", test.name.c_str());
      continue;
    }
    if (test.model.empty()) {
      std::printf("skipped %s: it has no network\n", test.name.c_str());
      continue;
    }
    Report report(test.name);
    try {
      prove(tensorrt, test, out, &report);
    } catch (const std::exception& error) {
      report.check(false, error.what());
    }
    report.check(logger.mMessages.empty(), "TensorRT logged no error");
    logger.mMessages.clear();
    failures += report.failures();
    json += (json.empty() ? "" : ",\n  ") + report.json();
  }
  json = "{\"tensorrt\": " + tensorrt.version() + ", \"cases\": [\n  " + json + "\n]}\n";
  writeFile(out + "/proof.json", json.data(), json.size());
  std::printf("%s: %d failed\n", failures == 0 ? "PASS" : "FAIL", failures);
  return failures == 0 ? 0 : 1;
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
