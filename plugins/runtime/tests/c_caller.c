#include "c_caller.h"

#include <stdio.h>
#include <string.h>

static const char* unmet(int line, const char* condition) {
  static char text[2048];
  snprintf(text, sizeof(text), "%s:%d: %s; the last error is \"%s\"", __FILE__, line, condition,
           gspn2_runtime_last_error());
  return text;
}

#define EXPECT(condition)                                 \
  do {                                                    \
    if (!(condition)) return unmet(__LINE__, #condition); \
  } while (0)

#define EXPECT_OK(call) EXPECT((call) == GSPN2_RUNTIME_OK)

/* The call is refused with GSPN2_RUNTIME_`kind` and a message that holds `part`. */
#define EXPECT_REFUSED(kind, part, call) \
  EXPECT((call) == GSPN2_RUNTIME_##kind && strstr(gspn2_runtime_last_error(), part) != NULL)

static gspn2_engine_t* opened(const c_machine_t* machine) {
  gspn2_engine_t* engine = NULL;
  gspn2_engine_open_bundle(machine->bundle, NULL, &engine);
  return engine;
}

static gspn2_session_t* started(const c_machine_t* machine) {
  gspn2_engine_t* engine = opened(machine);
  gspn2_session_t* session = NULL;
  gspn2_session_create(engine, 0, &session);
  gspn2_engine_free(engine);
  return session;
}

/* Every extent behind the last axis is 0. */
static int is_shape(const gspn2_runtime_shape_t* shape, int32_t rank, int64_t a, int64_t b,
                    int64_t c) {
  const int64_t expected[GSPN2_RUNTIME_MAX_RANK] = {a, b, c};
  return shape->rank == rank && memcmp(shape->extents, expected, sizeof(expected)) == 0;
}

const char* c_caller_describes_the_engine(const c_machine_t* machine) {
  gspn2_engine_t* engine = opened(machine);
  gspn2_runtime_tensor_t tensor;
  gspn2_runtime_shape_t shape;
  EXPECT(engine != NULL);
  EXPECT(gspn2_engine_tensor_count(engine) == 2);
  memset(&tensor, -1, sizeof(tensor));
  EXPECT_OK(gspn2_engine_tensor(engine, 0, &tensor));
  EXPECT(strcmp(tensor.name, "images") == 0);
  EXPECT(tensor.dtype == GSPN2_RUNTIME_FLOAT32);
  EXPECT(tensor.is_input == 1);
  EXPECT(is_shape(&tensor.shape, 3, -1, 2, 2));
  EXPECT_OK(gspn2_engine_tensor(engine, 1, &tensor));
  EXPECT(strcmp(tensor.name, "scores") == 0);
  EXPECT(tensor.is_input == 0);
  EXPECT(is_shape(&tensor.shape, 2, -1, 3, 0));
  EXPECT(gspn2_engine_profile_count(engine) == 1);
  memset(&shape, -1, sizeof(shape));
  EXPECT_OK(gspn2_engine_profile_shape(engine, 0, "images", GSPN2_RUNTIME_MIN, &shape));
  EXPECT(is_shape(&shape, 3, 1, 2, 2));
  EXPECT_OK(gspn2_engine_profile_shape(engine, 0, "images", GSPN2_RUNTIME_OPT, &shape));
  EXPECT(is_shape(&shape, 3, 2, 2, 2));
  EXPECT_OK(gspn2_engine_profile_shape(engine, 0, "images", GSPN2_RUNTIME_MAX, &shape));
  EXPECT(is_shape(&shape, 3, 4, 2, 2));
  gspn2_engine_free(engine);
  return NULL;
}

const char* c_caller_runs_on_host_memory(const c_machine_t* machine) {
  const int64_t extents[] = {2, 2, 2};
  float images[] = {1, 2, 3, 4, 5, 6, 7, 8};
  float scores[] = {-1, -1, -1, -1, -1, -1, -1};
  const float expected[] = {2, 4, 6, 10, 12, 14, -1};
  gspn2_runtime_options_t options;
  gspn2_runtime_shape_t shape;
  gspn2_engine_t* engine = NULL;
  gspn2_session_t* session = NULL;
  size_t bytes = 0;
  memset(&options, 0, sizeof(options));
  options.plugin = machine->plugin;
  options.libraries = &machine->library;
  options.library_count = 1;
  EXPECT_OK(gspn2_engine_load(machine->plan, &options, &engine));
  EXPECT_OK(gspn2_session_create(engine, 0, &session));
  EXPECT_OK(gspn2_session_set_input_shape(session, "images", extents, 3));
  memset(&shape, -1, sizeof(shape));
  EXPECT_OK(gspn2_session_shape(session, "scores", &shape));
  EXPECT(is_shape(&shape, 2, 2, 3, 0));
  EXPECT_OK(gspn2_session_shape(session, "images", &shape));
  EXPECT(is_shape(&shape, 3, 2, 2, 2));
  EXPECT_OK(gspn2_session_bytes(session, "images", &bytes));
  EXPECT(bytes == sizeof(images));
  EXPECT_OK(gspn2_session_bytes(session, "scores", &bytes));
  EXPECT(bytes == sizeof(scores) - sizeof(float));
  EXPECT_OK(gspn2_session_bind(session, "images", images, sizeof(images), GSPN2_RUNTIME_FLOAT32,
                               GSPN2_RUNTIME_HOST_MEMORY));
  EXPECT_OK(gspn2_session_bind(session, "scores", scores, sizeof(scores), GSPN2_RUNTIME_FLOAT32,
                               GSPN2_RUNTIME_HOST_MEMORY));
  EXPECT_OK(gspn2_session_run(session));
  EXPECT(memcmp(scores, expected, sizeof(expected)) == 0);
  gspn2_session_free(session);
  gspn2_engine_free(engine);
  return NULL;
}

const char* c_caller_runs_on_device_memory(const c_machine_t* machine) {
  const int64_t extents[] = {1, 2, 2};
  const float pixels[] = {3, 4, 5, 6};
  gspn2_session_t* session = started(machine);
  EXPECT(session != NULL);
  memcpy(machine->images, pixels, sizeof(pixels));
  EXPECT_OK(gspn2_session_set_input_shape(session, "images", extents, 3));
  EXPECT_OK(gspn2_session_bind(session, "images", machine->images, 64, GSPN2_RUNTIME_FLOAT32,
                               GSPN2_RUNTIME_DEVICE_MEMORY));
  EXPECT_OK(gspn2_session_bind(session, "scores", machine->scores, 64, GSPN2_RUNTIME_FLOAT32,
                               GSPN2_RUNTIME_DEVICE_MEMORY));
  EXPECT_OK(gspn2_session_enqueue(session, machine->stream));
  EXPECT(machine->scores[0] == 6 && machine->scores[1] == 8 && machine->scores[2] == 10);
  gspn2_session_free(session);
  return NULL;
}

const char* c_caller_frees_in_any_order(const c_machine_t* machine) {
  const int64_t extents[] = {1, 2, 2};
  float images[4] = {1, 2, 3, 4}, scores[3] = {0};
  gspn2_engine_t* engine = opened(machine);
  gspn2_session_t *first = NULL, *second = NULL;
  EXPECT_OK(gspn2_session_create(engine, 0, &first));
  EXPECT_OK(gspn2_session_create(engine, 0, &second));
  gspn2_session_free(first);
  gspn2_engine_free(engine);
  EXPECT_OK(gspn2_session_set_input_shape(second, "images", extents, 3));
  EXPECT_OK(gspn2_session_bind(second, "images", images, sizeof(images), GSPN2_RUNTIME_FLOAT32,
                               GSPN2_RUNTIME_HOST_MEMORY));
  EXPECT_OK(gspn2_session_bind(second, "scores", scores, sizeof(scores), GSPN2_RUNTIME_FLOAT32,
                               GSPN2_RUNTIME_HOST_MEMORY));
  EXPECT_OK(gspn2_session_run(second));
  EXPECT(scores[2] == 6);
  gspn2_session_free(second);
  gspn2_session_free(NULL);
  gspn2_engine_free(NULL);
  return NULL;
}

const char* c_caller_is_refused_engines(const c_machine_t* machine) {
  gspn2_runtime_options_t options;
  gspn2_engine_t* engine = opened(machine);
  gspn2_engine_t* other = engine; /* a refusal leaves null */
  gspn2_session_t* session = (gspn2_session_t*)engine;
  const char* none = NULL;
  memset(&options, 0, sizeof(options));
  EXPECT_REFUSED(FILE, "cannot be read", gspn2_engine_load("absent.plan", NULL, &other));
  EXPECT(other == NULL);
  EXPECT(strstr(gspn2_runtime_last_error(), "absent.plan") != NULL);
  EXPECT(strstr(gspn2_runtime_last_error(), "\n  fix:      ") != NULL);
  EXPECT_REFUSED(INVALID_ARGUMENT, "plan is null", gspn2_engine_load(NULL, NULL, &other));
  EXPECT_REFUSED(INVALID_ARGUMENT, "engine is null", gspn2_engine_load("a", NULL, NULL));
  EXPECT_REFUSED(INVALID_ARGUMENT, "folder is null", gspn2_engine_open_bundle(NULL, NULL, &other));
  EXPECT_REFUSED(INVALID_ARGUMENT, "engine is null", gspn2_engine_open_bundle("a", NULL, NULL));
  options.library_count = 1;
  EXPECT_REFUSED(INVALID_ARGUMENT, "libraries is null",
                 gspn2_engine_load(machine->plan, &options, &other));
  options.libraries = &none;
  EXPECT_REFUSED(INVALID_ARGUMENT, "library is null",
                 gspn2_engine_load(machine->plan, &options, &other));
  EXPECT(other == NULL);
  EXPECT_REFUSED(INVALID_ARGUMENT, "0 to 0", gspn2_session_create(engine, 1, &session));
  EXPECT(session == NULL);
  EXPECT_REFUSED(INVALID_ARGUMENT, "no profile of that number",
                 gspn2_session_create(engine, -1, &session));
  EXPECT_REFUSED(INVALID_ARGUMENT, "engine is null", gspn2_session_create(NULL, 0, &session));
  EXPECT_REFUSED(INVALID_ARGUMENT, "session is null", gspn2_session_create(engine, 0, NULL));
  gspn2_engine_free(engine);
  return NULL;
}

const char* c_caller_is_refused_descriptions(const c_machine_t* machine) {
  const gspn2_runtime_bound_t min = GSPN2_RUNTIME_MIN;
  gspn2_engine_t* engine = opened(machine);
  gspn2_runtime_tensor_t tensor;
  gspn2_runtime_shape_t shape;
  EXPECT_REFUSED(INVALID_ARGUMENT, "0 to 1", gspn2_engine_tensor(engine, 2, &tensor));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no tensor of that number",
                 gspn2_engine_tensor(engine, -1, &tensor));
  EXPECT_REFUSED(INVALID_ARGUMENT, "tensor is null", gspn2_engine_tensor(engine, 0, NULL));
  EXPECT_REFUSED(INVALID_ARGUMENT, "engine is null", gspn2_engine_tensor(NULL, 0, &tensor));
  EXPECT(gspn2_engine_tensor_count(NULL) == 0 && gspn2_engine_profile_count(NULL) == 0);
  EXPECT_REFUSED(INVALID_ARGUMENT, "no profile of that number",
                 gspn2_engine_profile_shape(engine, 1, "images", min, &shape));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no tensor of that name",
                 gspn2_engine_profile_shape(engine, 0, "image", min, &shape));
  EXPECT_REFUSED(INVALID_ARGUMENT, "only inputs have a profile",
                 gspn2_engine_profile_shape(engine, 0, "scores", min, &shape));
  EXPECT_REFUSED(
      INVALID_ARGUMENT, "no such bound",
      gspn2_engine_profile_shape(engine, 0, "images", (gspn2_runtime_bound_t)99, &shape));
  EXPECT_REFUSED(INVALID_ARGUMENT, "input is null",
                 gspn2_engine_profile_shape(engine, 0, NULL, min, &shape));
  EXPECT_REFUSED(INVALID_ARGUMENT, "shape is null",
                 gspn2_engine_profile_shape(engine, 0, "images", min, NULL));
  EXPECT_REFUSED(INVALID_ARGUMENT, "engine is null",
                 gspn2_engine_profile_shape(NULL, 0, "images", min, &shape));
  gspn2_engine_free(engine);
  return NULL;
}

