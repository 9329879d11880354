#include "images.h"

#include <cctype>
#include <cstring>
#include <fstream>
#include <iterator>

#include "arguments.h"

namespace classify {
namespace {

constexpr int64_t kMaxExtent = 1 << 20;

std::string readFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw UsageError(path + " cannot be read");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

bool endsWith(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

// Reads the header of a PNM file. Source: netpbm's descriptions of the PGM and PPM formats.
class PnmReader {
 public:
  PnmReader(const std::string& path, const std::string& content)
      : mPath(path), mContent(content), mAt(2) {}

  // A number behind white space and comments.
  int64_t number(int64_t largest) {
    skipSpace();
    int64_t value = 0;
    const size_t begin = mAt;
    while (mAt < mContent.size() && std::isdigit(static_cast<unsigned char>(mContent[mAt]))) {
      value = value * 10 + (mContent[mAt++] - '0');
      if (value > largest) refuse();
    }
    if (mAt == begin || value == 0) refuse();
    return value;
  }

  // The values behind the one white space that ends the header.
  const unsigned char* data(size_t bytes) {
    ++mAt;
    if (mAt > mContent.size() || mContent.size() - mAt < bytes) {
      throw UsageError(mPath + " is truncated");
    }
    return reinterpret_cast<const unsigned char*>(mContent.data() + mAt);
  }

 private:
  [[noreturn]] void refuse() const { throw UsageError(mPath + " has a damaged header"); }

  void skipSpace() {
    while (mAt < mContent.size()) {
      if (mContent[mAt] == '#') {
        while (mAt < mContent.size() && mContent[mAt] != '\n') ++mAt;
      } else if (std::isspace(static_cast<unsigned char>(mContent[mAt]))) {
        ++mAt;
      } else {
        return;
      }
    }
  }

  const std::string& mPath;
  const std::string& mContent;
  size_t mAt;
};

double ofChannel(const std::vector<double>& values, int64_t channel, double otherwise) {
  if (values.empty()) return otherwise;
  return values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

Sample readPnm(const std::string& path, const std::string& content, const std::vector<double>& mean,
               const std::vector<double>& std) {
  const int64_t channels = content[1] == '5' ? 1 : 3;
  PnmReader reader(path, content);
  const int64_t width = reader.number(kMaxExtent), height = reader.number(kMaxExtent);
  const int64_t largest = reader.number(65535);
  for (const auto* values : {&mean, &std}) {
    if (values->size() > 1 && static_cast<int64_t>(values->size()) != channels) {
      throw UsageError(path + " has " + std::to_string(channels) +
                       " channels; --mean and --std need one number or as many");
    }
  }
  const int64_t step = largest > 255 ? 2 : 1;  // two bytes, the high one first
  const int64_t count = channels * height * width;
  const unsigned char* data = reader.data(static_cast<size_t>(count * step));
  Sample sample{path, {channels, height, width}, std::vector<float>(static_cast<size_t>(count))};
  // (height, width, channels) -> (channels, height, width)
  for (int64_t i = 0; i < count; ++i) {
    const int64_t channel = i % channels, position = i / channels;
    const int value = step == 1 ? data[i] : data[2 * i] * 256 + data[2 * i + 1];
    const double scaled = static_cast<double>(value) / static_cast<double>(largest);
    sample.values[static_cast<size_t>(channel * height * width + position)] =
        static_cast<float>((scaled - ofChannel(mean, channel, 0.0)) / ofChannel(std, channel, 1.0));
  }
  return sample;
}

// The value of a key in the header of a .npy file, which is a Python dict in a fixed spelling.
std::string headerValue(const std::string& header, const std::string& key) {
  const size_t at = header.find("'" + key + "': ");
  if (at == std::string::npos) return "";
  const size_t begin = at + key.size() + 4;
  const char close = header[begin] == '(' ? ')' : ',';
  const size_t end = header.find(close, begin);
  return end == std::string::npos ? "" : header.substr(begin, end - begin);
}

std::vector<int64_t> parseNpyShape(const std::string& text, const std::string& path) {
  std::vector<int64_t> shape;
  size_t at = 0;
  while ((at = text.find_first_of("0123456789", at)) != std::string::npos) {
    const size_t end = std::min(text.find_first_not_of("0123456789", at), text.size());
    shape.push_back(end - at > 7 ? kMaxExtent + 1 : std::stoll(text.substr(at, end - at)));
    if (shape.back() < 1 || shape.back() > kMaxExtent) {
      throw UsageError(path + ": an extent of " + text + " is out of range");
    }
    at = end;
  }
  if (shape.size() == 3) shape.insert(shape.begin(), 1);
  if (shape.size() != 4) {
    throw UsageError(path + " has the shape " + text + "), expected (N, C, H, W) or (C, H, W)");
  }
  return shape;
}

// Source: numpy.lib.format, versions 1.0 to 3.0.
std::vector<Sample> readNpy(const std::string& path, const std::string& content) {
  const auto byte = [&](size_t i) { return static_cast<size_t>(content[i]) & 0xFF; };
  if (content.size() < 12 || content.compare(0, 6, "\x93NUMPY") != 0) {
    throw UsageError(path + " is not a .npy file");
  }
  const size_t begin = content[6] == 1 ? 10 : 12;
  size_t length = byte(8) | byte(9) << 8;
  if (begin == 12) length |= byte(10) << 16 | byte(11) << 24;
  if (content.size() - begin < length) throw UsageError(path + " is truncated");
  const std::string header = content.substr(begin, length);
  if (headerValue(header, "descr") != "'<f4'" || headerValue(header, "fortran_order") != "False") {
    throw UsageError(path + " must be little-endian float32 in C order, got " + header);
  }
  const std::vector<int64_t> shape = parseNpyShape(headerValue(header, "shape"), path);
  const size_t count = static_cast<size_t>(shape[1] * shape[2] * shape[3]);
  const size_t images = static_cast<size_t>(shape[0]);
  if ((content.size() - begin - length) / sizeof(float) / count < images) {
    throw UsageError(path + " is truncated");
  }
  std::vector<Sample> samples;
  for (size_t i = 0; i < images; ++i) {
    const std::string name = images == 1 ? path : path + "[" + std::to_string(i) + "]";
    Sample sample{name, {shape[1], shape[2], shape[3]}, std::vector<float>(count)};
    std::memcpy(sample.values.data(), content.data() + begin + length + i * count * sizeof(float),
                count * sizeof(float));
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace

std::vector<Sample> readSamples(const std::string& path, const std::vector<double>& mean,
                                const std::vector<double>& std) {
  const std::string content = readFile(path);
  if (endsWith(path, ".npy")) return readNpy(path, content);
  if (content.size() < 3 || content[0] != 'P' || (content[1] != '5' && content[1] != '6')) {
    throw UsageError(path + " is not a binary PGM or PPM image, nor a .npy file");
  }
  return {readPnm(path, content, mean, std)};
}

}  // namespace classify
