// GspnChannelNorm without a GPU: fields, state, shapes, formats, workspace, and what it refuses.
#include <limits>

#include "channel_norm.h"
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

constexpr Op kOp = Op::kChannelNorm;

ChannelNormParameters parse(const std::vector<PluginField>& fields) {
  const auto collection = collect(fields);
  return parseChannelNorm(&collection);
}

ChannelNorm make(int32_t inputs) {
  ChannelNormParameters parameters;
  parameters.inputs = inputs;
  return ChannelNorm(parameters);
}

// Descriptors of x and of its parameters.
std::vector<PluginTensorDesc> describe(Extents x, int32_t count, DataType type = DataType::kFLOAT) {
  std::vector<PluginTensorDesc> list(static_cast<size_t>(count), makeDesc({x.begin()[1]}, type));
  list[0] = makeDesc(x, type);
  return list;
}

GSPN2_TEST(channel_norm_fields_have_defaults) {
  const ChannelNormParameters parameters = parse({});
  CHECK_EQ(parameters.epsilon, 1e-5F);
  CHECK_EQ(parameters.responseEpsilon, 0.0F);
  CHECK_EQ(parameters.inputs, 0);
}

GSPN2_TEST(channel_norm_fields_are_read) {
  const float zero = 0.0F, most = std::numeric_limits<float>::max(), some = 1e-6F;
  const double wide = 0.25;
  CHECK_EQ(parse({realField("epsilon", &some)}).epsilon, some);
  CHECK_EQ(parse({realField("epsilon", &zero)}).epsilon, 0.0F);
  CHECK_EQ(parse({realField("epsilon", &most)}).epsilon, most);
  CHECK_EQ(parse({{"epsilon", &wide, PluginFieldType::kFLOAT64, 1}}).epsilon, 0.25F);
  const ChannelNormParameters both =
      parse({realField("response_epsilon", &some), realField("epsilon", &zero)});
  CHECK_EQ(both.epsilon, 0.0F);
  CHECK_EQ(both.responseEpsilon, some);
}

GSPN2_TEST(channel_norm_refuses_bad_fields) {
  const float real = 1.0F, negative = -1.0F, infinite = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  const double large = 1e39;  // no float32 has it
  const int32_t one = 1;
  const std::pair<std::vector<PluginField>, std::vector<std::string>> entries[] = {
      {{integerField("epsilon", &one)},
       {"GspnChannelNorm", "epsilon has type", "expected a number"}},
      {{textField("epsilon", "1e-5")}, {"expected a number"}},
      {{{"epsilon", &real, PluginFieldType::kFLOAT32, 2}}, {"epsilon", "length 2"}},
      {{{"epsilon", &real, PluginFieldType::kFLOAT32, 0}}, {"epsilon", "length 0"}},
      {{{"epsilon", nullptr, PluginFieldType::kFLOAT32, 1}}, {"expected a number"}},
      {{realField("epsilon", &negative)}, {"epsilon is -1; expected a finite float32"}},
      {{realField("epsilon", &infinite)}, {"epsilon is inf"}},
      {{realField("response_epsilon", &nan)}, {"response_epsilon is", "nan"}},
      {{{"epsilon", &large, PluginFieldType::kFLOAT64, 1}}, {"epsilon is 1e+39"}},
      {{realField("eps", &real)}, {"unknown field \"eps\"; expected epsilon and response_epsilon"}},
      {{realField("epsilon", &real), realField("epsilon", &real)}, {"epsilon is given twice"}},
      {{realField(nullptr, &real)}, {"has no name"}},
  };
  for (const auto& entry : entries) checkRefused([&] { parse(entry.first); }, entry.second);
  checkRefused([] { parseChannelNorm(nullptr); }, {"GspnChannelNorm", "null or damaged"});
}

GSPN2_TEST(channel_norm_state_round_trips) {
  for (const int32_t inputs : {0, 3, 5}) {
    const ChannelNorm layer(ChannelNormParameters{1e-6F, 0.5F, inputs});
    const Bytes state = layer.state();
    CHECK_EQ(state.size(), layer.stateBytes());
    const ChannelNormParameters again = restoreChannelNorm(state.data(), state.size());
    CHECK_EQ(again.epsilon, 1e-6F);
    CHECK_EQ(again.responseEpsilon, 0.5F);
    CHECK_EQ(again.inputs, inputs);
  }
}

