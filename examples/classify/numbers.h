// Element types that C++17 lacks, and probabilities.
#ifndef CLASSIFY_NUMBERS_H_
#define CLASSIFY_NUMBERS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gspn2/runtime.hpp"

namespace classify {

// float32 to a tensor's element type, rounded to nearest even, and back.
// Throws UsageError for a type that is not a floating-point one.
std::vector<uint8_t> encode(const std::vector<float>& values, gspn2::DataType dtype);
std::vector<float> decode(const std::vector<uint8_t>& bytes, gspn2::DataType dtype);

struct Class {
  size_t index;
  double probability;
};

// The `k` most probable classes of `count` scores, best first; NaN scores come last.
std::vector<Class> topClasses(const float* scores, size_t count, size_t k);

}  // namespace classify
#endif  // CLASSIFY_NUMBERS_H_
