// libgspn2_runtime with a pretended machine under it, in place of the real one: an application that
// was linked with that runs on it from beginning to end, without a GPU and without TensorRT. Its
// engine takes gray images of 8 by 8 and gives ten scores: twice each image's first ten pixels.
#include "doubles.h"

namespace gspn2 {
namespace runtime {

Platform& realPlatform() {
  static tests::FakePlatform* const kMachine = [] {
    auto* machine = new tests::FakePlatform;
    machine->engine.classes = 10;
    machine->engine.tensors = {{"images", DataType::kFloat32, true, {-1, 1, 8, 8}},
                               {"scores", DataType::kFloat32, false, {-1, 10}}};
    machine->engine.range = {{1, 1, 8, 8}, {8, 1, 8, 8}, {64, 1, 8, 8}};
    return machine;
  }();
  return *kMachine;
}

}  // namespace runtime
}  // namespace gspn2
