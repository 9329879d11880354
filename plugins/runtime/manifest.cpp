#include "manifest.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "json.h"
#include "sha256.h"
#include "tensor.h"

namespace gspn2 {
namespace runtime {
namespace {

constexpr int kAmpereMajor = 8;
constexpr char kRebuild[] = "build the plan again with gspn2-deploy build";
constexpr char kBundleAgain[] = "write the bundle again with gspn2-deploy bundle";

// Parses and reads, and turns a JSON error into one that names the file.
template <typename Read>
auto readJson(const std::string& text, const std::string& where, const char* kind, const char* fix,
              Read read) {
  try {
    const Json content = Json::parse(text);
    const Json* named = content.find("kind");
    if (named == nullptr || named->asString() != kind) {
      throw Error(ErrorKind::kManifest, where + " is something else",
                  named == nullptr ? "no kind" : named->asString(), kind, fix);
    }
    const int64_t schema = content.at("schema").asInteger();
    if (schema != kSchema) {
      throw Error(ErrorKind::kManifest, where + " has an unknown schema", std::to_string(schema),
                  std::to_string(kSchema),
                  "use the libgspn2_runtime that belongs to the gspn2-deploy that wrote it");
    }
    return read(content);
  } catch (const JsonError& error) {
    throw Error(ErrorKind::kManifest, where + " is damaged", error.what(), kind, fix);
  }
}

Version parseVersion(const std::string& text) {
  Version version{};
  size_t at = 0;
  for (size_t part = 0; part < version.size(); ++part) {
    const size_t begin = at;
    while (at < text.size() && at - begin < 6 &&
           std::isdigit(static_cast<unsigned char>(text[at]))) {
      version[part] = version[part] * 10 + (text[at++] - '0');
    }
    const bool last = part + 1 == version.size();
    const bool ended = at == text.size() || text[at] == '.';
    if (at == begin || (last ? !ended : (at == text.size() || text[at] != '.'))) {
      throw JsonError("backend_version is \"" + text + "\", not MAJOR.MINOR.PATCH");
    }
    ++at;
  }
  return version;
}

TensorInfo readTensor(const Json& item, bool isInput) {
  TensorInfo tensor;
  tensor.name = item.at("name").asString();
  tensor.dtype = parseDataType(item.at("dtype").asString());
  tensor.isInput = isInput;
  for (const Json& extent : item.at("shape").items()) {
    const bool fixed = extent.type() == Json::Type::kNumber;  // else its name, or null
    tensor.shape.push_back(fixed ? extent.asInteger() : -1);
  }
  return tensor;
}

bool isSet(const Json& options, const char* name) {
  const Json* value = options.find(name);
  return value != nullptr && value->asBool();
}

bool isSetTo(const Json& options, const char* name, const char* wanted) {
  const Json* value = options.find(name);
  return value != nullptr && value->asString() == wanted;
}

void readOptions(const Json& options, Manifest& manifest) {
  manifest.versionCompatible = isSet(options, "version_compatible");
  manifest.leanRuntime = !isSet(options, "exclude_lean_runtime");
  manifest.carriesPlugin = isSet(options, "embed_plugin");
  manifest.amperePlus = isSetTo(options, "hardware_compatibility", "ampere-plus");
  manifest.stripped = isSetTo(options, "weights", "stripped");
}

Manifest readManifest(const Json& content, const std::string& where) {
  const std::string& backend = content.at("backend").asString();
  if (backend != kBackend) {
    throw Error(ErrorKind::kManifest, where + " is that of another kind of engine", backend,
                kBackend, "build the plan with gspn2-deploy build --backend tensorrt");
  }
  Manifest manifest;
  manifest.planBytes = content.at("plan_bytes").asInteger();
  manifest.planSha256 = content.at("plan_sha256").asString();
  manifest.tensorrt = parseVersion(content.at("backend_version").asString());
  for (const Json& item : content.at("compute_capabilities").items()) {
    manifest.computeCapabilities.push_back(item.asString());
  }
  for (const bool isInput : {true, false}) {
    for (const Json& item : content.at(isInput ? "inputs" : "outputs").items()) {
      manifest.tensors.push_back(readTensor(item, isInput));
    }
  }
  for (const auto& [name, count] : content.at("propagations").members()) {
    if (count.asInteger() > 0) manifest.plugins.push_back(name);
  }
  if (const Json* options = content.find("options")) readOptions(*options, manifest);
  return manifest;
}

BundleFile readBundleFile(const Json& files, const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    throw JsonError("\"" + name + "\" is not the name of a file in the bundle");
  }
  const Json& entry = files.at(name);
  return {name, entry.at("bytes").asInteger(), entry.at("sha256").asString()};
}

Bundle readBundle(const Json& content) {
  const Json& files = content.at("files");
  Bundle bundle;
  bundle.plan = readBundleFile(files, content.at("plan").asString());
  bundle.manifest = readBundleFile(files, content.at("manifest").asString());
  if (!content.at("plugin").isNull()) {
    bundle.plugin.push_back(readBundleFile(files, content.at("plugin").asString()));
  }
  for (const Json& name : content.at("libraries").items()) {
    bundle.libraries.push_back(readBundleFile(files, name.asString()));
  }
  return bundle;
}

}  // namespace

bool Manifest::acceptsVersion(const Version& version) const {
  if (version == tensorrt) return true;
  // A later version would need the lean runtime that the plan does without.
  return versionCompatible && leanRuntime && version[0] == tensorrt[0] && version > tensorrt;
}

bool Manifest::acceptsGpu(const std::string& computeCapability) const {
  const auto end = computeCapabilities.end();
  if (std::find(computeCapabilities.begin(), end, computeCapability) != end) return true;
  const int major = std::atoi(computeCapability.c_str());  // "9.0"
  return amperePlus && major >= kAmpereMajor;
}

std::string toText(const Version& version) {
  return std::to_string(version[0]) + "." + std::to_string(version[1]) + "." +
         std::to_string(version[2]);
}

Manifest parseManifest(const std::string& text, const std::string& where) {
  return readJson(text, where, kManifestKind, kRebuild,
                  [&](const Json& content) { return readManifest(content, where); });
}

Bundle parseBundle(const std::string& text, const std::string& where) {
  return readJson(text, where, kBundleKind, kBundleAgain, readBundle);
}

std::string mismatch(const std::string& content, int64_t bytes, const std::string& expected) {
  const auto size = static_cast<int64_t>(content.size());
  if (size != bytes) {
    return (size < bytes ? "truncated: " : "altered: ") + std::to_string(size) +
           " bytes instead of " + std::to_string(bytes);
  }
  const std::string digest = sha256(content.data(), content.size());
  return digest == expected ? "" : "altered: its SHA-256 is " + digest;
}

}  // namespace runtime
}  // namespace gspn2
