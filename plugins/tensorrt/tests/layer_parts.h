// What the tests of layers build their fields, shapes and calls from.
#ifndef GSPN2_TENSORRT_TESTS_LAYER_PARTS_H_
#define GSPN2_TENSORRT_TESTS_LAYER_PARTS_H_

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "fake_shapes.h"
#include "harness.h"
#include "layer.h"

namespace gspn2 {
namespace plugin {
namespace tests {

using Extents = std::initializer_list<int64_t>;
using Shape = std::vector<int64_t>;  // -1 where an extent is unknown
using Bytes = std::vector<uint8_t>;

inline nvinfer1::PluginField textField(const char* name, const char* value) {
  return {name, value, nvinfer1::PluginFieldType::kCHAR, static_cast<int32_t>(std::strlen(value))};
}
inline nvinfer1::PluginField integerField(const char* name, const int32_t* value) {
  return {name, value, nvinfer1::PluginFieldType::kINT32, 1};
}
inline nvinfer1::PluginField realField(const char* name, const float* value) {
  return {name, value, nvinfer1::PluginFieldType::kFLOAT32, 1};
}

inline nvinfer1::PluginFieldCollection collect(const std::vector<nvinfer1::PluginField>& fields) {
  nvinfer1::PluginFieldCollection collection{};
  collection.nbFields = static_cast<int32_t>(fields.size());
  collection.fields = fields.data();
  return collection;
}

// The output's shape for inputs of these shapes.
inline Shape infer(Layer* layer, const std::vector<Shape>& inputs) {
  FakeShapes shapes;
  std::vector<nvinfer1::DimsExprs> list;
  for (const Shape& extents : inputs) list.push_back(shapes.make(extents));
  FakeBuilder builder;
  const auto output = layer->inferShape(list.data(), static_cast<int32_t>(list.size()), builder);
  Shape result;
  for (int32_t axis = 0; axis < output.nbDims; ++axis) {
    const auto* extent = output.d[axis];
    result.push_back(extent->isConstant() ? extent->getConstantValue() : kDynamic);
  }
  return result;
}

inline nvinfer1::PluginTensorDesc inFormat(nvinfer1::PluginTensorDesc desc,
                                           nvinfer1::TensorFormat format) {
  desc.format = format;
  return desc;
}

// For calls that a check ends: the buffers are null, or made up and never read.
inline void enqueue(const Layer& layer, const std::vector<nvinfer1::PluginTensorDesc>& inputs,
                    const std::vector<nvinfer1::PluginTensorDesc>& outputs,
                    const std::vector<const void*>& buffers, std::vector<void*> results,
                    void* workspace = nullptr) {
  std::vector<const void*> in = buffers;
  in.resize(kMaxInputs, nullptr);
  results.resize(kMaxOutputs, nullptr);
  layer.enqueue(inputs.data(), outputs.data(), in.data(), results.data(), workspace, nullptr);
}
// The same of a layer with one output.
inline void enqueue(const Layer& layer, const std::vector<nvinfer1::PluginTensorDesc>& inputs,
                    const nvinfer1::PluginTensorDesc& output,
                    const std::vector<const void*>& buffers = {}, void* result = nullptr,
                    void* workspace = nullptr) {
  enqueue(layer, inputs, std::vector<nvinfer1::PluginTensorDesc>{output}, buffers,
          std::vector<void*>{result}, workspace);
}

inline const void* madeUp(uintptr_t position) {
  return reinterpret_cast<const void*>(position << 20);
}

// The half-precision types of this TensorRT.
inline std::vector<nvinfer1::DataType> halfTypes() {
  std::vector<nvinfer1::DataType> types = {nvinfer1::DataType::kHALF};
#if GSPN2_TRT_BF16
  types.push_back(nvinfer1::DataType::kBF16);
#endif
  return types;
}

// Each of the inputs named, the first ones, must be refused where it is null.
inline void checkNullInputs(const Layer& layer,
                            const std::vector<nvinfer1::PluginTensorDesc>& inputs,
                            const std::vector<nvinfer1::PluginTensorDesc>& outputs,
                            const std::vector<const void*>& given,
                            const std::vector<void*>& results,
                            const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i) {
    std::vector<const void*> buffers = given;
    buffers[i] = nullptr;
    checkRefused([&] { enqueue(layer, inputs, outputs, buffers, results); },
                 {std::string(layer.name()) + ": " + names[i] + " is null"});
  }
}

// What is wrong with a state whose byte `offset` is replaced.
struct Damage {
  size_t offset;
  uint8_t value;
  const char* message;
};

// `bytes` shortened to every length, and each of `damages` to it, must be refused.
inline void checkDamagedStates(Op op, const Bytes& bytes, const std::vector<Damage>& damages) {
  for (size_t size = 0; size < bytes.size(); ++size) {
    checkRefused([&] { restoreLayer(op, bytes.data(), size); },
                 {opName(op), "truncated", "rebuild the engine"});
  }
  checkRefused([&] { restoreLayer(op, nullptr, bytes.size()); }, {"truncated"});
  Bytes longer = bytes;
  longer.push_back(0);
  checkRefused([&] { restoreLayer(op, longer.data(), longer.size()); }, {"truncated or damaged"});
  for (const Damage& damage : damages) {
    Bytes damaged = bytes;
    damaged[damage.offset] = damage.value;
    checkRefused([&] { restoreLayer(op, damaged.data(), damaged.size()); },
                 {opName(op), damage.message});
  }
}

}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_TESTS_LAYER_PARTS_H_
