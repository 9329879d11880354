// GspnDepthwiseNorm without a GPU: fields, state, shapes, formats, and what it refuses.
#include "depthwise_norm.h"
#include "layer_parts.h"

namespace gspn2 {
namespace plugin {
namespace tests {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr Op kOp = Op::kDepthwiseNorm;
constexpr int32_t kInputs = 5;

DepthwiseNormParameters parse(const std::vector<PluginField>& fields) {
  const auto collection = collect(fields);
  return parseDepthwiseNorm(&collection);
}

// Descriptors of x, weight, bias, scale and shift.
std::vector<PluginTensorDesc> describe(int64_t channels, DataType type = DataType::kHALF) {
  const PluginTensorDesc vector = makeDesc({channels}, type);
  return {inFormat(makeDesc({2, channels, 5, 7}, type), TensorFormat::kHWC8),
          makeDesc({channels, 1, 3, 3}, type), vector, vector, vector};
}

std::vector<PluginTensorDesc> both(const PluginTensorDesc& x) { return {x, x}; }

GSPN2_TEST(depthwise_norm_fields_have_defaults) {
  const DepthwiseNormParameters parameters = parse({});
  CHECK_EQ(parameters.epsilon, 1e-5F);
  CHECK_EQ(parameters.activation, GSPN2_IDENTITY);
  CHECK(!parameters.residual);
}

GSPN2_TEST(depthwise_norm_fields_are_read) {
  const int32_t one = 1;
  const float epsilon = 1e-6F;
  const DepthwiseNormParameters parameters =
      parse({integerField("residual", &one), textField("activation", "silu"),
             realField("epsilon", &epsilon)});
  CHECK_EQ(parameters.epsilon, epsilon);
  CHECK_EQ(parameters.activation, GSPN2_SILU);
  CHECK(parameters.residual);
}

GSPN2_TEST(depthwise_norm_refuses_bad_fields) {
  const int32_t one = 1, two = 2;
  const float negative = -1.0F;
  const std::pair<std::vector<PluginField>, std::vector<std::string>> entries[] = {
      {{realField("epsilon", &negative)}, {"GspnDepthwiseNorm: epsilon is -1; expected a finite"}},
      {{integerField("epsilon", &one)}, {"epsilon", "expected a number"}},
      {{textField("activation", "relu")},
       {"activation is \"relu\"; expected one of identity, silu"}},
      {{integerField("residual", &two)}, {"residual is 2; expected 0 or 1"}},
      {{integerField("kernel", &one)},
       {"unknown field \"kernel\"; expected epsilon, activation and residual"}},
      {{integerField("residual", &one), integerField("residual", &one)},
       {"residual is given twice"}},
  };
  for (const auto& entry : entries) checkRefused([&] { parse(entry.first); }, entry.second);
  checkRefused([] { parseDepthwiseNorm(nullptr); }, {"GspnDepthwiseNorm", "null or damaged"});
}

GSPN2_TEST(depthwise_norm_state_round_trips) {
  for (const gspn2_activation_t activation : {GSPN2_IDENTITY, GSPN2_SILU}) {
    for (const bool residual : {false, true}) {
      const DepthwiseNorm layer(DepthwiseNormParameters{1e-3F, activation, residual});
      const Bytes state = layer.state();
      CHECK_EQ(state.size(), layer.stateBytes());
      const DepthwiseNormParameters again = restoreDepthwiseNorm(state.data(), state.size());
      CHECK_EQ(again.epsilon, 1e-3F);
      CHECK_EQ(again.activation, activation);
      CHECK_EQ(again.residual, residual);
    }
  }
}

// Engines of this format are in the field: it may not change without a new version number.
GSPN2_TEST(depthwise_norm_state_format_is_fixed) {
  const Bytes expected = {'S', 'P', 'N', '2', 5, 0,    0, 0x00, 28, 0, 0, 0, 4, 0,
                          0,   0,   0,   0,   0, 0x3f, 1, 0,    0,  0, 1, 0, 0, 0};
  CHECK(DepthwiseNorm(DepthwiseNormParameters{0.5F, GSPN2_SILU, true}).state() == expected);
}

GSPN2_TEST(depthwise_norm_refuses_damaged_states) {
  const DepthwiseNorm layer(DepthwiseNormParameters{0.5F, GSPN2_SILU, true});
  checkDamagedStates(kOp, layer.state(),
                     {{0, 0, "was not written by this plugin"},
                      {4, 6, "format 6, this library reads format 5"},
                      {12, 9, "op is 9"},
                      {12, 3, "belongs to GspnDepthwise"},
                      {19, 0xbf, "epsilon is -0.5"},
                      {20, 2, "activation is 2"},
                      {24, 2, "residual is 2"}});
}

GSPN2_TEST(depthwise_norm_outputs_have_the_shape_of_x) {
  DepthwiseNorm layer{DepthwiseNormParameters{}};
  CHECK_EQ(layer.outputCount(), 2);
  CHECK(infer(&layer, {{-1, 16, -1, -1}, {16, 1, 3, 3}, {16}, {16}, {16}}) ==
        Shape({-1, 16, -1, -1}));
  CHECK(infer(&layer, {{1, -1, 3, 5}, {-1, 1, -1, -1}, {8}, {8}, {8}}) == Shape({1, -1, 3, 5}));
}

GSPN2_TEST(depthwise_norm_refuses_wrong_shapes) {
  const Shape x = {2, 8, 5, 7};
  const Shape weight = {8, 1, 3, 3};
  const Shape vector = {8};
  const std::pair<std::vector<Shape>, std::vector<std::string>> entries[] = {
      {{x, weight, vector, vector}, {"GspnDepthwiseNorm: the node has 4 inputs; expected 5 to 5"}},
      {{{2, 8, 5}, weight, vector, vector, vector}, {"the input x has 3 dimensions; expected 4"}},
      {{x, weight, vector, {8, 1}, vector}, {"the input scale has 2 dimensions; expected 1"}},
      {{x, {16, 1, 3, 3}, vector, vector, vector}, {"weight has extent 16 on axis 0; expected 8"}},
      {{x, {8, 8, 3, 3}, vector, vector, vector}, {"weight has extent 8 on axis 1; expected 1"}},
      {{x, {8, 1, 5, 3}, vector, vector, vector}, {"weight has extent 5 on axis 2; expected 3"}},
      {{x, {8, 1, 3, 5}, vector, vector, vector}, {"weight has extent 5 on axis 3; expected 3"}},
      {{x, weight, {9}, vector, vector}, {"bias has extent 9 on axis 0; expected 8"}},
      {{x, weight, vector, vector, {1}}, {"shift has extent 1 on axis 0; expected 8"}},
      {{{2, 12, 5, 7}, {12, 1, 3, 3}, {12}, {12}, {12}},
       {"C is 12; expected a multiple of 8 and at most 1024"}},
      {{{2, 1032, 5, 7}, {1032, 1, 3, 3}, {1032}, {1032}, {1032}}, {"C is 1032"}},
  };
  for (const auto& entry : entries) {
    DepthwiseNorm layer{DepthwiseNormParameters{}};
    checkRefused([&] { infer(&layer, entry.first); }, entry.second);
  }
}

GSPN2_TEST(depthwise_norm_formats) {
  const DepthwiseNorm layer{DepthwiseNormParameters{}};
  for (const DataType type : halfTypes()) {
    const auto tensors = describe(8, type);
    const PluginTensorDesc& x = tensors[0];
    for (const int32_t position : {0, kInputs, kInputs + 1}) {
      CHECK(layer.supportsFormat(position, x, x, kInputs));
      CHECK(!layer.supportsFormat(position, inFormat(x, TensorFormat::kLINEAR), x, kInputs));
    }
    for (int32_t i = 1; i < kInputs; ++i) {
      const PluginTensorDesc& parameter = tensors[static_cast<size_t>(i)];
      CHECK(layer.supportsFormat(i, parameter, x, kInputs));
      CHECK(!layer.supportsFormat(i, inFormat(parameter, TensorFormat::kHWC8), x, kInputs));
      CHECK(!layer.supportsFormat(i, makeDesc({8}), x, kInputs));
    }
    checkRefused([&] { layer.supportsFormat(kInputs + 2, x, x, kInputs); },
                 {"GspnDepthwiseNorm", "position 7 of 7"});
  }
  const PluginTensorDesc wide = inFormat(makeDesc({2, 8, 5, 7}), TensorFormat::kHWC8);
  CHECK(!layer.supportsFormat(0, wide, wide, kInputs));
}

GSPN2_TEST(depthwise_norm_checks_before_it_launches) {
  const DepthwiseNorm layer{DepthwiseNormParameters{}};
  const auto inputs = describe(8);
  const PluginTensorDesc& x = inputs[0];
  const auto refuse = [&](size_t index, const PluginTensorDesc& desc, const char* message) {
    auto wrong = inputs;
    wrong[index] = desc;
    checkRefused([&] { enqueue(layer, wrong, both(x), {}, {}); },
                 {std::string("GspnDepthwiseNorm: the input ") + message});
  };
  const auto half = [](Extents extents) { return makeDesc(extents, DataType::kHALF); };
  refuse(1, half({8, 1, 5, 5}), "weight has extent 5 on axis 2; expected 3");
  refuse(1, half({8, 9}), "weight has 2 dimensions; expected 4");
  refuse(3, half({9}), "scale has extent 9 on axis 0; expected 8");
  refuse(4, makeDesc({8}), "shift has data type 0; expected that of x, 1");
  for (const size_t index : {0, 1}) {
    auto outputs = both(x);
    outputs[index] = half({2, 8, 7, 5});
    checkRefused([&] { enqueue(layer, inputs, outputs, {}, {}); },
                 {"the output's shape or data type differs"});
  }
}

GSPN2_TEST(depthwise_norm_refuses_what_the_kernels_do) {
  const DepthwiseNorm layer{DepthwiseNormParameters{}};
  const auto writable = [](uintptr_t position) { return const_cast<void*>(madeUp(position)); };
  const std::vector<const void*> given = {madeUp(1), madeUp(2), madeUp(3), madeUp(4), madeUp(5)};
  const std::vector<void*> results = {writable(8), writable(9)};
  const auto inputs = describe(8);
  const auto outputs = both(inputs[0]);
  checkNullInputs(layer, inputs, outputs, given, results,
                  {"x", "weight", "bias", "scale", "shift"});
  checkRefused([&] { enqueue(layer, inputs, outputs, given, {nullptr, results[1]}); },
               {"y is null"});
  checkRefused([&] { enqueue(layer, inputs, outputs, given, {results[0], nullptr}); },
               {"z is null"});
  checkRefused([&] { enqueue(layer, inputs, outputs, given, {results[0], writable(1)}); },
               {"z (1120 bytes at", "overlaps the input x"});
  checkRefused([&] { enqueue(layer, inputs, outputs, given, {results[0], results[0]}); },
               {"z (1120 bytes at", "overlaps the output y"});
  const auto wide = describe(8, DataType::kFLOAT);
  checkRefused([&] { enqueue(layer, wide, both(wide[0]), given, results); },
               {"GspnDepthwiseNorm: dtype 0", "expected float16 or bfloat16"});
  void* const odd = static_cast<char*>(results[1]) + 2;
  checkRefused([&] { enqueue(layer, inputs, outputs, given, {results[0], odd}); },
               {"z is at", "multiples of 16 bytes"});
}

}  // namespace
}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
