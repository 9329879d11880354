/* What libgspn2_tensorrt.so exports, for programs that link it or open it themselves.
 *
 * The library holds the creators of the plugins that docs/plugin.md lists, version "1". From
 * TensorRT 8.6 on, IPluginRegistry::loadLibrary loads and registers it, and nothing here is needed:
 * trtexec --dynamicPlugins=libgspn2_tensorrt.so does so. loadLibrary returns null when the creators
 * are registered already: use one way or the other.
 */
#ifndef GSPN2_TENSORRT_PLUGIN_H_
#define GSPN2_TENSORRT_PLUGIN_H_

#include <stdbool.h>
#include <stdint.h>

#if defined(_WIN32)
#define GSPN2_PLUGIN_API __declspec(dllexport)
#else
#define GSPN2_PLUGIN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Registers the creators with the TensorRT library of this process, which must be loaded already.
 * `logger` is an nvinfer1::ILogger that outlives the library, or null: messages then go to stderr.
 * `pluginNamespace` is "" (null means the same): engines name these plugins so. Calling it again is
 * harmless. Returns false, with the reason in the log, when TensorRT is not loaded, has another
 * major version than the headers of this build, or refuses a creator, or when libgspn2_kernels.so
 * is of another ABI version. */
GSPN2_PLUGIN_API bool initLibGspn2Plugins(void* logger, const char* pluginNamespace);

/* NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH of the headers of this
 * build. The library works with TensorRT of the same major version. */
GSPN2_PLUGIN_API int32_t gspn2TensorRTHeaders(void);

/* The plugin's last error message in this process, for callers whose logger cannot tell it from
 * TensorRT's own; empty when there was none. Valid until this thread's next call. */
GSPN2_PLUGIN_API const char* gspn2TensorRTLastError(void);

#ifdef __cplusplus
}
#endif
#endif /* GSPN2_TENSORRT_PLUGIN_H_ */
