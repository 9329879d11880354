#include "parameters.h"

#include <cinttypes>
#include <cstring>
#include <limits>
#include <string>

#include "guard.h"

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

constexpr char kNormalizeField[] = "normalize";
constexpr char kChunkField[] = "chunk";
constexpr char kDirectionField[] = "direction";
constexpr char kOffsetsField[] = "packed_offsets";
constexpr char kGroupsField[] = "groups";
constexpr int32_t kOffsets = 4;  // of lam, u, d, w

struct Choice {
  const char* name;
  int32_t value;
};
constexpr Choice kNormalizeChoices[] = {{"sigmoid", GSPN2_NORMALIZE_SIGMOID},
                                        {"softmax", GSPN2_NORMALIZE_SOFTMAX},
                                        {"none", GSPN2_NORMALIZE_NONE}};
constexpr Choice kDirectionChoices[] = {{"left_to_right", GSPN2_LEFT_TO_RIGHT},
                                        {"right_to_left", GSPN2_RIGHT_TO_LEFT},
                                        {"top_to_bottom", GSPN2_TOP_TO_BOTTOM},
                                        {"bottom_to_top", GSPN2_BOTTOM_TO_TOP}};

constexpr uint32_t kMagic = 0x324E5053;  // "SPN2" in memory
// Raised also where the kernels ask for more workspace than before: an engine has what was asked
// for when it was built.
constexpr uint32_t kFormatVersion = 3;
constexpr size_t kHeaderBytes = 3 * sizeof(uint32_t);
constexpr char kRebuild[] =
    "rebuild the engine, or load the plugin library that the engine was built with";

std::string readText(Op op, const PluginField& field) {
  if (field.type != PluginFieldType::kCHAR || field.length < 1 || field.data == nullptr) {
    fail("%s: the field %s has type %d and length %d; expected a string (type %d)", opName(op),
         field.name, static_cast<int>(field.type), field.length,
         static_cast<int>(PluginFieldType::kCHAR));
  }
  // Some parsers count the terminating null, some callers leave it out.
  const char* text = static_cast<const char*>(field.data);
  return std::string(text, strnlen(text, static_cast<size_t>(field.length)));
}

template <size_t kCount>
int32_t readChoice(Op op, const PluginField& field, const Choice (&choices)[kCount]) {
  const std::string text = readText(op, field);
  std::string expected;
  for (const Choice& choice : choices) {
    if (text == choice.name) return choice.value;
    expected += expected.empty() ? choice.name : std::string(", ") + choice.name;
  }
  fail("%s: %s is \"%.64s\"; expected one of %s", opName(op), field.name, text.c_str(),
       expected.c_str());
}

template <typename T>
void readAs(const PluginField& field, int64_t* values) {
  for (int32_t i = 0; i < field.length; ++i) {
    T value;
    std::memcpy(&value, static_cast<const char*>(field.data) + i * sizeof(T), sizeof(T));
    values[i] = static_cast<int64_t>(value);
  }
}

// Reads `count` integers of any width.
void readIntegers(Op op, const PluginField& field, int32_t count, int64_t* values) {
  if (field.length == count && field.data != nullptr) {
    switch (field.type) {
      case PluginFieldType::kINT8:
        return readAs<int8_t>(field, values);
      case PluginFieldType::kINT16:
        return readAs<int16_t>(field, values);
      case PluginFieldType::kINT32:
        return readAs<int32_t>(field, values);
#if GSPN2_TRT_V3
      case PluginFieldType::kINT64:
        return readAs<int64_t>(field, values);
#endif
      default:
        break;
    }
  }
  fail("%s: the field %s has type %d and length %d; expected %d integer%s (type %d)", opName(op),
       field.name, static_cast<int>(field.type), field.length, count, count == 1 ? "" : "s",
       static_cast<int>(PluginFieldType::kINT32));
}

int64_t readInteger(Op op, const PluginField& field) {
  int64_t value = 0;
  readIntegers(op, field, 1, &value);
  return value;
}

int64_t checkChunk(Op op, int64_t chunk) {
  if (chunk >= 0 && chunk <= std::numeric_limits<int32_t>::max()) return chunk;
  fail("%s: chunk is %" PRId64 "; expected 0 (the whole line) or a number of steps up to %d",
       opName(op), chunk, std::numeric_limits<int32_t>::max());
}

int32_t checkGroups(Op op, int64_t groups) {
  if (groups >= 1 && groups <= std::numeric_limits<int32_t>::max()) {
    return static_cast<int32_t>(groups);
  }
  fail("%s: groups is %" PRId64 "; expected the channels of the affinities, 1 or C", opName(op),
       groups);
}

