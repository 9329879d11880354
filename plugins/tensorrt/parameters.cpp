#include "parameters.h"

#include <cinttypes>
#include <cstring>
#include <limits>
#include <string>

#include "fields.h"
#include "guard.h"
#include "state.h"

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
constexpr char kChannelsField[] = "channels";
constexpr int32_t kOffsets = 5;  // of x, lam, u, d, w

constexpr Choice kNormalizeChoices[] = {{"sigmoid", GSPN2_NORMALIZE_SIGMOID},
                                        {"softmax", GSPN2_NORMALIZE_SOFTMAX},
                                        {"none", GSPN2_NORMALIZE_NONE}};
constexpr Choice kDirectionChoices[] = {{"left_to_right", GSPN2_LEFT_TO_RIGHT},
                                        {"right_to_left", GSPN2_RIGHT_TO_LEFT},
                                        {"top_to_bottom", GSPN2_TOP_TO_BOTTOM},
                                        {"bottom_to_top", GSPN2_BOTTOM_TO_TOP}};

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

int32_t checkChannels(Op op, int64_t channels) {
  if (channels >= 0 && channels <= std::numeric_limits<int32_t>::max()) {
    return static_cast<int32_t>(channels);
  }
  fail("%s: channels is %" PRId64 "; expected C where x lies in the prediction, or else 0",
       opName(op), channels);
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
  packing->x = checkOffset(op, "x", offsets[0], -1);
  packing->lam = checkOffset(op, "lam", offsets[1], 0);
  packing->u = checkOffset(op, "u", offsets[2], 0);
  packing->d = checkOffset(op, "d", offsets[3], -1);
  packing->w = checkOffset(op, "w", offsets[4], 0);
}

// Once all fields are known.
void checkPacking(Op op, const Packing& packing) {
  if (packing.isPacked() != (packing.lam >= 0)) {
    fail("%s: one of the fields packed_offsets and groups is missing; expected both or none",
         opName(op));
  }
  if (packing.holdsX() == (packing.x >= 0)) return;
  fail(
      "%s: channels is %d, and packed_offsets has %d for x; expected C and a channel of the "
      "prediction where x lies in it, or else 0 and -1",
      opName(op), packing.channels, packing.x);
}

std::vector<PluginField> announcedFields(Op op) {
  std::vector<PluginField> fields;
  if (op == Op::kLineScan) fields.emplace_back(kDirectionField, nullptr, PluginFieldType::kCHAR, 1);
  fields.emplace_back(kNormalizeField, nullptr, PluginFieldType::kCHAR, 1);
  fields.emplace_back(kChunkField, nullptr, PluginFieldType::kINT32, 1);
  if (op == Op::kProp2D) {
    fields.emplace_back(kOffsetsField, nullptr, PluginFieldType::kINT32, kOffsets);
    fields.emplace_back(kGroupsField, nullptr, PluginFieldType::kINT32, 1);
    fields.emplace_back(kChannelsField, nullptr, PluginFieldType::kINT32, 1);
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
  } else if (name == kChannelsField && op == Op::kProp2D) {
    parameters->packing.channels = checkChannels(op, readInteger(op, field));
  } else {
    fail("%s: unknown field \"%.64s\"; expected %s", opName(op), field.name,
         op == Op::kLineScan ? "direction, normalize and chunk"
                             : "normalize, chunk, packed_offsets, groups and channels");
  }
}

}  // namespace

bool operator==(const Packing& a, const Packing& b) {
  return a.groups == b.groups && a.channels == b.channels && a.x == b.x && a.lam == b.lam &&
         a.u == b.u && a.d == b.d && a.w == b.w;
}

bool operator==(const Parameters& a, const Parameters& b) {
  return a.op == b.op && a.normalize == b.normalize && a.direction == b.direction &&
         a.chunk == b.chunk && a.packing == b.packing && a.optionals == b.optionals;
}

const PluginFieldCollection& propagationFields(Op op) {
  static const std::vector<PluginField> kFields[] = {announcedFields(Op::kProp2D),
                                                     announcedFields(Op::kLineScan)};
  static const PluginFieldCollection kCollections[] = {
      announce(kFields[0].data(), kFields[0].size()),
      announce(kFields[1].data(), kFields[1].size())};
  return kCollections[static_cast<int32_t>(op)];
}

Parameters parseFields(Op op, const PluginFieldCollection* fields) {
  const PluginFieldCollection& collection = checkCollection(op, fields);
  Parameters parameters;
  parameters.op = op;
  for (int32_t i = 0; i < collection.nbFields; ++i) readField(collection.fields[i], &parameters);
  checkPacking(op, parameters.packing);
  return parameters;
}

std::vector<uint8_t> serialize(const Parameters& parameters) {
  StateWriter writer(parameters.op, kStateBytes);
  writer.put(static_cast<int32_t>(parameters.normalize));
  writer.put(static_cast<int32_t>(parameters.direction));
  writer.put(static_cast<int32_t>(parameters.optionals));
  writer.put(parameters.packing.groups);
  writer.put(parameters.chunk);
  writer.put(parameters.packing.channels);
  writer.put(parameters.packing.x);
  writer.put(parameters.packing.lam);
  writer.put(parameters.packing.u);
  writer.put(parameters.packing.d);
  writer.put(parameters.packing.w);
  return writer.take();
}

Parameters deserialize(Op op, const void* data, size_t bytes) {
  StateReader reader(op, data, bytes, kStateBytes);
  Parameters parameters;
  parameters.op = op;
  parameters.normalize = static_cast<gspn2_normalize_t>(
      reader.getWithin("normalize", GSPN2_NORMALIZE_NONE, GSPN2_NORMALIZE_SOFTMAX));
  parameters.direction = static_cast<gspn2_direction_t>(
      reader.getWithin("direction", GSPN2_LEFT_TO_RIGHT, GSPN2_BOTTOM_TO_TOP));
  parameters.optionals = static_cast<Optionals>(
      reader.getWithin("optionals", static_cast<int32_t>(Optionals::kUnknown),
                       static_cast<int32_t>(Optionals::kBoth)));
  const auto groups = reader.get<int32_t>();
  parameters.chunk = checkChunk(op, reader.get<int64_t>());
  const auto channels = reader.get<int32_t>();
  int64_t offsets[kOffsets];
  for (int64_t& offset : offsets) offset = reader.get<int32_t>();
  if (groups != 0) {
    parameters.packing.groups = checkGroups(op, groups);
    parameters.packing.channels = checkChannels(op, channels);
    checkOffsets(op, offsets, &parameters.packing);
    checkPacking(op, parameters.packing);
  }
  return parameters;
}

}  // namespace plugin
}  // namespace gspn2
