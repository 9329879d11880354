/* What the emulated library offers its tests beside gspn2/kernels.h. */
#ifndef GSPN2_EMULATION_H_
#define GSPN2_EMULATION_H_

#include <stddef.h>

#define GSPN2_EMULATION_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* The kernels that this thread's process has launched since the last call, one a line, as template
 * instances. Valid until the next call. */
GSPN2_EMULATION_API const char* gspn2_emulation_take_kernels(void);
// The blocks of a cluster of each launch since the last call, one a line.
GSPN2_EMULATION_API const char* gspn2_emulation_take_clusters(void);

/* Memory that ends, or begins, at a page which may not be touched: an access past that side fails
 * the launch. Both return null, or do nothing, on failure. */
GSPN2_EMULATION_API void* gspn2_emulation_allocate(size_t bytes, int at_end);
GSPN2_EMULATION_API void gspn2_emulation_free(void* memory, size_t bytes);

/* Conversions of the shims, as bits. */
GSPN2_EMULATION_API float gspn2_emulation_from_half(unsigned short bits);
GSPN2_EMULATION_API unsigned short gspn2_emulation_to_half(float value);
GSPN2_EMULATION_API unsigned short gspn2_emulation_to_bfloat16(float value);

#ifdef __cplusplus
}
#endif
#endif /* GSPN2_EMULATION_H_ */
