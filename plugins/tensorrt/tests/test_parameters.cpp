// Plugin fields and the state in an engine.
#include <cstring>

#include "harness.h"
#include "parameters.h"
#include "state.h"

namespace gspn2 {
namespace plugin {
namespace tests {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

PluginField text(const char* name, const char* value) {
  return {name, value, PluginFieldType::kCHAR, static_cast<int32_t>(std::strlen(value))};
}

PluginField integer(const char* name, const int32_t* value) {
  return {name, value, PluginFieldType::kINT32, 1};
}

PluginField integers(const char* name, const std::vector<int32_t>& values) {
  return {name, values.data(), PluginFieldType::kINT32, static_cast<int32_t>(values.size())};
}

Parameters parse(Op op, const std::vector<PluginField>& fields) {
  PluginFieldCollection collection{};
  collection.nbFields = static_cast<int32_t>(fields.size());
  collection.fields = fields.data();
  return parseFields(op, &collection);
}

Parameters restored(const PluginFieldCollection* fields) {
  const PluginField& field = stateField(Op::kLineScan, fields);
  return deserialize(Op::kLineScan, field.data, static_cast<size_t>(field.length));
}

GSPN2_TEST(missing_fields_have_the_defaults) {
  const Parameters parameters = parse(Op::kLineScan, {});
  CHECK(parameters.op == Op::kLineScan);
  CHECK_EQ(parameters.normalize, GSPN2_NORMALIZE_SIGMOID);
  CHECK_EQ(parameters.direction, GSPN2_LEFT_TO_RIGHT);
  CHECK_EQ(parameters.chunk, 0);
  CHECK(parameters.optionals == Optionals::kUnknown);
}

GSPN2_TEST(every_value_is_read) {
  const int32_t chunk = 7;
  const struct {
    const char* name;
    gspn2_normalize_t value;
  } modes[] = {{"none", GSPN2_NORMALIZE_NONE},
               {"sigmoid", GSPN2_NORMALIZE_SIGMOID},
               {"softmax", GSPN2_NORMALIZE_SOFTMAX}};
  for (const auto& mode : modes) {
    const Parameters parameters =
        parse(Op::kProp2D, {text("normalize", mode.name), integer("chunk", &chunk)});
    CHECK_EQ(parameters.normalize, mode.value);
    CHECK_EQ(parameters.chunk, 7);
  }
  const char* directions[] = {"left_to_right", "right_to_left", "top_to_bottom", "bottom_to_top"};
  for (int32_t k = 0; k < 4; ++k) {
    CHECK_EQ(parse(Op::kLineScan, {text("direction", directions[k])}).direction, k);
  }
}

GSPN2_TEST(text_fields_may_count_their_null) {
  const char padded[] = "softmax\0\0";
  const PluginField field{"normalize", padded, PluginFieldType::kCHAR, sizeof(padded)};
  CHECK_EQ(parse(Op::kProp2D, {field}).normalize, GSPN2_NORMALIZE_SOFTMAX);
  // The length ends the text where there is no null.
  const PluginField cut{"normalize", "nonesuch", PluginFieldType::kCHAR, 4};
  CHECK_EQ(parse(Op::kProp2D, {cut}).normalize, GSPN2_NORMALIZE_NONE);
}

GSPN2_TEST(integers_of_every_width_are_read) {
  const int8_t narrow = 5;
  const int16_t middle = 300;
  CHECK_EQ(parse(Op::kProp2D, {{"chunk", &narrow, PluginFieldType::kINT8, 1}}).chunk, 5);
  CHECK_EQ(parse(Op::kProp2D, {{"chunk", &middle, PluginFieldType::kINT16, 1}}).chunk, 300);
#if GSPN2_TRT_V3
  const int64_t wide = 70000;
  const int64_t tooWide = int64_t{1} << 40;
  CHECK_EQ(parse(Op::kProp2D, {{"chunk", &wide, PluginFieldType::kINT64, 1}}).chunk, 70000);
  checkRefused([&] { parse(Op::kProp2D, {{"chunk", &tooWide, PluginFieldType::kINT64, 1}}); },
               {"chunk is 1099511627776"});
#endif
}

GSPN2_TEST(packing_is_read) {
  const int32_t groups = 3;
  const std::vector<int32_t> offsets = {-1, 2, 40, -1, 60};
  const Packing packing =
      parse(Op::kProp2D, {integers("packed_offsets", offsets), integer("groups", &groups)}).packing;
  CHECK(packing.isPacked());
  CHECK(!packing.holdsX());
  CHECK_EQ(packing.groups, 3);
  CHECK_EQ(packing.channels, 0);
  CHECK_EQ(packing.x, -1);
  CHECK_EQ(packing.lam, 2);
  CHECK_EQ(packing.u, 40);
  CHECK_EQ(packing.d, -1);
  CHECK_EQ(packing.w, 60);
  CHECK(!parse(Op::kProp2D, {}).packing.isPacked());
#if GSPN2_TRT_V3
  const int64_t wide[] = {-1, 0, 8, 16, 24};
  const PluginField field{"packed_offsets", wide, PluginFieldType::kINT64, 5};
  CHECK_EQ(parse(Op::kProp2D, {integer("groups", &groups), field}).packing.w, 24);
#endif
}

GSPN2_TEST(packing_of_x_is_read) {
  const int32_t groups = 1;
  const int32_t channels = 2;
  const int32_t none = 0;
  const std::vector<int32_t> offsets = {28, 0, 8, -1, 16};
  const Packing packing =
      parse(Op::kProp2D, {integers("packed_offsets", offsets), integer("groups", &groups),
                          integer("channels", &channels)})
          .packing;
  CHECK(packing.holdsX());
  CHECK_EQ(packing.channels, 2);
  CHECK_EQ(packing.x, 28);
  CHECK(!parse(Op::kProp2D, {integer("channels", &none)}).packing.holdsX());
}

GSPN2_TEST(bad_packing_is_refused) {
  const int32_t zero = 0;
  const int32_t one = 1;
  const int32_t negative = -1;
  const std::vector<int32_t> good = {-1, 0, 8, -1, 16};
  const std::vector<int32_t> withX = {28, 0, 8, -1, 16};
  const std::vector<int32_t> few = {0, 8, -1, 16};
  const std::vector<int32_t> noX = {-2, 0, 8, -1, 16};
  const std::vector<int32_t> noLam = {-1, -1, 8, 16, 24};
  const std::vector<int32_t> noD = {-1, 0, 8, -2, 24};
  const std::pair<std::vector<PluginField>, std::vector<std::string>> cases[] = {
      {{integers("packed_offsets", good)}, {"packed_offsets and groups", "both or none"}},
      {{integer("groups", &one)}, {"packed_offsets and groups", "both or none"}},
      {{integers("packed_offsets", few), integer("groups", &one)}, {"length 4", "5 integers"}},
      {{integers("packed_offsets", noX), integer("groups", &one)},
       {"packed_offsets has -2 for x", "-1 without it"}},
      {{integers("packed_offsets", withX), integer("groups", &one)},
       {"channels is 0, and packed_offsets has 28 for x", "expected C and a channel"}},
      {{integers("packed_offsets", good), integer("groups", &one), integer("channels", &one)},
       {"channels is 1, and packed_offsets has -1 for x", "or else 0 and -1"}},
      {{integer("channels", &one)}, {"channels is 1, and packed_offsets has -1 for x"}},
      {{integers("packed_offsets", withX), integer("groups", &one), integer("channels", &negative)},
       {"channels is -1; expected C"}},
      {{integers("packed_offsets", noLam), integer("groups", &one)},
       {"packed_offsets has -1 for lam; expected a channel of the prediction"}},
      {{integers("packed_offsets", noD), integer("groups", &one)},
       {"packed_offsets has -2 for d", "-1 without it"}},
      {{integers("packed_offsets", good), integer("groups", &zero)}, {"groups is 0", "1 or C"}},
      {{text("packed_offsets", "0,8"), integer("groups", &one)}, {"expected 5 integers"}},
  };
  for (const auto& entry : cases) {
    checkRefused([&] { parse(Op::kProp2D, entry.first); }, entry.second);
  }
  for (const char* name : {"groups", "channels"}) {
    checkRefused([&] { parse(Op::kLineScan, {integer(name, &one)}); },
                 {"unknown field", name, "direction, normalize and chunk"});
  }
}

GSPN2_TEST(bad_fields_are_refused) {
  const int32_t negative = -1;
  const int32_t one = 1;
  const float real = 1.0F;
  const std::vector<std::pair<std::vector<PluginField>, std::vector<std::string>>> cases = {
      {{text("normalize", "relu")}, {"GspnProp2D", "\"relu\"", "sigmoid, softmax, none"}},
      {{text("normalize", "sigmoid2")}, {"\"sigmoid2\""}},
      {{text("normalize", "")}, {"normalize", "length 0"}},
      {{integer("normalize", &one)}, {"normalize", "expected a string"}},
      {{integer("chunk", &negative)}, {"chunk is -1"}},
      {{{"chunk", &real, PluginFieldType::kFLOAT32, 1}}, {"chunk", "expected 1 integer"}},
      {{{"chunk", &one, PluginFieldType::kINT32, 2}}, {"chunk", "length 2"}},
      {{{"chunk", nullptr, PluginFieldType::kINT32, 1}}, {"expected 1 integer"}},
      {{text("direction", "left_to_right")}, {"unknown field \"direction\""}},
      {{text("colour", "red")},
       {"unknown field \"colour\"", "packed_offsets, groups and channels"}},
      {{integer("chunk", &one), integer("chunk", &one)}, {"chunk is given twice"}},
      {{{nullptr, &one, PluginFieldType::kINT32, 1}}, {"has no name"}},
  };
  for (const auto& entry : cases) {
    checkRefused([&] { parse(Op::kProp2D, entry.first); }, entry.second);
  }
  checkRefused([] { parse(Op::kLineScan, {text("direction", "sideways")}); },
               {"GspnLineScan", "left_to_right, right_to_left, top_to_bottom, bottom_to_top"});
  checkRefused([] { parseFields(Op::kProp2D, nullptr); }, {"null or damaged"});
}

Parameters sample() {
  Parameters parameters;
  parameters.op = Op::kLineScan;
  parameters.normalize = GSPN2_NORMALIZE_SOFTMAX;
  parameters.direction = GSPN2_BOTTOM_TO_TOP;
  parameters.chunk = 123456;
  parameters.optionals = Optionals::kNone;
  return parameters;
}

Parameters packedSample() {
  Parameters parameters;
  parameters.packing = {1, 2, 39, 3, 11, 19, 27};
  parameters.optionals = Optionals::kM;
  return parameters;
}

GSPN2_TEST(state_round_trips) {
  for (const Optionals optionals :
       {Optionals::kUnknown, Optionals::kNone, Optionals::kD, Optionals::kM, Optionals::kBoth}) {
    Parameters parameters = sample();
    parameters.optionals = optionals;
    const std::vector<uint8_t> state = serialize(parameters);
    CHECK_EQ(state.size(), kStateBytes);
    CHECK(deserialize(Op::kLineScan, state.data(), state.size()) == parameters);
  }
  const std::vector<uint8_t> packed = serialize(packedSample());
  CHECK_EQ(packed.size(), kStateBytes);
  CHECK(deserialize(Op::kProp2D, packed.data(), packed.size()) == packedSample());
}

// Engines of this format are in the field: it may not change without a new version number.
GSPN2_TEST(state_format_is_fixed) {
  const uint8_t none = 0xFF;  // -1 is four of them
  const uint8_t expected[kStateBytes] = {
      'S',  'P',  'N',  '2',  5,    0,    0,    0,    64,   0,    0,    0,    1,
      0,    0,    0,    2,    0,    0,    0,    3,    0,    0,    0,    0,    0,
      0,    0,    0,    0,    0,    0,    0x40, 0xE2, 1,    0,    0,    0,    0,
      0,    0,    0,    0,    0,    none, none, none, none, none, none, none, none,
      none, none, none, none, none, none, none, none, none, none, none, none};
  const std::vector<uint8_t> state = serialize(sample());
  CHECK(std::memcmp(state.data(), expected, kStateBytes) == 0);
  const uint8_t packed[kStateBytes] = {'S', 'P', 'N', '2', 5,  0, 0, 0, 64, 0, 0, 0, 0,  0, 0, 0,
                                       1,   0,   0,   0,   0,  0, 0, 0, 2,  0, 0, 0, 1,  0, 0, 0,
                                       0,   0,   0,   0,   0,  0, 0, 0, 2,  0, 0, 0, 39, 0, 0, 0,
                                       3,   0,   0,   0,   11, 0, 0, 0, 19, 0, 0, 0, 27, 0, 0, 0};
  CHECK(std::memcmp(serialize(packedSample()).data(), packed, kStateBytes) == 0);
}

GSPN2_TEST(altered_state_is_refused) {
  const struct {
    size_t offset;
    uint8_t value;
    const char* message;
  } changes[] = {{0, 0, "was not written by this plugin"},
                 {4, 4, "format 4, this library reads format 5"},
                 {8, 65, "truncated or damaged"},
                 {12, 9, "op is 9"},
                 {12, 0, "belongs to GspnProp2D"},
                 {16, 3, "normalize is 3"},
                 {20, 4, "direction is 4"},
                 {24, 4, "optionals is 4"},
                 {28, 1, "packed_offsets has -1 for lam"},
                 {31, 0x80, "groups is -"},
                 {39, 0x80, "chunk is -"}};
  for (const auto& change : changes) {
    std::vector<uint8_t> state = serialize(sample());
    state[change.offset] = change.value;
    checkRefused([&] { deserialize(Op::kLineScan, state.data(), state.size()); },
                 {"GspnLineScan", change.message});
  }
  std::vector<uint8_t> state = serialize(packedSample());
  state[40] = 0;
  checkRefused([&] { deserialize(Op::kProp2D, state.data(), state.size()); },
               {"channels is 0, and packed_offsets has 39 for x"});
}

GSPN2_TEST(truncated_state_is_refused) {
  const std::vector<uint8_t> state = serialize(sample());
  for (size_t bytes = 0; bytes < kStateBytes; ++bytes) {
    checkRefused([&] { deserialize(Op::kLineScan, state.data(), bytes); },
                 {"truncated", "rebuild the engine"});
  }
  checkRefused([&] { deserialize(Op::kLineScan, nullptr, kStateBytes); }, {"truncated"});
}

GSPN2_TEST(state_fields_are_checked) {
  const std::vector<uint8_t> state = serialize(sample());
  const PluginField good{kStateField, state.data(), PluginFieldType::kINT8, kStateBytes};
  PluginField wrong = good;
  PluginFieldCollection collection{};
  collection.nbFields = 1;
  collection.fields = &wrong;
  CHECK(restored(&collection) == sample());
  wrong.type = PluginFieldType::kFLOAT32;
  checkRefused([&] { restored(&collection); }, {"type 1"});
  wrong = good;
  wrong.name = "normalize";
  checkRefused([&] { restored(&collection); }, {"expected the one named state"});
  collection.nbFields = 0;
  checkRefused([&] { restored(&collection); }, {"0 plugin fields"});
}

}  // namespace
}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