const char* c_caller_is_refused_shapes(const c_machine_t* machine) {
  const int64_t one[] = {1, 2, 2}, many[] = {5, 2, 2};
  gspn2_session_t* session = started(machine);
  gspn2_runtime_shape_t shape;
  size_t bytes;
  EXPECT_REFUSED(SHAPE, "\"images\" is not set", gspn2_session_shape(session, "scores", &shape));
  EXPECT_REFUSED(SHAPE, "\"images\" is not set", gspn2_session_bytes(session, "scores", &bytes));
  EXPECT_REFUSED(SHAPE, "(1, 2, 2) to (4, 2, 2)",
                 gspn2_session_set_input_shape(session, "images", many, 3));
  EXPECT_REFUSED(SHAPE, "pass 3 extents", gspn2_session_set_input_shape(session, "images", one, 2));
  EXPECT_REFUSED(SHAPE, "pass 3 extents",
                 gspn2_session_set_input_shape(session, "images", NULL, 0));
  EXPECT_REFUSED(INVALID_ARGUMENT, "a negative rank",
                 gspn2_session_set_input_shape(session, "images", one, -1));
  EXPECT_REFUSED(INVALID_ARGUMENT, "extents is null",
                 gspn2_session_set_input_shape(session, "images", NULL, 3));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no tensor of that name",
                 gspn2_session_set_input_shape(session, "image", one, 3));
  EXPECT_REFUSED(INVALID_ARGUMENT, "follows from the inputs'",
                 gspn2_session_set_input_shape(session, "scores", one, 3));
  EXPECT_REFUSED(INVALID_ARGUMENT, "input is null",
                 gspn2_session_set_input_shape(session, NULL, one, 3));
  EXPECT_OK(gspn2_session_set_input_shape(session, "images", one, 3));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no tensor of that name",
                 gspn2_session_shape(session, "score", &shape));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no tensor of that name",
                 gspn2_session_bytes(session, "score", &bytes));
  EXPECT_REFUSED(INVALID_ARGUMENT, "tensor is null", gspn2_session_shape(session, NULL, &shape));
  EXPECT_REFUSED(INVALID_ARGUMENT, "tensor is null", gspn2_session_bytes(session, NULL, &bytes));
  EXPECT_REFUSED(INVALID_ARGUMENT, "shape is null", gspn2_session_shape(session, "scores", NULL));
  EXPECT_REFUSED(INVALID_ARGUMENT, "bytes is null", gspn2_session_bytes(session, "scores", NULL));
  gspn2_session_free(session);
  return NULL;
}

