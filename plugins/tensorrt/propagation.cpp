#include "propagation.h"

#include <algorithm>

#include "guard.h"

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

// A kernel path may take only lines of such a multiple, and need workspace where the longer line
// beside it needs none.
constexpr int64_t kLineMultiple = 16;
constexpr int32_t kChannelAxis = 1;  // of (N, C, H, W)
constexpr int64_t kVector = 8;       // channels side by side

bool isVectorised(TensorFormat format) { return format == TensorFormat::kHWC8; }

}  // namespace

void Propagation::learnOptionals(const int32_t* ranks, int32_t count) {
  const int32_t required = requiredInputs();
  if (mParameters.op == Op::kLineScan) {
    checkInputCount(op(), count, required, required);
    mParameters.optionals = Optionals::kNone;
    return;
  }
  checkInputCount(op(), count, required, required + (isPacked() ? 1 : 2));
  if (count == required) {
    mParameters.optionals = Optionals::kNone;
  } else if (count == required + 2) {
    mParameters.optionals = Optionals::kBoth;
  } else {
    const bool isM = isPacked() || ranks[required] == 1;
    mParameters.optionals = isM ? Optionals::kM : Optionals::kD;
  }
}

bool Propagation::hasD() const {
  const Optionals optionals = mParameters.optionals;
  return mParameters.packing.d >= 0 || optionals == Optionals::kD || optionals == Optionals::kBoth;
}

bool Propagation::hasM() const {
  return mParameters.optionals == Optionals::kM || mParameters.optionals == Optionals::kBoth;
}

int32_t Propagation::requiredInputs() const {
  if (mParameters.op == Op::kLineScan) return 3;
  return isPacked() ? predictionInput() + 1 : 4;
}

int32_t Propagation::inputCount() const {
  switch (mParameters.optionals) {
    case Optionals::kNone:
      return requiredInputs();
    case Optionals::kD:
    case Optionals::kM:
      return requiredInputs() + 1;
    case Optionals::kBoth:
      return requiredInputs() + 2;
    case Optionals::kUnknown:
      break;
  }
  failUnconfigured(op());
}

DimsExprs Propagation::inferShape(const DimsExprs* inputs, int32_t count,
                                  nvinfer1::IExprBuilder& builder) {
  int32_t ranks[kMaxInputs] = {};
  for (int32_t i = 0; i < std::min(count, kMaxInputs); ++i) ranks[i] = inputs[i].nbDims;
  learnOptionals(ranks, count);
  ShapeChecker checker(name());
  for (int32_t i = 0; i < count; ++i) {
    const TensorShape& shape = inputShape(mParameters, i);
    checkInputRank(op(), shape.name, inputs[i].nbDims, shape.rank);
    for (int32_t axis = 0; axis < shape.rank; ++axis) {
      const nvinfer1::IDimensionExpr* extent = inputs[i].d[axis];
      if (extent->isConstant()) checker.checkExtent(shape, axis, extent->getConstantValue());
    }
  }
  checkTogether(checker);
  const Packing& packing = mParameters.packing;
  DimsExprs x = inputs[0];
  if (packing.holdsX()) x.d[kChannelAxis] = builder.constant(packing.channels);
  return x;
}

void Propagation::checkTogether(const ShapeChecker& checker) const {
  if (isPacked()) {
    checker.checkPrediction(mParameters.packing);
  } else {
    checker.checkAffinityChannels();
  }
}

void Propagation::configure(const InputList& inputs) {
  int32_t ranks[kMaxInputs] = {};
  for (int32_t i = 0; i < std::min(inputs.count, kMaxInputs); ++i) {
    ranks[i] = inputs.items[i].dims.nbDims;
  }
  learnOptionals(ranks, inputs.count);
}

bool Propagation::supportsFormat(int32_t position, const PluginTensorDesc& tensor,
                                 const PluginTensorDesc& first, int32_t inputCount) const {
  checkPosition(op(), position, inputCount + outputCount());
  if (!isFloating(tensor.type) || tensor.type != first.type) return false;
  return takesFormat(position, tensor.format, tensor.type);
}

bool Propagation::takesFormat(int32_t position, TensorFormat format, DataType type) const {
  if (!isVectorised(format)) return format == TensorFormat::kLINEAR;
  return position == 0 && mParameters.packing.holdsX() && type != DataType::kFLOAT;
}

void Propagation::checkFormats(const InputList& inputs, const PluginTensorDesc& output) const {
  const auto check = [this](int32_t position, const char* tensor, TensorFormat format,
                            DataType type) {
    if (takesFormat(position, format, type)) return;
    const bool either = takesFormat(position, TensorFormat::kHWC8, type);
    fail("%s: %s is in the format %d; expected linear%s", name(), tensor, static_cast<int>(format),
         either ? " or eight channels side by side" : "");
  };
  for (int32_t i = 0; i < inputs.count; ++i) {
    const TensorView& input = inputs.items[i];
    check(i, inputShape(mParameters, i).name, input.format, input.type);
  }
  check(inputs.count, "the output", output.format, output.type);
}

gspn2_problem_t Propagation::makeProblem(const InputList& inputs) const {
  ShapeChecker checker(name());
  for (int32_t i = 0; i < inputs.count; ++i) {
    const TensorShape& shape = inputShape(mParameters, i);
    const Dims& dims = inputs.items[i].dims;
    checkInputRank(op(), shape.name, dims.nbDims, shape.rank);
    for (int32_t axis = 0; axis < shape.rank; ++axis) {
      checker.checkExtent(shape, axis, dims.d[axis]);
    }
    checkInputType(op(), shape.name, inputs.items[i].type, inputs.items[0].type);
  }
  checkTogether(checker);
  const Packing& packing = mParameters.packing;
  gspn2_problem_t problem{};
  problem.n = checker.extent(kN);
  problem.c = packing.holdsX() ? packing.channels : checker.extent(kC);
  problem.h = checker.extent(kH);
  problem.w = checker.extent(kW);
  problem.g = packing.isPacked() ? packing.groups : checker.extent(kG);
  problem.chunk = mParameters.chunk;
  problem.dtype = kernelType(op(), inputs.items[0].type);
  problem.normalize = mParameters.normalize;
  return problem;
}

