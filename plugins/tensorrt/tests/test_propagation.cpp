// Shapes, formats and the checks before a launch. Nothing here reaches a GPU.
#include "layer_parts.h"
#include "propagation.h"

namespace gspn2 {
namespace plugin {
namespace tests {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

Propagation makePropagation(Op op) {
  Parameters parameters;
  parameters.op = op;
  return Propagation(parameters);
}

Propagation makePacked(const Packing& packing) {
  Parameters parameters;
  parameters.packing = packing;
  return Propagation(parameters);
}

GSPN2_TEST(output_has_the_shape_of_x) {
  Propagation core = makePropagation(Op::kProp2D);
  const auto shape =
      infer(&core, {{2, 8, 5, 7}, {2, 4, 8, 5, 7}, {2, 4, 3, 1, 5, 7}, {2, 4, 8, 5, 7}});
  CHECK(shape == Shape({2, 8, 5, 7}));
  Propagation scan = makePropagation(Op::kLineScan);
  const auto lines = infer(&scan, {{2, 8, 5, 7}, {2, 8, 5, 7}, {2, 3, 8, 5, 7}});
  CHECK(lines == Shape({2, 8, 5, 7}));
}

GSPN2_TEST(unknown_extents_stay_unknown) {
  Propagation core = makePropagation(Op::kProp2D);
  const auto shape = infer(
      &core, {{-1, 8, -1, -1}, {-1, 4, 8, -1, -1}, {-1, 4, 3, -1, -1, -1}, {-1, 4, 8, -1, -1}});
  CHECK(shape == Shape({-1, 8, -1, -1}));
}

GSPN2_TEST(optional_inputs_are_told_by_rank) {
  const Shape x = {1, 2, 3, 5};
  const Shape gate = {1, 4, 2, 3, 5};
  const Shape w = {1, 4, 3, 1, 3, 5};
  Propagation none = makePropagation(Op::kProp2D);
  infer(&none, {x, gate, w, gate});
  CHECK(none.parameters().optionals == Optionals::kNone);
  CHECK_EQ(none.inputCount(), 4);
  Propagation withD = makePropagation(Op::kProp2D);
  infer(&withD, {x, gate, w, gate, gate});
  CHECK(withD.parameters().optionals == Optionals::kD);
  Propagation withM = makePropagation(Op::kProp2D);
  infer(&withM, {x, gate, w, gate, {4}});
  CHECK(withM.parameters().optionals == Optionals::kM);
  CHECK_EQ(withM.inputCount(), 5);
  Propagation both = makePropagation(Op::kProp2D);
  infer(&both, {x, gate, w, gate, gate, {4}});
  CHECK(both.parameters().optionals == Optionals::kBoth);
  CHECK_EQ(both.inputCount(), 6);
}

GSPN2_TEST(a_packed_node_takes_a_prediction) {
  const Shape x = {2, 2, 3, 5};
  Propagation core = makePacked({1, 0, -1, 0, 8, -1, 16});
  CHECK(infer(&core, {x, {2, 28, 3, 5}}) == Shape({2, 2, 3, 5}));
  CHECK_EQ(core.inputCount(), 2);
  Propagation withM = makePacked({2, 0, -1, 24, 8, 16, 0});
  const auto shape = infer(&withM, {{-1, 2, -1, -1}, {-1, -1, -1, -1}, {4}});
  CHECK(shape == Shape({-1, 2, -1, -1}));
  CHECK(withM.parameters().optionals == Optionals::kM);
  CHECK_EQ(withM.inputCount(), 3);
}

GSPN2_TEST(a_prediction_may_hold_x) {
  Propagation core = makePacked({1, 2, 28, 0, 8, -1, 16});
  CHECK(infer(&core, {{2, 30, 3, 5}}) == Shape({2, 2, 3, 5}));
  CHECK_EQ(core.inputCount(), 1);
  Propagation withM = makePacked({2, 2, 0, 26, 10, 18, 2});
  CHECK(infer(&withM, {{-1, -1, -1, -1}, {4}}) == Shape({-1, 2, -1, -1}));
  CHECK(withM.parameters().optionals == Optionals::kM);
  CHECK_EQ(withM.inputCount(), 2);
}

GSPN2_TEST(wrong_predictions_are_refused) {
  const Shape x = {1, 2, 3, 5};
  const Packing packing = {1, 0, -1, 0, 8, -1, 16};
  const Packing withX = {1, 2, 28, 0, 8, -1, 16};
  const struct {
    Packing packing;
    std::vector<Shape> inputs;
    std::vector<std::string> message;
  } cases[] = {
      {packing, {x}, {"the node has 1 inputs; expected 2 to 3"}},
      {packing, {x, {1, 28, 3, 5}, {4}, {4}}, {"the node has 4 inputs"}},
      {packing, {x, {1, 4, 7, 3, 5}}, {"the input prediction has 5 dimensions; expected 4"}},
      {packing, {x, {2, 28, 3, 5}}, {"prediction has extent 2 on axis 0; expected N = 1"}},
      {packing, {x, {1, 28, 3, 6}}, {"prediction has extent 6 on axis 3; expected W = 5"}},
      {packing, {x, {1, 28, 3, 5}, {5}}, {"m has extent 5 on axis 0; expected 4"}},
      {packing,
       {x, {1, 27, 3, 5}},
       {"prediction has 27 channels; expected w in the 12 from channel 16 on"}},
      {{1, 0, -1, 0, 24, -1, 8}, {x, {1, 28, 3, 5}}, {"expected u in the 8 from channel 24 on"}},
      {{3, 0, -1, 0, 8, -1, 16}, {x, {1, 52, 3, 5}}, {"groups is 3; expected 1", "or C = 2"}},
      {withX, {{1, 29, 3, 5}}, {"expected x in the 2 from channel 28 on"}},
      {withX, {{2, 3, 5}}, {"the input prediction has 3 dimensions; expected 4"}},
      {withX, {{1, 30, 3, 5}, {3}}, {"m has extent 3 on axis 0; expected 4"}},
      {withX, {{1, 30, 3, 5}, {4}, {4}}, {"the node has 3 inputs; expected 1 to 2"}},
      {{3, 2, 52, 0, 8, -1, 16}, {{1, 54, 3, 5}}, {"groups is 3; expected 1", "or C = 2"}},
  };
  for (const auto& entry : cases) {
    Propagation core = makePacked(entry.packing);
    checkRefused([&] { infer(&core, entry.inputs); }, entry.message);
  }
}

GSPN2_TEST(wrong_shapes_are_refused) {
  const Shape x = {1, 2, 3, 5};
  const Shape gate = {1, 4, 2, 3, 5};
  const Shape w = {1, 4, 3, 1, 3, 5};
  const struct {
    std::vector<Shape> inputs;
    std::vector<std::string> message;
  } cases[] = {
      {{x, gate, w}, {"GspnProp2D: the node has 3 inputs; expected 4 to 6"}},
      {{x, gate, w, gate, gate, {4}, {4}}, {"the node has 7 inputs"}},
      {{{2, 3, 5}, gate, w, gate}, {"the input x has 3 dimensions; expected 4"}},
      {{x, x, w, gate}, {"the input lam has 4 dimensions; expected 5"}},
      {{x, {1, 3, 2, 3, 5}, w, gate}, {"lam has extent 3 on axis 1; expected 4"}},
      {{x, gate, {1, 4, 5, 1, 3, 5}, gate}, {"w has extent 5 on axis 2; expected 3"}},
      {{x, gate, {1, 4, 3, 3, 3, 5}, gate}, {"w has 3 channels; expected 1 (shared) or C = 2"}},
      {{x, gate, {1, 4, 3, 1, 3, 6}, gate}, {"w has extent 6 on axis 5; expected W = 5"}},
      {{x, gate, w, {1, 4, 2, 4, 5}}, {"u has extent 4 on axis 3; expected H = 3"}},
      {{x, gate, w, gate, {2, 4, 2, 3, 5}}, {"d has extent 2 on axis 0; expected N = 1"}},
      {{x, gate, w, gate, {3}}, {"m has extent 3 on axis 0; expected 4"}},
      {{x, gate, w, gate, {1, 4}}, {"d has 2 dimensions; expected 5"}},
      {{{-1, -1, 3, 5}, {-1, 4, 2, 3, 5}, w, {-1, 4, 3, 3, 5}},
       {"u has extent 3 on axis 2; expected C = 2"}},
  };
  for (const auto& entry : cases) {
    Propagation core = makePropagation(Op::kProp2D);
    checkRefused([&] { infer(&core, entry.inputs); }, entry.message);
  }
  Propagation scan = makePropagation(Op::kLineScan);
  checkRefused([&] { infer(&scan, {x, x}); }, {"GspnLineScan: the node has 2 inputs"});
}

GSPN2_TEST(formats_are_linear_and_of_one_float_type) {
  const Propagation core = makePropagation(Op::kProp2D);
  const PluginTensorDesc first = makeDesc({1, 2, 3, 5}, DataType::kHALF);
  PluginTensorDesc tensor = first;
  CHECK(core.supportsFormat(0, first, first, 4));
  CHECK(core.supportsFormat(4, tensor, first, 4));  // the output
  tensor.format = TensorFormat::kHWC8;
  CHECK(!core.supportsFormat(1, tensor, first, 4));
  tensor = first;
  tensor.type = DataType::kFLOAT;
  CHECK(!core.supportsFormat(1, tensor, first, 4));
  for (const DataType type : {DataType::kINT32, DataType::kINT8, DataType::kBOOL}) {
    const PluginTensorDesc other = makeDesc({1, 2, 3, 5}, type);
    CHECK(!core.supportsFormat(0, other, other, 4));
  }
#if GSPN2_TRT_BF16
  const PluginTensorDesc brain = makeDesc({1, 2, 3, 5}, DataType::kBF16);
  CHECK(core.supportsFormat(0, brain, brain, 4));
#endif
  checkRefused([&] { core.supportsFormat(5, first, first, 4); }, {"position 5 of 5"});
}

// The prediction has two formats where it holds x, what comes with it one.
GSPN2_TEST(a_prediction_that_holds_x_may_have_eight_channels_side_by_side) {
  const Propagation core = makePacked({1, 2, 28, 0, 8, -1, 16});
  const Propagation besideX = makePacked({1, 0, -1, 0, 8, -1, 16});
  const Propagation unpacked = makePropagation(Op::kProp2D);
  for (const DataType type : halfTypes()) {
    const PluginTensorDesc linear = makeDesc({-1, 30, -1, -1}, type);
    const PluginTensorDesc rows = inFormat(linear, TensorFormat::kHWC8);
    for (const PluginTensorDesc& first : {linear, rows}) {
      CHECK(core.supportsFormat(0, first, first, 2));
      for (const int32_t position : {1, 2}) {  // m and y
        CHECK(core.supportsFormat(position, linear, first, 2));
        CHECK(!core.supportsFormat(position, rows, first, 2));
      }
    }
    const PluginTensorDesc other = inFormat(linear, TensorFormat::kCHW32);
    CHECK(!core.supportsFormat(0, other, other, 2));
    CHECK(!besideX.supportsFormat(0, rows, rows, 2));
    CHECK(!besideX.supportsFormat(1, rows, linear, 2));
    CHECK(!unpacked.supportsFormat(0, rows, rows, 4));
  }
  const PluginTensorDesc wide = inFormat(makeDesc({1, 30, 3, 5}), TensorFormat::kHWC8);
  CHECK(!core.supportsFormat(0, wide, wide, 1));
}

GSPN2_TEST(enqueue_checks_before_it_launches) {
  const PluginTensorDesc x = makeDesc({1, 2, 3, 5});
  const PluginTensorDesc lam = makeDesc({1, 2, 3, 5});
  const PluginTensorDesc w = makeDesc({1, 3, 1, 3, 5});
  Propagation core = makePropagation(Op::kLineScan);
  checkRefused([&] { enqueue(core, {x, lam, w}, x); }, {"has not been configured"});
  core.configure(listInputs(std::vector<PluginTensorDesc>({x, lam, w}).data(), 3));
  checkRefused([&] { enqueue(core, {x, makeDesc({1, 2, 4, 5}), w}, x); },
               {"lam has extent 4 on axis 2; expected H = 3"});
  checkRefused([&] { enqueue(core, {x, makeDesc({1, 2, 3, 5}, DataType::kHALF), w}, x); },
               {"the input lam has data type 1; expected that of x, 0"});
  checkRefused([&] { enqueue(core, {x, lam, w}, makeDesc({1, 2, 5, 3})); },
               {"the output's shape or data type differs"});
  const PluginTensorDesc whole = makeDesc({1, 2, 3, 5}, DataType::kINT32);
  checkRefused(
      [&] { enqueue(core, {whole, whole, makeDesc({1, 3, 1, 3, 5}, DataType::kINT32)}, whole); },
      {"the data type 3 is not supported"});
}

// Which formats an engine holds is not in a layer's state.
GSPN2_TEST(enqueue_refuses_other_formats) {
  const PluginTensorDesc y = makeDesc({1, 2, 3, 5}, DataType::kHALF);
  const PluginTensorDesc prediction = makeDesc({1, 30, 3, 5}, DataType::kHALF);
  const PluginTensorDesc wide = makeDesc({1, 30, 3, 5});
  const PluginTensorDesc m = makeDesc({4}, DataType::kHALF);
  const auto rows = [](const PluginTensorDesc& desc) {
    return inFormat(desc, TensorFormat::kHWC8);
  };
  Propagation core = makePacked({1, 2, 28, 0, 8, -1, 16});
  core.configure(listInputs(std::vector<PluginTensorDesc>({prediction, m}).data(), 2));
  for (const PluginTensorDesc& first : {prediction, rows(prediction)}) {
    checkRefused([&] { enqueue(core, {first, m}, y); }, {"y is null"});
    checkRefused([&] { enqueue(core, {first, rows(m)}, y); },
                 {"GspnProp2D: m is in the format 2; expected linear"});
    checkRefused([&] { enqueue(core, {first, m}, rows(y)); },
                 {"GspnProp2D: the output is in the format 2; expected linear"});
  }
  const PluginTensorDesc other = inFormat(prediction, TensorFormat::kCHW32);
  checkRefused([&] { enqueue(core, {other, m}, y); },
               {"prediction is in the format 5; expected linear or eight channels side by side"});
  checkRefused([&] { enqueue(core, {rows(wide), makeDesc({4})}, makeDesc({1, 2, 3, 5})); },
               {"prediction is in the format 2; expected linear"});
  Propagation besideX = makePacked({1, 0, -1, 0, 8, -1, 16});
  besideX.configure(listInputs(std::vector<PluginTensorDesc>({y, prediction}).data(), 2));
  checkRefused([&] { enqueue(besideX, {rows(y), prediction}, y); },
               {"x is in the format 2; expected linear"});
  checkRefused([&] { enqueue(besideX, {y, rows(prediction)}, y); },
               {"prediction is in the format 2; expected linear"});
  const PluginTensorDesc w = makeDesc({1, 3, 1, 3, 5}, DataType::kHALF);
  Propagation scan = makePropagation(Op::kLineScan);
  scan.configure(listInputs(std::vector<PluginTensorDesc>({y, y, w}).data(), 3));
  checkRefused([&] { enqueue(scan, {y, rows(y), w}, y); },
               {"GspnLineScan: lam is in the format 2; expected linear"});
}

GSPN2_TEST(enqueue_checks_a_prediction) {
  const PluginTensorDesc x = makeDesc({1, 2, 3, 5});
  const std::vector<PluginTensorDesc> inputs = {x, makeDesc({1, 28, 3, 5})};
  Propagation core = makePacked({1, 0, -1, 0, 8, -1, 16});
  core.configure(listInputs(inputs.data(), 2));
  checkRefused([&] { enqueue(core, {x, makeDesc({1, 20, 3, 5})}, x); },
               {"expected w in the 12 from channel 16 on"});
  checkRefused([&] { enqueue(core, {x, makeDesc({1, 28, 3, 5}, DataType::kHALF)}, x); },
               {"the input prediction has data type 1; expected that of x, 0"});
  checkRefused([&] { enqueue(core, inputs, x); }, {"GspnProp2D: y is null"});
}

GSPN2_TEST(enqueue_checks_a_prediction_that_holds_x) {
  const PluginTensorDesc y = makeDesc({1, 2, 3, 5});
  const PluginTensorDesc prediction = makeDesc({1, 30, 3, 5});
  Propagation core = makePacked({1, 2, 28, 0, 8, -1, 16});
  core.configure(listInputs(&prediction, 1));
  checkRefused([&] { enqueue(core, {makeDesc({1, 29, 3, 5})}, y); },
               {"expected x in the 2 from channel 28 on"});
  checkRefused([&] { enqueue(core, {prediction}, prediction); },
               {"the output's shape or data type differs from that of x"});
  checkRefused([&] { enqueue(core, {prediction}, y); }, {"GspnProp2D: y is null"});
}

// The kernel library names the first of x, lam, w, u and d that an output lies in: this one lies
// from a channel of the second batch item on.
GSPN2_TEST(parts_of_a_prediction_reach_the_kernels) {
  const int64_t channels = 39, plane = 15;
  const PluginTensorDesc map = makeDesc({2, 2, 3, 5});
  const PluginTensorDesc predicted = makeDesc({2, channels, 3, 5});
  const std::vector<float> x(2 * 2 * plane);
  std::vector<float> prediction(2 * channels * plane);
  const Packing wFirst = {1, 0, -1, 12, 20, 28, 0};
  const Packing wLast = {1, 0, -1, 0, 8, 16, 24};
  const Packing xLast = {1, 2, 36, 0, 8, 16, 24};
  const struct {
    Packing packing;
    int64_t channel;
    const char* name;
  } cases[] = {{wFirst, 11, "lam"}, {wFirst, 19, "lam"}, {wFirst, 20, "u"}, {wFirst, 27, "u"},
               {wFirst, 28, "d"},   {wFirst, 35, "d"},   {wLast, 23, "w"},  {wLast, 33, "w"},
               {xLast, 35, "x"},    {xLast, 37, "x"}};
  for (const auto& entry : cases) {
    Propagation core = makePacked(entry.packing);
    const bool alone = entry.packing.holdsX();
    const PluginTensorDesc inputs[] = {alone ? predicted : map, predicted};
    core.configure(listInputs(inputs, alone ? 1 : 2));
    const void* in[kMaxInputs] = {alone ? prediction.data() : x.data(), prediction.data()};
    void* out[kMaxOutputs] = {prediction.data() + (channels + entry.channel) * plane};
    checkRefused([&] { core.enqueue(inputs, &map, in, out, nullptr, nullptr); },
                 {std::string("overlaps the input ") + entry.name + " ("});
  }
}

// Where a position's channels lie side by side, padded to 40, an output of two halves can lie in
// the last position at the very end of a part: it begins with the part's last channel.
GSPN2_TEST(parts_of_rows_reach_the_kernels) {
  const int64_t position = 40, plane = 15;
  const PluginTensorDesc map = makeDesc({1, 1, 3, 5}, DataType::kHALF);
  const PluginTensorDesc prediction =
      inFormat(makeDesc({1, 33, 3, 5}, DataType::kHALF), TensorFormat::kHWC8);
  const std::vector<uint16_t> values(plane * position + plane);
  const struct {
    Packing packing;
    int64_t channel;
    const char* name;
  } cases[] = {{{1, 1, 32, 0, 4, -1, 8}, 32, "x"},
               {{1, 1, 0, 29, 1, -1, 8}, 32, "lam"},
               {{1, 1, 0, 1, 29, -1, 8}, 32, "u"},
               {{1, 1, 0, 1, 5, 29, 9}, 32, "d"},
               {{1, 1, 0, 1, 5, -1, 21}, 32, "w"}};
  for (const auto& entry : cases) {
    Propagation core = makePacked(entry.packing);
    core.configure(listInputs(&prediction, 1));
    for (const int64_t beyond : {0, 1}) {  // in the part, and behind all of them
      const void* in[kMaxInputs] = {values.data()};
      const auto at = static_cast<size_t>((plane - 1) * position + entry.channel + beyond);
      void* out[kMaxOutputs] = {const_cast<uint16_t*>(values.data()) + at};
      const std::string refusal =
          beyond == 0 ? std::string("overlaps the input ") + entry.name + " (" : "workspace";
      checkRefused([&] { core.enqueue(&prediction, &map, in, out, nullptr, nullptr); }, {refusal});
    }
  }
}

GSPN2_TEST(kernel_library_errors_reach_the_caller) {
  const PluginTensorDesc x = makeDesc({1, 2, 0, 5});
  const PluginTensorDesc w = makeDesc({1, 3, 1, 0, 5});
  Propagation core = makePropagation(Op::kLineScan);
  core.configure(listInputs(std::vector<PluginTensorDesc>({x, x, w}).data(), 3));
  checkRefused([&] { enqueue(core, {x, x, w}, x); },
               {"GspnLineScan: h is 0; every extent must be at least 1"});
}

GSPN2_TEST(workspace_is_asked_for_the_inputs_configured) {
  const PluginTensorDesc x = makeDesc({1, 2, 3, 5});
  const PluginTensorDesc inputs[] = {x, x, makeDesc({1, 3, 1, 3, 5}), x};
  Propagation core = makePropagation(Op::kLineScan);
  core.configure(listInputs(inputs, 3));
  checkRefused([&] { core.workspaceBytes(listInputs(inputs, 2)); },
               {"asked for the workspace of 2 inputs, configured for 3"});
}

size_t workspaceOf(Op op, DataType type, int64_t n, int64_t c, int64_t h, int64_t w) {
  std::vector<PluginTensorDesc> inputs;
  if (op == Op::kLineScan) {
    inputs = {makeDesc({n, c, h, w}, type), makeDesc({n, c, h, w}, type),
              makeDesc({n, 3, 1, h, w}, type)};
  } else {
    const PluginTensorDesc gate = makeDesc({n, 4, c, h, w}, type);
    inputs = {makeDesc({n, c, h, w}, type), gate, makeDesc({n, 4, 3, 1, h, w}, type), gate};
  }
  Propagation core = makePropagation(op);
  const InputList list = listInputs(inputs.data(), static_cast<int32_t>(inputs.size()));
  core.configure(list);
  try {
    return core.workspaceBytes(list);
  } catch (const PluginError& error) {
    if (std::string(error.what()).find("CUDA") == std::string::npos) throw;
    throw CaseSkipped(error.what());
  }
}

GSPN2_TEST(a_packed_node_asks_for_as_much_workspace) {
  for (const DataType type : {DataType::kFLOAT, DataType::kHALF}) {
    const PluginTensorDesc inputs[] = {makeDesc({8, 4, 300, 200}, type),
                                       makeDesc({8, 50, 300, 200}, type)};
    Propagation core = makePacked({1, 0, -1, 0, 16, -1, 32});
    const InputList list = listInputs(inputs, 2);
    core.configure(list);
    CHECK_EQ(core.workspaceBytes(list), workspaceOf(Op::kProp2D, type, 8, 4, 300, 200));
  }
}

GSPN2_TEST(a_prediction_that_holds_x_asks_for_room_to_copy_it) {
  for (const int64_t n : {int64_t{1}, int64_t{8}}) {
    const PluginTensorDesc prediction = makeDesc({n, 50, 300, 200});
    Propagation core = makePacked({1, 4, 46, 0, 16, -1, 32});
    const InputList list = listInputs(&prediction, 1);
    core.configure(list);
    const size_t x = static_cast<size_t>(n * 4 * 300 * 200) * sizeof(float);
    const size_t copied = n == 1 ? 0 : (x + 255) / 256 * 256;
    CHECK_EQ(core.workspaceBytes(list),
             workspaceOf(Op::kProp2D, DataType::kFLOAT, n, 4, 300, 200) + copied);
  }
}

// In half precision it may be in rows, of which every part becomes planes: asked for whatever
// format is told.
GSPN2_TEST(a_prediction_that_may_be_in_rows_asks_for_room_for_its_planes) {
  for (const int64_t n : {int64_t{1}, int64_t{8}}) {
    for (const int32_t d : {-1, 48}) {
      const PluginTensorDesc linear = makeDesc({n, 66, 300, 200}, DataType::kHALF);
      Propagation core = makePacked({1, 4, 44, 0, 16, d, 32});
      core.configure(listInputs(&linear, 1));
      size_t planes = 0;
      for (const int64_t channels : {4, 16, 16, d < 0 ? 0 : 16, 12}) {
        planes += static_cast<size_t>(n * channels * 300 * 200 * 2 + 255) / 256 * 256;
      }
      const size_t expected = workspaceOf(Op::kProp2D, DataType::kHALF, n, 4, 300, 200) + planes;
      for (const PluginTensorDesc& told : {linear, inFormat(linear, TensorFormat::kHWC8)}) {
        CHECK_EQ(core.workspaceBytes(listInputs(&told, 1)), expected);
      }
    }
  }
}

// What the kernel library asks for at one call.
size_t required(Op op, DataType type, int64_t n, int64_t c, int64_t h, int64_t w) {
  gspn2_problem_t problem{};
  problem.n = n;
  problem.c = c;
  problem.h = h;
  problem.w = w;
  problem.g = 1;
  problem.dtype = type == DataType::kHALF ? GSPN2_FLOAT16 : GSPN2_FLOAT32;
  problem.normalize = GSPN2_NORMALIZE_SIGMOID;
  size_t bytes = 0;
  CHECK_EQ(op == Op::kLineScan ? gspn2_line_scan_workspace(&problem, GSPN2_LEFT_TO_RIGHT, &bytes)
                               : gspn2_prop2d_workspace(&problem, nullptr, 0, &bytes),
           GSPN2_SUCCESS);
  return bytes;
}

// TensorRT asks once, at a profile's largest shape, and calls with every smaller one.
GSPN2_TEST(workspace_covers_smaller_shapes) {
  const int64_t extents[] = {1, 7, 16, 33, 224, 225, 1024, 5000, 20000, 70000};
  for (const Op op : {Op::kProp2D, Op::kLineScan}) {
    for (const DataType type : {DataType::kFLOAT, DataType::kHALF}) {
      for (const int64_t height : extents) {
        for (const int64_t width : extents) {
          const size_t largest = workspaceOf(op, type, 8, 4, height, width);
          for (const int64_t lower : extents) {
            if (lower > height) break;
            CHECK(required(op, type, 1, 4, lower, width) <= largest);
            CHECK(required(op, type, 8, 1, lower, width) <= largest);
            CHECK(required(op, type, 8, 4, lower, width) <= largest);
            CHECK(required(op, type, 8, 4, lower, width / 2 + 1) <= largest);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
