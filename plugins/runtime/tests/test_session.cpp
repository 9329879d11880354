#include <numeric>
#include <thread>

#include "doubles.h"
#include "harness.h"
#include "session.h"

namespace gspn2 {
namespace runtime {
namespace tests {

// An engine over the doubles. Its plan doubles the first three values of each image.
struct Setup {
  Setup() {
    files.writeAll();
    Options options;
    options.plugin = files.path("p.so");
    engine = std::make_unique<Engine>(
        std::make_shared<Engine::Impl>(loadPlan(files.path("a.plan"), options, platform)));
    setLogSink([](LogLevel, const std::string&) {});
  }
  ~Setup() { setLogSink(nullptr); }

  Session ready(int64_t batch = 2) {
    Session session = engine->createSession();
    session.setInputShape("images", {batch, 2, 2});
    session.bindHost("images", in.data(), in.size() * 4, DataType::kFloat32);
    session.bindHost("scores", out.data(), out.size() * 4, DataType::kFloat32);
    return session;
  }

  Files files;
  FakePlatform platform;
  std::unique_ptr<Engine> engine;
  std::vector<float> in = std::vector<float>(16, 1.5F), out = std::vector<float>(12, -1.0F);
};

GSPN2_TEST(sessionRunsOnHostMemory) {
  Setup setup;
  std::iota(setup.in.begin(), setup.in.end(), 1.0F);
  Session session = setup.ready();
  CHECK(session.shape("scores") == (Shape{2, 3}));
  CHECK_EQ(session.bytes("scores"), 24U);
  session.run();
  CHECK(setup.out == (std::vector<float>{2, 4, 6, 10, 12, 14, -1, -1, -1, -1, -1, -1}));
  CHECK_EQ(setup.platform.gpu->waits.load(), 1);
}

GSPN2_TEST(sessionRunsOnDeviceMemory) {
  Setup setup;
  FakeDevice& gpu = *setup.platform.gpu;
  auto* in = static_cast<float*>(gpu.allocate(64));
  auto* out = static_cast<float*>(gpu.allocate(64));
  std::fill_n(in, 16, 3.0F);
  Session session = setup.engine->createSession();
  session.setInputShape("images", {1, 2, 2});
  session.bindDevice("images", in, 64, DataType::kFloat32);
  session.bindDevice("scores", out, 64, DataType::kFloat32);
  const int before = gpu.allocations;
  session.enqueue(nullptr);
  CHECK_EQ(out[2], 6.0F);
  CHECK_EQ(gpu.allocations.load(), before);
  CHECK_EQ(gpu.waits.load(), 0);
  gpu.release(in);
  checkRefused(ErrorKind::kBinding, [&] { session.enqueue(nullptr); },
               {"the GPU cannot reach the buffer of \"images\"", "freed"});
  gpu.release(out);
}

GSPN2_TEST(sessionAsksNothingOfPointersWhileCapturing) {
  Setup setup;
  alignas(256) float mine[64] = {};
  Session session = setup.engine->createSession();
  session.setInputShape("images", {1, 2, 2});
  session.bindDevice("images", mine, 128, DataType::kFloat32);
  session.bindDevice("scores", mine, 128, DataType::kFloat32);
  checkRefused(ErrorKind::kBinding, [&] { session.enqueue(nullptr); }, {"cannot reach"});
  setup.platform.gpu->isCapturing = true;
  session.enqueue(nullptr);
}

GSPN2_TEST(sessionReshapes) {
  Setup setup;
  Session session = setup.ready(1);
  session.run();
  session.setInputShape("images", {4, 2, 2});
  CHECK(session.shape("scores") == (Shape{4, 3}));
  session.run();
  CHECK_EQ(setup.out[11], 3.0F);
}

GSPN2_TEST(sessionRefusesShapes) {
  Setup setup;
  Session session = setup.engine->createSession();
  const auto refused = [&](const Shape& shape, const std::vector<std::string>& parts) {
    checkRefused(ErrorKind::kShape, [&] { session.setInputShape("images", shape); }, parts);
  };
  refused({5, 2, 2}, {"(5, 2, 2)", "(1, 2, 2) to (4, 2, 2)", "wider --profile"});
  refused({0, 2, 2}, {"the profile's range"});
  refused({-1, 2, 2}, {"the profile's range"});
  refused({1, 3, 2}, {"images: float32 (?, 2, 2)"});
  refused({1, 2}, {"pass 3 extents"});
  refused({}, {"pass 3 extents"});
  checkRefused(ErrorKind::kShape, [&] { session.shape("scores"); },
               {"the shape of the input \"images\" is not set"});
  checkRefused(ErrorKind::kInvalidArgument, [&] { session.setInputShape("scores", {1, 3}); },
               {"follows from the inputs'"});
  checkRefused(ErrorKind::kInvalidArgument, [&] { session.setInputShape("image", {1, 2, 2}); },
               {"no tensor of that name", "images: float32 (?, 2, 2); scores"});
  setup.platform.engine.refuseShape = true;
  refused({1, 2, 2}, {"TensorRT says no"});
}

GSPN2_TEST(sessionRefusesBuffers) {
  Setup setup;
  Session session = setup.engine->createSession();
  alignas(256) char buffer[512];
  checkRefused(ErrorKind::kDtype,
               [&] { session.bindHost("images", buffer, 512, DataType::kFloat16); },
               {"float16", "float32"});
  checkRefused(ErrorKind::kBinding,
               [&] { session.bindHost("images", nullptr, 512, DataType::kFloat32); }, {"null"});
  checkRefused(ErrorKind::kBinding,
               [&] { session.bindHost("images", buffer, 0, DataType::kFloat32); }, {"empty"});
  checkRefused(ErrorKind::kBinding,
               [&] { session.bindDevice("images", buffer + 4, 512, DataType::kFloat32); },
               {"4 bytes past a multiple of 256"});
  session.setInputShape("images", {2, 2, 2});
  session.bindHost("images", buffer, 31, DataType::kFloat32);
  checkRefused(ErrorKind::kBinding, [&] { session.run(); }, {"31 bytes", "32 bytes for (2, 2, 2)"});
  session.bindHost("images", buffer, 32, DataType::kFloat32);
  checkRefused(ErrorKind::kBinding, [&] { session.run(); }, {"\"scores\" has no buffer"});
}

GSPN2_TEST(sessionReportsRefusals) {
  Setup setup;
  FakeEngine& engine = setup.platform.engine;
  Session session = setup.ready();
  engine.refuseEnqueue = true;
  checkRefused(ErrorKind::kExecution, [&] { session.run(); }, {"TensorRT stumbled"});
  engine.refuseAddress = true;
  checkRefused(ErrorKind::kBinding, [&] { session.run(); }, {"refused the buffer"});
  engine.refuseContext = true;
  checkRefused(ErrorKind::kEngine, [&] { setup.engine->createSession(); }, {"another session"});
  for (const int32_t profile : {-1, 1}) {
    checkRefused(ErrorKind::kInvalidArgument, [&] { setup.engine->createSession(profile); },
                 {"no profile of that number", std::to_string(profile)});
  }
  CHECK_EQ(setup.platform.gpu->streams.load(), 1);  // that of the one session
}

GSPN2_TEST(sessionKeepsItsEngineAndFreesEverything) {
  Setup setup;
  FakeDevice& gpu = *setup.platform.gpu;
  {
    Session session = setup.ready();
    setup.engine.reset();
    CHECK_EQ(setup.platform.engine.plans.load(), 1);
    Session moved = std::move(session);
    moved.run();
    CHECK(!gpu.live.empty());
  }
  CHECK_EQ(setup.platform.engine.plans.load(), 0);
  CHECK_EQ(setup.platform.engine.contexts.load(), 0);
  CHECK_EQ(gpu.streams.load(), 0);
  CHECK(gpu.live.empty());
}

GSPN2_TEST(sessionsRunInThreads) {
  Setup setup;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<float> in(16, static_cast<float>(t)), out(12);
      for (int i = 0; i < 50; ++i) {
        Session session = setup.engine->createSession();
        session.setInputShape("images", {1 + i % 4, 2, 2});
        session.bindHost("images", in.data(), 64, DataType::kFloat32);
        session.bindHost("scores", out.data(), 48, DataType::kFloat32);
        session.run();
        if (out[static_cast<size_t>(i % 4) * 3] != 2 * static_cast<float>(t)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK_EQ(setup.platform.engine.contexts.load(), 0);
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
