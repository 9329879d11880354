/* open_engine_c BUNDLE_OR_PLAN [TENSORRT [PLUGIN [LIBRARY]]]
 *
 * The same through the C API: prints the status and the message. */
#include <stdio.h>
#include <string.h>

#include "gspn2/runtime.h"

int main(int argc, char** argv) {
  gspn2_runtime_options_t options;
  gspn2_engine_t* engine = NULL;
  gspn2_session_t* session = NULL;
  gspn2_runtime_status_t status;
  const char* suffix;
  if (argc < 2 || gspn2_runtime_abi_version() != GSPN2_RUNTIME_ABI_VERSION) return 2;
  memset(&options, 0, sizeof(options));
  if (argc > 2) options.tensorrt = argv[2];
  if (argc > 3) options.plugin = argv[3];
  if (argc > 4) {
    options.libraries = (const char* const*)&argv[4];
    options.library_count = (size_t)(argc - 4);
  }
  suffix = strrchr(argv[1], '.');
  if (suffix != NULL && strcmp(suffix, ".plan") == 0) {
    status = gspn2_engine_load(argv[1], &options, &engine);
  } else {
    status = gspn2_engine_open_bundle(argv[1], &options, &engine);
  }
  printf("%d\n%s\n", (int)status, gspn2_runtime_last_error());
  /* Null is refused, not followed. */
  if (gspn2_engine_load(NULL, NULL, &engine) != GSPN2_RUNTIME_INVALID_ARGUMENT) return 3;
  if (gspn2_session_create(NULL, 0, &session) != GSPN2_RUNTIME_INVALID_ARGUMENT) return 3;
  if (gspn2_session_run(NULL) != GSPN2_RUNTIME_INVALID_ARGUMENT) return 3;
  if (gspn2_engine_load(argv[1], NULL, NULL) != GSPN2_RUNTIME_INVALID_ARGUMENT) return 3;
  if (gspn2_engine_tensor_count(NULL) != 0) return 3;
  gspn2_session_free(session);
  gspn2_engine_free(engine);
  return status == GSPN2_RUNTIME_OK ? 0 : 1;
}
