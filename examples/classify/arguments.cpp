#include "arguments.h"

#include <cstdlib>
#include <sstream>

namespace classify {

const char kUsage[] =
    "usage: classify BUNDLE [OPTION]... FILE...\n"
    "\n"
    "Classifies images (.pgm, .ppm) or arrays (.npy, float32, preprocessed already) and prints\n"
    "each file with its classes and their probabilities.\n"
    "\n"
    "  --top-k K             classes to print for each image (1)\n"
    "  --batch N             images at once (the most that the engine takes)\n"
    "  --mean A[,B,C]        subtracted from gray values of 0 to 1, one for each channel or for "
    "all\n"
    "  --std A[,B,C]         what they are divided by then\n"
    "  --expect FILE         one class a line: counts how many images get it\n"
    "  --dump-input FILE     write what would be fed, as raw float32, and run nothing\n"
    "  --dump-scores FILE    write the engine's scores too, as raw float32\n"
    "  --tensorrt PATH       libnvinfer, or the folder that holds it\n"
    "  --plugin PATH         another libgspn2_tensorrt.so than the bundle's\n"
    "  --device N            the GPU (0)\n";

namespace {

size_t parseCount(const std::string& text, const std::string& option, size_t least) {
  char* end = nullptr;
  const unsigned long value = std::strtoul(text.c_str(), &end, 10);
  const bool plain = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  if (!plain || text.size() > 9 || value < least) {
    throw UsageError(option + ": got " + text + ", expected a whole number from " +
                     std::to_string(least));
  }
  return value;
}

std::vector<double> parseList(const std::string& text, const std::string& option) {
  std::vector<double> values;
  std::istringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) {
    char* end = nullptr;
    values.push_back(std::strtod(item.c_str(), &end));
    if (item.empty() || *end != '\0') {
      throw UsageError(option + ": got " + text + ", expected numbers separated by commas");
    }
    if (option == "--std" && !(values.back() > 0)) {
      throw UsageError(option + ": got " + text + ", expected numbers over 0");
    }
  }
  if (values.empty()) throw UsageError(option + ": nothing was given");
  return values;
}

void setOption(Arguments& arguments, const std::string& option, const std::string& value) {
  if (option == "--top-k") {
    arguments.topK = parseCount(value, option, 1);
  } else if (option == "--batch") {
    arguments.batch = parseCount(value, option, 1);
  } else if (option == "--mean") {
    arguments.mean = parseList(value, option);
  } else if (option == "--std") {
    arguments.std = parseList(value, option);
  } else if (option == "--expect") {
    arguments.expect = value;
  } else if (option == "--dump-input") {
    arguments.dumpInput = value;
  } else if (option == "--dump-scores") {
    arguments.dumpScores = value;
  } else if (option == "--tensorrt") {
    arguments.tensorrt = value;
  } else if (option == "--plugin") {
    arguments.plugin = value;
  } else if (option == "--device") {
    arguments.device = static_cast<int>(parseCount(value, option, 0));
  } else {
    throw UsageError("no such option: " + option);
  }
}

}  // namespace

Arguments parseArguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) == 0) {
      if (i + 1 == argc) throw UsageError(word + " needs a value");
      setOption(arguments, word, argv[++i]);
    } else if (arguments.bundle.empty()) {
      arguments.bundle = word;
    } else {
      arguments.files.push_back(word);
    }
  }
  if (arguments.bundle.empty()) throw UsageError("no bundle was named");
  if (arguments.files.empty()) throw UsageError("no file was named");
  return arguments;
}

}  // namespace classify
