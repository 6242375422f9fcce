/* Every algorithm, compiled once per instruction set: DFP_ISA names it (avx2) and DFP_ISA_HEADER is
 * the file of its primitives ("isa/avx2.h"). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include DFP_ISA_HEADER

#include "cache.h"
#include "dfp.h"

#define DFP_JOIN_(a, b) a##b
#define DFP_JOIN(a, b) DFP_JOIN_(a, b)
#define DFP_STRING_(x) #x
#define DFP_STRING(x) DFP_STRING_(x)

/* Elements that one step of a writing kernel produces. */
#define DFP_STEP (2 * DFP_LANES)
#define DFP_INLINE static inline __attribute__((always_inline))

#include "engine/scale.h"
#include "engine/blocks.h"
#include "engine/spans.h"
#include "engine/flush_schedule.h"
#include "formats/int16.h"
#include "formats/int8.h"
#include "engine/transpose.h"
#include "engine/channel_range.h"
#include "engine/nontemporal.h"
#include "engine/block_results.h"
#include "engine/tap_convolution.h"
#include "engine/few_rows.h"
#include "ops/quantize.h"
#include "ops/measure.h"
#include "ops/arithmetic.h"
#include "engine/range.h"
#include "engine/rows.h"
#include "activations/functions.h"
#include "ops/conv_forward.h"
#include "ops/conv_backward_data.h"
#include "ops/conv_backward_weights.h"
#include "ops/winograd/operand.h"
#include "ops/winograd/convolve.h"
#include "ops/winograd/backward_weights.h"
#include "ops/winograd/algorithms.h"
#include "ops/conv_algorithms.h"
#include "ops/matmul.h"
#include "ops/batched_matmul.h"
#include "ops/matmul_int8.h"
#include "ops/channel_sums.h"
#include "ops/activation_gradient.h"
#include "ops/batch_norm_statistics.h"
#include "ops/batch_norm_forward.h"
#include "ops/batch_norm_reduce.h"
#include "ops/batch_norm_backward.h"
#include "ops/gradient_sum.h"
#include "ops/product.h"
#include "ops/layer_norm.h"
#include "ops/pooling_windows.h"
#include "ops/group_norm.h"
#include "ops/extremum.h"
#include "ops/prelu.h"
#include "ops/max_pool.h"
#include "ops/average_pool.h"
#include "ops/global_pool.h"
#include "ops/upsample.h"
#include "ops/pad_and_crop.h"
#include "ops/concatenate.h"
#include "ops/depthwise.h"
#include "ops/depthwise_taps.h"
#include "ops/depthwise_weights.h"
#include "ops/speed.h"

#define DFP_LIST(algorithms) {algorithms, sizeof algorithms / sizeof *algorithms}

const dfp_kernels DFP_JOIN(dfp_kernels_, DFP_ISA) = {
    .name = DFP_STRING(DFP_ISA),
    .conv = {DFP_LIST(dfp_forward_algorithms), DFP_LIST(dfp_backward_data_algorithms),
             DFP_LIST(dfp_backward_weights_algorithms)},
    .depthwise_forward = dfp_depthwise_forward,
    .depthwise_backward_data = dfp_depthwise_backward_data,
    .depthwise_backward_weights = dfp_depthwise_backward_weights,
    .matmul = dfp_matrix_multiply,
    .batched_matmul = dfp_matrix_multiply_batch,
    .matmul_int8 = dfp_matrix_multiply_int8,
    .sum_channels = dfp_sum_channels,
    .batch_norm_statistics = dfp_batch_norm_statistics,
    .batch_norm_forward = dfp_batch_norm_forward,
    .batch_norm_backward_reduce = dfp_batch_norm_backward_reduce,
    .batch_norm_backward = dfp_batch_norm_backward,
    .sum_gradients = dfp_sum_gradients,
    .layer_norm_forward = dfp_layer_norm_forward,
    .layer_norm_backward = dfp_layer_norm_backward,
    .multiply_tensors = dfp_multiply_tensors,
    .sum_products = dfp_sum_products,
    .group_norm_forward = dfp_group_norm_forward,
    .group_norm_backward = dfp_group_norm_backward,
    .extremum_forward = dfp_extremum_forward,
    .extremum_backward = dfp_extremum_backward,
    .prelu_forward = dfp_prelu_forward,
    .prelu_backward = dfp_prelu_backward,
    .upsample = dfp_upsample,
    .max_pool_forward = dfp_max_pool_forward,
    .max_pool_backward = dfp_max_pool_backward,
    .average_pool_forward = dfp_average_pool_forward,
    .average_pool_backward = dfp_average_pool_backward,
    .global_average_pool = dfp_global_average_pool,
    .count_equal = dfp_count_equal,
    .spread = dfp_spread,
    .pad_and_crop = dfp_pad_and_crop,
    .concatenate = dfp_concatenate,
    .quantize = dfp_quantize,
    .expand_blocks = dfp_expand_blocks,
    .dequantize = dfp_dequantize,
    .max_abs = dfp_max_abs,
    .measure = dfp_measure,
    .down_convert = dfp_down_convert,
    .add_aligned = dfp_add_aligned,
    .multiply = dfp_multiply,
    .run_multiply_adds = dfp_run_multiply_adds,
};
