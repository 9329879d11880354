// Classifies images with a bundle: an application that embeds GSPN-2 without Python.
//
// Exit codes: 0 all went well, 1 --expect found another class, 2 wrong usage or files, 3 the engine
// cannot run here.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "arguments.h"
#include "gspn2/runtime.hpp"
#include "images.h"
#include "numbers.h"

namespace classify {
namespace {

std::string toText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text;
}

std::vector<Sample> readAll(const Arguments& arguments) {
  std::vector<Sample> samples;
  for (const std::string& file : arguments.files) {
    for (Sample& sample : readSamples(file, arguments.mean, arguments.std)) {
      if (sample.shape != (samples.empty() ? sample : samples.front()).shape) {
        throw UsageError(sample.name + " is " + toText(sample.shape) + ", " + samples[0].name +
                         " is " + toText(samples[0].shape) + ": give files of one size");
      }
      samples.push_back(std::move(sample));
    }
  }
  return samples;
}

std::vector<size_t> readExpected(const std::string& path, size_t count) {
  std::ifstream stream(path);
  std::vector<size_t> classes;
  for (size_t value = 0; stream >> value;) classes.push_back(value);
  if (!stream.eof() || classes.size() != count) {
    throw UsageError(path + " holds " + std::to_string(classes.size()) + " classes, expected " +
                     std::to_string(count));
  }
  return classes;
}

void dump(const std::vector<float>& values, const std::string& path) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float)));
  stream.close();
  if (!stream) throw UsageError(path + " cannot be written");
}

std::vector<float> pixelsOf(const Sample* samples, size_t count) {
  std::vector<float> pixels;
  for (size_t i = 0; i < count; ++i) {
    pixels.insert(pixels.end(), samples[i].values.begin(), samples[i].values.end());
  }
  return pixels;
}

// The one input and the one output that a classifier has.
class Classifier {
 public:
  explicit Classifier(const gspn2::Engine& engine) : mSession(engine.createSession()) {
    for (const gspn2::TensorInfo& tensor : engine.tensors()) {
      gspn2::TensorInfo& mine = tensor.isInput ? mInput : mOutput;
      if (!mine.name.empty()) throw UsageError("the engine has several inputs or outputs");
      mine = tensor;
    }
    mLargestBatch = engine.profileShape(0, mInput.name).max.at(0);
  }

  size_t largestBatch() const { return static_cast<size_t>(mLargestBatch); }

  // Scores, (count, classes).
  std::vector<float> run(const Sample* samples, size_t count) {
    const std::vector<float> pixels = pixelsOf(samples, count);
    gspn2::Shape shape{static_cast<int64_t>(count)};
    shape.insert(shape.end(), samples->shape.begin(), samples->shape.end());
    mSession.setInputShape(mInput.name, shape);
    std::vector<uint8_t> in = encode(pixels, mInput.dtype);
    std::vector<uint8_t> out(mSession.bytes(mOutput.name));
    mSession.bindHost(mInput.name, in.data(), in.size(), mInput.dtype);
    mSession.bindHost(mOutput.name, out.data(), out.size(), mOutput.dtype);
    mSession.run();
    return decode(out, mOutput.dtype);
  }

 private:
  gspn2::Session mSession;
  gspn2::TensorInfo mInput;
  gspn2::TensorInfo mOutput;
  int64_t mLargestBatch = 1;
};

// Prints each image's classes; returns the best one of each.
std::vector<size_t> classifyAll(Classifier& classifier, const std::vector<Sample>& samples,
                                const Arguments& arguments) {
  size_t batch = classifier.largestBatch();
  if (arguments.batch != 0) batch = std::min(batch, arguments.batch);
  std::vector<size_t> best;
  std::vector<float> all;
  for (size_t begin = 0; begin < samples.size(); begin += batch) {
    const size_t count = std::min(batch, samples.size() - begin);
    const std::vector<float> scores = classifier.run(&samples[begin], count);
    const size_t classes = scores.size() / count;
    all.insert(all.end(), scores.begin(), scores.end());
    for (size_t i = 0; i < count; ++i) {
      std::printf("%s", samples[begin + i].name.c_str());
      const auto top = topClasses(&scores[i * classes], classes, arguments.topK);
      for (const Class& item : top) std::printf("  %zu %.4f", item.index, item.probability);
      std::printf("\n");
      if (std::isnan(top.front().probability)) {
        throw gspn2::Error(gspn2::ErrorKind::kExecution, "the engine's scores hold NaN",
                           samples[begin + i].name);
      }
      best.push_back(top.front().index);
    }
  }
  if (!arguments.dumpScores.empty()) dump(all, arguments.dumpScores);
  return best;
}

int run(const Arguments& arguments) {
  const std::vector<Sample> samples = readAll(arguments);
  if (!arguments.dumpInput.empty()) {
    dump(pixelsOf(samples.data(), samples.size()), arguments.dumpInput);
    return 0;
  }
  std::vector<size_t> expected;
  if (!arguments.expect.empty()) expected = readExpected(arguments.expect, samples.size());
  gspn2::Options options;
  options.tensorrt = arguments.tensorrt;
  options.plugin = arguments.plugin;
  options.device = arguments.device;
  Classifier classifier(gspn2::Engine::openBundle(arguments.bundle, options));
  const std::vector<size_t> best = classifyAll(classifier, samples, arguments);
  if (expected.empty()) return 0;
  size_t right = 0;
  for (size_t i = 0; i < best.size(); ++i) right += best[i] == expected[i] ? 1 : 0;
  std::printf("%zu of %zu images have the expected class\n", right, best.size());
  return right == best.size() ? 0 : 1;
}

}  // namespace
}  // namespace classify

int main(int argc, char** argv) {
  try {
    return classify::run(classify::parseArguments(argc, argv));
  } catch (const classify::UsageError& error) {
    std::fprintf(stderr, "classify: %s\n\n%s", error.what(), classify::kUsage);
    return 2;
  } catch (const gspn2::Error& error) {
    std::fprintf(stderr, "classify: %s\n", error.what());
    return 3;
  }
}
