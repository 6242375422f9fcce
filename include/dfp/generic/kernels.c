/* Every algorithm, compiled once per instruction set: DFP_ISA names it (avx2) and DFP_ISA_HEADER is
 * the file of its primitives ("isa/avx2.h"). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include DFP_ISA_HEADER

#include "accumulate.h"
#include "cache.h"
#include "dfp.h"
#include "threads.h"
#include "types.h"

#include "generic/scale.h"
#include "generic/tile.h"
#include "generic/pack.h"
#include "generic/multiply.h"
#include "generic/transpose.h"
#include "generic/channel_extremes.h"
#include "generic/tap_convolution.h"
#include "generic/conv_forward.h"
#include "generic/conv_backward_data.h"
#include "generic/conv_backward_weights.h"
#include "generic/few_rows.h"
#include "generic/matmul.h"
#include "generic/channel_sums.h"
#include "generic/quantize.h"
#include "generic/arithmetic.h"
#include "generic/range.h"
#include "generic/rows.h"
#include "generic/activation_gradient.h"
#include "generic/batch_norm_statistics.h"
#include "generic/batch_norm_forward.h"
#include "generic/batch_norm_reduce.h"
#include "generic/batch_norm_backward.h"
#include "generic/gradient_sum.h"
#include "generic/pooling_windows.h"
#include "generic/max_pool.h"
#include "generic/average_pool.h"
#include "generic/global_pool.h"
#include "generic/frame.h"
#include "generic/concatenate.h"
#include "generic/depthwise.h"
#include "generic/depthwise_taps.h"
#include "generic/depthwise_weights.h"
#include "generic/speed.h"

#define DFP_STRING_(x) #x
#define DFP_STRING(x) DFP_STRING_(x)

const dfp_kernels DFP_JOIN(dfp_kernels_, DFP_ISA) = {
    .name = DFP_STRING(DFP_ISA),
    .conv_forward = dfp_conv_forward,
    .conv_backward_data = dfp_conv_backward_data,
    .conv_backward_weights = dfp_conv_backward_weights,
    .depthwise_forward = dfp_depthwise_forward,
    .depthwise_backward_data = dfp_depthwise_backward_data,
    .depthwise_backward_weights = dfp_depthwise_backward_weights,
    .matmul = dfp_matrix_multiply,
    .sum_channels = dfp_sum_channels,
    .batch_norm_statistics = dfp_batch_norm_statistics,
    .batch_norm_forward = dfp_batch_norm_forward,
    .batch_norm_backward_reduce = dfp_batch_norm_backward_reduce,
    .batch_norm_backward = dfp_batch_norm_backward,
    .sum_gradients = dfp_sum_gradients,
    .max_pool_forward = dfp_max_pool_forward,
    .max_pool_backward = dfp_max_pool_backward,
    .average_pool_forward = dfp_average_pool_forward,
    .average_pool_backward = dfp_average_pool_backward,
    .global_average_pool = dfp_global_average_pool,
    .count_equal = dfp_count_equal,
    .spread = dfp_spread,
    .reframe = dfp_reframe,
    .concatenate = dfp_concatenate,
    .quantize = dfp_quantize,
    .dequantize = dfp_dequantize,
    .max_abs = dfp_max_abs,
    .down_convert = dfp_down_convert,
    .add_aligned = dfp_add_aligned,
    .multiply = dfp_multiply,
    .run_multiply_adds = dfp_run_multiply_adds,
};
