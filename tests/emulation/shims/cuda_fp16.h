// __half for the emulation: IEEE binary16, conversions rounded to nearest even.
#ifndef GSPN2_EMULATION_CUDA_FP16_H_
#define GSPN2_EMULATION_CUDA_FP16_H_

#include <cstdint>
#include <cstring>

struct __half {
  uint16_t bits;
};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }

inline float __half2float(__half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000U) << 16;
  const uint32_t magnitude = value.bits & 0x7fffU;
  uint32_t bits = 0;
  if (magnitude >= 0x7c00U) {  // Inf and NaN
    bits = 0x7f800000U | (magnitude & 0x3ffU) << 13;
  } else if (magnitude >= 0x400U) {
    bits = (magnitude << 13) + ((127U - 15U) << 23);
  } else {  // subnormal: exact as a product
    const float scaled = static_cast<float>(magnitude) * 0x1p-24F;
    std::memcpy(&bits, &scaled, sizeof(bits));
  }
  bits |= sign;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline __half __float2half_rn(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000U);
  bits &= 0x7fffffffU;
  if (bits > 0x7f800000U) return {0x7fff};                                  // NaN
  if (bits >= 0x477ff000U) return {static_cast<uint16_t>(sign | 0x7c00U)};  // 65,520 and more
  if (bits < 0x33000001U) return {sign};                                    // 2^-25 and less
  const int exponent = static_cast<int>(bits >> 23) - 127;
  const uint32_t mantissa = (bits & 0x7fffffU) | 0x800000U;
  const int drop = exponent < -14 ? 13 + (-14 - exponent) : 13;
  const uint32_t kept = mantissa >> drop;
  const uint32_t rest = mantissa & ((1U << drop) - 1U);
  const uint32_t half = 1U << (drop - 1);
  const uint32_t rounded = kept + (rest > half || (rest == half && (kept & 1U) != 0) ? 1U : 0U);
  // The mantissa's leading bit adds one to the exponent; so does a carry out of it.
  const uint32_t base = exponent < -14 ? 0U : static_cast<uint32_t>(exponent + 14) << 10;
  return {static_cast<uint16_t>(sign | (base + rounded))};
}

inline __half __float2half(float value) { return __float2half_rn(value); }

#endif  // GSPN2_EMULATION_CUDA_FP16_H_
