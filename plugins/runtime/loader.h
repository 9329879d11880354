// From files to a deserialised plan: every check that comes before TensorRT sees the plan.
#ifndef GSPN2_RUNTIME_LOADER_H_
#define GSPN2_RUNTIME_LOADER_H_

#include <memory>
#include <string>

#include "interfaces.h"
#include "manifest.h"

namespace gspn2 {
namespace runtime {

struct Loaded {
  // In the order that they are needed in; the members are destroyed in the opposite one.
  std::shared_ptr<Device> device;
  std::shared_ptr<TensorRT> tensorrt;
  std::unique_ptr<Plan> plan;
  std::vector<TensorInfo> tensors;
};

// Every mismatch is named in one Error, whose kind is the first one's.
Loaded loadPlan(const std::string& planPath, const Options& options, Platform& platform);
Loaded loadBundle(const std::string& folder, const Options& options, Platform& platform);

}  // namespace runtime
}  // namespace gspn2
#endif  // GSPN2_RUNTIME_LOADER_H_