// The channel where `tensor` begins, which is `least` or more.
int32_t checkOffset(Op op, const char* tensor, int64_t offset, int32_t least) {
  if (offset >= least && offset <= std::numeric_limits<int32_t>::max()) {
    return static_cast<int32_t>(offset);
  }
  fail("%s: packed_offsets has %" PRId64 " for %s; expected a channel of the prediction%s",
       opName(op), offset, tensor, least < 0 ? ", or -1 without it" : "");
}

void checkOffsets(Op op, const int64_t (&offsets)[kOffsets], Packing* packing) {
  packing->lam = checkOffset(op, "lam", offsets[0], 0);
  packing->u = checkOffset(op, "u", offsets[1], 0);
  packing->d = checkOffset(op, "d", offsets[2], -1);
  packing->w = checkOffset(op, "w", offsets[3], 0);
}

std::vector<PluginField> announcedFields(Op op) {
  std::vector<PluginField> fields;
  if (op == Op::kLineScan) fields.emplace_back(kDirectionField, nullptr, PluginFieldType::kCHAR, 1);
  fields.emplace_back(kNormalizeField, nullptr, PluginFieldType::kCHAR, 1);
  fields.emplace_back(kChunkField, nullptr, PluginFieldType::kINT32, 1);
  if (op == Op::kProp2D) {
    fields.emplace_back(kOffsetsField, nullptr, PluginFieldType::kINT32, kOffsets);
    fields.emplace_back(kGroupsField, nullptr, PluginFieldType::kINT32, 1);
  }
  return fields;
}

void readField(const PluginField& field, Parameters* parameters) {
  const Op op = parameters->op;
  const std::string name = field.name;
  if (name == kNormalizeField) {
    parameters->normalize =
        static_cast<gspn2_normalize_t>(readChoice(op, field, kNormalizeChoices));
  } else if (name == kChunkField) {
    parameters->chunk = checkChunk(op, readInteger(op, field));
  } else if (name == kDirectionField && op == Op::kLineScan) {
    parameters->direction =
        static_cast<gspn2_direction_t>(readChoice(op, field, kDirectionChoices));
  } else if (name == kOffsetsField && op == Op::kProp2D) {
    int64_t offsets[kOffsets];
    readIntegers(op, field, kOffsets, offsets);
    checkOffsets(op, offsets, &parameters->packing);
  } else if (name == kGroupsField && op == Op::kProp2D) {
    parameters->packing.groups = checkGroups(op, readInteger(op, field));
  } else {
    fail("%s: unknown field \"%.64s\"; expected %s", opName(op), field.name,
         op == Op::kLineScan ? "direction, normalize and chunk"
                             : "normalize, chunk, packed_offsets and groups");
  }
}

const PluginFieldCollection& checkCollection(Op op, const PluginFieldCollection* fields) {
  if (fields == nullptr || fields->nbFields < 0 ||
      (fields->nbFields > 0 && fields->fields == nullptr)) {
    fail("%s: the field collection is null or damaged", opName(op));
  }
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    const char* name = fields->fields[i].name;
    if (name == nullptr) fail("%s: field %d has no name", opName(op), i);
    for (int32_t j = 0; j < i; ++j) {
      if (std::strcmp(name, fields->fields[j].name) == 0) {
        fail("%s: the field %.64s is given twice", opName(op), name);
      }
    }
  }
  return *fields;
}

class Writer {
 public:
  template <typename T>
  void put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      mBytes.push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i)));
    }
  }
  std::vector<uint8_t> take() { return std::move(mBytes); }

 private:
  std::vector<uint8_t> mBytes;
};

class Reader {
 public:
  explicit Reader(const void* data) : mNext(static_cast<const uint8_t*>(data)) {}
  template <typename T>
  T get() {
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(*mNext++) << (8 * i);
    return static_cast<T>(value);
  }

 private:
  const uint8_t* mNext;
};

int32_t checkRange(Op op, const char* name, int32_t value, int32_t low, int32_t high) {
  if (value >= low && value <= high) return value;
  fail("%s: the engine's plugin state is damaged: %s is %d, expected %d to %d; %s", opName(op),
       name, value, low, high, kRebuild);
}

}  // namespace

const char* opName(Op op) { return op == Op::kProp2D ? "GspnProp2D" : "GspnLineScan"; }

bool operator==(const Packing& a, const Packing& b) {
  return a.groups == b.groups && a.lam == b.lam && a.u == b.u && a.d == b.d && a.w == b.w;
}

bool operator==(const Parameters& a, const Parameters& b) {
  return a.op == b.op && a.normalize == b.normalize && a.direction == b.direction &&
         a.chunk == b.chunk && a.packing == b.packing && a.optionals == b.optionals;
}

