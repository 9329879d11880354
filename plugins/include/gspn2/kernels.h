/* The GSPN-2 propagation kernels behind a C ABI: raw device pointers, int64 extents, an explicit
 * stream and status codes. It knows neither PyTorch nor TensorRT; both stand on it.
 *
 * The recurrence, for one direction, with t the scan step and p the position on the line:
 *
 *   h[t,p] = w0(t,p) h[t-1,p-1] + w1(t,p) h[t-1,p] + w2(t,p) h[t-1,p+1] + lam(t,p) x(t,p)
 *
 * h before the first step of a segment is 0. A neighbour outside the line contributes 0 and is
 * left out of the normalisation. Weights without influence (those of a missing neighbour, and all
 * of them at a segment's first step) are never allowed to reach the result, whatever they hold:
 * NaN and Inf included. With chunk > 0 a line of L steps is cut in segments of `chunk` steps,
 * counted from the scan's own first step; the last one may be shorter.
 *
 * Every tensor is dense (gspn2_strides_t has the exceptions), row-major, in image coordinates
 * (N, C, H, W) for every direction, and of the one dtype of the call; the state and every sum are
 * float32.
 *
 * Source: GSPN-2 (arXiv 2512.07884) section 3; normalisation as in GSPN (arXiv 2501.12381).
 */
#ifndef GSPN2_KERNELS_H_
#define GSPN2_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define GSPN2_API __declspec(dllexport)
#else
#define GSPN2_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define GSPN2_KERNELS_ABI_VERSION 5

/* Pointers need the alignment of their element only (16 bytes are faster), a workspace 256 bytes.
 * The current device must be the one that the buffers and the stream belong to. Arguments are
 * checked before anything else: what is refused here never reaches the GPU.
 * GSPN2_KERNELS_PATHS=generic in the environment, read once, leaves the generic kernels alone to
 * run; anything else, or nothing, lets a call take the fastest. */

typedef struct CUstream_st* gspn2_stream_t; /* a cudaStream_t, without cuda_runtime.h */

typedef enum {
  GSPN2_SUCCESS = 0,
  GSPN2_INVALID_ARGUMENT = 1, /* a null pointer, a bad extent, overlapping buffers, ... */
  GSPN2_UNSUPPORTED = 2,      /* valid, but not on this device or in this build */
  GSPN2_CUDA_ERROR = 3        /* CUDA refused a call or a launch */
} gspn2_status_t;

typedef enum { GSPN2_FLOAT32 = 0, GSPN2_FLOAT16 = 1, GSPN2_BFLOAT16 = 2 } gspn2_dtype_t;

typedef enum {
  GSPN2_NORMALIZE_NONE = 0,
  GSPN2_NORMALIZE_SIGMOID = 1, /* s(w_j) / max(sum_j s(w_j), 1e-7) over the existing neighbours */
  GSPN2_NORMALIZE_SOFTMAX = 2  /* exp(w_j) / sum_j exp(w_j) over the existing neighbours */
} gspn2_normalize_t;

typedef enum {
  GSPN2_LEFT_TO_RIGHT = 0,
  GSPN2_RIGHT_TO_LEFT = 1,
  GSPN2_TOP_TO_BOTTOM = 2,
  GSPN2_BOTTOM_TO_TOP = 3
} gspn2_direction_t;

/* Extents and attributes shared by both ops. */
typedef struct {
  int64_t n, c, h, w; /* each at least 1 */
  int64_t g;          /* channels of the affinity: 1 (shared) or c (per channel) */
  int64_t chunk;      /* steps per segment; 0: the whole line */
  gspn2_dtype_t dtype;
  gspn2_normalize_t normalize;
} gspn2_problem_t;

/* How a map (N, C, H, W) lies in memory. */
typedef enum {
  GSPN2_NCHW = 0, /* row-major */
  GSPN2_NHWC8 = 1 /* (N, H, W, C') with C' the next multiple of 8 of C; float16 and bfloat16. What
                     lies behind the last channel is not used, and written as 0. */
} gspn2_layout_t;

/* Elements from one batch item to the next, and from one position to the next, where the inputs are
 * parts of larger tensors: features, gates and affinities that one convolution gives lie side by
 * side in the channels of its output. */
typedef struct {
  /* 0: dense; any other is a multiple of h * w * position, where a position of 0 counts as 1, and
   * no less than an item. */
  int64_t x;
  int64_t gates; /* lam, u and d alike */
  int64_t w;
  /* 0 or 1 where the tensors are GSPN2_NCHW, or else C' of the tensors in GSPN2_NHWC8, aligned to
   * 16 bytes, that they are parts of. A part is a pointer to its first channel of the first
   * position; its axes between N and H are adjacent channels, in their order. */
  int64_t position;
} gspn2_strides_t;

/* One direction: h (N,C,H,W) from x (N,C,H,W), lam (N,C,H,W), w (N,3,G,H,W).
 * h must not overlap an input. One kernel launch, and a memset of the workspace ahead of it where
 * there is one; no allocation, no synchronisation; legal under CUDA graph capture; the same inputs
 * give the same bits. `workspace` may be null when gspn2_line_scan_workspace says 0; its content is
 * neither read before it is written nor kept. */
GSPN2_API gspn2_status_t gspn2_line_scan(const gspn2_problem_t* problem,
                                         gspn2_direction_t direction, const void* x,
                                         const void* lam, const void* w, void* h, void* workspace,
                                         size_t workspace_bytes, gspn2_stream_t stream);
