#include <thread>

#include "c_caller.h"
#include "doubles.h"
#include "harness.h"

namespace gspn2 {
namespace runtime {
namespace tests {

// The machine that the C API opens engines on, and what a C application is told of it.
struct CSetup {
  CSetup() {
    files.writeAll();
    machine.bundle = files.folder().c_str();
    machine.plan = plan.c_str();
    machine.plugin = plugin.c_str();
    machine.library = "libneeded.so";
    machine.images = static_cast<float*>(platform.gpu->allocate(64));
    machine.scores = static_cast<float*>(platform.gpu->allocate(64));
    machine.unreachable = hostMemory;
    machine.stream = platform.gpu->createStream();
    testPlatform() = &platform;
    setLogSink([](LogLevel, const std::string&) {});
  }
  ~CSetup() {
    setLogSink(nullptr);
    testPlatform() = nullptr;
    platform.gpu->destroyStream(machine.stream);
    platform.gpu->release(machine.images);
    platform.gpu->release(machine.scores);
  }

  // What the application does holds, and nothing of it is left on the machine.
  void run(const char* (*application)(const c_machine_t*)) {
    const char* unmet = application(&machine);
    if (unmet != nullptr) throw CheckFailed(unmet);
    CHECK_EQ(platform.engine.contexts.load(), 0);
    CHECK_EQ(platform.engine.plans.load(), 0);
    CHECK_EQ(platform.gpu->streams.load(), 1);  // the application's own
    CHECK_EQ(platform.gpu->live.size(), 2U);
  }

  Files files;
  FakePlatform platform;
  std::string plan = files.path("a.plan"), plugin = files.path("p.so");
  c_machine_t machine = {};
  alignas(256) char hostMemory[64];
};

GSPN2_TEST(cCallerDescribesTheEngine) { CSetup().run(c_caller_describes_the_engine); }

GSPN2_TEST(cCallerRunsOnHostMemory) {
  CSetup setup;
  setup.run(c_caller_runs_on_host_memory);
  CHECK(setup.platform.opened == (std::vector<std::string>{"libneeded.so", setup.plugin}));
  CHECK_EQ(setup.platform.gpu->waits.load(), 1);
}

GSPN2_TEST(cCallerRunsOnDeviceMemory) {
  CSetup setup;
  setup.run(c_caller_runs_on_device_memory);
  CHECK_EQ(setup.platform.engine.stream.load(), setup.machine.stream);
  CHECK_EQ(setup.platform.gpu->waits.load(), 0);
  CHECK_EQ(setup.platform.gpu->allocations.load(), 2);  // the application's own
}

GSPN2_TEST(cCallerFreesInAnyOrder) { CSetup().run(c_caller_frees_in_any_order); }

GSPN2_TEST(cCallerIsRefusedEngines) { CSetup().run(c_caller_is_refused_engines); }

GSPN2_TEST(cCallerIsRefusedDescriptions) { CSetup().run(c_caller_is_refused_descriptions); }

GSPN2_TEST(cCallerIsRefusedShapes) { CSetup().run(c_caller_is_refused_shapes); }

GSPN2_TEST(cCallerIsRefusedBuffers) { CSetup().run(c_caller_is_refused_buffers); }

GSPN2_TEST(cCallerIsRefusedRuns) { CSetup().run(c_caller_is_refused_runs); }

GSPN2_TEST(cCallerIsRefusedNullSessions) { CSetup().run(c_caller_is_refused_null_sessions); }

GSPN2_TEST(cCallerReadsItsOwnThreadsError) {
  CHECK_EQ(gspn2_session_run(nullptr), GSPN2_RUNTIME_INVALID_ARGUMENT);
  std::string others = "not read";
  std::thread([&] { others = gspn2_runtime_last_error(); }).join();
  CHECK_EQ(others, "");
  CHECK_EQ(std::string(gspn2_runtime_last_error()), "session is null");
}

GSPN2_TEST(cCallerIsToldOfTheMachinesFailures) {
  CSetup setup;
  gspn2_engine_t* engine = nullptr;
  const auto open = [&] {
    return gspn2_engine_open_bundle(setup.machine.bundle, nullptr, &engine);
  };
  setup.platform.hasGpu = false;
  CHECK_EQ(open(), GSPN2_RUNTIME_NO_GPU);
  setup.platform.hasGpu = true;
  setup.platform.refusePlan = true;
  CHECK_EQ(open(), GSPN2_RUNTIME_ENGINE);
  CHECK(std::string(gspn2_runtime_last_error()).find("the plan is not mine") != std::string::npos);
}

GSPN2_TEST(cCallerIsRefusedTensorsOfTooManyAxes) {
  CSetup setup;
  const std::string flat = R"(["batch", 3])", deep = R"(["batch", 3, 1, 1, 1, 1, 1, 1, 1])";
  std::string manifest = setup.files.manifest();
  setup.files.write("a.plan.json", manifest.replace(manifest.find(flat), flat.size(), deep));
  setup.platform.engine.tensors[1].shape = {-1, 3, 1, 1, 1, 1, 1, 1, 1};
  gspn2_runtime_options_t options = {};
  options.plugin = setup.machine.plugin;
  gspn2_engine_t* engine = nullptr;
  CHECK_EQ(gspn2_engine_load(setup.machine.plan, &options, &engine), GSPN2_RUNTIME_OK);
  gspn2_runtime_tensor_t tensor;
  const gspn2_runtime_status_t status = gspn2_engine_tensor(engine, 1, &tensor);
  gspn2_engine_free(engine);
  CHECK_EQ(status, GSPN2_RUNTIME_SHAPE);
  CHECK(std::string(gspn2_runtime_last_error()).find("at most 8") != std::string::npos);
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
