// TensorRT's runtime headers, and what the version that they belong to offers.
#ifndef GSPN2_TENSORRT_TRT_H_
#define GSPN2_TENSORRT_TRT_H_

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#endif
#include <NvInferRuntime.h>
#include <NvInferVersion.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#define GSPN2_TRT_AT_LEAST(major, minor) \
  (NV_TENSORRT_MAJOR > (major) || (NV_TENSORRT_MAJOR == (major) && NV_TENSORRT_MINOR >= (minor)))

#if !GSPN2_TRT_AT_LEAST(8, 5)
#error "The GSPN-2 plugin needs TensorRT 8.5 or later"
#endif

// IPluginV3 from 10.0; IPluginV2DynamicExt before.
#define GSPN2_TRT_V3 GSPN2_TRT_AT_LEAST(10, 0)
// IPluginRegistry::loadLibrary, and with it the logger finder.
#define GSPN2_TRT_LOADS_LIBRARIES GSPN2_TRT_AT_LEAST(8, 6)
#define GSPN2_TRT_BF16 GSPN2_TRT_AT_LEAST(9, 0)

#endif  // GSPN2_TENSORRT_TRT_H_
