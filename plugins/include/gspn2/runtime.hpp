// Runs GSPN-2 engines inside an application: no Python, no PyTorch, one library for TensorRT 8, 10
// and 11.
//
//   gspn2::Engine engine = gspn2::Engine::openBundle("digits.bundle");
//   gspn2::Session session = engine.createSession();
//   session.setInputShape("images", {1, 1, 8, 8});
//   session.bindHost("images", pixels.data(), pixels.size() * 4, gspn2::DataType::kFloat32);
//   session.bindHost("logits", scores.data(), scores.size() * 4, gspn2::DataType::kFloat32);
//   session.run();
//
// libgspn2_runtime links no TensorRT: it opens libnvinfer.so.<major> of the version that built the
// plan, as its manifest says. Everything that the manifest says is checked before the plan, which
// is executable code, reaches TensorRT. docs/embedding.md has the whole picture.
#ifndef GSPN2_RUNTIME_HPP_
#define GSPN2_RUNTIME_HPP_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(_WIN32)
#define GSPN2_RUNTIME_API __declspec(dllexport)
#else
#define GSPN2_RUNTIME_API __attribute__((visibility("default")))
#endif

struct CUstream_st;  // cudaStream_t and CUstream are pointers to it

namespace gspn2 {

using Stream = CUstream_st*;
using Shape = std::vector<int64_t>;  // -1: varies within the profile

// What went wrong. The numbers are those of gspn2_runtime_status_t in runtime.h.
enum class ErrorKind : int32_t {
  kInvalidArgument = 1,  // an unknown name, a null pointer, a profile that does not exist
  kFile = 2,             // a file is missing or cannot be read
  kManifest = 3,         // the manifest or bundle.json is damaged, or of an unknown kind or schema
  kAltered = 4,          // a file is not the one that the manifest or bundle.json names
  kLibrary = 5,          // TensorRT is not installed, or cannot be loaded
  kVersion = 6,          // TensorRT is of another version than the one that built the plan
  kNoGpu = 7,            // no GPU, or no driver
  kGpu = 8,              // the GPU is not one that the plan was built for
  kPlugin = 9,           // the plugin library is missing, of another build, or lacks a plugin
  kEngine = 10,          // TensorRT refused the plan or the profile
  kShape = 11,           // a shape outside the profile, or an input whose shape is not set
  kDtype = 12,           // a buffer of another element type than the tensor's
  kBinding = 13,         // a tensor without a buffer, or a buffer that is too small or freed
  kExecution = 14,       // CUDA or TensorRT failed while running
  kMemory = 15,          // out of GPU memory
};

// "kManifest" and so on, without the k.
GSPN2_RUNTIME_API const char* errorKindName(ErrorKind kind);

// The one exception type. what() holds all parts.
class GSPN2_RUNTIME_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string problem, std::string got = {}, std::string expected = {},
        std::string fix = {});
  ~Error() override;

  ErrorKind kind() const { return mKind; }
  const std::string& problem() const { return mProblem; }
  const std::string& got() const { return mGot; }
  const std::string& expected() const { return mExpected; }
  const std::string& fix() const { return mFix; }

 private:
  ErrorKind mKind;
  std::string mProblem;
  std::string mGot;
  std::string mExpected;
  std::string mFix;
};

enum class DataType : int32_t {
  kFloat32 = 0,
  kFloat16 = 1,
  kBFloat16 = 2,
  kInt32 = 3,
  kInt64 = 4,
  kInt8 = 5,
  kUint8 = 6,
  kBool = 7,
};

GSPN2_RUNTIME_API size_t elementBytes(DataType dtype);
GSPN2_RUNTIME_API const char* dataTypeName(DataType dtype);  // NumPy's: "float32", "bfloat16"

struct TensorInfo {
  std::string name;
  DataType dtype = DataType::kFloat32;
  bool isInput = false;
  Shape shape;
};

// The shapes of one input that a profile covers: smallest, tuned for, largest.
struct ShapeRange {
  Shape min;
  Shape opt;
  Shape max;
};

enum class LogLevel : int32_t { kError = 0, kWarning = 1, kInfo = 2, kVerbose = 3 };
using LogSink = std::function<void(LogLevel, const std::string&)>;

// Where TensorRT's and the plugin loader's messages go; empty (the default): errors and warnings to
// stderr. For the whole process, because TensorRT has one logger in it. Called from any thread.
GSPN2_RUNTIME_API void setLogSink(LogSink sink);

struct Options {
  // The TensorRT library, or the folder that holds it; empty: libnvinfer.so.<major> wherever the
  // system's loader finds it (LD_LIBRARY_PATH, ld.so.conf).
  std::string tensorrt;
  // libgspn2_tensorrt.so of the same TensorRT major version; empty: the bundle's, or none.
  std::string plugin;
  // Libraries that the plugin needs (libgspn2_kernels.so), where its RPATH does not find them.
  std::vector<std::string> libraries;
  int device = 0;
};

class Session;

// A deserialised plan. Copies share it; all of its methods may be called from any thread.
class GSPN2_RUNTIME_API Engine {
 public:
  // A bundle's folder, as `gspn2-deploy bundle` writes it. Every file that is used is checked
  // against the sizes and hashes in bundle.json.
  static Engine openBundle(const std::string& folder, const Options& options = {});

  // A plan with its manifest beside it (nano.plan and nano.plan.json), and options.plugin.
  static Engine load(const std::string& plan, const Options& options = {});

  // Inputs first, each group in the manifest's order.
  const std::vector<TensorInfo>& tensors() const;
  const TensorInfo& tensor(const std::string& name) const;
  int32_t profileCount() const;
  ShapeRange profileShape(int32_t profile, const std::string& input) const;

  // One execution context. It keeps the engine alive.
  Session createSession(int32_t profile = 0) const;

  class Impl;
  explicit Engine(std::shared_ptr<Impl> impl);

 private:
  std::shared_ptr<Impl> mImpl;
};

// One execution context with its buffers, for one thread and one stream at a time. Any number of
// sessions over one engine may run at once, each on a stream of its own.
class GSPN2_RUNTIME_API Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();  // waits for the GPU

  // Needed for every input with an extent of -1; kept until it is changed.
  void setInputShape(const std::string& input, const Shape& shape);

  // The shape of an input or output, once the inputs' shapes are set, and the bytes it takes.
  Shape shape(const std::string& tensor) const;
  size_t bytes(const std::string& tensor) const;

  // The buffer of a tensor, which stays the caller's; `bytes` is what it holds, and may be more
  // than the tensor takes. Device memory is used in place; it must be aligned to 256 bytes, as
  // cudaMalloc's is. Host memory is copied on the stream to or from memory of the session:
  // page-locked memory without waiting. Either must stay valid until the stream has passed the
  // work.
  void bindDevice(const std::string& tensor, void* data, size_t bytes, DataType dtype);
  void bindHost(const std::string& tensor, void* data, size_t bytes, DataType dtype);

  // Puts the copies in, the engine and the copies out on the caller's stream, and returns. It
  // allocates nothing and waits for nothing, so that a stream may be capturing a CUDA graph (with
  // page-locked host memory). Run it once before capturing: TensorRT prepares at the first call
  // with new shapes.
  void enqueue(Stream stream);

  // enqueue on the session's own stream, then wait.
  void run();

  class Impl;
  explicit Session(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> mImpl;
};

}  // namespace gspn2
#endif  // GSPN2_RUNTIME_HPP_
