#include "doubles.h"
#include "harness.h"
#include "manifest.h"

namespace gspn2 {
namespace runtime {
namespace tests {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) throw CheckFailed("the manifest does not hold " + from);
  return text.replace(at, from.size(), to);
}

GSPN2_TEST(manifestIsRead) {
  const Files files;
  const Manifest manifest = parseManifest(files.manifest(), "m");
  CHECK_EQ(manifest.planBytes, 16);
  CHECK_EQ(toText(manifest.tensorrt), "8.6.0");
  CHECK_EQ(manifest.computeCapabilities.size(), 2U);
  CHECK_EQ(manifest.plugins.size(), 1U);
  CHECK_EQ(manifest.plugins[0], "GspnProp2D");
  CHECK_EQ(manifest.tensors.size(), 2U);
  CHECK(manifest.tensors[0].isInput && !manifest.tensors[1].isInput);
  CHECK(manifest.tensors[0].shape == (Shape{-1, 2, -1}));
}

GSPN2_TEST(manifestVersionsAreRead) {
  Files files;
  files.backendVersion = "10.16.1.72";
  CHECK_EQ(toText(parseManifest(files.manifest(), "m").tensorrt), "10.16.1");
  for (const char* version : {"", "8", "8.6", "8.6.", "8..6", "a.b.c", "8.6.0a", "8.6.1234567"}) {
    files.backendVersion = version;
    checkRefused(ErrorKind::kManifest, [&] { parseManifest(files.manifest(), "m"); },
                 {"m is damaged", "MAJOR.MINOR.PATCH"});
  }
}

GSPN2_TEST(manifestErrorsAreNamed) {
  Files files;
  const std::string text = files.manifest();
  const auto refused = [&](const std::string& from, const std::string& to,
                           const std::vector<std::string>& parts) {
    checkRefused(
        ErrorKind::kManifest, [&] { parseManifest(replaced(text, from, to), "the file"); }, parts);
  };
  refused("gspn2-deploy plan manifest", "a photograph",
          {"the file is something else", "photograph"});
  refused("\"kind\"", "\"kinds\"", {"something else", "no kind"});
  refused("\"schema\": 1", "\"schema\": 2", {"unknown schema", "2", "1"});
  refused("\"plan_bytes\"", "\"plan_size\"", {"damaged", "\"plan_bytes\" is missing"});
  refused("\"plan_bytes\": 16", "\"plan_bytes\": \"16\"", {"damaged", "a number was expected"});
  refused("\"float32\"", "\"complex64\"", {"element type", "complex64"});
  refused("\"tensorrt\"", "\"tensorrt-rtx\"", {"another kind of engine", "tensorrt-rtx"});
  checkRefused(ErrorKind::kManifest, [&] { parseManifest(text.substr(0, 40), "the file"); },
               {"the file is damaged", "byte"});
}

GSPN2_TEST(manifestOptionsAreRead) {
  Files files;
  const Manifest plain = parseManifest(files.manifest(), "m");
  CHECK(!plain.versionCompatible && !plain.amperePlus && !plain.carriesPlugin && !plain.stripped);
  CHECK(!plain.holdsHostCode());
  const Manifest before = parseManifest(replaced(files.manifest(), "\"options\"", "\"o\""), "m");
  CHECK(!before.holdsHostCode());
  files.options = R"({"hardware_compatibility": "same-compute-capability", "embed_plugin": 1})";
  checkRefused(ErrorKind::kManifest, [&] { parseManifest(files.manifest(), "m"); },
               {"m is damaged"});
}

GSPN2_TEST(bundleNamesStayInside) {
  const Files files;
  const std::string text = files.bundle();
  CHECK_EQ(parseBundle(text, "b").libraries.front().name, "k.so");
  for (const char* name : {"../p.so", "/lib/p.so", "..", "", "a/p.so"}) {
    checkRefused(ErrorKind::kManifest,
                 [&] {
                   parseBundle(replaced(text, "\"plugin\": \"p.so\"",
                                        std::string("\"plugin\": \"") + name + "\""),
                               "b");
                 },
                 {"is not the name of a file in the bundle"});
  }
  checkRefused(ErrorKind::kManifest,
               [&] {
                 parseBundle(replaced(text, "\"libraries\": [\"k.so\"]", "\"libraries\": [\"x\"]"),
                             "b");
               },
               {"\"x\" is missing"});
  CHECK(
      parseBundle(replaced(text, "\"plugin\": \"p.so\"", "\"plugin\": null"), "b").plugin.empty());
}

}  // namespace tests
}  // namespace runtime
}  // namespace gspn2
