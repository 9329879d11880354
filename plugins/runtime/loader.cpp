#include "loader.h"

#include <algorithm>
#include <set>

#include "files.h"
#include "log.h"
#include "tensor.h"

namespace gspn2 {
namespace runtime {
namespace {

// Collects what does not fit, so that a user sees all of it at once.
class Findings {
 public:
  explicit Findings(std::string problem) : mProblem(std::move(problem)) {}

  void add(Error error) { mFound.push_back(std::move(error)); }

  // Runs a check whose own Error is a finding.
  template <typename Check>
  bool run(Check check) {
    try {
      check();
      return true;
    } catch (const Error& error) {
      add(error);
      return false;
    }
  }

  void raise() const {
    if (mFound.empty()) return;
    if (mFound.size() == 1) throw mFound.front();
    std::string got, expected, fix;
    for (const Error& error : mFound) {
      append(got, error.problem() + (error.got().empty() ? "" : ": " + error.got()));
      append(expected, error.expected());
      append(fix, error.fix());
    }
    throw Error(mFound.front().kind(), mProblem, got, expected, fix);
  }

 private:
  static void append(std::string& text, const std::string& line) {
    if (line.empty() || text.find(line) != std::string::npos) return;
    text += (text.empty() ? "" : "\n            ") + line;
  }