// Engines of this format are in the field: it may not change without a new version number.
GSPN2_TEST(channel_norm_state_format_is_fixed) {
  const Bytes expected = {'S', 'P', 'N', '2', 5, 0,    0, 0, 28,   0,    0, 0, 2, 0,
                          0,   0,   0,   0,   0, 0x3F, 0, 0, 0x80, 0x3E, 5, 0, 0, 0};
  CHECK(ChannelNorm(ChannelNormParameters{0.5F, 0.25F, 5}).state() == expected);
}

GSPN2_TEST(channel_norm_refuses_damaged_states) {
  const ChannelNorm layer(ChannelNormParameters{0.5F, 0.25F, 5});
  checkDamagedStates(kOp, layer.state(),
                     {{0, 0, "was not written by this plugin"},
                      {4, 4, "format 4, this library reads format 5"},
                      {8, 29, "truncated or damaged"},
                      {12, 9, "op is 9"},
                      {12, 0, "belongs to GspnProp2D"},
                      {12, 3, "belongs to GspnDepthwise"},
                      {19, 0xBF, "epsilon is -0.5"},
                      {23, 0xBE, "response_epsilon is -0.25"},
                      {24, 1, "no node of it has 1 inputs"},
                      {24, 4, "no node of it has 4 inputs; rebuild the engine"},
                      {24, 7, "no node of it has 7 inputs"},
                      {27, 0x80, "inputs; rebuild the engine"}});
}

GSPN2_TEST(channel_norm_output_has_the_shape_of_x) {
  ChannelNorm plain = make(0);
  CHECK(infer(&plain, {{2, 8, 5, 7}, {8}, {8}}) == Shape({2, 8, 5, 7}));
  CHECK(!plain.parameters().hasResponse());
  CHECK_EQ(plain.parameters().inputs, 3);
  ChannelNorm response = make(0);
  CHECK(infer(&response, {{-1, 8, -1, -1}, {8}, {8}, {8}, {-1}}) == Shape({-1, 8, -1, -1}));
  CHECK(response.parameters().hasResponse());
  ChannelNorm projected = make(0);
  CHECK(infer(&projected, {{-1, 8, 5, 7}, {8}, {8}, {-1, 2, 5, 7}, {2, 8}, {8}}) ==
        Shape({-1, 8, 5, 7}));
  CHECK(!projected.parameters().hasResponse());
  CHECK(projected.parameters().isProjected());
  ChannelNorm both = make(0);
  CHECK(infer(&both, {{1, 8, 5, 7}, {8}, {8}, {8}, {8}, {1, 1, 5, 7}, {1, 8}, {8}}) ==
        Shape({1, 8, 5, 7}));
  CHECK(both.parameters().hasResponse());
  CHECK(both.parameters().isProjected());
  ChannelNorm unknown = make(0);
  CHECK(infer(&unknown, {{1, -1, 3, 5}, {8}, {9}}) == Shape({1, -1, 3, 5}));
}

GSPN2_TEST(channel_norm_refuses_wrong_shapes) {
  const Shape x = {2, 8, 5, 7};
  const std::pair<std::vector<Shape>, std::vector<std::string>> entries[] = {
      {{x, {8}},
       {"GspnChannelNorm: the node has 2 inputs; expected 3, 5 with a response, and 3 more"}},
      {{x, {8}, {8}, {8}}, {"the node has 4 inputs"}},
      {{x, {8}, {8}, {8}, {8}, {2, 2, 5, 7}, {2, 8}}, {"the node has 7 inputs"}},
      {{x, {8}, {8}, {2, 5, 7}, {2, 8}, {8}}, {"the input proxy has 3 dimensions; expected 4"}},
      {{x, {8}, {8}, {2, 2, 5, 7}, {2, 8, 1}, {8}}, {"the input weight has 3 dimensions"}},
      {{x, {8}, {8}, {2, 2, 5, 7}, {8, 2}, {8}}, {"the input weight has 2 elements"}},
      {{x, {8}, {8}, {2, 2, 5, 7}, {1, 8}, {8}}, {"the input weight has 1 rows; expected P = 2"}},
      {{x, {8}, {8}, {2, 3, 5, 7}, {3, 8}, {8}},
       {"the input proxy has 3 channels; expected at most 2"}},
      {{x, {8}, {8}, {8}, {8}, {2, 2, 5, 7}, {2, 8}, {7}}, {"the input bias has 7 elements"}},
      {{{2, 8, 5}, {8}, {8}}, {"the input x has 3 dimensions; expected 4"}},
      {{{2, 8, 5, 7, 1}, {8}, {8}}, {"the input x has 5 dimensions; expected 4"}},
      {{x, {1, 8}, {8}}, {"the input scale has 2 dimensions; expected 1"}},
      {{x, {8}, {9}}, {"the input shift has 9 elements; expected C = 8 as of x"}},
      {{x, {8}, {8}, {7}, {8}}, {"the input response_scale has 7 elements"}},
      {{x, {8}, {8}, {8}, {1}}, {"the input response_shift has 1 elements"}},
  };
  for (const auto& entry : entries) {
    ChannelNorm layer = make(0);
    checkRefused([&] { infer(&layer, entry.first); }, entry.second);
  }
}

