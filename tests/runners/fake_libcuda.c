/* The functions of libcuda.so.1 that gspn2_deploy.runners.cuda_driver calls, with what they were
 * called with to be read back. Prototypes are those of cuda.h (CUDA 12 and 13). */
#include <stddef.h>

typedef int CUresult;
enum { kOk = 0, kInvalidValue = 1, kUnsupportedCapture = 900 };

void* last_stream = NULL;
int last_mode = -1;
int capturing = 0;
int fail_end = 0;
int fail_instantiate = 0;
int fail_launch = 0;
int graphs = 0;
int executables = 0;
int contexts = 0;

static char host_memory[8];
static char device_memory[8];
void* known_host = host_memory;
void* known_device = device_memory;

CUresult cuStreamBeginCapture_v2(void* stream, int mode) {
  last_stream = stream;
  last_mode = mode;
  capturing = 1;
  return kOk;
}

CUresult cuStreamEndCapture(void* stream, void** graph) {
  if (!capturing || stream != last_stream) return kInvalidValue;
  capturing = 0;
  *graph = NULL;
  if (fail_end) return kUnsupportedCapture;
  ++graphs;
  *graph = &graphs;
  return kOk;
}

CUresult cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long flags) {
  *executable = NULL;
  if (fail_instantiate || graph != &graphs || flags != 0) return kInvalidValue;
  ++executables;
  *executable = &executables;
  return kOk;
}

CUresult cuGraphLaunch(void* executable, void* stream) {
  last_stream = stream;
  return fail_launch || executable != &executables ? kInvalidValue : kOk;
}

CUresult cuGraphDestroy(void* graph) { return graph == &graphs ? --graphs, kOk : kInvalidValue; }

CUresult cuGraphExecDestroy(void* executable) {
  return executable == &executables ? --executables, kOk : kInvalidValue;
}

/* 2: memory type (1 host, 2 device); 9: the device's number. */
CUresult cuPointerGetAttribute(void* data, int attribute, unsigned long long pointer) {
  const void* address = (const void*)(size_t)pointer;
  if (address != known_host && address != known_device) return kInvalidValue;
  if (attribute == 2) {
    *(unsigned*)data = address == known_host ? 1 : 2;
    return kOk;
  }
  if (attribute == 9) {
    *(int*)data = 3;
    return kOk;
  }
  return kInvalidValue;
}

CUresult cuCtxGetCurrent(void** context) {
  *context = contexts ? &contexts : NULL;
  return kOk;
}

CUresult cuCtxPopCurrent_v2(void** context) {
  if (contexts == 0) return kInvalidValue;
  *context = &contexts;
  --contexts;
  return kOk;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = error == kUnsupportedCapture ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : NULL;
  return *name == NULL ? kInvalidValue : kOk;
}
