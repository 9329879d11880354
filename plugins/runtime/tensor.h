// Shapes and element types: text, sizes and checks.
#ifndef GSPN2_RUNTIME_TENSOR_H_
#define GSPN2_RUNTIME_TENSOR_H_

#include <string>

#include "gspn2/runtime.hpp"

namespace gspn2 {
namespace runtime {

std::string toText(const Shape& shape);        // "(1, 3, ?, ?)"
std::string toText(const TensorInfo& tensor);  // "images: float32 (?, 1, 8, 8)"

// Throws Error(kManifest) for a name that is not one of DataType's.
DataType parseDataType(const std::string& name);

bool isKnown(const Shape& shape);  // no extent varies

// Throws Error(kShape) when the size does not fit into 63 bits.
size_t byteCount(const Shape& shape, DataType dtype);

// Throws Error(kShape): rank, fixed extents, and the profile's range, whichever fails first.
void checkShape(const TensorInfo& tensor, const ShapeRange& range, const Shape& shape);

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_TENSOR_H_
