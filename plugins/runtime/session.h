#ifndef GSPN2_RUNTIME_SESSION_H_
#define GSPN2_RUNTIME_SESSION_H_

#include <map>
#include <memory>
#include <string>

#include "engine.h"

namespace gspn2 {

class __attribute__((visibility("hidden"))) Session::Impl {
 public:
  Impl(std::shared_ptr<Engine::Impl> engine, int32_t profile);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void setInputShape(const std::string& input, const Shape& shape);
  Shape shape(const std::string& tensor);
  size_t bytes(const std::string& tensor);
  void bind(const std::string& tensor, void* data, size_t bytes, DataType dtype, bool host);
  void enqueue(Stream stream);
  void run();

 private:
  struct Slot {
    TensorInfo info;
    ShapeRange range;         // inputs
    Shape shape;              // as far as it is known
    size_t needed = 0;        // bytes of `shape`, once prepared
    void* data = nullptr;     // the caller's
    size_t bytes = 0;         // of data
    void* staging = nullptr;  // device memory of host buffers
    size_t stagingBytes = 0;
    bool host = false;
  };

  Slot& slot(const std::string& tensor);
  void prepare();  // learns the outputs' shapes; throws Error(kShape) while an input's is not set
  void stage(Slot& slot, size_t bytes);
  void checkBuffer(const Slot& slot, bool capturing);

  std::shared_ptr<Engine::Impl> mEngine;
  runtime::Device& mDevice;
  Stream mStream = nullptr;
  std::unique_ptr<runtime::Context> mContext;
  std::map<std::string, Slot> mSlots;
  bool mPrepared = false;
};

}  // namespace gspn2
#endif  // GSPN2_RUNTIME_SESSION_H_