GSPN2_TEST(channel_norm_formats) {
  const ChannelNorm layer = make(0);
  std::vector<DataType> floats = halfTypes();
  floats.push_back(DataType::kFLOAT);
  const auto supports = [&](int32_t position, const PluginTensorDesc& tensor,
                            const PluginTensorDesc& first, int32_t count) {
    return layer.supportsFormat(position, tensor, first, count);
  };
  for (const DataType type : floats) {
    const PluginTensorDesc x = makeDesc({2, 8, 5, 7}, type);
    const PluginTensorDesc parameter = makeDesc({8}, type);
    for (const int32_t count : {3, 5}) {
      CHECK(supports(0, x, x, count));
      CHECK(supports(count, x, x, count));
      CHECK(!supports(count, inFormat(x, TensorFormat::kHWC8), x, count));
      for (int32_t i = 1; i < count; ++i) {
        CHECK(supports(i, parameter, x, count));
        CHECK(!supports(i, inFormat(parameter, TensorFormat::kHWC8), x, count));
        CHECK(!supports(i, makeDesc({8}, DataType::kINT32), x, count));
      }
    }
    CHECK(!supports(0, inFormat(x, TensorFormat::kCHW32), inFormat(x, TensorFormat::kCHW32), 3));
  }
  // Of two types no two tensors may be.
  const PluginTensorDesc single = makeDesc({2, 8, 5, 7});
  for (const int32_t position : {1, 3}) {
    CHECK(!supports(position, makeDesc({8}, DataType::kHALF), single, 3));
  }
  for (const DataType type : {DataType::kINT32, DataType::kINT8, DataType::kBOOL}) {
    const PluginTensorDesc x = makeDesc({2, 8, 5, 7}, type);
    CHECK(!supports(0, x, x, 3));
  }
  checkRefused([&] { supports(4, single, single, 3); }, {"GspnChannelNorm", "position 4 of 4"});
  checkRefused([&] { supports(-1, single, single, 3); }, {"position -1 of 4"});
}

GSPN2_TEST(channel_norm_takes_eight_channels_side_by_side) {
  const ChannelNorm layer = make(0);
  const auto supports = [&](Extents extents, DataType type) {
    const PluginTensorDesc x = inFormat(makeDesc(extents, type), TensorFormat::kHWC8);
    const bool taken = layer.supportsFormat(0, x, x, 3);
    CHECK_EQ(layer.supportsFormat(3, x, x, 3), taken);
    // Beside such an x the parameters stay linear, and no output is.
    const PluginTensorDesc parameter = makeDesc({extents.begin()[1]}, type);
    CHECK(layer.supportsFormat(1, parameter, x, 3));
    CHECK(!layer.supportsFormat(1, inFormat(parameter, TensorFormat::kHWC8), x, 3));
    CHECK(!layer.supportsFormat(3, makeDesc(extents, type), x, 3));
    return taken;
  };
  for (const DataType type : halfTypes()) {
    for (const int64_t channels : {1, 7, 8, 80, 2048}) {
      CHECK(supports({2, channels, 5, 7}, type));
      CHECK(supports({-1, channels, -1, -1}, type));
    }
    CHECK(!supports({2, 2049, 5, 7}, type));
    CHECK(!supports({2, 4096, 5, 7}, type));
    CHECK(!supports({2, -1, 5, 7}, type));
    CHECK(!supports({2, 8, 5}, type));
  }
  CHECK(!supports({2, 8, 5, 7}, DataType::kFLOAT));
}

