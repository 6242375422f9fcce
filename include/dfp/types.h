/* Descriptions of tensors and operations shared by every kernel. */
#ifndef DFP_TYPES_H
#define DFP_TYPES_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#include "activations/list.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "dfpkeras runs on little-endian machines only: its kernels read two INT16 as one INT32"
#endif
#if FLT_EVAL_METHOD != 0
#error "dfpkeras needs FP32 arithmetic that rounds to FP32, not to more bits"
#endif

/* Columns of the packed operand that are contiguous in memory. One panel is [pairs][16][2]. */
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

/* Which results an algorithm gives: those of one class agree to the last bit (docs/numerics.md). */
typedef enum { DFP_DIRECT, DFP_WINOGRAD_2X2, DFP_WINOGRAD_4X4 } dfp_numerics;

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

/* A convolution of images, NHWC by HWIO, or of volumes, NDHWC by DHWIO: an image is a volume of depth
 * 1 with a kernel of depth 1. in_channels and out_channels count all groups. pad_* are the zeros before
 * the first plane, row and column; those after the last one follow from the output's size. flush_every
 * counts products; 0 asks for the proven schedule. */
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
    int64_t in_d, out_d, kernel_d, stride_d, dilation_d, pad_front;
    /* out_channels numbers that forward adds, in_channels that backward_data adds (as the forward
     * pass of a transposed convolution), or NULL. */
    const float *bias;
    /* Where forward puts the smallest and largest number of each output channel, or both NULL. A
     * channel that holds only NaN gets Inf and -Inf. */
    float *minimum, *maximum;
    /* Where forward and backward_data put their result if it is wanted in blocks, and `result` is
     * NULL: INT16, and the scale of every block. The channels of a group are a multiple of 16. */
    int16_t *block_integers;
    float *block_scales;
} dfp_conv;

/* log2 of the number of channels of a block: the largest of 64, 32 and 16 that divides the channels
 * of a group; 0 if none does. */
static inline int32_t dfp_block_shift(int64_t group_channels) {
    if (group_channels % 16) return 0;
    return group_channels % 64 == 0 ? 6 : group_channels % 32 == 0 ? 5 : 4;
}

/* What is computed: y from x and w, dx from dy and w, dw from x and dy. */
typedef enum { DFP_FORWARD, DFP_BACKWARD_DATA, DFP_BACKWARD_WEIGHTS, DFP_DIRECTIONS } dfp_direction;

typedef dfp_status (*dfp_convolution)(const dfp_conv *c, const dfp_tensor *a, const dfp_tensor *b,
                                      float *result);

/* One way to compute a convolution in one direction: the lists are in ops/conv_algorithms.h. */
typedef struct {
    const char *name;
    dfp_numerics numerics;
    int (*accepts)(const dfp_conv *c);
    double (*cost)(const dfp_conv *c); /* multiply-adds, or what takes as long */
    dfp_convolution run;
} dfp_conv_algorithm;

typedef struct {
    const dfp_conv_algorithm *list;
    int count;
} dfp_conv_algorithms;

/* What follows a normalisation or an addition: nothing, max(z, 0), min(max(z, 0), 6), or a function of
 * the list, from DFP_FIRST_FUNCTION on. The gradient of the first three follows from the result,
 * that of a function from its argument. */
#define DFP_ENUMERATOR(name) DFP_FUNCTION_##name,
typedef enum {
    DFP_LINEAR,
    DFP_RELU,
    DFP_RELU6,
    DFP_ACTIVATIONS(DFP_ENUMERATOR) DFP_ACTIVATION_COUNT,
    DFP_FIRST_FUNCTION = DFP_RELU6 + 1
} dfp_activation;
#undef DFP_ENUMERATOR

/* An operand in FP32 if `floats` is not NULL, else in integers; absent if integers.data is NULL as well.
 * Element i of integers.data is multiplied by scales[i >> block_shift]: in DFP16 that is 1, and the
 * exponent is that of `integers`; in blocks nothing but the data of `integers` is used. */
typedef struct {
    dfp_tensor integers;
    const float *floats;
    const float *scales;
    int32_t block_shift;
} dfp_operand;

/* The block_shift of DFP16: all elements are one block. */
#define DFP_ONE_BLOCK 63

static inline dfp_operand dfp_operand_of(dfp_tensor t) {
    static const float one = 1.0f;
    dfp_operand o = {t, NULL, &one, DFP_ONE_BLOCK};
    return o;
}

/* Per channel: mean, biased variance, smallest and largest number. */
typedef struct {
    float *mean, *variance, *minimum, *maximum;
} dfp_statistics;

/* y = activation(x * scale + offset + residual), all [pixels][channels]; scale, offset, minimum and
 * maximum have one number per channel. */
typedef struct {
    int64_t pixels, channels;
    dfp_operand x;
    const float *scale, *offset;
    const float *minimum, *maximum; /* of x; both NULL for -max|x| and max|x| */
    dfp_operand residual;           /* may be absent */
    dfp_activation activation;
    float alpha; /* the activation's parameter */
    int32_t bits;
    /* If not NULL, x * unit_scale + unit_offset is wanted as well, in unit_bits bits. */
    const float *unit_scale, *unit_offset;
    int32_t unit_bits;
} dfp_normalization;

/* dz = dy where the activation passed its argument on, else 0, or dy times the slope of a function at
 * x * scale + offset;
 * dx = factor_dz * dz + factor_x * (x - mean) + constant, or factor_dz * dz if x is absent. */