GSPN2_API gspn2_status_t gspn2_line_scan_workspace(const gspn2_problem_t* problem,
                                                   gspn2_direction_t direction, size_t* bytes);

/* Four directions: y (N,C,H,W) = sum_k m_k (u_k h_k + d_k x), from x (N,C,H,W), lam, u and the
 * optional d (N,4,C,H,W), w (N,4,3,G,H,W) and the optional m (4). d and m may be null, and so may
 * `strides` where every tensor is dense; what lies between the items and between the channels of
 * positions is not used. y is GSPN2_NCHW; it must not overlap an input, nor lie between its items
 * or positions. The same guarantees as gspn2_line_scan, over one or more launches and, where the
 * items of x or the channels of positions lie apart, copies. The workspace depends on the strides:
 * it may have to hold x, or every input; and sums, of maps over 64 positions on a side four of each
 * position of up to 64 channels of items and 2^24 positions. */
GSPN2_API gspn2_status_t gspn2_prop2d(const gspn2_problem_t* problem,
                                      const gspn2_strides_t* strides, const void* x,
                                      const void* lam, const void* w, const void* u, const void* d,
                                      const void* m, void* y, void* workspace,
                                      size_t workspace_bytes, gspn2_stream_t stream);
GSPN2_API gspn2_status_t gspn2_prop2d_workspace(const gspn2_problem_t* problem,
                                                const gspn2_strides_t* strides, int has_d,
                                                size_t* bytes);

typedef struct {
  int64_t n, c, h, w; /* each at least 1 */
  gspn2_dtype_t dtype;
  gspn2_layout_t layout;
  float epsilon;          /* of the layer normalisation */
  float response_epsilon; /* of the response normalisation */
} gspn2_norm_t;

/* A 1x1 convolution whose result is added to a map: of proxy (N, P, H, W), NCHW, by weight (P, C),
 * the transpose of what convolutions have, with bias (C). */
#define GSPN2_PROJECTION_MAX_CHANNELS 2

typedef struct {
  int64_t c; /* P, 1 to GSPN2_PROJECTION_MAX_CHANNELS */
  const void* proxy;
  const void* weight;
  const void* bias;
} gspn2_projection_t;

/* Layer normalisation over the channels of each position, y = z with
 *
 *   z = (x' - mean) / sqrt(variance + epsilon) scale + shift
 *
 * scale and shift (C). x' is x, or x and a projection, rounded to the dtype; the latter in
 * GSPN2_NHWC8 alone. Where response_scale and response_shift (C) are given, global response
 * normalisation over the positions of each channel follows:
 *
 *   y = z (1 + response_scale r / mean_c(r)) + response_shift,  r = sqrt(mean(z^2) +
 * response_epsilon)
 *
 * x and y must not overlap; in GSPN2_NHWC8 they are aligned to 16 bytes, and c is at most 2048. One
 * launch, or up to four. projection may be null. The same guarantees as gspn2_line_scan.
 * Sources: arXiv 1607.06450; ConvNeXt V2 (arXiv 2301.00808). */
GSPN2_API gspn2_status_t gspn2_channel_norm(const gspn2_norm_t* norm, const void* x,
                                            const gspn2_projection_t* projection, const void* scale,
                                            const void* shift, const void* response_scale,
                                            const void* response_shift, void* y, void* workspace,
                                            size_t workspace_bytes, gspn2_stream_t stream);
GSPN2_API gspn2_status_t gspn2_channel_norm_workspace(const gspn2_norm_t* norm, int has_response,
                                                      size_t* bytes);

typedef enum { GSPN2_IDENTITY = 0, GSPN2_SILU = 1 } gspn2_activation_t;

typedef struct {
  int64_t n, c, h, w;
  gspn2_dtype_t dtype; /* float16 or bfloat16 */
  int32_t kernel;      /* 3, 5 or 7: its width and height */
  gspn2_activation_t activation;
  int32_t residual; /* whether x is added to the convolution, ahead of the activation */
} gspn2_depthwise_t;

/* Depthwise convolution with stride 1, padded by 0 to the size of x: x and y as GSPN2_NHWC8 says,
 * aligned to 16 bytes, which must not overlap; weight (C, 1, K, K); bias (C), or null. One launch.
 * The same guarantees as gspn2_line_scan. */
GSPN2_API gspn2_status_t gspn2_depthwise(const gspn2_depthwise_t* conv, const void* x,
                                         const void* weight, const void* bias, void* y,
                                         gspn2_stream_t stream);

#define GSPN2_DEPTHWISE_NORM_KERNEL 3
#define GSPN2_DEPTHWISE_NORM_MAX_CHANNELS 1024

/* The same with a layer normalisation over the channels of each position behind it: y is the
 * convolution, rounded to the dtype, and z that y normalised as by gspn2_channel_norm with epsilon,
 * scale (C) and shift (C). For the kernel and the channels above, a multiple of 8 of them, and
 * n * h * w below 2^30. z lies as y does, and overlaps nothing else. One launch, or two. */
GSPN2_API gspn2_status_t gspn2_depthwise_norm(const gspn2_depthwise_t* conv, float epsilon,
                                              const void* x, const void* weight, const void* bias,
                                              const void* scale, const void* shift, void* y,
                                              void* z, gspn2_stream_t stream);

/* The message of this thread's last call that did not return GSPN2_SUCCESS: what was given, what
 * was expected. Never null; valid until this thread's next call. */
GSPN2_API const char* gspn2_last_error(void);
GSPN2_API int gspn2_kernels_abi_version(void);

#ifdef __cplusplus
}
#endif
#endif /* GSPN2_KERNELS_H_ */
