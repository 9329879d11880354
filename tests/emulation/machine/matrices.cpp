// What tensor cores do: matrices spread over the lanes of a warp.
#include <cmath>
#include <cstring>

#include "machine.h"

namespace emulation {
namespace {

constexpr int kRows = 16, kDepth = 16, kColumns = 8;

struct Load {
  const void* row;  // of 16 bytes
  uint32_t* words;
};

struct Product {
  const float *a, *b;
  float* sums;
};

// The part of a fragment that a lane's value is in: rows g and g + 8, pairs of columns from 2 q on.
int rowOf(int lane, int value) { return lane / 4 + value / 2 % 2 * 8; }
int columnOf(int lane, int value) { return lane % 4 * 2 + value % 2 + value / 4 * 8; }

// Towards 0, as the sums of tensor cores are: a test's tolerances are to bear that.
float truncated(double value) {
  const auto nearest = static_cast<float>(value);
  return std::isfinite(value) && std::fabs(nearest) > std::fabs(value) && std::isfinite(nearest)
             ? std::nextafter(nearest, 0.0F)
             : nearest;
}

}  // namespace

void finishMatrices(const uint64_t (&lanes)[kLanes]) {
  for (uint64_t lane = 0; lane < kLanes; ++lane) {
    for (uint64_t matrix = 0; matrix < 4; ++matrix) {
      const auto* const source = reinterpret_cast<const Load*>(lanes[matrix * 8 + lane / 4]);
      const auto* const word = static_cast<const char*>(source->row) + lane % 4 * 4;
      std::memcpy(reinterpret_cast<const Load*>(lanes[lane])->words + matrix, word, 4);
    }
  }
}

void finishProduct(const uint64_t (&lanes)[kLanes]) {
  float a[kRows][kDepth], b[kDepth][kColumns];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& held = *reinterpret_cast<const Product*>(lanes[lane]);
    for (int i = 0; i < 8; ++i) a[rowOf(lane, i)][columnOf(lane, i)] = held.a[i];
    for (int i = 0; i < 4; ++i) b[lane % 4 * 2 + i % 2 + i / 2 * 8][lane / 4] = held.b[i];
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    float* const sums = reinterpret_cast<const Product*>(lanes[lane])->sums;
    for (int i = 0; i < 4; ++i) {
      double sum = sums[i];
      for (int k = 0; k < kDepth; ++k) {
        sum += static_cast<double>(a[rowOf(lane, i)][k]) * b[k][columnOf(lane, i)];
      }
      sums[i] = truncated(sum);
    }
  }
}

void loadMatrices(uint32_t address, uint32_t (&words)[4]) {
  Load load{ownShared(address, 16), words};
  meetForMatrices(Meeting::Kind::kMatrices, &load);
}

void multiplyAdd(const float (&a)[8], const float (&b)[4], float (&sums)[4]) {
  Product product{a, b, sums};
  meetForMatrices(Meeting::Kind::kProduct, &product);
}

}  // namespace emulation