GSPN2_TEST(channel_norm_projects_in_one_format) {
  const ChannelNorm layer = make(0);
  const PluginTensorDesc linear = makeDesc({2, 8, 5, 7}, DataType::kHALF);
  const PluginTensorDesc x = inFormat(linear, TensorFormat::kHWC8);
  const PluginTensorDesc proxy = makeDesc({2, 2, 5, 7}, DataType::kHALF);
  for (const int32_t count : {6, 8}) {
    CHECK(layer.supportsFormat(0, x, x, count));
    CHECK(layer.supportsFormat(count, x, x, count));
    CHECK(!layer.supportsFormat(0, linear, linear, count));
    CHECK(!layer.supportsFormat(count, linear, linear, count));
    CHECK(layer.supportsFormat(count - 3, proxy, x, count));
    CHECK(!layer.supportsFormat(count - 3, inFormat(proxy, TensorFormat::kHWC8), x, count));
    CHECK(layer.supportsFormat(count - 2, makeDesc({2, 8}, DataType::kHALF), x, count));
  }
  const PluginTensorDesc single = makeDesc({2, 8, 5, 7});
  CHECK(!layer.supportsFormat(0, single, single, 6));
}

size_t workspaceOf(int32_t count, DataType type, int64_t n, int64_t c, int64_t h, int64_t w) {
  const auto inputs = describe({n, c, h, w}, count, type);
  const ChannelNorm layer = make(count);
  return layer.workspaceBytes(listInputs(inputs.data(), count));
}

// What the kernel library asks for at one call.
size_t required(DataType type, gspn2_layout_t layout, int64_t n, int64_t c, int64_t h, int64_t w) {
  const gspn2_norm_t norm{n, c, h, w, kernelType(kOp, type), layout, 0, 0};
  size_t bytes = 0;
  CHECK_EQ(gspn2_channel_norm_workspace(&norm, 1, &bytes), GSPN2_SUCCESS);
  return bytes;
}

GSPN2_TEST(channel_norm_needs_workspace_for_a_response_alone) {
  for (const DataType type : {DataType::kFLOAT, DataType::kHALF}) {
    CHECK_EQ(workspaceOf(3, type, 2, 80, 28, 28), size_t{0});
    CHECK(workspaceOf(5, type, 2, 80, 28, 28) > 0);
    CHECK(workspaceOf(5, type, 1, 1, 1, 1) > 0);
  }
  const auto inputs = describe({2, 8, 5, 7}, 5);
  const ChannelNorm plain = make(3);
  checkRefused([&] { plain.workspaceBytes(listInputs(inputs.data(), 5)); },
               {"asked for the workspace of 5 inputs, configured for 3"});
  const auto broken = describe({2, 8, 0, 7}, 5);
  const ChannelNorm response = make(5);
  checkRefused([&] { response.workspaceBytes(listInputs(broken.data(), 5)); },
               {"GspnChannelNorm: h is 0; every extent must be at least 1"});
}

// TensorRT asks once, at a profile's largest shape, and calls with every smaller one, in any
// format.
GSPN2_TEST(channel_norm_workspace_covers_smaller_shapes) {
  const int64_t batches[] = {1, 2, 3, 16, 17, 66, 264, 300};
  const int64_t extents[] = {1, 2, 7, 8, 9, 16, 31, 32, 33, 56, 64, 100, 224, 500, 1024};
  for (const int64_t n : batches) {
    for (const int64_t h : extents) {
      for (const int64_t w : extents) {
        const size_t largest = workspaceOf(5, DataType::kHALF, n, 24, h, w);
        for (const gspn2_layout_t layout : {GSPN2_NCHW, GSPN2_NHWC8}) {
          CHECK_EQ(required(DataType::kHALF, layout, n, 24, h, w), largest);
        }
        for (const int64_t batch : batches) {
          if (batch > n) break;
          CHECK(workspaceOf(5, DataType::kHALF, batch, 24, h, w) <= largest);
          CHECK(workspaceOf(5, DataType::kHALF, batch, 24, h, (w + 1) / 2) <= largest);
        }
        for (const int64_t lower : extents) {
          if (lower <= h) CHECK(workspaceOf(5, DataType::kHALF, n, 24, lower, w) <= largest);
          if (lower <= w) CHECK(workspaceOf(5, DataType::kHALF, n, 24, h, lower) <= largest);
        }
      }
    }
  }
}

GSPN2_TEST(channel_norm_checks_before_it_launches) {
  const auto plain = describe({2, 8, 5, 7}, 3);
  const auto& x = plain[0];
  checkRefused([&] { enqueue(make(0), plain, x); }, {"has not been configured"});
  const ChannelNorm layer = make(3);
  checkRefused([&] { enqueue(layer, {x, makeDesc({7}), makeDesc({8})}, x); },
               {"the input scale has 7 elements"});
  checkRefused([&] { enqueue(layer, {x, makeDesc({8}), makeDesc({8, 1})}, x); },
               {"the input shift has 2 dimensions"});
  checkRefused([&] { enqueue(layer, {x, plain[1], makeDesc({8}, DataType::kHALF)}, x); },
               {"the input shift has data type 1; expected that of x, 0"});
  checkRefused([&] { enqueue(layer, plain, makeDesc({2, 8, 7, 5})); },
               {"the output's shape or data type differs"});
  checkRefused([&] { enqueue(layer, plain, makeDesc({2, 8, 5, 7}, DataType::kHALF)); },
               {"the output's shape or data type differs"});
  const auto whole = describe({2, 8, 5, 7}, 3, DataType::kINT32);
  checkRefused([&] { enqueue(layer, whole, whole[0]); }, {"the data type 3 is not supported"});
}