gspn2_strides_t Propagation::makeStrides(const gspn2_problem_t& problem, const InputList& inputs,
                                         TensorFormat format) const {
  if (!isPacked()) return {};
  const int64_t channels = inputs.items[predictionInput()].dims.d[kChannelAxis];
  const int64_t plane = problem.h * problem.w;
  if (isVectorised(format)) {
    const int64_t position = (channels + kVector - 1) / kVector * kVector;
    return {plane * position, plane * position, plane * position, position};
  }
  const int64_t item = channels * plane;
  return {mParameters.packing.holdsX() ? item : 0, item, item, 0};
}

size_t Propagation::queryWorkspace(const gspn2_problem_t& problem,
                                   const gspn2_strides_t& strides) const {
  size_t bytes = 0;
  if (mParameters.op == Op::kLineScan) {
    checkStatus(op(), gspn2_line_scan_workspace(&problem, mParameters.direction, &bytes));
  } else {
    checkStatus(op(), gspn2_prop2d_workspace(&problem, &strides, hasD() ? 1 : 0, &bytes));
  }
  return bytes;
}

size_t Propagation::workspaceBytes(const InputList& largest) const {
  checkWorkspaceInputs(op(), largest.count, inputCount());
  const gspn2_problem_t problem = makeProblem(largest);
  const auto below = [](int64_t extent) {
    return extent < kLineMultiple ? extent : extent - extent % kLineMultiple;
  };
  size_t bytes = 0;
  // Of every format that TensorRT may choose, whichever it tells here.
  for (const TensorFormat format : {TensorFormat::kLINEAR, TensorFormat::kHWC8}) {
    if (!takesFormat(0, format, largest.items[0].type)) continue;
    for (const int64_t height : {problem.h, below(problem.h)}) {
      for (const int64_t width : {problem.w, below(problem.w)}) {
        gspn2_problem_t smaller = problem;
        smaller.h = height;
        smaller.w = width;
        const gspn2_strides_t strides = makeStrides(smaller, largest, format);
        bytes = std::max(bytes, queryWorkspace(smaller, strides));
      }
    }
  }
  return bytes;
}

void Propagation::enqueue(const PluginTensorDesc* inputDescs, const PluginTensorDesc* outputDescs,
                          const void* const* inputs, void* const* outputs, void* workspace,
                          cudaStream_t stream) const {
  const int32_t count = inputCount();
  const InputList list = listInputs(inputDescs, count);
  const gspn2_problem_t problem = makeProblem(list);
  PluginTensorDesc x = inputDescs[0];
  if (mParameters.packing.holdsX()) x.dims.d[kChannelAxis] = mParameters.packing.channels;
  checkOutput(op(), x, outputDescs[0]);
  checkFormats(list, outputDescs[0]);
  const gspn2_strides_t strides = makeStrides(problem, list, list.items[predictionInput()].format);
  // TensorRT gave what workspaceBytes() asked for, which covers this problem.
  const size_t bytes = queryWorkspace(problem, strides);
  if (mParameters.op == Op::kLineScan) {
    checkStatus(op(), gspn2_line_scan(&problem, mParameters.direction, inputs[0], inputs[1],
                                      inputs[2], outputs[0], workspace, bytes, stream));
  } else if (isPacked()) {
    checkStatus(op(),
                propagatePacked(problem, strides, inputs, outputs[0], workspace, bytes, stream));
  } else {
    checkStatus(op(), propagate(problem, inputs, outputs[0], workspace, bytes, stream));
  }
}

gspn2_status_t Propagation::propagate(const gspn2_problem_t& problem, const void* const* inputs,
                                      void* y, void* workspace, size_t bytes,
                                      cudaStream_t stream) const {
  const void* const d = hasD() ? inputs[4] : nullptr;
  const void* const m = hasM() ? inputs[inputCount() - 1] : nullptr;
  return gspn2_prop2d(&problem, nullptr, inputs[0], inputs[1], inputs[2], inputs[3], d, m, y,
                      workspace, bytes, stream);
}

gspn2_status_t Propagation::propagatePacked(const gspn2_problem_t& problem,
                                            const gspn2_strides_t& strides,
                                            const void* const* inputs, void* y, void* workspace,
                                            size_t bytes, cudaStream_t stream) const {
  const Packing& packing = mParameters.packing;
  const int64_t channelElements = strides.position > 1 ? 1 : problem.h * problem.w;
  const int64_t elementBytes = problem.dtype == GSPN2_FLOAT32 ? 4 : 2;
  const void* const prediction = inputs[predictionInput()];
  const auto from = [&](int32_t channel) -> const void* {
    // A null prediction stays null, for the kernel library to refuse.
    if (channel < 0 || prediction == nullptr) return nullptr;
    return static_cast<const char*>(prediction) + channel * channelElements * elementBytes;
  };
  const void* const x = packing.holdsX() ? from(packing.x) : inputs[0];
  const void* const m = hasM() ? inputs[inputCount() - 1] : nullptr;
  return gspn2_prop2d(&problem, &strides, x, from(packing.lam), from(packing.w), from(packing.u),
                      from(packing.d), m, y, workspace, bytes, stream);
}

}  // namespace plugin
}  // namespace gspn2
