// Symbolic extents as TensorRT hands them to a plugin: constants and unknowns.
#ifndef GSPN2_TENSORRT_TESTS_FAKE_SHAPES_H_
#define GSPN2_TENSORRT_TESTS_FAKE_SHAPES_H_

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#include "trt.h"

namespace gspn2 {
namespace plugin {
namespace tests {

constexpr int64_t kDynamic = -1;

class FakeExtent : public nvinfer1::IDimensionExpr, private nvinfer1::apiv::VDimensionExpr {
 public:
  explicit FakeExtent(int64_t value) : mValue(value) { mImpl = this; }
  ~FakeExtent() noexcept override = default;

 private:
  using Value = decltype(std::declval<nvinfer1::IDimensionExpr>().getConstantValue());

  bool isConstant() const noexcept override { return mValue != kDynamic; }
  Value getConstantValue() const noexcept override { return static_cast<Value>(mValue); }
#if GSPN2_TRT_V3
  bool isSizeTensor() const noexcept override { return false; }
#endif

  int64_t mValue;
};

// Owns the extents of the shapes that it makes.
class FakeShapes {
 public:
  nvinfer1::DimsExprs make(std::initializer_list<int64_t> extents) {
    return make(std::vector<int64_t>(extents));
  }
  nvinfer1::DimsExprs make(const std::vector<int64_t>& extents) {
    nvinfer1::DimsExprs shape{};
    for (const int64_t extent : extents) {
      mExtents.emplace_back(extent);
      shape.d[shape.nbDims++] = &mExtents.back();
    }
    return shape;
  }

 private:
  std::deque<FakeExtent> mExtents;
};

// Makes constants alone.
class FakeBuilder : public nvinfer1::IExprBuilder, private nvinfer1::apiv::VExprBuilder {
 public:
  FakeBuilder() { mImpl = this; }
  ~FakeBuilder() noexcept override = default;

 private:
  using Value = decltype(std::declval<nvinfer1::IDimensionExpr>().getConstantValue());

  const nvinfer1::IDimensionExpr* constant(Value value) override {
    return &mExtents.emplace_back(value);
  }
  const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation,
                                            const nvinfer1::IDimensionExpr&,
                                            const nvinfer1::IDimensionExpr&) override {
    return nullptr;
  }
#if GSPN2_TRT_V3
  const nvinfer1::IDimensionExpr* declareSizeTensor(int32_t, const nvinfer1::IDimensionExpr&,
                                                    const nvinfer1::IDimensionExpr&) override {
    return nullptr;
  }
#endif

  std::deque<FakeExtent> mExtents;
};

inline nvinfer1::Dims makeDims(std::initializer_list<int64_t> extents) {
  nvinfer1::Dims dims{};
  for (const int64_t extent : extents) {
    dims.d[dims.nbDims++] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(extent);
  }
  return dims;
}

inline nvinfer1::PluginTensorDesc* tensorOf(nvinfer1::PluginTensorDesc* tensor) { return tensor; }
inline nvinfer1::PluginTensorDesc* tensorOf(nvinfer1::DynamicPluginTensorDesc* tensor) {
  return &tensor->desc;
}

inline nvinfer1::PluginTensorDesc makeDesc(std::initializer_list<int64_t> extents,
                                           nvinfer1::DataType type = nvinfer1::DataType::kFLOAT) {
  nvinfer1::PluginTensorDesc desc{};
  desc.dims = makeDims(extents);
  desc.type = type;
  desc.format = nvinfer1::TensorFormat::kLINEAR;
  return desc;
}

}  // namespace tests
}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_TESTS_FAKE_SHAPES_H_
