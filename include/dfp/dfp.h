/* The C API: everything the Cython module may call. */
#ifndef DFP_H
#define DFP_H

#include "pool.h"
#include "threads.h"
#include "types.h"

/* All operations of one instruction set. Tensors are C-contiguous and not empty; arguments have been
 * checked. Results are the same, bit for bit, for every instruction set and number of threads.
 * Functions that return dfp_status take turns on the thread pool (see threads.h). */
typedef struct {
    const char *name;
    dfp_conv_algorithms conv[DFP_DIRECTIONS];
    /* Convolutions with one kernel for each channel: in_channels = out_channels; groups,
     * flush_every, minimum and maximum are not used; the schedule is the proven one. */
    dfp_convolution depthwise_forward;
    dfp_convolution depthwise_backward_data;
    dfp_convolution depthwise_backward_weights;
    dfp_status (*matmul)(const dfp_matmul *m, const dfp_tensor *a, const dfp_tensor *b, float *c);
    dfp_status (*batched_matmul)(const dfp_batched_matmul *m, const dfp_tensor *a,
                                 const dfp_tensor *b, float *c);
    /* C = op(A) * op(B) of INT8 in INT32, exact; k <= DFP_INT8_MOST_PRODUCTS; without bias. */
    dfp_status (*matmul_int8)(const dfp_matmul *m, const int8_t *a, const int8_t *b, int32_t *c);
    /* sums[c] = sum over pixels of q[pixel][c], rounded to FP32 once. */
    dfp_status (*sum_channels)(const dfp_tensor *q, int64_t pixels, int64_t channels, float *sums);
    /* NaN in all four for a channel that holds NaN or Inf, or whose FP32 sums overflow. */
    dfp_status (*batch_norm_statistics)(const dfp_operand *x, int64_t pixels, int64_t channels,
                                        const dfp_statistics *s);
    dfp_status (*batch_norm_forward)(const dfp_normalization *n, dfp_result *y,
                                     dfp_result *normalized);
    /* Uses only dy, y, activation, x and mean. */
    dfp_status (*batch_norm_backward_reduce)(const dfp_normalization_gradient *g,
                                             const dfp_gradient_sums *sums);
    dfp_status (*batch_norm_backward)(const dfp_normalization_gradient *g, dfp_result *dx,
                                      dfp_result *dz);
    dfp_status (*sum_gradients)(const dfp_gradient_sum *s, dfp_result *dz);
    dfp_status (*layer_norm_forward)(const dfp_layer_norm *n, dfp_result *y);
    dfp_status (*layer_norm_backward)(const dfp_layer_norm *n, dfp_result *dx, float *dgamma,
                                      float *dbeta);
    dfp_status (*multiply_tensors)(const dfp_product *p, dfp_result *y);
    /* sums[group][c] = sum over the group's pixels of a * b; uses neither factors nor bits. */
    dfp_status (*sum_products)(const dfp_product *p, float *sums);
    dfp_status (*group_norm_forward)(const dfp_group_norm *n, dfp_result *y);
    dfp_status (*group_norm_backward)(const dfp_group_norm *n, dfp_result *dx, float *dgamma,
                                      float *dbeta);
    /* da and db receive dy where a, or b, is the extremum; a where they are equal. */
    dfp_status (*extremum_forward)(const dfp_extremum *e, dfp_result *y);
    dfp_status (*extremum_backward)(const dfp_extremum *e, const dfp_tensor *dy, dfp_result *da,
                                    dfp_result *db);
    dfp_status (*prelu_forward)(const dfp_prelu *p, dfp_result *y);
    dfp_status (*prelu_backward)(const dfp_prelu *p, dfp_result *dx, float *dslopes);
    /* dx receives dy of each window at the first of its pixels where x equals y, in row-major order. */
    dfp_status (*max_pool_forward)(const dfp_pooling *p, const dfp_tensor *x, dfp_result *y);
    dfp_status (*max_pool_backward)(const dfp_pooling *p, const dfp_tensor *dy, const dfp_tensor *x,
                                    const dfp_tensor *y, dfp_result *dx, int32_t bits);
    /* y[n][h][w][c] = x[n][h / rows.pool][w / columns.pool][c], where p pools y without padding. */
    void (*upsample)(const dfp_pooling *p, const int16_t *x, int16_t *y);
    /* Averages over the pixels of x in each window. */
    dfp_status (*average_pool_forward)(const dfp_pooling *p, const dfp_tensor *x, dfp_result *y,
                                       int32_t bits);
    dfp_status (*average_pool_backward)(const dfp_pooling *p, const dfp_tensor *dy, dfp_result *dx,
                                        int32_t bits);
    /* y[n][c] = mean over the pixels of x[n][pixel][c], rounded to FP32. */
    void (*global_average_pool)(const dfp_tensor *x, int64_t batch, int64_t pixels,
                                int64_t channels, float *y);
    /* counts[n][c] = number of pixels where x[n][pixel][c] equals y[n][c]. */
    void (*count_equal)(const int16_t *x, const int16_t *y, int64_t batch, int64_t pixels,
                        int64_t channels, float *counts);
    /* dx[n][pixel][c] = dy[n][c], or 0 where x[n][pixel][c] differs from y[n][c]; x and y may both be
     * NULL. */
    void (*spread)(const int16_t *dy, const int16_t *x, const int16_t *y, int64_t batch,
                   int64_t pixels, int64_t channels, int16_t *dx);
    void (*pad_and_crop)(const dfp_pad_and_crop_shape *f, const int16_t *x, int16_t *y);
    dfp_status (*concatenate)(const dfp_concatenation *c, dfp_result *y);
    /* Of an operand in FP32 or in blocks. */
    dfp_status (*quantize)(const dfp_operand *x, int64_t n, int32_t bits, dfp_rounding rounding,
                           uint64_t seed, int16_t *q, dfp_scale *result);
    /* Blocks to FP32. */
    void (*expand_blocks)(const dfp_operand *x, int64_t n, float *to);
    void (*dequantize)(const int16_t *q, int64_t n, int32_t exponent, float *x);
    int32_t (*max_abs)(const int16_t *q, int64_t n);
    /* Of n finite elements; x, of which q was quantised to so many bits, may be absent. */
    dfp_status (*measure)(const dfp_tensor *q, int64_t n, int32_t bits, const dfp_operand *x,
                          dfp_measurement *result);
    dfp_scale (*down_convert)(const int32_t *v, int64_t n, int32_t exponent, int32_t bits,
                              dfp_rounding rounding, uint64_t seed, int16_t *q);
    int32_t (*add_aligned)(const int16_t *large, int32_t large_exponent, const int16_t *small,
                           int32_t small_exponent, int64_t n, int32_t *sum);
    void (*multiply)(const int16_t *a, const int16_t *b, int64_t n, int32_t *product);
    /* For benchmarks: the multiply-add instructions of `repetitions` tiles in every thread, on
     * registers alone or by the micro-kernel with operands in the first-level cache. Returns how
     * many multiply-adds that were. */
    int64_t (*run_multiply_adds)(int64_t repetitions, int with_memory);
} dfp_kernels;

/* The cheapest algorithm of this direction that accepts the convolution and whose numerics class is one
 * of `classes`, a set of bits 1 << class; the direct one if there is none. */
const dfp_conv_algorithm *dfp_choose_conv(const dfp_kernels *kernels, dfp_direction direction,
                                          const dfp_conv *c, unsigned int classes);

/* The names of all instruction sets that kernels are written for, slowest first (isa/list.h). Returns
 * their number. */
int dfp_list_known_isas(const char *const **names);

/* The names of the activations that are functions (activations/list.h), in the order of
 * dfp_activation. Returns their number. */
int dfp_list_functions(const char *const **names);

/* The instruction sets compiled into this library, slowest first; `runs` says whether this CPU and
 * operating system can execute it. Returns their number. */
typedef struct {
    const dfp_kernels *kernels;
    int runs;
} dfp_isa;
int dfp_list_isas(const dfp_isa **isas);

/* The fastest instruction set that runs here and does not come after `most` in the list (a name,
 * NULL for no limit), or NULL if there is no such name. */
const dfp_kernels *dfp_best_isa(const char *most);

/* The CPU's name, "" where it cannot be read; at most 48 characters and a 0. */
void dfp_cpu_name(char name[49]);

#endif
