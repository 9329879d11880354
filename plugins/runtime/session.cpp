#include "session.h"

#include "log.h"
#include "tensor.h"

namespace gspn2 {
namespace {

using runtime::DeviceScope;

constexpr uintptr_t kAlignment = 256;  // what TensorRT asks of addresses

std::string quoted(const std::string& name) { return "\"" + name + "\""; }

}  // namespace

Session::Impl::Impl(std::shared_ptr<Engine::Impl> engine, int32_t profile)
    : mEngine(std::move(engine)), mDevice(mEngine->device()) {
  const DeviceScope scope(mDevice);
  mStream = mDevice.createStream();
  try {
    mContext = mEngine->createContext(profile, mStream);
    for (const TensorInfo& info : mEngine->tensors()) {
      Slot slot;
      slot.info = info;
      slot.shape = info.shape;
      if (info.isInput) slot.range = mEngine->profileShape(profile, info.name);
      mSlots.emplace(info.name, std::move(slot));
    }
  } catch (...) {
    mDevice.destroyStream(mStream);
    throw;
  }
}

Session::Impl::~Impl() {
  const int previous = mDevice.enter();
  mDevice.waitForAll();
  mEngine->destroyContext(mContext);
  for (auto& entry : mSlots) mDevice.release(entry.second.staging);
  mDevice.destroyStream(mStream);
  mDevice.leave(previous);
}

Session::Impl::Slot& Session::Impl::slot(const std::string& tensor) {
  mEngine->tensor(tensor);  // throws for an unknown name
  return mSlots.at(tensor);
}

void Session::Impl::setInputShape(const std::string& input, const Shape& shape) {
  Slot& target = slot(input);
  if (!target.info.isInput) {
    throw Error(ErrorKind::kInvalidArgument, "an output's shape follows from the inputs'", input,
                "an input");
  }
  runtime::checkShape(target.info, target.range, shape);
  if (shape == target.shape) return;
  const DeviceScope scope(mDevice);
  runtime::takeErrors();
  if (!mContext->setInputShape(input, shape)) {
    throw Error(ErrorKind::kShape, "TensorRT refused the shape of the input " + quoted(input),
                runtime::toText(shape) + ": " + runtime::takeErrors(),
                runtime::toText(target.info));
  }
  target.shape = shape;
  mPrepared = false;
}

void Session::Impl::prepare() {
  if (mPrepared) return;
  for (auto& [name, item] : mSlots) {
    if (item.info.isInput && !runtime::isKnown(item.shape)) {
      throw Error(ErrorKind::kShape, "the shape of the input " + quoted(name) + " is not set", "",
                  runtime::toText(item.range.min) + " to " + runtime::toText(item.range.max),
                  "call setInputShape first");
    }
  }
  for (auto& [name, item] : mSlots) {
    if (!item.info.isInput) item.shape = mContext->shape(name);
    if (!runtime::isKnown(item.shape)) {
      throw Error(ErrorKind::kShape, "the shape of the output " + quoted(name) + " is not known",
                  runtime::toText(item.shape), "one that follows from the inputs' shapes");
    }
    item.needed = runtime::byteCount(item.shape, item.info.dtype);
  }
  mPrepared = true;
}

Shape Session::Impl::shape(const std::string& tensor) {
  Slot& item = slot(tensor);
  prepare();
  return item.shape;
}

size_t Session::Impl::bytes(const std::string& tensor) {
  Slot& item = slot(tensor);
  prepare();
  return item.needed;
}

void Session::Impl::stage(Slot& slot, size_t bytes) {
  if (slot.stagingBytes >= bytes) return;
  const DeviceScope scope(mDevice);
  void* fresh = mDevice.allocate(bytes);
  mDevice.waitForAll();  // work that uses the old memory may be on its way
  mDevice.release(slot.staging);
  slot.staging = fresh;
  slot.stagingBytes = bytes;
}

void Session::Impl::bind(const std::string& tensor, void* data, size_t bytes, DataType dtype,
                         bool host) {
  Slot& target = slot(tensor);
  if (dtype != target.info.dtype) {
    throw Error(ErrorKind::kDtype, "the buffer of " + quoted(tensor) + " has another element type",
                dataTypeName(dtype), dataTypeName(target.info.dtype),
                "convert the data, or export the model in another precision");
  }
  if (data == nullptr || bytes == 0) {
    throw Error(ErrorKind::kBinding, "the buffer of " + quoted(tensor) + " is null or empty");
  }
  if (!host && reinterpret_cast<uintptr_t>(data) % kAlignment != 0) {
    throw Error(ErrorKind::kBinding, "the buffer of " + quoted(tensor) + " is not aligned",
                std::to_string(reinterpret_cast<uintptr_t>(data) % kAlignment) +
                    " bytes past a multiple of 256",
                "device memory aligned to 256 bytes", "bind memory as cudaMalloc returns it");
  }
  if (host) stage(target, bytes);
  target.data = data;
  target.bytes = bytes;
  target.host = host;
}

void Session::Impl::checkBuffer(const Slot& slot, bool capturing) {
  const std::string& name = slot.info.name;
  if (slot.data == nullptr) {
    throw Error(ErrorKind::kBinding, "the tensor " + quoted(name) + " has no buffer", "",
                runtime::toText(slot.info), "call bindHost or bindDevice first");
  }
  if (slot.bytes < slot.needed) {
    throw Error(ErrorKind::kBinding, "the buffer of " + quoted(name) + " is too small",
                std::to_string(slot.bytes) + " bytes",
                std::to_string(slot.needed) + " bytes for " + runtime::toText(slot.shape));
  }
  // CUDA does not say everywhere that it may be asked this while a stream is capturing.
  if (!slot.host && !capturing && !mDevice.reaches(slot.data)) {
    throw Error(ErrorKind::kBinding, "the GPU cannot reach the buffer of " + quoted(name),
                "memory that was freed, or the host's", "device memory of this GPU",
                "keep it until the stream has passed the work; bind host memory with bindHost");
  }
}

void Session::Impl::enqueue(Stream stream) {
  const DeviceScope scope(mDevice);
  prepare();
  const bool capturing = mDevice.capturing(stream);
  for (const auto& entry : mSlots) checkBuffer(entry.second, capturing);
  runtime::takeErrors();
  for (auto& [name, item] : mSlots) {
    if (!mContext->setAddress(name, item.host ? item.staging : item.data)) {
      throw Error(ErrorKind::kBinding, "TensorRT refused the buffer of " + quoted(name),
                  runtime::takeErrors());
    }
    if (item.host && item.info.isInput) {
      mDevice.copyToDevice(item.staging, item.data, item.needed, stream);
    }
  }
  if (!mContext->enqueue(stream)) {
    throw Error(ErrorKind::kExecution, "TensorRT could not enqueue the engine",
                runtime::takeErrors());
  }
  for (auto& entry : mSlots) {
    const Slot& item = entry.second;
    if (item.host && !item.info.isInput) {
      mDevice.copyToHost(item.data, item.staging, item.needed, stream);
    }
  }
}

void Session::Impl::run() {
  enqueue(mStream);
  const DeviceScope scope(mDevice);
  mDevice.wait(mStream);
}

Session::Session(std::unique_ptr<Impl> impl) : mImpl(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

void Session::setInputShape(const std::string& input, const Shape& shape) {
  mImpl->setInputShape(input, shape);
}

Shape Session::shape(const std::string& tensor) const { return mImpl->shape(tensor); }

size_t Session::bytes(const std::string& tensor) const { return mImpl->bytes(tensor); }

void Session::bindDevice(const std::string& tensor, void* data, size_t bytes, DataType dtype) {
  mImpl->bind(tensor, data, bytes, dtype, false);
}

void Session::bindHost(const std::string& tensor, void* data, size_t bytes, DataType dtype) {
  mImpl->bind(tensor, data, bytes, dtype, true);
}

void Session::enqueue(Stream stream) { mImpl->enqueue(stream); }

void Session::run() { mImpl->run(); }

}  // namespace gspn2
