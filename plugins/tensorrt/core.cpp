#include "core.h"

#include <algorithm>

#include "guard.h"
#include "shapes.h"

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

// A kernel path may take only lines of such a multiple, and need workspace where the longer line
// beside it needs none.
constexpr int64_t kLineMultiple = 16;

void checkCount(const char* op, int32_t count, int32_t low, int32_t high) {
  if (count >= low && count <= high) return;
  fail("%s: the node has %d inputs; expected %d to %d", op, count, low, high);
}

bool isFloating(DataType type) {
#if GSPN2_TRT_BF16
  if (type == DataType::kBF16) return true;
#endif
  return type == DataType::kFLOAT || type == DataType::kHALF;
}

gspn2_dtype_t kernelType(const char* op, DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return GSPN2_FLOAT32;
    case DataType::kHALF:
      return GSPN2_FLOAT16;
#if GSPN2_TRT_BF16
    case DataType::kBF16:
      return GSPN2_BFLOAT16;
#endif
    default:
      fail("%s: the data type %d is not supported; expected float32, float16 or bfloat16", op,
           static_cast<int>(type));
  }
}

void checkStatus(const char* op, gspn2_status_t status) {
  if (status != GSPN2_SUCCESS) fail("%s: %s", op, gspn2_last_error());
}

}  // namespace

InputList listInputs(const PluginTensorDesc* inputs, int32_t count) {
  InputList list{};
  list.count = count;
  for (int32_t i = 0; i < std::min(count, kMaxInputs); ++i) {
    list.items[i] = {inputs[i].dims, inputs[i].type};
  }
  return list;
}

InputList listInputs(const DynamicPluginTensorDesc* inputs, int32_t count) {
  InputList list{};
  list.count = count;
  for (int32_t i = 0; i < std::min(count, kMaxInputs); ++i) {
    list.items[i] = {inputs[i].max, inputs[i].desc.type};
  }
  return list;
}

void Core::learnOptionals(const int32_t* ranks, int32_t count) {
  const int32_t required = requiredInputs();
  if (mParameters.op == Op::kLineScan) {
    checkCount(name(), count, required, required);
    mParameters.optionals = Optionals::kNone;
    return;
  }
  checkCount(name(), count, required, kMaxInputs);
  if (count == required) {
    mParameters.optionals = Optionals::kNone;
  } else if (count == kMaxInputs) {
    mParameters.optionals = Optionals::kBoth;
  } else {
    mParameters.optionals = ranks[required] == 1 ? Optionals::kM : Optionals::kD;
  }
}

int32_t Core::inputCount() const {
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
  fail("%s: the layer has not been configured, so its inputs are not known", name());
}

DimsExprs Core::inferShape(const DimsExprs* inputs, int32_t count) {
  int32_t ranks[kMaxInputs] = {};
  for (int32_t i = 0; i < std::min(count, kMaxInputs); ++i) ranks[i] = inputs[i].nbDims;
  learnOptionals(ranks, count);
  ShapeChecker checker(name());
  for (int32_t i = 0; i < count; ++i) {
    const TensorShape& shape = inputShape(mParameters.op, mParameters.optionals, i);
    checker.checkRank(shape, inputs[i].nbDims);
    for (int32_t axis = 0; axis < shape.rank; ++axis) {
      const nvinfer1::IDimensionExpr* extent = inputs[i].d[axis];
      if (extent->isConstant()) checker.checkExtent(shape, axis, extent->getConstantValue());
    }
  }
  checker.checkAffinityChannels();
  return inputs[0];
}

void Core::configure(const InputList& inputs) {
  int32_t ranks[kMaxInputs] = {};
  for (int32_t i = 0; i < std::min(inputs.count, kMaxInputs); ++i) {
    ranks[i] = inputs.items[i].dims.nbDims;
  }
  learnOptionals(ranks, inputs.count);
}

bool Core::supportsFormat(int32_t position, const PluginTensorDesc& tensor,
                          const PluginTensorDesc& first, int32_t inputCount) const {
  if (position < 0 || position >= inputCount + kOutputs) {
    fail("%s: a format was asked for at position %d of %d", name(), position,
         inputCount + kOutputs);
  }
  return tensor.format == nvinfer1::TensorFormat::kLINEAR && isFloating(tensor.type) &&
         tensor.type == first.type;
}

