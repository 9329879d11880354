#include "tensor.h"

#include <algorithm>
#include <limits>

namespace gspn2 {
namespace {

struct DataTypeRow {
  DataType dtype;
  const char* name;
  size_t bytes;
};

constexpr DataTypeRow kDataTypes[] = {
    {DataType::kFloat32, "float32", 4},   {DataType::kFloat16, "float16", 2},
    {DataType::kBFloat16, "bfloat16", 2}, {DataType::kInt32, "int32", 4},
    {DataType::kInt64, "int64", 8},       {DataType::kInt8, "int8", 1},
    {DataType::kUint8, "uint8", 1},       {DataType::kBool, "bool", 1},
};

const DataTypeRow& rowOf(DataType dtype) {
  for (const DataTypeRow& row : kDataTypes) {
    if (row.dtype == dtype) return row;
  }
  throw Error(ErrorKind::kInvalidArgument, "no such element type",
              std::to_string(static_cast<int32_t>(dtype)), "a value of gspn2::DataType");
}

}  // namespace

size_t elementBytes(DataType dtype) { return rowOf(dtype).bytes; }

const char* dataTypeName(DataType dtype) { return rowOf(dtype).name; }

namespace runtime {

std::string toText(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += shape[i] == -1 ? "?" : std::to_string(shape[i]);
  }
  return text + ")";
}

std::string toText(const TensorInfo& tensor) {
  return tensor.name + ": " + dataTypeName(tensor.dtype) + " " + toText(tensor.shape);
}

DataType parseDataType(const std::string& name) {
  for (const DataTypeRow& row : kDataTypes) {
    if (name == row.name) return row.dtype;
  }
  throw Error(ErrorKind::kManifest, "the manifest names an element type that is not known here",
              name, "float32, float16, bfloat16, int32, int64, int8, uint8 or bool");
}

bool isKnown(const Shape& shape) {
  return std::all_of(shape.begin(), shape.end(), [](int64_t extent) { return extent >= 0; });
}

size_t byteCount(const Shape& shape, DataType dtype) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t count = static_cast<int64_t>(elementBytes(dtype));
  for (const int64_t extent : shape) {
    if (extent < 0 || (extent > 0 && count > kMax / extent)) {
      throw Error(ErrorKind::kShape, "a tensor's size cannot be counted", toText(shape));
    }
    count *= extent;
  }
  return static_cast<size_t>(count);
}

void checkShape(const TensorInfo& tensor, const ShapeRange& range, const Shape& shape) {
  const std::string problem = "the shape of the input \"" + tensor.name + "\" does not fit";
  if (shape.size() != tensor.shape.size()) {
    throw Error(ErrorKind::kShape, problem, toText(shape), toText(tensor),
                "pass " + std::to_string(tensor.shape.size()) + " extents");
  }
  bool fixedFit = true, rangeFit = true;
  for (size_t i = 0; i < shape.size(); ++i) {
    const int64_t fixed = tensor.shape[i];
    fixedFit = fixedFit && (fixed == -1 || fixed == shape[i]);
    rangeFit = rangeFit && shape[i] >= range.min.at(i) && shape[i] <= range.max.at(i);
  }
  if (!fixedFit) throw Error(ErrorKind::kShape, problem, toText(shape), toText(tensor));
  if (!rangeFit) {
    throw Error(ErrorKind::kShape, problem, toText(shape),
                toText(range.min) + " to " + toText(range.max) + ", the profile's range",
                "use another profile, or build the engine with a wider --profile");
  }
}

}  // namespace runtime
}  // namespace gspn2
