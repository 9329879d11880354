#include "numbers.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "arguments.h"

namespace classify {
namespace {

uint32_t bitsOf(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float fromBits(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Drops `shift` low bits, rounding to nearest even.
uint32_t roundShift(uint32_t value, uint32_t shift) {
  const uint32_t half = 1U << (shift - 1), low = value & ((1U << shift) - 1);
  const uint32_t kept = value >> shift;
  return kept + (low > half || (low == half && (kept & 1U) != 0) ? 1 : 0);
}

uint16_t toHalf(float value) {
  const uint32_t bits = bitsOf(value), sign = bits >> 16 & 0x8000U, size = bits & 0x7FFFFFFFU;
  if (size > 0x7F800000U) return static_cast<uint16_t>(sign | 0x7E00U);   // NaN
  if (size >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);  // 65520 and more: Inf
  if (size < 0x33000000U) return static_cast<uint16_t>(sign);             // under 2^-25: 0
  const uint32_t exponent = size >> 23;
  if (exponent < 113) {  // subnormal: below 2^-14
    const uint32_t mantissa = (size & 0x7FFFFFU) | 0x800000U;
    return static_cast<uint16_t>(sign | roundShift(mantissa, 126 - exponent));
  }
  return static_cast<uint16_t>(sign | (roundShift(size, 13) - (112U << 10)));
}

float fromHalf(uint16_t half) {
  const uint32_t sign = (half & 0x8000U) << 16, exponent = half >> 10 & 31U, low = half & 0x3FFU;
  if (exponent == 31) return fromBits(sign | 0x7F800000U | low << 13);
  if (exponent != 0) return fromBits(sign | (exponent + 112) << 23 | low << 13);
  const float size = std::ldexp(static_cast<float>(low), -24);
  return sign != 0 ? -size : size;
}

uint16_t toBfloat16(float value) {
  if (std::isnan(value)) return 0x7FC0;
  return static_cast<uint16_t>(roundShift(bitsOf(value), 16));
}

template <typename Convert>
std::vector<uint8_t> encode16(const std::vector<float>& values, Convert convert) {
  std::vector<uint8_t> bytes(values.size() * 2);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t element = convert(values[i]);
    std::memcpy(bytes.data() + 2 * i, &element, 2);
  }
  return bytes;
}

template <typename Convert>
std::vector<float> decode16(const std::vector<uint8_t>& bytes, Convert convert) {
  std::vector<float> values(bytes.size() / 2);
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t element = 0;
    std::memcpy(&element, bytes.data() + 2 * i, 2);
    values[i] = convert(element);
  }
  return values;
}

[[noreturn]] void refuse(gspn2::DataType dtype) {
  throw UsageError(std::string("the engine's input or output is ") + gspn2::dataTypeName(dtype) +
                   ", expected float32, float16 or bfloat16");
}

}  // namespace

std::vector<uint8_t> encode(const std::vector<float>& values, gspn2::DataType dtype) {
  if (dtype == gspn2::DataType::kFloat16) return encode16(values, toHalf);
  if (dtype == gspn2::DataType::kBFloat16) return encode16(values, toBfloat16);
  if (dtype != gspn2::DataType::kFloat32) refuse(dtype);
  std::vector<uint8_t> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> decode(const std::vector<uint8_t>& bytes, gspn2::DataType dtype) {
  if (dtype == gspn2::DataType::kFloat16) return decode16(bytes, fromHalf);
  if (dtype == gspn2::DataType::kBFloat16) {
    return decode16(bytes, [](uint16_t element) { return fromBits(uint32_t{element} << 16); });
  }
  if (dtype != gspn2::DataType::kFloat32) refuse(dtype);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<Class> topClasses(const float* scores, size_t count, size_t k) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  const auto better = [scores](size_t a, size_t b) {
    if (std::isnan(scores[a]) || std::isnan(scores[b]))
      return !std::isnan(scores[a]) && std::isnan(scores[b]);
    return scores[a] > scores[b];
  };
  std::stable_sort(order.begin(), order.end(), better);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(double{scores[i]} - scores[order[0]]);
  std::vector<Class> best;
  for (size_t i = 0; i < std::min(k, count); ++i) {
    best.push_back({order[i], std::exp(double{scores[order[i]]} - scores[order[0]]) / sum});
  }
  return best;
}

}  // namespace classify