  std::string mProblem;
  std::vector<Error> mFound;
};

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text;
}

void checkVersion(const Manifest& manifest, const TensorRT& tensorrt) {
  if (manifest.acceptsVersion(tensorrt.version())) return;
  const std::string later =
      manifest.versionCompatible ? " or a later one of that major version" : "";
  throw Error(
      ErrorKind::kVersion, "TensorRT is of another version than the one that built the plan",
      "TensorRT " + toText(tensorrt.version()), "TensorRT " + toText(manifest.tensorrt) + later,
      "install that version, or build the plan again with this one");
}

void checkGpu(const Manifest& manifest, const Device& device) {
  const std::string found = device.computeCapability();
  if (manifest.acceptsGpu(found)) return;
  throw Error(ErrorKind::kGpu, "the plan was built for another GPU", "compute capability " + found,
              "compute capability " + joined(manifest.computeCapabilities) +
                  (manifest.amperePlus ? ", or any from 8.0 on" : ""),
              "build the plan on a GPU like the one that runs it");
}

void checkPlugins(const Manifest& manifest, const Options& options, const TensorRT& tensorrt,
                  Platform& platform) {
  if (manifest.carriesPlugin) {
    if (options.plugin.empty()) return;  // TensorRT takes it out of the plan
    throw Error(ErrorKind::kPlugin, "the plan carries its plugin, and another one is named",
                options.plugin, "no plugin", "leave Options::plugin empty");
  }
  if (!options.plugin.empty()) {
    platform.loadPlugin(options.plugin, options.libraries, manifest.tensorrt[0]);
  }
  std::vector<std::string> missing;
  for (const std::string& name : manifest.plugins) {
    if (tensorrt.hasPlugin(name, kPluginVersion, kPluginNamespace)) continue;
    missing.push_back(name + " (version \"" + kPluginVersion + "\", namespace \"" +
                      kPluginNamespace + "\")");
  }
  if (missing.empty()) return;
  const bool given = !options.plugin.empty();
  throw Error(ErrorKind::kPlugin, "the plan needs plugins that are not registered",
              joined(missing) + " missing" + (given ? " after loading " + options.plugin : ""),
              "libgspn2_tensorrt.so for TensorRT " + std::to_string(manifest.tensorrt[0]),
              given ? "use the plugin library of this version of gspn2-deploy"
                    : "name the library in Options::plugin, or open a bundle, which has it");
}

// The engine's own tensors must be those of the manifest.
std::vector<TensorInfo> matchTensors(const Manifest& manifest, const Plan& plan) {
  const std::vector<TensorInfo> found = plan.tensors();
  std::multiset<std::string> expected, actual;
  const auto key = [](const TensorInfo& tensor) {
    return (tensor.isInput ? "input " : "output ") + tensor.name + ": " +
           dataTypeName(tensor.dtype) + " of rank " + std::to_string(tensor.shape.size());
  };
  for (const TensorInfo& tensor : manifest.tensors) expected.insert(key(tensor));
  for (const TensorInfo& tensor : found) actual.insert(key(tensor));
  if (expected != actual) {
    throw Error(ErrorKind::kManifest, "the plan's tensors are not those of its manifest",
                joined({actual.begin(), actual.end()}), joined({expected.begin(), expected.end()}),
                "build the plan again");
  }
  // In the manifest's order, with the extents that the engine itself has fixed.
  std::vector<TensorInfo> ordered;
  for (const TensorInfo& tensor : manifest.tensors) {
    ordered.push_back(*std::find_if(found.begin(), found.end(), [&](const TensorInfo& item) {
      return item.name == tensor.name;
    }));
  }
  return ordered;
}

Loaded loadChecked(const std::string& content, const std::string& planPath,
                   const Manifest& manifest, const Options& options, Platform& platform) {
  Findings findings("the plan " + planPath + " does not fit this machine or its manifest");
  const std::string wrong = mismatch(content, manifest.planBytes, manifest.planSha256);
  if (!wrong.empty()) {
    findings.add(Error(ErrorKind::kAltered, "the plan is not the one that its manifest names",
                       planPath + " is " + wrong, "SHA-256 " + manifest.planSha256,
                       "copy the plan again, or build it again"));
  }
  if (manifest.stripped) {
    findings.add(Error(ErrorKind::kManifest, "the plan's weights were left out", planPath,
                       "a plan with its weights",
                       "build it again without --weights stripped: this runtime does not refit"));
  }
  Loaded loaded;
  const bool opened = findings.run(
      [&] { loaded.tensorrt = platform.openTensorRT(manifest.tensorrt[0], options.tensorrt); });
  if (opened) {
    findings.run([&] { checkVersion(manifest, *loaded.tensorrt); });
    findings.run([&] { checkPlugins(manifest, options, *loaded.tensorrt, platform); });
  }
  findings.run([&] {
    loaded.device = platform.device(options.device);
    checkGpu(manifest, *loaded.device);
  });
  findings.raise();

  const DeviceScope scope(*loaded.device);
  takeErrors();
  loaded.plan =
      loaded.tensorrt->deserialize(content.data(), content.size(), manifest.holdsHostCode());
  if (loaded.plan == nullptr) {
    throw Error(ErrorKind::kEngine, "TensorRT refused the plan " + planPath, takeErrors(),
                "a plan of TensorRT " + toText(manifest.tensorrt),
                "build the plan again on this machine; too little GPU memory looks the same");
  }
  loaded.tensors = matchTensors(manifest, *loaded.plan);
  return loaded;
}

void checkBundled(const BundleFile& file, const std::string& folder, const std::string& content) {
  const std::string wrong = mismatch(content, file.bytes, file.sha256);
  if (wrong.empty()) return;
  throw Error(ErrorKind::kAltered, "a file of the bundle is not the one that bundle.json names",
              within(folder, file.name) + " is " + wrong, "SHA-256 " + file.sha256,
              "copy the bundle again; gspn2-deploy verify checks all of it");
}

}  // namespace

Loaded loadPlan(const std::string& planPath, const Options& options, Platform& platform) {
  const std::string beside = planPath + kManifestSuffix;
  const Manifest manifest = parseManifest(readFile(beside, "the manifest"), beside);
  return loadChecked(readFile(planPath, "the plan"), planPath, manifest, options, platform);
}

Loaded loadBundle(const std::string& folder, const Options& options, Platform& platform) {
  const std::string listing = within(folder, kBundleFile);
  const Bundle bundle = parseBundle(readFile(listing, "the bundle's list of files"), listing);
  Options chosen = options;
  const auto use = [&](const BundleFile& file) {
    checkBundled(file, folder, readFile(within(folder, file.name), "a file of the bundle"));
    return within(folder, file.name);
  };
  if (options.plugin.empty() && !bundle.plugin.empty()) {
    for (const BundleFile& file : bundle.libraries) chosen.libraries.push_back(use(file));
    chosen.plugin = use(bundle.plugin.front());
  }
  const std::string path = within(folder, bundle.manifest.name);
  const std::string text = readFile(path, "the manifest");
  checkBundled(bundle.manifest, folder, text);
  const Manifest manifest = parseManifest(text, path);
  const std::string planPath = within(folder, bundle.plan.name);
  if (manifest.planBytes != bundle.plan.bytes || manifest.planSha256 != bundle.plan.sha256) {
    throw Error(ErrorKind::kAltered, "bundle.json and the manifest name different plans",
                "SHA-256 " + bundle.plan.sha256, "SHA-256 " + manifest.planSha256,
                "write the bundle again");
  }
  return loadChecked(readFile(planPath, "the plan"), planPath, manifest, chosen, platform);
}

}  // namespace runtime
}  // namespace gspn2