typedef struct {
    int64_t pixels, channels;
    dfp_operand dy;
    dfp_tensor y; /* the result of forward; data may be NULL unless it is needed for dz */
    dfp_activation activation;
    float alpha;
    const float *scale, *offset; /* NULL unless the activation is a function */
    dfp_operand x;
    const float *mean, *minimum, *maximum;
    const float *factor_dz, *factor_x, *constant;
    const float *max_dz; /* of each channel, NULL for max|dy| */
    int32_t bits;
} dfp_normalization_gradient;

/* Per channel, over all pixels: sum of dz, sum of dz * (x - mean), and max|dz|. */
typedef struct {
    double *sum_dz, *sum_dz_x;
    float *max_dz;
} dfp_gradient_sums;

/* dz = gradients[0] + ... + gradients[count - 1], each times its factor, where the activation passed its argument on, else
 * 0; all have `elements` elements. */
typedef struct {
    int64_t elements, count;
    const dfp_operand *gradients;
    dfp_tensor y;              /* the activation's result; data is NULL without an activation */
    dfp_activation activation; /* not a function */
    int32_t bits;
    const float *factors; /* of each gradient, or NULL for 1 */
} dfp_gradient_sum;

/* y = the larger of a and b, or the smaller; all have `elements` elements. */
typedef struct {
    int64_t elements;
    dfp_operand a, b;
    int smaller;
    int32_t bits;
} dfp_extremum;

/* y = max(x, 0) + slope * min(x, 0), all [pixels][channels], slopes [channels]; dy is absent forward. */
typedef struct {
    int64_t pixels, channels;
    dfp_operand x, dy;
    const float *slopes;
    int32_t bits;
} dfp_prelu;

/* y = a * b, all [groups][pixels][channels]; or b has one number for all pixels of a group and channel,
 * factors[groups][channels], and is absent. */
typedef struct {
    int64_t groups, pixels, channels;
    dfp_operand a, b;
    const float *factors;
    int32_t bits;
} dfp_product;

/* A layer normalisation of x [pixels][channels] and, for its gradient, dy. mean and rstd (1 / deviation)
 * have one number per pixel: forward writes them, backward reads them. gamma and beta may be NULL for 1
 * and 0. */
typedef struct {
    int64_t pixels, channels;
    dfp_operand x, dy;
    const float *gamma, *beta;
    double epsilon;
    float *mean, *rstd;
    int32_t bits;
} dfp_layer_norm;

/* What the integers of a tensor are like: how many magnitudes are at least 2^k, for each k, and how many
 * the largest of the format's bits; the sum of their squares. If the numbers are known that they stand
 * for: how many of those are not 0, and the sums of the squares of those and of their errors. */
typedef struct {
    int64_t at_least[DFP_MAX_BITS];
    int64_t saturated, squares, numbers;
    double signal, noise;
} dfp_measurement;

/* A normalisation of x [images][pixels][channels] over the pixels and channels of each image and group of
 * channels and, for its gradient, dy. mean and rstd (1 / deviation) are [images][groups], minimum and
 * maximum of x [images][channels]: forward writes them, backward reads them. gamma and beta may be NULL
 * for 1 and 0. */
typedef struct {
    int64_t images, pixels, channels, groups;
    dfp_operand x, dy;
    const float *gamma, *beta;
    double epsilon;
    float *mean, *rstd;
    float *minimum, *maximum;
    int32_t bits;
} dfp_group_norm;

/* A result that is written once its shared exponent is known; data is NULL if it is not wanted. */
typedef struct {
    int16_t *data;
    dfp_scale scale;
} dfp_result;

/* One axis of a pooling: the window of result o is [o * stride - pad, o * stride - pad + pool),
 * intersected with [0, in). No window is empty. */
typedef struct {
    int64_t in, out, pool, stride, pad;
} dfp_pool_axis;

/* Pooling of x [batch][rows.in][columns.in][channels] to y [batch][rows.out][columns.out][channels];
 * a window holds fewer than 2^16 pixels. */
typedef struct {
    int64_t batch, channels;
    dfp_pool_axis rows, columns;
    int sums; /* whether an average is not divided by its number of pixels */
} dfp_pooling;

/* y[n][i][j][c] = x[n][i - top][j - left][c], or 0 where x has no such pixel: padding with zeros where
 * top and left are positive, cropping where they are negative. */
typedef struct {
    int64_t batch, channels;
    int64_t in_h, in_w, out_h, out_w;
    int64_t top, left;
} dfp_pad_and_crop_shape;

/* y[outer][all parts, one after the other]: part i has sizes[i] elements in each of `outer` rows.
 * */
typedef struct {
    int64_t outer, parts;
    const dfp_operand *operands;
    const int64_t *sizes;
    int32_t bits;
} dfp_concatenation;

/* C (m x n) = op(A) (m x k) * op(B) (k x n) + bias, all row-major. */
typedef struct {
    int64_t m, n, k;
    int transpose_a, transpose_b;
    int64_t flush_every;
    const float *bias; /* n numbers added to every row of C, or NULL */
} dfp_matmul;

/* Product i of `products`: C (m x n) = A (m x k) * B (k x n), whose elements (0, 0) are elements
 * a_first[i], b_first[i] and c_first[i] of the tensors; *_row and *_column are elements from a row or
 * column to the next. Columns of C are next to each other. */
typedef struct {
    int64_t products, m, n, k;
    const int64_t *a_first, *b_first, *c_first;
    int64_t a_row, a_column, b_row, b_column, c_row;
    int64_t flush_every;
} dfp_batched_matmul;

#endif
