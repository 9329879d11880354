// Plugin fields, as the ONNX parser (or a caller) passes them. What is wrong throws PluginError.
#ifndef GSPN2_TENSORRT_FIELDS_H_
#define GSPN2_TENSORRT_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "gspn2/kernels.h"
#include "guard.h"
#include "op.h"
#include "trt.h"

namespace gspn2 {
namespace plugin {

struct Choice {
  const char* name;
  int32_t value;
};

std::string readText(Op op, const nvinfer1::PluginField& field);
// Reads `count` integers of any width.
void readIntegers(Op op, const nvinfer1::PluginField& field, int32_t count, int64_t* values);
int64_t readInteger(Op op, const nvinfer1::PluginField& field);
// Reads one number of either width.
double readReal(Op op, const nvinfer1::PluginField& field);
// Reads 0 or 1.
bool readFlag(Op op, const nvinfer1::PluginField& field);
// A finite float32 of at least 0.
float checkEpsilon(Op op, const char* name, double value);

template <size_t kCount>
int32_t readChoice(Op op, const nvinfer1::PluginField& field, const Choice (&choices)[kCount]) {
  const std::string text = readText(op, field);
  std::string expected;
  for (const Choice& choice : choices) {
    if (text == choice.name) return choice.value;
    expected += expected.empty() ? choice.name : std::string(", ") + choice.name;
  }
  fail("%s: %s is \"%.64s\"; expected one of %s", opName(op), field.name, text.c_str(),
       expected.c_str());
}

// The `count` fields that a creator announces, which must outlive it.
nvinfer1::PluginFieldCollection announce(const nvinfer1::PluginField* fields, size_t count);

// Refuses a damaged collection, and a field without a name or given twice.
const nvinfer1::PluginFieldCollection& checkCollection(
    Op op, const nvinfer1::PluginFieldCollection* fields);

// Reads what follows a convolution.
gspn2_activation_t readActivation(Op op, const nvinfer1::PluginField& field);

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_FIELDS_H_
