// The C API: arguments checked, exceptions turned into statuses, nothing else.
#include <algorithm>
#include <new>

#include "engine.h"
#include "gspn2/runtime.h"
#include "session.h"

struct gspn2_engine {
  gspn2::Engine engine;
};

struct gspn2_session {
  gspn2::Session session;
};

namespace gspn2 {
namespace {

// The C names and numbers are those of C++.
static_assert(GSPN2_RUNTIME_MEMORY == static_cast<int>(ErrorKind::kMemory));
static_assert(GSPN2_RUNTIME_NO_GPU == static_cast<int>(ErrorKind::kNoGpu));
static_assert(GSPN2_RUNTIME_SHAPE == static_cast<int>(ErrorKind::kShape));
static_assert(GSPN2_RUNTIME_BOOL == static_cast<int>(DataType::kBool));
static_assert(GSPN2_RUNTIME_INT64 == static_cast<int>(DataType::kInt64));

std::string& lastError() {
  thread_local std::string message;
  return message;
}

gspn2_runtime_status_t failed(gspn2_runtime_status_t status, const char* message) noexcept {
  try {
    lastError() = message;
  } catch (...) {
    lastError().clear();
  }
  return status;
}

template <typename Body>
gspn2_runtime_status_t guarded(Body body) noexcept {
  try {
    body();
    return GSPN2_RUNTIME_OK;
  } catch (const Error& error) {
    return failed(static_cast<gspn2_runtime_status_t>(error.kind()), error.what());
  } catch (const std::exception& error) {
    return failed(GSPN2_RUNTIME_INTERNAL, error.what());
  } catch (...) {
    return failed(GSPN2_RUNTIME_INTERNAL, "an unknown exception");
  }
}

template <typename Pointer>
Pointer required(Pointer pointer, const char* name) {
  if (pointer == nullptr) {
    throw Error(ErrorKind::kInvalidArgument, std::string(name) + " is null");
  }
  return pointer;
}

std::string optional(const char* text) { return text == nullptr ? "" : text; }

Options toOptions(const gspn2_runtime_options_t* options) {
  Options result;
  if (options == nullptr) return result;
  result.tensorrt = optional(options->tensorrt);
  result.plugin = optional(options->plugin);
  for (size_t i = 0; i < options->library_count; ++i) {
    result.libraries.emplace_back(
        required(required(options->libraries, "libraries")[i], "library"));
  }
  result.device = options->device;
  return result;
}

void store(const Shape& shape, gspn2_runtime_shape_t* result) {
  if (shape.size() > GSPN2_RUNTIME_MAX_RANK) {
    throw Error(ErrorKind::kShape, "the tensor has too many axes", std::to_string(shape.size()),
                "at most " + std::to_string(GSPN2_RUNTIME_MAX_RANK));
  }
  result->rank = static_cast<int32_t>(shape.size());
  std::fill_n(result->extents, GSPN2_RUNTIME_MAX_RANK, 0);
  std::copy(shape.begin(), shape.end(), result->extents);
}

}  // namespace
}  // namespace gspn2

using gspn2::guarded;
using gspn2::required;

gspn2_runtime_status_t gspn2_engine_open_bundle(const char* folder,
                                                const gspn2_runtime_options_t* options,
                                                gspn2_engine_t** engine) {
  return guarded([&] {
    *required(engine, "engine") = nullptr;
    *engine = new gspn2_engine{
        gspn2::Engine::openBundle(required(folder, "folder"), gspn2::toOptions(options))};
  });
}

gspn2_runtime_status_t gspn2_engine_load(const char* plan, const gspn2_runtime_options_t* options,
                                         gspn2_engine_t** engine) {
  return guarded([&] {
    *required(engine, "engine") = nullptr;
    *engine =
        new gspn2_engine{gspn2::Engine::load(required(plan, "plan"), gspn2::toOptions(options))};
  });
}

void gspn2_engine_free(gspn2_engine_t* engine) { delete engine; }

int32_t gspn2_engine_tensor_count(const gspn2_engine_t* engine) {
  return engine == nullptr ? 0 : static_cast<int32_t>(engine->engine.tensors().size());
}

