// Images and arrays from files, as the network takes them: float32, (channels, height, width).
#ifndef CLASSIFY_IMAGES_H_
#define CLASSIFY_IMAGES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace classify {

struct Sample {
  std::string name;  // the file, with an index where it holds several
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// Binary PGM (P5) and PPM (P6) of 8 or 16 bits: value / largest value, less mean, by std.
// Arrays (.npy): float32 in C order, (C, H, W) or (N, C, H, W), as they are.
// Throws UsageError.
std::vector<Sample> readSamples(const std::string& path, const std::vector<double>& mean,
                                const std::vector<double>& std);

}  // namespace classify
#endif  // CLASSIFY_IMAGES_H_
