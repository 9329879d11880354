#include "fields.h"

#include <cinttypes>
#include <cstring>
#include <limits>

namespace gspn2 {
namespace plugin {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

template <typename T>
void readAs(const PluginField& field, int64_t* values) {
  for (int32_t i = 0; i < field.length; ++i) {
    T value;
    std::memcpy(&value, static_cast<const char*>(field.data) + i * sizeof(T), sizeof(T));
    values[i] = static_cast<int64_t>(value);
  }
}

}  // namespace

std::string readText(Op op, const PluginField& field) {
  if (field.type != PluginFieldType::kCHAR || field.length < 1 || field.data == nullptr) {
    fail("%s: the field %s has type %d and length %d; expected a string (type %d)", opName(op),
         field.name, static_cast<int>(field.type), field.length,
         static_cast<int>(PluginFieldType::kCHAR));
  }
  // Some parsers count the terminating null, some callers leave it out.
  const char* text = static_cast<const char*>(field.data);
  return std::string(text, strnlen(text, static_cast<size_t>(field.length)));
}

void readIntegers(Op op, const PluginField& field, int32_t count, int64_t* values) {
  if (field.length == count && field.data != nullptr) {
    switch (field.type) {
      case PluginFieldType::kINT8:
        return readAs<int8_t>(field, values);
      case PluginFieldType::kINT16:
        return readAs<int16_t>(field, values);
      case PluginFieldType::kINT32:
        return readAs<int32_t>(field, values);
#if GSPN2_TRT_V3
      case PluginFieldType::kINT64:
        return readAs<int64_t>(field, values);
#endif
      default:
        break;
    }
  }
  fail("%s: the field %s has type %d and length %d; expected %d integer%s (type %d)", opName(op),
       field.name, static_cast<int>(field.type), field.length, count, count == 1 ? "" : "s",
       static_cast<int>(PluginFieldType::kINT32));
}

int64_t readInteger(Op op, const PluginField& field) {
  int64_t value = 0;
  readIntegers(op, field, 1, &value);
  return value;
}

double readReal(Op op, const PluginField& field) {
  if (field.length == 1 && field.data != nullptr) {
    if (field.type == PluginFieldType::kFLOAT32) {
      float value = 0;
      std::memcpy(&value, field.data, sizeof(value));
      return value;
    }
    if (field.type == PluginFieldType::kFLOAT64) {
      double value = 0;
      std::memcpy(&value, field.data, sizeof(value));
      return value;
    }
  }
  fail("%s: the field %s has type %d and length %d; expected a number (type %d)", opName(op),
       field.name, static_cast<int>(field.type), field.length,
       static_cast<int>(PluginFieldType::kFLOAT32));
}

PluginFieldCollection announce(const PluginField* fields, size_t count) {
  PluginFieldCollection collection{};
  collection.nbFields = static_cast<int32_t>(count);
  collection.fields = fields;
  return collection;
}

const PluginFieldCollection& checkCollection(Op op, const PluginFieldCollection* fields) {
  if (fields == nullptr || fields->nbFields < 0 ||
      (fields->nbFields > 0 && fields->fields == nullptr)) {
    fail("%s: the field collection is null or damaged", opName(op));
  }
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    const char* name = fields->fields[i].name;
    if (name == nullptr) fail("%s: field %d has no name", opName(op), i);
    for (int32_t j = 0; j < i; ++j) {
      if (std::strcmp(name, fields->fields[j].name) == 0) {
        fail("%s: the field %.64s is given twice", opName(op), name);
      }
    }
  }
  return *fields;
}

bool readFlag(Op op, const PluginField& field) {
  const int64_t value = readInteger(op, field);
  if (value == 0 || value == 1) return value == 1;
  fail("%s: %s is %" PRId64 "; expected 0 or 1", opName(op), field.name, value);
}

float checkEpsilon(Op op, const char* name, double value) {
  if (value >= 0 && value <= std::numeric_limits<float>::max()) return static_cast<float>(value);
  fail("%s: %s is %g; expected a finite float32 of at least 0", opName(op), name, value);
}

gspn2_activation_t readActivation(Op op, const PluginField& field) {
  constexpr Choice kActivations[] = {{"identity", GSPN2_IDENTITY}, {"silu", GSPN2_SILU}};
  return static_cast<gspn2_activation_t>(readChoice(op, field, kActivations));
}

}  // namespace plugin
}  // namespace gspn2
