// GspnDepthwise without a GPU: fields, state, shapes, formats, and what it refuses.
#include "depthwise.h"
#include "layer_parts.h"

namespace gspn2 {
namespace plugin {
namespace tests {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr Op kOp = Op::kDepthwise;

DepthwiseParameters parse(const std::vector<PluginField>& fields) {
  const auto collection = collect(fields);
  return parseDepthwise(&collection);
}

Depthwise make(int32_t inputs) {
  DepthwiseParameters parameters;
  parameters.inputs = inputs;
  return Depthwise(parameters);
}

// Descriptors of x, weight and bias.
std::vector<PluginTensorDesc> describe(int64_t channels, int64_t kernel,
                                       DataType type = DataType::kHALF) {
  return {inFormat(makeDesc({2, channels, 5, 7}, type), TensorFormat::kHWC8),
          makeDesc({channels, 1, kernel, kernel}, type), makeDesc({channels}, type)};
}

GSPN2_TEST(depthwise_fields_have_defaults) {
  const DepthwiseParameters parameters = parse({});
  CHECK_EQ(parameters.activation, GSPN2_IDENTITY);
  CHECK(!parameters.residual);
  CHECK_EQ(parameters.inputs, 0);
}

GSPN2_TEST(depthwise_fields_are_read) {
  const int32_t zero = 0, one = 1;
  const int8_t narrow = 1;
  CHECK_EQ(parse({textField("activation", "identity")}).activation, GSPN2_IDENTITY);
  CHECK_EQ(parse({textField("activation", "silu")}).activation, GSPN2_SILU);
  CHECK(!parse({integerField("residual", &zero)}).residual);
  CHECK(parse({integerField("residual", &one)}).residual);
  CHECK(parse({{"residual", &narrow, PluginFieldType::kINT8, 1}}).residual);
  const DepthwiseParameters both =
      parse({integerField("residual", &one), textField("activation", "silu")});
  CHECK_EQ(both.activation, GSPN2_SILU);
  CHECK(both.residual);
#if GSPN2_TRT_V3
  const int64_t wide = 1, tooWide = (int64_t{1} << 32) + 1;
  CHECK(parse({{"residual", &wide, PluginFieldType::kINT64, 1}}).residual);
  checkRefused([&] { parse({{"residual", &tooWide, PluginFieldType::kINT64, 1}}); },
               {"residual is 4294967297; expected 0 or 1"});
#endif
}

GSPN2_TEST(depthwise_refuses_bad_fields) {
  const int32_t one = 1, two = 2, negative = -1;
  const float real = 1.0F;
  const std::pair<std::vector<PluginField>, std::vector<std::string>> entries[] = {
      {{textField("activation", "relu")},
       {"GspnDepthwise", "activation is \"relu\"; expected one of identity, silu"}},
      {{textField("activation", "")}, {"activation", "length 0"}},
      {{integerField("activation", &one)}, {"activation", "expected a string"}},
      {{{"activation", nullptr, PluginFieldType::kCHAR, 4}}, {"expected a string"}},
      {{integerField("residual", &two)}, {"residual is 2; expected 0 or 1"}},
      {{integerField("residual", &negative)}, {"residual is -1"}},
      {{realField("residual", &real)}, {"residual", "expected 1 integer"}},
      {{textField("residual", "1")}, {"residual", "expected 1 integer"}},
      {{{"residual", &one, PluginFieldType::kINT32, 2}}, {"residual", "length 2"}},
      {{{"residual", nullptr, PluginFieldType::kINT32, 1}}, {"expected 1 integer"}},
      {{integerField("kernel", &one)},
       {"unknown field \"kernel\"; expected activation and residual"}},
      {{integerField("residual", &one), integerField("residual", &one)},
       {"residual is given twice"}},
      {{integerField(nullptr, &one)}, {"has no name"}},
  };
  for (const auto& entry : entries) checkRefused([&] { parse(entry.first); }, entry.second);
  checkRefused([] { parseDepthwise(nullptr); }, {"GspnDepthwise", "null or damaged"});
}

GSPN2_TEST(depthwise_state_round_trips) {
  for (const gspn2_activation_t activation : {GSPN2_IDENTITY, GSPN2_SILU}) {
    for (const bool residual : {false, true}) {
      for (const int32_t inputs : {0, 2, 3}) {
        const Depthwise layer(DepthwiseParameters{activation, residual, inputs});
        const Bytes state = layer.state();
        CHECK_EQ(state.size(), layer.stateBytes());
        const DepthwiseParameters again = restoreDepthwise(state.data(), state.size());
        CHECK_EQ(again.activation, activation);
        CHECK_EQ(again.residual, residual);
        CHECK_EQ(again.inputs, inputs);
      }
    }
  }
}

// Engines of this format are in the field: it may not change without a new version number.
GSPN2_TEST(depthwise_state_format_is_fixed) {
  const Bytes expected = {'S', 'P', 'N', '2', 5, 0, 0, 0, 28, 0, 0, 0, 3, 0,
                          0,   0,   1,   0,   0, 0, 1, 0, 0,  0, 2, 0, 0, 0};
  CHECK(Depthwise(DepthwiseParameters{GSPN2_SILU, true, 2}).state() == expected);
}

GSPN2_TEST(depthwise_refuses_damaged_states) {
  const Depthwise layer(DepthwiseParameters{GSPN2_SILU, true, 2});
  checkDamagedStates(kOp, layer.state(),
                     {{0, 0, "was not written by this plugin"},
                      {4, 6, "format 6, this library reads format 5"},
                      {8, 0, "truncated or damaged"},
                      {12, 9, "op is 9"},
                      {12, 1, "belongs to GspnLineScan"},
                      {12, 2, "belongs to GspnChannelNorm"},
                      {16, 2, "activation is 2"},
                      {20, 2, "residual is 2"},
                      {24, 1, "no node of it has 1 inputs"},
                      {24, 4, "no node of it has 4 inputs; rebuild the engine"},
                      {27, 0x80, "inputs; rebuild the engine"}});
}

GSPN2_TEST(depthwise_output_has_the_shape_of_x) {
  Depthwise plain = make(0);
  CHECK(infer(&plain, {{2, 8, 5, 7}, {8, 1, 3, 3}}) == Shape({2, 8, 5, 7}));
  CHECK_EQ(plain.parameters().inputs, 2);
  Depthwise biased = make(0);
  CHECK(infer(&biased, {{-1, 16, -1, -1}, {16, 1, 7, 7}, {16}}) == Shape({-1, 16, -1, -1}));
  CHECK_EQ(biased.parameters().inputs, 3);
  Depthwise odd = make(0);
  CHECK(infer(&odd, {{1, 13, 4, 4}, {13, 1, 3, 3}}) == Shape({1, 13, 4, 4}));
  Depthwise unknown = make(0);
  CHECK(infer(&unknown, {{1, -1, 3, 5}, {-1, 1, -1, -1}, {8}}) == Shape({1, -1, 3, 5}));
}

GSPN2_TEST(depthwise_refuses_wrong_shapes) {
  const Shape x = {2, 8, 5, 7};
  const Shape weight = {8, 1, 5, 5};
  const std::pair<std::vector<Shape>, std::vector<std::string>> entries[] = {
      {{x}, {"GspnDepthwise: the node has 1 inputs; expected 2 to 3"}},
      {{x, weight, {8}, {8}}, {"the node has 4 inputs"}},
      {{{2, 8, 5}, weight}, {"the input x has 3 dimensions; expected 4"}},
      {{x, {8, 5, 5}}, {"the input weight has 3 dimensions; expected 4"}},
      {{x, weight, {8, 1}}, {"the input bias has 2 dimensions; expected 1"}},
      {{x, {16, 1, 5, 5}}, {"the input weight has extent 16 on axis 0; expected 8"}},
      {{x, {8, 8, 5, 5}}, {"the input weight has extent 8 on axis 1; expected 1"}},
      {{x, {8, 1, 5, 3}}, {"the input weight has extent 3 on axis 3; expected 5"}},
      {{x, weight, {1}}, {"the input bias has extent 1 on axis 0; expected 8"}},
      {{x, {8, 1, 9, 9}}, {"the kernel is 9 wide; expected 3, 5 or 7"}},
      {{x, {8, 1, 4, 4}}, {"the kernel is 4 wide"}},
  };
  for (const auto& entry : entries) {
    Depthwise layer = make(0);
    checkRefused([&] { infer(&layer, entry.first); }, entry.second);
  }
}

GSPN2_TEST(depthwise_formats) {
  const Depthwise layer = make(0);
  for (const DataType type : halfTypes()) {
    const auto tensors = describe(8, 3, type);
    const PluginTensorDesc& x = tensors[0];
    const PluginTensorDesc linear = inFormat(x, TensorFormat::kLINEAR);
    for (const int32_t count : {2, 3}) {
      for (const int32_t position : {0, count}) {
        CHECK(layer.supportsFormat(position, x, x, count));
        CHECK(!layer.supportsFormat(position, linear, x, count));
        CHECK(!layer.supportsFormat(position, inFormat(x, TensorFormat::kCHW32), x, count));
      }
      for (int32_t i = 1; i < count; ++i) {
        const PluginTensorDesc& parameter = tensors[static_cast<size_t>(i)];
        CHECK(layer.supportsFormat(i, parameter, x, count));
        CHECK(!layer.supportsFormat(i, inFormat(parameter, TensorFormat::kHWC8), x, count));
        CHECK(!layer.supportsFormat(i, makeDesc({8}), x, count));
      }
    }
    checkRefused([&] { layer.supportsFormat(4, x, x, 3); }, {"GspnDepthwise", "position 4 of 4"});
  }
  for (const DataType type : {DataType::kFLOAT, DataType::kINT32, DataType::kINT8}) {
    for (const TensorFormat format : {TensorFormat::kLINEAR, TensorFormat::kHWC8}) {
      const PluginTensorDesc x = inFormat(makeDesc({2, 8, 5, 7}, type), format);
      CHECK(!layer.supportsFormat(0, x, x, 2));
    }
  }
}

GSPN2_TEST(depthwise_needs_no_workspace) {
  const auto inputs = describe(8, 7);
  CHECK_EQ(make(3).workspaceBytes(listInputs(inputs.data(), 3)), size_t{0});
  CHECK_EQ(make(2).workspaceBytes(listInputs(inputs.data(), 2)), size_t{0});
}

GSPN2_TEST(depthwise_checks_before_it_launches) {
  const auto inputs = describe(8, 3);
  const PluginTensorDesc &x = inputs[0], &weight = inputs[1], &bias = inputs[2];
  checkRefused([&] { enqueue(make(0), inputs, x); }, {"has not been configured"});
  const Depthwise layer = make(3);
  const auto other = [](Extents extents) { return makeDesc(extents, DataType::kHALF); };
  const std::pair<std::vector<PluginTensorDesc>, const char*> entries[] = {
      {{x, other({16, 1, 3, 3}), bias}, "weight has extent 16 on axis 0; expected 8"},
      {{x, other({8, 2, 3, 3}), bias}, "weight has extent 2 on axis 1; expected 1"},
      {{x, other({8, 1, 3, 5}), bias}, "weight has extent 5 on axis 3; expected 3"},
      {{x, other({8, 9}), bias}, "weight has 2 dimensions; expected 4"},
      {{x, weight, other({9})}, "bias has extent 9 on axis 0; expected 8"},
      {{x, weight, makeDesc({8})}, "bias has data type 0; expected that of x, 1"},
      {{x, makeDesc({8, 1, 3, 3}), bias}, "weight has data type 0; expected that of x, 1"},
  };
  for (const auto& entry : entries) {
    checkRefused([&] { enqueue(layer, entry.first, x); },
                 {std::string("GspnDepthwise: the input ") + entry.second});
  }
  checkRefused([&] { enqueue(layer, inputs, other({2, 8, 7, 5})); },
               {"the output's shape or data type differs"});
  checkRefused([&] { enqueue(layer, describe(8, 9), x); }, {"the kernel is 9 wide"});
}

GSPN2_TEST(depthwise_refuses_what_the_kernels_do) {
  void* const y = const_cast<void*>(madeUp(9));
  const std::vector<const void*> given = {madeUp(1), madeUp(2), madeUp(3)};
  const auto inputs = describe(8, 3);
  checkNullInputs(make(3), inputs, {inputs[0]}, given, {y}, {"x", "weight", "bias"});
  checkRefused([&] { enqueue(make(2), inputs, inputs[0], given); }, {"y is null"});
  const auto wide = describe(8, 3, DataType::kFLOAT);
  checkRefused([&] { enqueue(make(3), wide, wide[0], given, y); },
               {"GspnDepthwise: dtype 0", "expected float16 or bfloat16"});
  const auto whole = describe(8, 3, DataType::kINT32);
  checkRefused([&] { enqueue(make(3), whole, whole[0], given, y); },
               {"the data type 3 is not supported"});
  checkRefused([&] { enqueue(make(3), inputs, inputs[0], given, const_cast<void*>(given[0])); },
               {"y (1120 bytes at", "overlaps the input x"});
  void* const odd = static_cast<char*>(y) + 2;
  checkRefused([&] { enqueue(make(3), inputs, inputs[0], given, odd); }, {"multiples of 16 bytes"});
}

}  // namespace
}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
