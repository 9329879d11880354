#ifndef GSPN2_RUNTIME_ENGINE_H_
#define GSPN2_RUNTIME_ENGINE_H_

#include <mutex>
#include <string>
#include <vector>

#include "loader.h"

namespace gspn2 {

class __attribute__((visibility("hidden"))) Engine::Impl {
 public:
  explicit Impl(runtime::Loaded loaded) : mLoaded(std::move(loaded)) {}

  const std::vector<TensorInfo>& tensors() const { return mLoaded.tensors; }
  const TensorInfo& tensor(const std::string& name) const;
  int32_t profileCount() const { return mLoaded.plan->profileCount(); }
  ShapeRange profileShape(int32_t profile, const std::string& input) const;
  runtime::Device& device() { return *mLoaded.device; }

  // TensorRT does not promise that contexts of one engine may be made from several threads at once.
  std::unique_ptr<runtime::Context> createContext(int32_t profile, Stream stream);
  void destroyContext(std::unique_ptr<runtime::Context>& context);

 private:
  void checkProfile(int32_t profile) const;

  runtime::Loaded mLoaded;
  std::mutex mMutex;
};

}  // namespace gspn2
#endif  // GSPN2_RUNTIME_ENGINE_H_
