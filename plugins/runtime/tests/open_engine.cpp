// open_engine BUNDLE_OR_PLAN [TENSORRT [PLUGIN [LIBRARY...]]]
//
// Opens an engine through the C++ API and describes it, or prints the error's kind and text.
#include <cstdio>
#include <string>

#include "gspn2/runtime.hpp"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  gspn2::Options options;
  if (argc > 2) options.tensorrt = argv[2];
  if (argc > 3) options.plugin = argv[3];
  for (int i = 4; i < argc; ++i) options.libraries.emplace_back(argv[i]);
  const std::string path = argv[1];
  const bool isPlan = path.size() > 5 && path.compare(path.size() - 5, 5, ".plan") == 0;
  try {
    const gspn2::Engine engine =
        isPlan ? gspn2::Engine::load(path, options) : gspn2::Engine::openBundle(path, options);
    for (const gspn2::TensorInfo& tensor : engine.tensors()) {
      std::printf("%s %s\n", tensor.isInput ? "input" : "output", tensor.name.c_str());
    }
    return 0;
  } catch (const gspn2::Error& error) {
    std::printf("%s\n%s\n", gspn2::errorKindName(error.kind()), error.what());
    return 1;
  }
}
