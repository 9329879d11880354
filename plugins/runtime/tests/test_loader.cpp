#include "doubles.h"
#include "harness.h"
#include "loader.h"

namespace gspn2 {
namespace runtime {
namespace tests {

// A folder, a machine, and what is wrong with either.
struct World {
  World() {
    files.writeAll();
    options.plugin = files.path("p.so");
  }
  void load() { loadPlan(files.path("a.plan"), options, platform); }
  void open() { loadBundle(files.folder(), options, platform); }
  void refused(ErrorKind kind, const std::vector<std::string>& parts) {
    checkRefused(kind, [&] { load(); }, parts);
    CHECK_EQ(platform.deserialised, 0);  // nothing reached TensorRT
  }

  Files files;
  FakePlatform platform;
  Options options;
};

GSPN2_TEST(loaderLoads) {
  World world;
  const Loaded loaded = loadPlan(world.files.path("a.plan"), world.options, world.platform);
  CHECK_EQ(loaded.tensors.size(), 2U);
  CHECK_EQ(loaded.tensors[0].name, "images");
  CHECK_EQ(world.platform.deserialised, 1);
}

GSPN2_TEST(loaderOpensBundles) {
  World world;
  world.options.plugin.clear();
  world.open();
  CHECK_EQ(world.platform.opened.size(), 2U);
  CHECK_EQ(world.platform.opened[0], world.files.path("k.so"));
  CHECK_EQ(world.platform.opened[1], world.files.path("p.so"));
}

GSPN2_TEST(loaderPrefersTheCallersPlugin) {
  World world;
  world.options.plugin = "/elsewhere/mine.so";
  world.open();
  CHECK_EQ(world.platform.opened.size(), 1U);
  CHECK_EQ(world.platform.opened[0], "/elsewhere/mine.so");
}

GSPN2_TEST(loaderNamesAlteredPlans) {
  World world;
  world.files.write("a.plan", "the plan's bytez");
  world.refused(ErrorKind::kAltered, {"a.plan is altered: its SHA-256 is"});
  world.files.write("a.plan", "the plan");
  world.refused(ErrorKind::kAltered, {"truncated: 8 bytes instead of 16"});
  world.files.write("a.plan", "the plan's bytes and more");
  world.refused(ErrorKind::kAltered, {"altered: 25 bytes instead of 16"});
}

GSPN2_TEST(loaderNamesMissingFiles) {
  World world;
  checkRefused(ErrorKind::kFile, [&] { loadPlan("/nowhere/a.plan", {}, world.platform); },
               {"the manifest cannot be read", "/nowhere/a.plan.json", "No such file"});
  std::remove(world.files.path("a.plan").c_str());
  world.refused(ErrorKind::kFile, {"the plan cannot be read"});
  checkRefused(ErrorKind::kFile, [&] { world.open(); }, {"the plan cannot be read"});
  std::remove(world.files.path("p.so").c_str());
  world.options.plugin.clear();
  checkRefused(ErrorKind::kFile, [&] { world.open(); }, {"p.so"});
  checkRefused(ErrorKind::kFile, [&] { loadBundle("/nowhere", {}, world.platform); },
               {"the bundle's list of files cannot be read"});
  checkRefused(ErrorKind::kFile, [&] { loadPlan(world.files.folder(), {}, world.platform); },
               {"the manifest cannot be read"});
}

GSPN2_TEST(loaderNamesAlteredBundleFiles) {
  for (const char* name : {"p.so", "k.so", "a.plan.json", "a.plan"}) {
    World world;
    world.options.plugin.clear();
    std::string content = name == std::string("a.plan.json") ? world.files.manifest() : "plugin";
    world.files.write(name, content + " ");
    checkRefused(ErrorKind::kAltered, [&] { world.open(); }, {name, " is "});
    CHECK_EQ(world.platform.deserialised, 0);
    CHECK(world.platform.opened.empty() || name == std::string("a.plan"));
  }
}

// A plan swapped together with its manifest: only bundle.json still knows.
GSPN2_TEST(loaderHoldsTheManifestAgainstTheBundle) {
  World world;
  const std::string before = world.files.bundle();
  world.files.plan = "another plan....";
  world.files.writeAll();
  world.files.write("bundle.json", before);
  checkRefused(ErrorKind::kAltered, [&] { world.open(); }, {"a.plan.json is altered"});
}

GSPN2_TEST(loaderNamesVersions) {
  World world;
  world.platform.version = {8, 6, 1};
  world.refused(ErrorKind::kVersion, {"got:      TensorRT 8.6.1", "expected: TensorRT 8.6.0"});
}

GSPN2_TEST(loaderNamesGpus) {
  World world;
  world.platform.gpu->capability = "8.6";
  world.refused(ErrorKind::kGpu, {"compute capability 8.6", "compute capability 8.9, 9.0"});
  world.platform.hasGpu = false;
  world.refused(ErrorKind::kNoGpu, {"no GPU can be used"});
}

GSPN2_TEST(loaderNamesMissingTensorRT) {
  World world;
  world.platform.hasTensorRT = false;
  world.refused(ErrorKind::kLibrary, {"TensorRT cannot be loaded"});
}

GSPN2_TEST(loaderNamesMissingPlugins) {
  World world;
  world.options.plugin.clear();
  world.refused(ErrorKind::kPlugin,
                {"GspnProp2D (version \"1\", namespace \"\") missing", "Options::plugin"});
  world.options.plugin = "/elsewhere/mine.so";
  world.platform.pluginsInLibrary = {"GspnLineScan"};
  world.refused(ErrorKind::kPlugin, {"missing after loading /elsewhere/mine.so"});
}

// One that the process has registered itself is as good.
GSPN2_TEST(loaderUsesRegisteredPlugins) {
  World world;
  world.options.plugin.clear();
  world.platform.registered.insert("GspnProp2D1");
  world.load();
  CHECK(world.platform.opened.empty());
}

GSPN2_TEST(loaderTakesCompatiblePlans) {
  World world;
  world.files.options =
      R"({"version_compatible": true, "hardware_compatibility": "ampere-plus",
          "exclude_lean_runtime": false, "embed_plugin": false, "weights": "fixed",
          "tactic_sources": null})";
  world.files.writeAll();
  world.platform.version = {8, 6, 1};
  world.platform.gpu->capability = "12.0";
  world.load();
  CHECK(world.platform.hostCodeAllowed);
  world.platform.deserialised = 0;
  world.platform.version = {8, 5, 3};  // an earlier one
  world.refused(ErrorKind::kVersion, {"TensorRT 8.6.0 or a later one of that major version"});
  world.platform.version = {10, 0, 0};
  world.refused(ErrorKind::kVersion, {"TensorRT 10.0.0"});
  world.platform.version = {8, 6, 0};
  world.platform.gpu->capability = "7.5";
  world.refused(ErrorKind::kGpu, {"compute capability 7.5", "or any from 8.0 on"});
}

GSPN2_TEST(loaderNeedsTheLeanRuntimeForLaterVersions) {
  World world;
  world.files.options = R"({"version_compatible": true, "exclude_lean_runtime": true})";
  world.files.writeAll();
  world.load();  // the very version needs none
  CHECK(!world.platform.hostCodeAllowed);
  world.platform.deserialised = 0;
  world.platform.version = {8, 6, 1};
  world.refused(ErrorKind::kVersion, {"TensorRT 8.6.1"});
}

GSPN2_TEST(loaderTakesThePluginOutOfThePlan) {
  World world;
  world.files.options = R"({"embed_plugin": true})";
  world.files.writeAll();
  world.refused(ErrorKind::kPlugin, {"the plan carries its plugin", "leave Options::plugin empty"});
  world.options.plugin.clear();
  world.load();
  CHECK(world.platform.hostCodeAllowed);
  CHECK(world.platform.opened.empty());
}

GSPN2_TEST(loaderRefusesPlansWithoutWeights) {
  World world;
  world.files.options = R"({"weights": "stripped"})";
  world.files.writeAll();
  world.refused(ErrorKind::kManifest, {"the plan's weights were left out"});
}

GSPN2_TEST(loaderNamesEverythingAtOnce) {
  World world;
  world.files.write("a.plan", "short");
  world.platform.version = {8, 5, 3};
  world.platform.gpu->capability = "7.5";
  world.platform.pluginsInLibrary.clear();
  world.refused(ErrorKind::kAltered, {"truncated", "TensorRT 8.5.3", "GspnProp2D", "7.5",
                                      "does not fit this machine or its manifest"});
}

GSPN2_TEST(loaderPassesOnWhatTensorRTSays) {
  World world;
  setLogSink([](LogLevel, const std::string&) {});
  world.platform.refusePlan = true;
  checkRefused(ErrorKind::kEngine, [&] { world.load(); },
               {"TensorRT refused the plan", "the plan is not mine"});
  setLogSink(nullptr);
}

GSPN2_TEST(loaderHoldsTensorsAgainstTheManifest) {
  World world;
  world.files.inputDtype = "float16";
  world.files.writeAll();
  checkRefused(ErrorKind::kManifest, [&] { world.load(); },
               {"input images: float32 of rank 3", "input images: float16 of rank 3"});
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