gspn2_problem_t Core::makeProblem(const InputList& inputs) const {
  ShapeChecker checker(name());
  for (int32_t i = 0; i < inputs.count; ++i) {
    const TensorShape& shape = inputShape(mParameters.op, mParameters.optionals, i);
    const Dims& dims = inputs.items[i].dims;
    checker.checkRank(shape, dims.nbDims);
    for (int32_t axis = 0; axis < shape.rank; ++axis) {
      checker.checkExtent(shape, axis, dims.d[axis]);
    }
    if (inputs.items[i].type != inputs.items[0].type) {
      fail("%s: the input %s has data type %d; expected that of x, %d", name(), shape.name,
           static_cast<int>(inputs.items[i].type), static_cast<int>(inputs.items[0].type));
    }
  }
  checker.checkAffinityChannels();
  gspn2_problem_t problem{};
  problem.n = checker.extent(kN);
  problem.c = checker.extent(kC);
  problem.h = checker.extent(kH);
  problem.w = checker.extent(kW);
  problem.g = checker.extent(kG);
  problem.chunk = mParameters.chunk;
  problem.dtype = kernelType(name(), inputs.items[0].type);
  problem.normalize = mParameters.normalize;
  return problem;
}

size_t Core::queryWorkspace(const gspn2_problem_t& problem) const {
  size_t bytes = 0;
  if (mParameters.op == Op::kLineScan) {
    checkStatus(name(), gspn2_line_scan_workspace(&problem, mParameters.direction, &bytes));
  } else {
    const bool hasD =
        mParameters.optionals == Optionals::kD || mParameters.optionals == Optionals::kBoth;
    checkStatus(name(), gspn2_prop2d_workspace(&problem, hasD ? 1 : 0, &bytes));
  }
  return bytes;
}

size_t Core::workspaceBytes(const InputList& largest) const {
  if (largest.count != inputCount()) {
    fail("%s: asked for the workspace of %d inputs, configured for %d", name(), largest.count,
         inputCount());
  }
  const gspn2_problem_t problem = makeProblem(largest);
  const auto below = [](int64_t extent) {
    return extent < kLineMultiple ? extent : extent - extent % kLineMultiple;
  };
  size_t bytes = 0;
  for (const int64_t height : {problem.h, below(problem.h)}) {
    for (const int64_t width : {problem.w, below(problem.w)}) {
      gspn2_problem_t smaller = problem;
      smaller.h = height;
      smaller.w = width;
      bytes = std::max(bytes, queryWorkspace(smaller));
    }
  }
  return bytes;
}

void Core::enqueue(const PluginTensorDesc* inputDescs, const PluginTensorDesc& outputDesc,
                   const void* const* inputs, void* const* outputs, void* workspace,
                   cudaStream_t stream) const {
  const int32_t count = inputCount();
  const gspn2_problem_t problem = makeProblem(listInputs(inputDescs, count));
  const Dims& x = inputDescs[0].dims;
  if (outputDesc.dims.nbDims != x.nbDims || !std::equal(x.d, x.d + x.nbDims, outputDesc.dims.d) ||
      outputDesc.type != inputDescs[0].type) {
    fail("%s: the output's shape or data type differs from that of x", name());
  }
  // TensorRT gave what workspaceBytes() asked for, which covers this problem.
  const size_t bytes = queryWorkspace(problem);
  if (mParameters.op == Op::kLineScan) {
    checkStatus(name(), gspn2_line_scan(&problem, mParameters.direction, inputs[0], inputs[1],
                                        inputs[2], outputs[0], workspace, bytes, stream));
    return;
  }
  const Optionals optionals = mParameters.optionals;
  const bool hasD = optionals == Optionals::kD || optionals == Optionals::kBoth;
  const bool hasM = optionals == Optionals::kM || optionals == Optionals::kBoth;
  const void* d = hasD ? inputs[4] : nullptr;
  const void* m = hasM ? inputs[count - 1] : nullptr;
  checkStatus(name(), gspn2_prop2d(&problem, inputs[0], inputs[1], inputs[2], inputs[3], d, m,
                                   outputs[0], workspace, bytes, stream));
}

}  // namespace plugin
}  // namespace gspn2