const char* c_caller_is_refused_buffers(const c_machine_t* machine) {
  const gspn2_runtime_dtype_t dtype = GSPN2_RUNTIME_FLOAT32;
  const gspn2_runtime_place_t host = GSPN2_RUNTIME_HOST_MEMORY;
  gspn2_session_t* session = started(machine);
  float data[4];
  EXPECT_REFUSED(DTYPE, "float16",
                 gspn2_session_bind(session, "images", data, 16, GSPN2_RUNTIME_FLOAT16, host));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no such element type",
                 gspn2_session_bind(session, "images", data, 16, (gspn2_runtime_dtype_t)99, host));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no such place",
                 gspn2_session_bind(session, "images", data, 16, dtype, (gspn2_runtime_place_t)99));
  EXPECT_REFUSED(BINDING, "null or empty",
                 gspn2_session_bind(session, "images", NULL, 16, dtype, host));
  EXPECT_REFUSED(BINDING, "null or empty",
                 gspn2_session_bind(session, "images", data, 0, dtype, host));
  EXPECT_REFUSED(INVALID_ARGUMENT, "no tensor of that name",
                 gspn2_session_bind(session, "image", data, 16, dtype, host));
  EXPECT_REFUSED(INVALID_ARGUMENT, "tensor is null",
                 gspn2_session_bind(session, NULL, data, 16, dtype, host));
  EXPECT_REFUSED(INVALID_ARGUMENT, "tensor is null",
                 gspn2_session_bind(session, NULL, data, 16, dtype, GSPN2_RUNTIME_DEVICE_MEMORY));
  EXPECT_REFUSED(BINDING, "4 bytes past a multiple of 256",
                 gspn2_session_bind(session, "images", machine->images + 1, 16, dtype,
                                    GSPN2_RUNTIME_DEVICE_MEMORY));
  gspn2_session_free(session);
  return NULL;
}

