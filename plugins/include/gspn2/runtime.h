/* Runs GSPN-2 engines inside an application, from C and from languages that call C. The same code
 * as gspn2/runtime.hpp, whose comments say what each call does; docs/embedding.md has an example.
 *
 * Every call that can fail returns a status. The message of this thread's last failure has all
 * parts: what is wrong, what came, what was expected, how to mend it. */
#ifndef GSPN2_RUNTIME_H_
#define GSPN2_RUNTIME_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define GSPN2_RUNTIME_C_API __declspec(dllexport)
#else
#define GSPN2_RUNTIME_C_API __attribute__((visibility("default")))
#endif

struct CUstream_st; /* cudaStream_t and CUstream are pointers to it */

#ifdef __cplusplus
extern "C" {
#endif

#define GSPN2_RUNTIME_ABI_VERSION 1
#define GSPN2_RUNTIME_MAX_RANK 8

/* C passes any number as an enumeration, and calls refuse those that they do not know: in C++ too,
 * an enumeration must hold them. */
#ifdef __cplusplus
#define GSPN2_RUNTIME_ENUM_BASE : int32_t
#else
#define GSPN2_RUNTIME_ENUM_BASE
#endif

/* The kinds of gspn2::Error, which say what each means. */
typedef enum GSPN2_RUNTIME_ENUM_BASE {
  GSPN2_RUNTIME_OK = 0,
  GSPN2_RUNTIME_INVALID_ARGUMENT = 1,
  GSPN2_RUNTIME_FILE = 2,
  GSPN2_RUNTIME_MANIFEST = 3,
  GSPN2_RUNTIME_ALTERED = 4,
  GSPN2_RUNTIME_LIBRARY = 5,
  GSPN2_RUNTIME_VERSION = 6,
  GSPN2_RUNTIME_NO_GPU = 7,
  GSPN2_RUNTIME_GPU = 8,
  GSPN2_RUNTIME_PLUGIN = 9,
  GSPN2_RUNTIME_ENGINE = 10,
  GSPN2_RUNTIME_SHAPE = 11,
  GSPN2_RUNTIME_DTYPE = 12,
  GSPN2_RUNTIME_BINDING = 13,
  GSPN2_RUNTIME_EXECUTION = 14,
  GSPN2_RUNTIME_MEMORY = 15,
  GSPN2_RUNTIME_INTERNAL = 99 /* the application is out of memory, or a bug */
} gspn2_runtime_status_t;

typedef enum GSPN2_RUNTIME_ENUM_BASE {
  GSPN2_RUNTIME_FLOAT32 = 0,
  GSPN2_RUNTIME_FLOAT16 = 1,
  GSPN2_RUNTIME_BFLOAT16 = 2,
  GSPN2_RUNTIME_INT32 = 3,
  GSPN2_RUNTIME_INT64 = 4,
  GSPN2_RUNTIME_INT8 = 5,
  GSPN2_RUNTIME_UINT8 = 6,
  GSPN2_RUNTIME_BOOL = 7
} gspn2_runtime_dtype_t;

typedef enum GSPN2_RUNTIME_ENUM_BASE {
  GSPN2_RUNTIME_DEVICE_MEMORY = 0,
  GSPN2_RUNTIME_HOST_MEMORY = 1
} gspn2_runtime_place_t;

typedef enum GSPN2_RUNTIME_ENUM_BASE {
  GSPN2_RUNTIME_MIN = 0,
  GSPN2_RUNTIME_OPT = 1,
  GSPN2_RUNTIME_MAX = 2
} gspn2_runtime_bound_t;

typedef struct gspn2_engine gspn2_engine_t;
typedef struct gspn2_session gspn2_session_t;

typedef struct {
  int32_t rank;
  int64_t extents[GSPN2_RUNTIME_MAX_RANK]; /* -1: varies within the profile */
} gspn2_runtime_shape_t;

typedef struct {
  const char* name; /* valid as long as the engine */
  gspn2_runtime_dtype_t dtype;
  int32_t is_input;
  gspn2_runtime_shape_t shape;
} gspn2_runtime_tensor_t;

/* Zero-initialise it; a null pointer stands for the default. */
typedef struct {
  const char* tensorrt;         /* libnvinfer, or its folder */
  const char* plugin;           /* libgspn2_tensorrt.so */
  const char* const* libraries; /* what the plugin needs */
  size_t library_count;
  int32_t device;
} gspn2_runtime_options_t;

/* `options` may be null. The engine lives until it and its sessions are freed, in any order. */
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_engine_open_bundle(
    const char* folder, const gspn2_runtime_options_t* options, gspn2_engine_t** engine);
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_engine_load(const char* plan,
                                                             const gspn2_runtime_options_t* options,
                                                             gspn2_engine_t** engine);
GSPN2_RUNTIME_C_API void gspn2_engine_free(gspn2_engine_t* engine); /* null is fine */

GSPN2_RUNTIME_C_API int32_t gspn2_engine_tensor_count(const gspn2_engine_t* engine);
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_engine_tensor(const gspn2_engine_t* engine,
                                                               int32_t index,
                                                               gspn2_runtime_tensor_t* tensor);
GSPN2_RUNTIME_C_API int32_t gspn2_engine_profile_count(const gspn2_engine_t* engine);
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_engine_profile_shape(const gspn2_engine_t* engine,
                                                                      int32_t profile,
                                                                      const char* input,
                                                                      gspn2_runtime_bound_t bound,
                                                                      gspn2_runtime_shape_t* shape);

GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_session_create(const gspn2_engine_t* engine,
                                                                int32_t profile,
                                                                gspn2_session_t** session);
GSPN2_RUNTIME_C_API void gspn2_session_free(gspn2_session_t* session); /* null is fine */

GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_session_set_input_shape(gspn2_session_t* session,
                                                                         const char* input,
                                                                         const int64_t* extents,
                                                                         int32_t rank);
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_session_shape(gspn2_session_t* session,
                                                               const char* tensor,
                                                               gspn2_runtime_shape_t* shape);
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_session_bytes(gspn2_session_t* session,
                                                               const char* tensor, size_t* bytes);
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_session_bind(gspn2_session_t* session,
                                                              const char* tensor, void* data,
                                                              size_t bytes,
                                                              gspn2_runtime_dtype_t dtype,
                                                              gspn2_runtime_place_t place);

/* `stream` is a cudaStream_t. */
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_session_enqueue(gspn2_session_t* session,
                                                                 struct CUstream_st* stream);
GSPN2_RUNTIME_C_API gspn2_runtime_status_t gspn2_session_run(gspn2_session_t* session);

/* Never null; valid until this thread's next call that fails. */
GSPN2_RUNTIME_C_API const char* gspn2_runtime_last_error(void);
GSPN2_RUNTIME_C_API int32_t gspn2_runtime_abi_version(void);

#ifdef __cplusplus
}
#endif
#endif /* GSPN2_RUNTIME_H_ */
