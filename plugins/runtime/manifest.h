// The two files that say what a plan is: its manifest (gspn2_deploy/manifest.py) and a bundle's
// list of files (gspn2_deploy/bundle.py). Only what the runtime needs of them is read.
#ifndef GSPN2_RUNTIME_MANIFEST_H_
#define GSPN2_RUNTIME_MANIFEST_H_

#include <string>
#include <vector>

#include "interfaces.h"

namespace gspn2 {
namespace runtime {

constexpr char kManifestKind[] = "gspn2-deploy plan manifest";
constexpr char kBundleKind[] = "gspn2-deploy bundle";
constexpr char kBundleFile[] = "bundle.json";
constexpr char kManifestSuffix[] = ".json";  // behind the plan's name
constexpr int64_t kSchema = 1;               // of both
constexpr char kBackend[] = "tensorrt";
constexpr char kPluginVersion[] = "1";
constexpr char kPluginNamespace[] = "";

std::string toText(const Version& version);  // "8.6.0"

struct Manifest {
  int64_t planBytes = 0;
  std::string planSha256;
  Version tensorrt{};
  std::vector<std::string> computeCapabilities;
  std::vector<TensorInfo> tensors;   // inputs, then outputs
  std::vector<std::string> plugins;  // names of the plugins in the plan
  // How it was built; manifests of before these options have none of them.
  bool versionCompatible = false;  // with later versions of the same major version
  bool leanRuntime = true;         // which such a plan carries, unless it was left out
  bool amperePlus = false;         // runs on every GPU from compute capability 8.0 on
  bool carriesPlugin = false;
  bool stripped = false;  // its weights were left out

  bool acceptsVersion(const Version& version) const;
  bool acceptsGpu(const std::string& computeCapability) const;
  // Whether the plan holds code that the host runs: TensorRT loads it only when allowed to.
  bool holdsHostCode() const { return carriesPlugin || (versionCompatible && leanRuntime); }
};

// `where` is for messages. Throws Error(kManifest).
Manifest parseManifest(const std::string& text, const std::string& where);

struct BundleFile {
  std::string name;
  int64_t bytes = 0;
  std::string sha256;
};

struct Bundle {
  BundleFile plan;
  BundleFile manifest;
  std::vector<BundleFile> plugin;     // one or none
  std::vector<BundleFile> libraries;  // what the plugin needs, in the order to open them
};

// Throws Error(kManifest); a name that leaves the bundle's folder is refused.
Bundle parseBundle(const std::string& text, const std::string& where);

// What is wrong with a file's content, or nothing: "truncated: 10 bytes instead of 20".
std::string mismatch(const std::string& content, int64_t bytes, const std::string& sha256);

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_MANIFEST_H_