const char* c_caller_is_refused_runs(const c_machine_t* machine) {
  const int64_t extents[] = {1, 2, 2};
  const gspn2_runtime_dtype_t dtype = GSPN2_RUNTIME_FLOAT32;
  const gspn2_runtime_place_t device = GSPN2_RUNTIME_DEVICE_MEMORY;
  gspn2_session_t* session = started(machine);
  EXPECT_REFUSED(SHAPE, "\"images\" is not set", gspn2_session_run(session));
  EXPECT_OK(gspn2_session_set_input_shape(session, "images", extents, 3));
  EXPECT_REFUSED(BINDING, "\"images\" has no buffer",
                 gspn2_session_enqueue(session, machine->stream));
  EXPECT_OK(gspn2_session_bind(session, "images", machine->images, 16, dtype, device));
  EXPECT_REFUSED(BINDING, "\"scores\" has no buffer", gspn2_session_run(session));
  EXPECT_OK(gspn2_session_bind(session, "scores", machine->scores, 11, dtype, device));
  EXPECT_REFUSED(BINDING, "12 bytes for (1, 3)", gspn2_session_run(session));
  EXPECT_OK(gspn2_session_bind(session, "scores", machine->unreachable, 64, dtype, device));
  EXPECT_REFUSED(BINDING, "the GPU cannot reach the buffer of \"scores\"",
                 gspn2_session_enqueue(session, machine->stream));
  EXPECT_OK(gspn2_session_bind(session, "scores", machine->scores, 12, dtype, device));
  EXPECT_OK(gspn2_session_run(session)); /* no refusal spoils the session */
  gspn2_session_free(session);
  return NULL;
}

const char* c_caller_is_refused_null_sessions(const c_machine_t* machine) {
  const int64_t extents[] = {1, 2, 2};
  gspn2_runtime_shape_t shape;
  size_t bytes;
  EXPECT_REFUSED(INVALID_ARGUMENT, "session is null",
                 gspn2_session_set_input_shape(NULL, "images", extents, 3));
  EXPECT_REFUSED(INVALID_ARGUMENT, "session is null", gspn2_session_shape(NULL, "scores", &shape));
  EXPECT_REFUSED(INVALID_ARGUMENT, "session is null", gspn2_session_bytes(NULL, "scores", &bytes));
  EXPECT_REFUSED(INVALID_ARGUMENT, "session is null",
                 gspn2_session_bind(NULL, "images", machine->images, 16, GSPN2_RUNTIME_FLOAT32,
                                    GSPN2_RUNTIME_DEVICE_MEMORY));
  EXPECT_REFUSED(INVALID_ARGUMENT, "session is null", gspn2_session_enqueue(NULL, machine->stream));
  EXPECT_REFUSED(INVALID_ARGUMENT, "session is null", gspn2_session_run(NULL));
  return NULL;
}
