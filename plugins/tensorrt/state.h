// What an engine holds of a plugin layer: magic, format version, size and op, then the layer's own
// values, all little-endian.
#ifndef GSPN2_TENSORRT_STATE_H_
#define GSPN2_TENSORRT_STATE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <utility>
#include <vector>

#include "op.h"
#include "trt.h"

namespace gspn2 {
namespace plugin {

constexpr char kStateField[] = "state";  // the one field that an engine holds for IPluginV3
constexpr size_t kStateHeaderBytes = 4 * sizeof(uint32_t);

class StateWriter {
 public:
  // `bytes`: of the whole state.
  StateWriter(Op op, size_t bytes);

  template <typename T>
  void put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      mBytes.push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i)));
    }
  }
  void putReal(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    put(bits);
  }
  std::vector<uint8_t> take() { return std::move(mBytes); }

 private:
  std::vector<uint8_t> mBytes;
};

// Reads what a StateWriter wrote; the constructor refuses every other state.
class StateReader {
 public:
  StateReader(Op op, const void* data, size_t bytes, size_t expected);

  template <typename T>
  T get() {
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(*mNext++) << (8 * i);
    return static_cast<T>(value);
  }
  float getReal() {
    const auto bits = get<uint32_t>();
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  // An integer, which `name` says in the refusal.
  int32_t getWithin(const char* name, int32_t low, int32_t high);
  // How many inputs the layer has learnt of: one of `counts`, or 0.
  int32_t getInputs(std::initializer_list<int32_t> counts);

 private:
  Op mOp;
  const uint8_t* mNext;
};

// The state among the fields that TensorRT kept for an IPluginV3.
const nvinfer1::PluginField& stateField(Op op, const nvinfer1::PluginFieldCollection* fields);

}  // namespace plugin
}  // namespace gspn2
#endif  // GSPN2_TENSORRT_STATE_H_
