#include "engine.h"

#include "log.h"
#include "session.h"
#include "tensor.h"

namespace gspn2 {

const TensorInfo& Engine::Impl::tensor(const std::string& name) const {
  std::string known;
  for (const TensorInfo& tensor : tensors()) {
    if (tensor.name == name) return tensor;
    known += (known.empty() ? "" : "; ") + runtime::toText(tensor);
  }
  throw Error(ErrorKind::kInvalidArgument, "the engine has no tensor of that name", name, known);
}

void Engine::Impl::checkProfile(int32_t profile) const {
  if (profile >= 0 && profile < profileCount()) return;
  throw Error(ErrorKind::kInvalidArgument, "the engine has no profile of that number",
              std::to_string(profile), "0 to " + std::to_string(profileCount() - 1));
}

ShapeRange Engine::Impl::profileShape(int32_t profile, const std::string& input) const {
  checkProfile(profile);
  const TensorInfo& info = tensor(input);
  if (!info.isInput) {
    throw Error(ErrorKind::kInvalidArgument, "only inputs have a profile", input, "an input");
  }
  return mLoaded.plan->profileShape(profile, input);
}

std::unique_ptr<runtime::Context> Engine::Impl::createContext(int32_t profile, Stream stream) {
  checkProfile(profile);
  const std::lock_guard<std::mutex> lock(mMutex);
  runtime::takeErrors();
  auto context = mLoaded.plan->createContext(profile, device(), stream);
  if (context == nullptr) {
    throw Error(ErrorKind::kEngine, "TensorRT refused another session", runtime::takeErrors(),
                "enough GPU memory; on TensorRT 8, a profile that no other session uses",
                "on TensorRT 8.6, build the engine with profile sharing (gspn2-deploy does), or "
                "with one --profile for each session at a time");
  }
  return context;
}

void Engine::Impl::destroyContext(std::unique_ptr<runtime::Context>& context) {
  const std::lock_guard<std::mutex> lock(mMutex);
  context.reset();
}

Engine::Engine(std::shared_ptr<Impl> impl) : mImpl(std::move(impl)) {}

Engine Engine::openBundle(const std::string& folder, const Options& options) {
  return Engine(
      std::make_shared<Impl>(runtime::loadBundle(folder, options, runtime::realPlatform())));
}

Engine Engine::load(const std::string& plan, const Options& options) {
  return Engine(std::make_shared<Impl>(runtime::loadPlan(plan, options, runtime::realPlatform())));
}

const std::vector<TensorInfo>& Engine::tensors() const { return mImpl->tensors(); }

const TensorInfo& Engine::tensor(const std::string& name) const { return mImpl->tensor(name); }

int32_t Engine::profileCount() const { return mImpl->profileCount(); }

ShapeRange Engine::profileShape(int32_t profile, const std::string& input) const {
  return mImpl->profileShape(profile, input);
}

Session Engine::createSession(int32_t profile) const {
  return Session(std::make_unique<Session::Impl>(mImpl, profile));
}

}  // namespace gspn2
