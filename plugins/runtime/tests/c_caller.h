/* A C application over the doubles. test_c_api.cpp has the machine and looks at what is left on it.
 *
 * The engine is that of the doubles: images (?, 2, 2), 1 to 4 of them, and scores (?, 3), which are
 * twice the first three values of each image. */
#ifndef GSPN2_RUNTIME_TESTS_C_CALLER_H_
#define GSPN2_RUNTIME_TESTS_C_CALLER_H_

#include "gspn2/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char* bundle;
  const char* plan;
  const char* plugin;
  const char* library;
  float* images;     /* 64 bytes of device memory */
  float* scores;     /* 64 bytes of device memory */
  void* unreachable; /* 64 bytes, aligned as device memory is */
  struct CUstream_st* stream;
} c_machine_t;

/* Each gives null, or what did not hold; that stays valid until the next call. */
const char* c_caller_describes_the_engine(const c_machine_t* machine);
const char* c_caller_runs_on_host_memory(const c_machine_t* machine);
const char* c_caller_runs_on_device_memory(const c_machine_t* machine);
const char* c_caller_frees_in_any_order(const c_machine_t* machine);
const char* c_caller_is_refused_engines(const c_machine_t* machine);
const char* c_caller_is_refused_descriptions(const c_machine_t* machine);
const char* c_caller_is_refused_shapes(const c_machine_t* machine);
const char* c_caller_is_refused_buffers(const c_machine_t* machine);
const char* c_caller_is_refused_runs(const c_machine_t* machine);
const char* c_caller_is_refused_null_sessions(const c_machine_t* machine);

#ifdef __cplusplus
}
#endif
#endif /* GSPN2_RUNTIME_TESTS_C_CALLER_H_ */
