// The command line.
#ifndef CLASSIFY_ARGUMENTS_H_
#define CLASSIFY_ARGUMENTS_H_

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace classify {

// Something that the user gave cannot be used.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Arguments {
  std::string bundle;
  std::vector<std::string> files;
  size_t topK = 1;
  size_t batch = 0;          // 0: the largest of the profile
  std::vector<double> mean;  // one for each channel, or one for all
  std::vector<double> std;
  std::string expect;      // a file with one class for each image
  std::string dumpInput;   // where to write the network's input instead of running it
  std::string dumpScores;  // where to write its output
  std::string tensorrt;
  std::string plugin;
  int device = 0;
};

extern const char kUsage[];

// Throws UsageError.
Arguments parseArguments(int argc, char** argv);

}  // namespace classify
#endif  // CLASSIFY_ARGUMENTS_H_