GSPN2_TEST(channel_norm_refuses_null_pointers) {
  void* const y = const_cast<void*>(madeUp(9));
  const std::vector<const void*> given = {madeUp(1), madeUp(2), madeUp(3), madeUp(4), madeUp(5)};
  for (const int32_t count : {3, 5}) {
    const auto inputs = describe({2, 8, 5, 7}, count);
    const ChannelNorm layer = make(count);
    checkRefused([&] { enqueue(layer, inputs, inputs[0], given); }, {"y is null"});
    checkNullInputs(layer, inputs, {inputs[0]}, given, {y}, {"x", "scale", "shift"});
  }
  const auto inputs = describe({2, 8, 5, 7}, 5);
  const ChannelNorm layer = make(5);
  checkRefused([&] { enqueue(layer, inputs, inputs[0], {given[0], given[1], given[2]}, y); },
               {"response_scale and response_shift are null"});
  checkRefused(
      [&] { enqueue(layer, inputs, inputs[0], {given[0], given[1], given[2], given[3]}, y); },
      {"one of response_scale and response_shift is null"});
  checkRefused([&] { enqueue(layer, inputs, inputs[0], given, y); }, {"workspace is", "at (nil)"});
}

GSPN2_TEST(channel_norm_passes_the_projection_on) {
  auto inputs = describe({2, 8, 5, 7}, 3, DataType::kHALF);
  inputs[0].format = TensorFormat::kHWC8;
  inputs.push_back(makeDesc({2, 2, 5, 7}, DataType::kHALF));
  inputs.push_back(makeDesc({2, 8}, DataType::kHALF));
  inputs.push_back(makeDesc({8}, DataType::kHALF));
  const ChannelNorm layer = make(6);
  void* const y = const_cast<void*>(madeUp(9));
  const std::vector<const void*> given = {madeUp(1), madeUp(2), madeUp(3),
                                          madeUp(4), madeUp(5), madeUp(6)};
  checkRefused([&] { enqueue(layer, inputs, inputs[0], given); }, {"y is null"});
  checkNullInputs(layer, inputs, {inputs[0]}, given, {y},
                  {"x", "scale", "shift", "proxy", "weight", "bias"});
  auto wrong = inputs;
  wrong[3] = makeDesc({2, 2, 7, 5}, DataType::kHALF);
  checkRefused([&] { enqueue(layer, wrong, wrong[0], given, y); },
               {"the input proxy has extent 7 on axis 2; expected 5 as of x"});
  wrong[3] = makeDesc({2, 1, 5, 7}, DataType::kHALF);
  checkRefused([&] { enqueue(layer, wrong, wrong[0], given, y); },
               {"the input weight has 2 rows; expected P = 1 as of proxy"});
}

// The kernel library looks at the layout: in this one pointers are aligned to 16 bytes.
GSPN2_TEST(channel_norm_formats_reach_the_kernels) {
  auto inputs = describe({2, 8, 5, 7}, 3, DataType::kHALF);
  const ChannelNorm layer = make(3);
  void* const y = const_cast<void*>(madeUp(9));
  const void* const x = static_cast<const char*>(madeUp(1)) + 2;
  inputs[0].format = TensorFormat::kHWC8;
  checkRefused([&] { enqueue(layer, inputs, inputs[0], {x, madeUp(2), madeUp(3)}, y); },
               {"GspnChannelNorm: x is at", "multiples of 16 bytes"});
  // Of 1 channel this layout has 8: y overlaps what is behind the last one.
  auto narrow = describe({1, 1, 1, 1}, 3, DataType::kHALF);
  narrow[0].format = TensorFormat::kHWC8;
  void* const behind = const_cast<void*>(madeUp(1));
  const void* const before = static_cast<const char*>(madeUp(1)) - 2;
  checkRefused([&] { enqueue(layer, narrow, narrow[0], {before, madeUp(2), madeUp(3)}, behind); },
               {"y (16 bytes at", "overlaps the input x"});
}

}  // namespace
}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
