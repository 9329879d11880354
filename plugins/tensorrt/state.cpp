#include "state.h"

#include <algorithm>
#include <cinttypes>
#include <iterator>

#include "fields.h"
#include "guard.h"

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

constexpr uint32_t kMagic = 0x324E5053;  // "SPN2" in memory
// Raised also where the kernels ask for more workspace than before, as an engine has what was asked
// for when it was built, and where it may hold a tensor in a format that was not taken before.
constexpr uint32_t kFormatVersion = 5;
constexpr char kRebuild[] =
    "rebuild the engine, or load the plugin library that the engine was built with";

}  // namespace

StateWriter::StateWriter(Op op, size_t bytes) {
  put(kMagic);
  put(kFormatVersion);
  put(static_cast<uint32_t>(bytes));
  put(static_cast<int32_t>(op));
}

StateReader::StateReader(Op op, const void* data, size_t bytes, size_t expected)
    : mOp(op), mNext(static_cast<const uint8_t*>(data)) {
  if (data == nullptr || bytes < kStateHeaderBytes) {
    fail("%s: the engine's plugin state is truncated: %zu bytes, expected %zu; %s", opName(op),
         data == nullptr ? size_t{0} : bytes, expected, kRebuild);
  }
  if (get<uint32_t>() != kMagic) {
    fail(
        "%s: the engine's plugin state was not written by this plugin (another plugin of the "
        "same name, or a damaged engine); %s",
        opName(op), kRebuild);
  }
  const auto version = get<uint32_t>();
  if (version != kFormatVersion) {
    fail("%s: the engine's plugin state has format %" PRIu32 ", this library reads format %" PRIu32
         "; %s",
         opName(op), version, kFormatVersion, kRebuild);
  }
  const auto size = get<uint32_t>();
  const auto stored =
      static_cast<Op>(getWithin("op", 0, static_cast<int32_t>(kOps[std::size(kOps) - 1])));
  if (stored != op) {
    fail("%s: the engine's plugin state belongs to %s; %s", opName(op), opName(stored), kRebuild);
  }
  if (size != expected || bytes != expected) {
    fail(
        "%s: the engine's plugin state is truncated or damaged: %zu bytes that call themselves "
        "%" PRIu32 ", expected %zu; %s",
        opName(op), bytes, size, expected, kRebuild);
  }
}

int32_t StateReader::getWithin(const char* name, int32_t low, int32_t high) {
  const auto value = get<int32_t>();
  if (value >= low && value <= high) return value;
  fail("%s: the engine's plugin state is damaged: %s is %d, expected %d to %d; %s", opName(mOp),
       name, value, low, high, kRebuild);
}

int32_t StateReader::getInputs(std::initializer_list<int32_t> counts) {
  const auto value = get<int32_t>();
  if (value == 0 || std::find(counts.begin(), counts.end(), value) != counts.end()) return value;
  fail("%s: the engine's plugin state is damaged: no node of it has %d inputs; %s", opName(mOp),
       value, kRebuild);
}

const PluginField& stateField(Op op, const PluginFieldCollection* fields) {
  const PluginFieldCollection& collection = checkCollection(op, fields);
  if (collection.nbFields != 1 || std::strcmp(collection.fields[0].name, kStateField) != 0) {
    fail("%s: the engine holds %d plugin fields, expected the one named %s; %s", opName(op),
         collection.nbFields, kStateField, kRebuild);
  }
  const PluginField& field = collection.fields[0];
  if (field.type != PluginFieldType::kINT8 || field.length < 0) {
    fail("%s: the engine's plugin state has type %d and length %d; %s", opName(op),
         static_cast<int>(field.type), field.length, kRebuild);
  }
  return field;
}

}  // namespace plugin
}  // namespace gspn2