const PluginFieldCollection& fieldNames(Op op) {
  static const std::vector<PluginField> kFields[] = {announcedFields(Op::kProp2D),
                                                     announcedFields(Op::kLineScan)};
  static const auto collect = [](const std::vector<PluginField>& fields) {
    PluginFieldCollection collection{};
    collection.nbFields = static_cast<int32_t>(fields.size());
    collection.fields = fields.data();
    return collection;
  };
  static const PluginFieldCollection kCollections[] = {collect(kFields[0]), collect(kFields[1])};
  return kCollections[static_cast<int32_t>(op)];
}

Parameters parseFields(Op op, const PluginFieldCollection* fields) {
  const PluginFieldCollection& collection = checkCollection(op, fields);
  Parameters parameters;
  parameters.op = op;
  for (int32_t i = 0; i < collection.nbFields; ++i) readField(collection.fields[i], &parameters);
  const Packing& packing = parameters.packing;
  if (packing.isPacked() != (packing.lam >= 0)) {
    fail("%s: one of the fields packed_offsets and groups is missing; expected both or none",
         opName(op));
  }
  return parameters;
}

std::vector<uint8_t> serialize(const Parameters& parameters) {
  Writer writer;
  writer.put(kMagic);
  writer.put(kFormatVersion);
  writer.put(static_cast<uint32_t>(kStateBytes));
  writer.put(static_cast<int32_t>(parameters.op));
  writer.put(static_cast<int32_t>(parameters.normalize));
  writer.put(static_cast<int32_t>(parameters.direction));
  writer.put(static_cast<int32_t>(parameters.optionals));
  writer.put(parameters.packing.groups);
  writer.put(parameters.chunk);
  writer.put(parameters.packing.lam);
  writer.put(parameters.packing.u);
  writer.put(parameters.packing.d);
  writer.put(parameters.packing.w);
  return writer.take();
}

Parameters deserialize(Op op, const void* data, size_t bytes) {
  if (data == nullptr || bytes < kHeaderBytes) {
    fail("%s: the engine's plugin state is truncated: %zu bytes, expected %zu; %s", opName(op),
         data == nullptr ? size_t{0} : bytes, kStateBytes, kRebuild);
  }
  Reader reader(data);
  if (reader.get<uint32_t>() != kMagic) {
    fail(
        "%s: the engine's plugin state was not written by this plugin (another plugin of the "
        "same name, or a damaged engine); %s",
        opName(op), kRebuild);
  }
  const uint32_t version = reader.get<uint32_t>();
  if (version != kFormatVersion) {
    fail("%s: the engine's plugin state has format %" PRIu32 ", this library reads format %" PRIu32
         "; %s",
         opName(op), version, kFormatVersion, kRebuild);
  }
  const uint32_t size = reader.get<uint32_t>();
  if (size != kStateBytes || bytes != kStateBytes) {
    fail(
        "%s: the engine's plugin state is truncated or damaged: %zu bytes that call themselves "
        "%" PRIu32 ", expected %zu; %s",
        opName(op), bytes, size, kStateBytes, kRebuild);
  }
  const auto storedOp = static_cast<Op>(checkRange(op, "op", reader.get<int32_t>(), 0, 1));
  if (storedOp != op) {
    fail("%s: the engine's plugin state belongs to %s; %s", opName(op), opName(storedOp), kRebuild);
  }
  Parameters parameters;
  parameters.op = op;
  parameters.normalize = static_cast<gspn2_normalize_t>(checkRange(
      op, "normalize", reader.get<int32_t>(), GSPN2_NORMALIZE_NONE, GSPN2_NORMALIZE_SOFTMAX));
  parameters.direction = static_cast<gspn2_direction_t>(
      checkRange(op, "direction", reader.get<int32_t>(), GSPN2_LEFT_TO_RIGHT, GSPN2_BOTTOM_TO_TOP));
  parameters.optionals = static_cast<Optionals>(
      checkRange(op, "optionals", reader.get<int32_t>(), static_cast<int32_t>(Optionals::kUnknown),
                 static_cast<int32_t>(Optionals::kBoth)));
  const int32_t groups = reader.get<int32_t>();
  parameters.chunk = checkChunk(op, reader.get<int64_t>());
  int64_t offsets[kOffsets];
  for (int64_t& offset : offsets) offset = reader.get<int32_t>();
  if (groups != 0) {
    parameters.packing.groups = checkGroups(op, groups);
    checkOffsets(op, offsets, &parameters.packing);
  }
  return parameters;
}

Parameters deserializeFields(Op op, const PluginFieldCollection* fields) {
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
  return deserialize(op, field.data, static_cast<size_t>(field.length));
}

}  // namespace plugin
}  // namespace gspn2