gspn2_runtime_status_t gspn2_engine_tensor(const gspn2_engine_t* engine, int32_t index,
                                           gspn2_runtime_tensor_t* tensor) {
  return guarded([&] {
    const int32_t count = gspn2_engine_tensor_count(required(engine, "engine"));
    if (index < 0 || index >= count) {
      throw gspn2::Error(gspn2::ErrorKind::kInvalidArgument, "no tensor of that number",
                         std::to_string(index), "0 to " + std::to_string(count - 1));
    }
    const gspn2::TensorInfo& info = engine->engine.tensors()[static_cast<size_t>(index)];
    gspn2::store(info.shape, &required(tensor, "tensor")->shape);
    tensor->name = info.name.c_str();
    tensor->dtype = static_cast<gspn2_runtime_dtype_t>(info.dtype);
    tensor->is_input = info.isInput ? 1 : 0;
  });
}

int32_t gspn2_engine_profile_count(const gspn2_engine_t* engine) {
  return engine == nullptr ? 0 : engine->engine.profileCount();
}

gspn2_runtime_status_t gspn2_engine_profile_shape(const gspn2_engine_t* engine, int32_t profile,
                                                  const char* input, gspn2_runtime_bound_t bound,
                                                  gspn2_runtime_shape_t* shape) {
  return guarded([&] {
    const gspn2::ShapeRange range =
        required(engine, "engine")->engine.profileShape(profile, required(input, "input"));
    switch (bound) {
      case GSPN2_RUNTIME_MIN:
        return gspn2::store(range.min, required(shape, "shape"));
      case GSPN2_RUNTIME_OPT:
        return gspn2::store(range.opt, required(shape, "shape"));
      case GSPN2_RUNTIME_MAX:
        return gspn2::store(range.max, required(shape, "shape"));
    }
    throw gspn2::Error(gspn2::ErrorKind::kInvalidArgument, "no such bound",
                       std::to_string(static_cast<int>(bound)), "GSPN2_RUNTIME_MIN, OPT or MAX");
  });
}

gspn2_runtime_status_t gspn2_session_create(const gspn2_engine_t* engine, int32_t profile,
                                            gspn2_session_t** session) {
  return guarded([&] {
    *required(session, "session") = nullptr;
    *session = new gspn2_session{required(engine, "engine")->engine.createSession(profile)};
  });
}

void gspn2_session_free(gspn2_session_t* session) { delete session; }

gspn2_runtime_status_t gspn2_session_set_input_shape(gspn2_session_t* session, const char* input,
                                                     const int64_t* extents, int32_t rank) {
  return guarded([&] {
    if (rank < 0) throw gspn2::Error(gspn2::ErrorKind::kInvalidArgument, "a negative rank");
    const int64_t* begin = rank == 0 ? nullptr : required(extents, "extents");
    required(session, "session")
        ->session.setInputShape(required(input, "input"), gspn2::Shape(begin, begin + rank));
  });
}

gspn2_runtime_status_t gspn2_session_shape(gspn2_session_t* session, const char* tensor,
                                           gspn2_runtime_shape_t* shape) {
  return guarded([&] {
    gspn2::store(required(session, "session")->session.shape(required(tensor, "tensor")),
                 required(shape, "shape"));
  });
}

gspn2_runtime_status_t gspn2_session_bytes(gspn2_session_t* session, const char* tensor,
                                           size_t* bytes) {
  return guarded([&] {
    *required(bytes, "bytes") =
        required(session, "session")->session.bytes(required(tensor, "tensor"));
  });
}

gspn2_runtime_status_t gspn2_session_bind(gspn2_session_t* session, const char* tensor, void* data,
                                          size_t bytes, gspn2_runtime_dtype_t dtype,
                                          gspn2_runtime_place_t place) {
  return guarded([&] {
    gspn2::Session& target = required(session, "session")->session;
    const auto type = static_cast<gspn2::DataType>(dtype);
    if (place == GSPN2_RUNTIME_HOST_MEMORY) {
      target.bindHost(required(tensor, "tensor"), data, bytes, type);
    } else if (place == GSPN2_RUNTIME_DEVICE_MEMORY) {
      target.bindDevice(required(tensor, "tensor"), data, bytes, type);
    } else {
      throw gspn2::Error(gspn2::ErrorKind::kInvalidArgument, "no such place for a buffer");
    }
  });
}

gspn2_runtime_status_t gspn2_session_enqueue(gspn2_session_t* session, CUstream_st* stream) {
  return guarded([&] { required(session, "session")->session.enqueue(stream); });
}

gspn2_runtime_status_t gspn2_session_run(gspn2_session_t* session) {
  return guarded([&] { required(session, "session")->session.run(); });
}

const char* gspn2_runtime_last_error(void) { return gspn2::lastError().c_str(); }

int32_t gspn2_runtime_abi_version(void) { return GSPN2_RUNTIME_ABI_VERSION; }
