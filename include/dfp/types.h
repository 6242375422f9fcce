/* Descriptions of tensors and operations shared by every kernel. */
#ifndef DFP_TYPES_H
#define DFP_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* Columns of the packed operand that lie side by side in memory. One panel is [pairs][16][2]. */
#define DFP_PANEL 16
/* Panels that share one flush schedule. Fixed for every instruction set: results may not depend on
 * the width of a register. */
#define DFP_BLOCK_PANELS 4
#define DFP_BLOCK (DFP_PANEL * DFP_BLOCK_PANELS)

#define DFP_MAX_BITS 15
#define DFP_MIN_EXPONENT (-128)
#define DFP_MAX_EXPONENT 126
/* The shared exponent of a tensor that held NaN or Inf: everything computed from it is NaN. */
#define DFP_NONFINITE_EXPONENT 127

typedef enum { DFP_NEAREST, DFP_STOCHASTIC, DFP_TRUNCATE, DFP_BIASED } dfp_rounding;

typedef enum { DFP_OK = 0, DFP_OUT_OF_MEMORY = 1 } dfp_status;

/* q * 2^exponent; every element lies in [-max_abs, max_abs] and max_abs <= 32767. */
typedef struct {
    const int16_t *data;
    int32_t exponent;
    int32_t max_abs;
} dfp_tensor;

/* Result of quantising: the shared exponent and the exact maximum of |q|. */
typedef struct {
    int32_t exponent;
    int32_t max_abs;
} dfp_scale;

/* A two-dimensional convolution; x is NHWC, w is HWIO, y is NHWC. in_channels and out_channels count
 * all groups. pad_* are the zeros before the first row and column; those behind the last one follow
 * from the output's size. flush_every counts products; 0 asks for the proven schedule. */
typedef struct {
    int64_t batch;
    int64_t in_h, in_w, in_channels;
    int64_t out_h, out_w, out_channels;
    int64_t kernel_h, kernel_w;
    int64_t stride_h, stride_w;
    int64_t dilation_h, dilation_w;
    int64_t pad_top, pad_left;
    int64_t groups;
    int64_t flush_every;
    const float *bias; /* out_channels numbers that forward adds, or NULL */
} dfp_conv;

/* C (m x n) = op(A) (m x k) * op(B) (k x n) + bias, all row-major. */
typedef struct {
    int64_t m, n, k;
    int transpose_a, transpose_b;
    int64_t flush_every;
    const float *bias; /* n numbers added to every row of C, or NULL */
} dfp_matmul;

#endif
