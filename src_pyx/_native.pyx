# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled kernels: takes buffers whose shapes ``dfpkeras.kernels`` has checked, releases the
GIL and calls the C API of ``include/dfp/dfp.h``."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.pystate cimport PyGILState_Ensure
from libc.math cimport sqrt
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint64_t


cdef extern from "dfp.h" nogil:
    ctypedef enum dfp_rounding:
        pass
    ctypedef enum dfp_status:
        DFP_OK
    ctypedef struct dfp_tensor:
        const int16_t *data
        int32_t exponent
        int32_t max_abs
    ctypedef struct dfp_scale:
        int32_t exponent
        int32_t max_abs
    ctypedef struct dfp_conv:
        int64_t batch, in_h, in_w, in_channels, out_h, out_w, out_channels, kernel_h, kernel_w
        int64_t stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, groups, flush_every
        int64_t in_d, out_d, kernel_d, stride_d, dilation_d, pad_front
        const float *bias
        float *minimum
        float *maximum
        int16_t *block_integers
        float *block_scales
    ctypedef struct dfp_matmul:
        int64_t m, n, k
        int transpose_a, transpose_b
        int64_t flush_every
        const float *bias
    ctypedef struct dfp_batched_matmul:
        int64_t products, m, n, k
        const int64_t *a_first
        const int64_t *b_first
        const int64_t *c_first
        int64_t a_row, a_column, b_row, b_column, c_row
        int64_t flush_every
    ctypedef enum dfp_activation:
        pass
    ctypedef struct dfp_operand:
        dfp_tensor integers
        const float *floats
        const float *scales
        int32_t block_shift
    dfp_operand dfp_operand_of(dfp_tensor)
    int32_t dfp_block_shift(int64_t)
    ctypedef struct dfp_statistics:
        float *mean
        float *variance
        float *minimum
        float *maximum
    ctypedef struct dfp_normalization:
        int64_t pixels, channels
        dfp_operand x
        const float *scale
        const float *offset
        const float *minimum
        const float *maximum
        dfp_operand residual
        dfp_activation activation
        float alpha
        int32_t bits
        const float *unit_scale
        const float *unit_offset
        int32_t unit_bits
    ctypedef struct dfp_normalization_gradient:
        int64_t pixels, channels
        dfp_operand dy
        dfp_tensor y
        dfp_activation activation
        float alpha
        const float *scale
        const float *offset
        dfp_operand x
        const float *mean
        const float *minimum
        const float *maximum
        const float *factor_dz
        const float *factor_x
        const float *constant
        const float *max_dz
        int32_t bits
    ctypedef struct dfp_gradient_sums:
        double *sum_dz
        double *sum_dz_x
        float *max_dz
    ctypedef struct dfp_gradient_sum:
        int64_t elements, count
        const dfp_operand *gradients
        dfp_tensor y
        dfp_activation activation
        int32_t bits
        const float *factors
    ctypedef struct dfp_extremum:
        int64_t elements
        dfp_operand a, b
        int smaller
        int32_t bits
    ctypedef struct dfp_prelu:
        int64_t pixels, channels
        dfp_operand x, dy
        const float *slopes
        int32_t bits
    ctypedef struct dfp_layer_norm:
        int64_t pixels, channels
        dfp_operand x, dy
        const float *gamma
        const float *beta
        double epsilon
        float *mean
        float *rstd
        int32_t bits
    ctypedef struct dfp_group_norm:
        int64_t images, pixels, channels, groups
        dfp_operand x, dy
        const float *gamma
        const float *beta
        double epsilon
        float *mean
        float *rstd
        float *minimum
        float *maximum
        int32_t bits
    ctypedef struct dfp_product:
        int64_t groups, pixels, channels
        dfp_operand a, b
        const float *factors
        int32_t bits
    ctypedef struct dfp_measurement:
        int64_t at_least[15]
        int64_t saturated, squares, numbers
        double signal, noise
    ctypedef struct dfp_run_counts:
        int64_t results, runs, pairs
    dfp_run_counts dfp_last_run_counts()
    ctypedef struct dfp_result:
        int16_t *data
        dfp_scale scale
    ctypedef struct dfp_pool_axis:
        int64_t size "in"
        int64_t out, pool, stride, pad
    ctypedef struct dfp_pooling:
        int64_t batch, channels
        dfp_pool_axis rows, columns
        int sums
    ctypedef struct dfp_pad_and_crop_shape:
        int64_t batch, channels, in_h, in_w, out_h, out_w, top, left
    ctypedef struct dfp_concatenation:
        int64_t outer, parts
        const dfp_operand *operands
        const int64_t *sizes
        int32_t bits
    ctypedef dfp_status (*dfp_convolution)(
        const dfp_conv *, const dfp_tensor *, const dfp_tensor *, float *) noexcept nogil
    ctypedef enum dfp_direction:
        DFP_FORWARD
        DFP_BACKWARD_DATA
        DFP_BACKWARD_WEIGHTS
    ctypedef enum dfp_numerics:
        DFP_DIRECT
        DFP_WINOGRAD_2X2
        DFP_WINOGRAD_4X4
    ctypedef struct dfp_conv_algorithm:
        const char *name
        dfp_convolution run
    ctypedef struct dfp_kernels:
        const char *name
        dfp_convolution depthwise_forward
        dfp_convolution depthwise_backward_data
        dfp_convolution depthwise_backward_weights
        dfp_status (*matmul)(
            const dfp_matmul *, const dfp_tensor *, const dfp_tensor *, float *) noexcept nogil
        dfp_status (*batched_matmul)(
            const dfp_batched_matmul *, const dfp_tensor *, const dfp_tensor *,
            float *) noexcept nogil
        dfp_status (*matmul_int8)(
            const dfp_matmul *, const int8_t *, const int8_t *, int32_t *) noexcept nogil
        dfp_status (*sum_channels)(const dfp_tensor *, int64_t, int64_t, float *) noexcept nogil
        dfp_status (*batch_norm_statistics)(
            const dfp_operand *, int64_t, int64_t, const dfp_statistics *) noexcept nogil
        dfp_status (*batch_norm_forward)(
            const dfp_normalization *, dfp_result *, dfp_result *) noexcept nogil
        dfp_status (*batch_norm_backward_reduce)(
            const dfp_normalization_gradient *, const dfp_gradient_sums *) noexcept nogil
        dfp_status (*batch_norm_backward)(
            const dfp_normalization_gradient *, dfp_result *, dfp_result *) noexcept nogil
        dfp_status (*sum_gradients)(const dfp_gradient_sum *, dfp_result *) noexcept nogil
        dfp_status (*layer_norm_forward)(const dfp_layer_norm *, dfp_result *) noexcept nogil
        dfp_status (*layer_norm_backward)(const dfp_layer_norm *, dfp_result *, float *,
                                          float *) noexcept nogil
        dfp_status (*multiply_tensors)(const dfp_product *, dfp_result *) noexcept nogil
        dfp_status (*sum_products)(const dfp_product *, float *) noexcept nogil
        dfp_status (*group_norm_forward)(const dfp_group_norm *, dfp_result *) noexcept nogil
        dfp_status (*group_norm_backward)(const dfp_group_norm *, dfp_result *, float *,
                                          float *) noexcept nogil
        dfp_status (*extremum_forward)(const dfp_extremum *, dfp_result *) noexcept nogil
        dfp_status (*extremum_backward)(
            const dfp_extremum *, const dfp_tensor *, dfp_result *, dfp_result *) noexcept nogil
        dfp_status (*prelu_forward)(const dfp_prelu *, dfp_result *) noexcept nogil
        dfp_status (*prelu_backward)(const dfp_prelu *, dfp_result *, float *) noexcept nogil
        void (*upsample)(const dfp_pooling *, const int16_t *, int16_t *) noexcept nogil
        dfp_status (*max_pool_forward)(
            const dfp_pooling *, const dfp_tensor *, dfp_result *) noexcept nogil
        dfp_status (*max_pool_backward)(
            const dfp_pooling *, const dfp_tensor *, const dfp_tensor *, const dfp_tensor *,
            dfp_result *, int32_t) noexcept nogil
        dfp_status (*average_pool_forward)(
            const dfp_pooling *, const dfp_tensor *, dfp_result *, int32_t) noexcept nogil
        dfp_status (*average_pool_backward)(
            const dfp_pooling *, const dfp_tensor *, dfp_result *, int32_t) noexcept nogil
        void (*global_average_pool)(
            const dfp_tensor *, int64_t, int64_t, int64_t, float *) noexcept nogil
        void (*count_equal)(
            const int16_t *, const int16_t *, int64_t, int64_t, int64_t, float *) noexcept nogil
        void (*spread)(
            const int16_t *, const int16_t *, const int16_t *, int64_t, int64_t, int64_t,
            int16_t *) noexcept nogil
        void (*pad_and_crop)(
            const dfp_pad_and_crop_shape *, const int16_t *, int16_t *) noexcept nogil
        dfp_status (*concatenate)(const dfp_concatenation *, dfp_result *) noexcept nogil
        dfp_status (*quantize)(
            const dfp_operand *, int64_t, int32_t, dfp_rounding, uint64_t, int16_t *,
            dfp_scale *) noexcept nogil
        void (*expand_blocks)(const dfp_operand *, int64_t, float *) noexcept nogil
        void (*dequantize)(const int16_t *, int64_t, int32_t, float *) noexcept nogil
        int32_t (*max_abs)(const int16_t *, int64_t) noexcept nogil
        dfp_status (*measure)(const dfp_tensor *, int64_t, int32_t, const dfp_operand *,
                              dfp_measurement *) noexcept nogil
        dfp_scale (*down_convert)(
            const int32_t *, int64_t, int32_t, int32_t, dfp_rounding, uint64_t,
            int16_t *) noexcept nogil
        int32_t (*add_aligned)(
            const int16_t *, int32_t, const int16_t *, int32_t, int64_t, int32_t *) noexcept nogil
        void (*multiply)(const int16_t *, const int16_t *, int64_t, int32_t *) noexcept nogil
        int64_t (*run_multiply_adds)(int64_t, int) noexcept nogil
    ctypedef struct dfp_isa:
        const dfp_kernels *kernels
        int runs
    const dfp_conv_algorithm *dfp_choose_conv(
        const dfp_kernels *, dfp_direction, const dfp_conv *, unsigned int)
    int dfp_list_known_isas(const char *const **)
    int dfp_list_functions(const char *const **)
    int dfp_list_isas(const dfp_isa **)
    const dfp_kernels *dfp_best_isa(const char *)
    void dfp_cpu_name(char *)
    void dfp_set_num_threads(int)
    int dfp_get_num_threads()
    void dfp_release_workspace()


cdef extern from "dfp.h" nogil:
    ctypedef struct dfp_pool_statistics:
        size_t in_use, cached, peak_in_use
    void *dfp_pool_take(size_t)
    void dfp_pool_give(void *)
    void dfp_pool_release()
    dfp_pool_statistics dfp_pool_read()
    void dfp_pool_poison(int)


cdef extern from "<fenv.h>" nogil:
    ctypedef struct fenv_t:
        pass
    const fenv_t *FE_DFL_ENV
    int fegetenv(fenv_t *)
    int fesetenv(const fenv_t *)


cdef const dfp_kernels *kernels = dfp_best_isa(NULL)


cdef int check(dfp_status status) except -1:
    if status != DFP_OK:
        raise MemoryError("dfpkeras: the kernel's workspace could not be allocated")
    return 0


cdef dfp_tensor describe(const int16_t[::1] data, int exponent, int max_abs) noexcept:
    cdef dfp_tensor t
    t.data = &data[0]
    t.exponent = exponent
    t.max_abs = max_abs
    return t


cdef const float *address(const float[::1] numbers) noexcept:
    return NULL if numbers is None else &numbers[0]


cdef dfp_conv convolution(tuple description) except *:
    """From the 23 numbers of dfp_conv, in the order of its fields, without a bias."""
    cdef dfp_conv c
    c.bias = c.minimum = c.maximum = c.block_scales = NULL
    c.block_integers = NULL
    (c.batch, c.in_h, c.in_w, c.in_channels, c.out_h, c.out_w, c.out_channels, c.kernel_h,
     c.kernel_w, c.stride_h, c.stride_w, c.dilation_h, c.dilation_w, c.pad_top, c.pad_left,
     c.groups, c.flush_every, c.in_d, c.out_d, c.kernel_d, c.stride_d, c.dilation_d,
     c.pad_front) = description
    return c


cdef convolve(dfp_convolution kernel, tuple description, const int16_t[::1] a, int a_exponent,
              int a_max, const int16_t[::1] b, int b_exponent, int b_max, const float[::1] bias,
              float[:, ::1] channel_range, result):
    """`result` is a float32 buffer, or a pair of int16 data and float32 scales for blocks."""
    cdef dfp_conv c = convolution(description)
    cdef float[::1] floats
    cdef int16_t[::1] integers
    cdef float *y = NULL
    if isinstance(result, tuple):
        integers, floats = result
        c.block_integers, c.block_scales = &integers[0], &floats[0]
    else:
        floats = result
        y = &floats[0]
    c.bias = address(bias)
    if channel_range is not None:
        c.minimum, c.maximum = &channel_range[0, 0], &channel_range[1, 0]
    cdef dfp_tensor ta = describe(a, a_exponent, a_max)
    cdef dfp_tensor tb = describe(b, b_exponent, b_max)
    cdef dfp_status status
    with nogil:
        status = kernel(&c, &ta, &tb, y)
    check(status)


DIRECTIONS = {
    "forward": DFP_FORWARD,
    "backward_data": DFP_BACKWARD_DATA,
    "backward_weights": DFP_BACKWARD_WEIGHTS,
}


# Of results; an algorithm of each is named after it.
NUMERICS = {
    "direct": DFP_DIRECT,
    "winograd_2x2": DFP_WINOGRAD_2X2,
    "winograd_4x4": DFP_WINOGRAD_4X4,
}


cdef class ConvolutionPlan:
    """A convolution in one direction, and the algorithm that the instruction set in use has for it.

    Owns no operand and can be run any number of times, by several threads at once.
    """

    cdef tuple description
    cdef const dfp_conv_algorithm *chosen

    def __cinit__(self, str direction, tuple description, classes):
        """`description` holds the 23 numbers of dfp_conv; of `classes`, names of NUMERICS, the
        cheapest that accepts the convolution is chosen, "direct" if none does."""
        cdef dfp_conv c = convolution(description)
        cdef unsigned int allowed = 0
        for name in classes:
            allowed |= 1u << <int>NUMERICS[name]
        self.description = description
        self.chosen = dfp_choose_conv(kernels, DIRECTIONS[direction], &c, allowed)

    @property
    def algorithm(self):
        """The name of the algorithm."""
        return self.chosen.name.decode()

    def run(self, a, a_exponent, a_max, b, b_exponent, b_max, result, bias=None,
            channel_range=None):
        """a and b are x and w, dy and w, or x and dy. Forward and backward_data add `bias`, and
        forward fills the rows of `channel_range` with the minimum and maximum by channel, unless
        they are None."""
        convolve(self.chosen.run, self.description, a, a_exponent, a_max, b, b_exponent, b_max,
                 bias, channel_range, result)


def depthwise_forward(description, x, x_exponent, x_max, w, w_exponent, w_max, bias, y):
    """`bias` may be None."""
    convolve(kernels.depthwise_forward, description, x, x_exponent, x_max, w, w_exponent, w_max,
             bias, None, y)


def depthwise_backward_data(description, dy, dy_exponent, dy_max, w, w_exponent, w_max, dx):
    convolve(kernels.depthwise_backward_data, description, dy, dy_exponent, dy_max, w, w_exponent,
             w_max, None, None, dx)


def depthwise_backward_weights(description, x, x_exponent, x_max, dy, dy_exponent, dy_max, dw):
    convolve(kernels.depthwise_backward_weights, description, x, x_exponent, x_max, dy, dy_exponent,
             dy_max, None, None, dw)


def matmul(int64_t m, int64_t n, int64_t k, bint transpose_a, bint transpose_b,
           int64_t flush_every, const int16_t[::1] a, int a_exponent, int a_max,
           const int16_t[::1] b, int b_exponent, int b_max, const float[::1] bias, float[::1] c):
    """`bias` may be None."""
    cdef dfp_matmul description
    cdef dfp_tensor ta = describe(a, a_exponent, a_max)
    cdef dfp_tensor tb = describe(b, b_exponent, b_max)
    cdef dfp_status status
    description.m, description.n, description.k = m, n, k
    description.transpose_a, description.transpose_b = transpose_a, transpose_b
    description.flush_every = flush_every
    description.bias = address(bias)
    with nogil:
        status = kernels.matmul(&description, &ta, &tb, &c[0])
    check(status)


def batched_matmul(int64_t m, int64_t n, int64_t k, const int64_t[:, ::1] first, strides,
                   int64_t flush_every, const int16_t[::1] a, int a_exponent, int a_max,
                   const int16_t[::1] b, int b_exponent, int b_max, float[::1] c):
    """The rows of `first` are where the matrices of a, b and c begin; `strides` are the fields
    a_row to c_row."""
    cdef dfp_batched_matmul d
    cdef dfp_tensor ta = describe(a, a_exponent, a_max)
    cdef dfp_tensor tb = describe(b, b_exponent, b_max)
    cdef dfp_status status
    d.products, d.m, d.n, d.k, d.flush_every = first.shape[1], m, n, k, flush_every
    d.a_first, d.b_first, d.c_first = &first[0, 0], &first[1, 0], &first[2, 0]
    d.a_row, d.a_column, d.b_row, d.b_column, d.c_row = strides
    with nogil:
        status = kernels.batched_matmul(&d, &ta, &tb, &c[0])
    check(status)


def matmul_int8(int64_t m, int64_t n, int64_t k, bint transpose_a, bint transpose_b,
                const int8_t[::1] a, const int8_t[::1] b, int32_t[::1] c):
    cdef dfp_matmul description
    cdef dfp_status status
    description.m, description.n, description.k = m, n, k
    description.transpose_a, description.transpose_b = transpose_a, transpose_b
    description.flush_every, description.bias = 0, NULL
    with nogil:
        status = kernels.matmul_int8(&description, &a[0], &b[0], &c[0])
    check(status)


def sum_channels(const int16_t[::1] q, int exponent, int max_abs, int64_t channels,
                 float[::1] sums):
    cdef dfp_tensor t = describe(q, exponent, max_abs)
    cdef dfp_status status
    with nogil:
        status = kernels.sum_channels(&t, q.shape[0] // channels, channels, &sums[0])
    check(status)


cdef dfp_tensor optional(const int16_t[::1] data, int exponent, int max_abs) noexcept:
    cdef dfp_tensor absent
    absent.data, absent.exponent, absent.max_abs = NULL, 0, 0
    return absent if data is None else describe(data, exponent, max_abs)


cdef dfp_operand operand(tuple parts) except *:
    """From (int16 data or None, exponent, max_abs, float32 numbers or None), or, in blocks, from
    (int16 data, 0, 0, float32 scales, number of channels of a block)."""
    cdef dfp_operand o = dfp_operand_of(optional(parts[0], parts[1], parts[2]))
    if len(parts) == 4:
        o.floats = address(parts[3])
    else:
        o.scales, o.block_shift = address(parts[3]), dfp_block_shift(parts[4])
    return o


cdef dfp_result result_in(int16_t[::1] data) noexcept:
    cdef dfp_result r
    r.scale.exponent, r.scale.max_abs = 0, 0
    r.data = NULL if data is None else &data[0]
    return r


def batch_norm_statistics(x, int64_t pixels, float[:, ::1] statistics):
    """Fills the rows mean, variance, minimum, maximum of `statistics`."""
    cdef dfp_operand given = operand(x)
    cdef dfp_statistics s
    cdef dfp_status status
    cdef int64_t channels = statistics.shape[1]
    s.mean, s.variance = &statistics[0, 0], &statistics[1, 0]
    s.minimum, s.maximum = &statistics[2, 0], &statistics[3, 0]
    with nogil:
        status = kernels.batch_norm_statistics(&given, pixels, channels, &s)
    check(status)


@cython.cdivision(True)
def batch_norm_fold(const float[::1] gamma, const float[::1] beta, const float[::1] mean,
                    const float[::1] variance, double epsilon, float[::1] scale,
                    float[::1] offset):
    """Fills scale and offset; gamma and beta may be None."""
    cdef int64_t c
    cdef double factor
    for c in range(mean.shape[0]):
        factor = 1 / sqrt(variance[c] + epsilon)
        if gamma is not None:
            factor = gamma[c] * factor
        scale[c] = <float>factor
        offset[c] = <float>((0 if beta is None else beta[c]) - mean[c] * factor)


@cython.cdivision(True)
def batch_norm_gradients(const float[::1] gamma, const float[::1] variance, double epsilon,
                         const double[::1] sum_dz, const double[::1] sum_dz_x, double pixels,
                         bint training, bint normalized, float[:, ::1] results):
    """Fills the rows factor_dz, dgamma, dbeta and sum_dx of `results`, in training also factor_x
    and constant; gamma may be None."""
    cdef int64_t c
    cdef double r, scale, unit
    for c in range(variance.shape[0]):
        r = 1 / sqrt(variance[c] + epsilon) if pixels else 0
        scale = r if gamma is None else gamma[c] * r
        unit = 1 if normalized else r
        results[0, c] = <float>scale
        results[1, c] = <float>(unit * sum_dz_x[c])
        results[2, c] = <float>sum_dz[c]
        results[3, c] = <float>(scale * sum_dz[c] * (0 if training else 1))
        if training:
            results[4, c] = <float>(-scale * (unit * unit) * sum_dz_x[c] / (pixels or 1))
            results[5, c] = <float>(-scale * sum_dz[c] / (pixels or 1))


def batch_norm_forward(x, const float[::1] scale, const float[::1] offset,
                       const float[::1] minimum, const float[::1] maximum, residual,
                       tuple activation, int bits, int16_t[::1] y, const float[::1] unit_scale,
                       const float[::1] unit_offset, int unit_bits, int16_t[::1] normalized):
    """Fills y and normalized; returns (exponent, max_abs) of y, then of normalized. `activation` is
    (index, alpha). The ranges may be None, and all that belongs to the normalised x."""
    cdef int index = activation[0]
    cdef dfp_normalization n
    cdef dfp_result result = result_in(y)
    cdef dfp_result unit_result = result_in(normalized)
    cdef dfp_status status
    n.channels = scale.shape[0]
    n.pixels = y.shape[0] // n.channels
    n.x, n.residual = operand(x), operand(residual)
    n.scale, n.offset = address(scale), address(offset)
    n.minimum, n.maximum = address(minimum), address(maximum)
    n.activation, n.alpha, n.bits = <dfp_activation>index, activation[1], bits
    n.unit_scale, n.unit_offset = address(unit_scale), address(unit_offset)
    n.unit_bits = unit_bits
    with nogil:
        status = kernels.batch_norm_forward(&n, &result, &unit_result)
    check(status)
    return ((result.scale.exponent, result.scale.max_abs),
            (unit_result.scale.exponent, unit_result.scale.max_abs))


cdef dfp_normalization_gradient gradient(dy, y, tuple activation, x, int64_t pixels,
                                         int64_t channels) except *:
    """`y` is (int16 data or None, exponent, max_abs), `activation` (index, alpha, scale of its
    argument or None, offset), which the caller keeps."""
    cdef dfp_normalization_gradient g
    cdef int index = activation[0]
    g.pixels, g.channels = pixels, channels
    g.dy, g.y = operand(dy), optional(y[0], y[1], y[2])
    g.activation, g.alpha = <dfp_activation>index, activation[1]
    g.scale, g.offset = address(activation[2]), address(activation[3])
    g.x = operand(x)
    return g


def batch_norm_backward_reduce(dy, y, tuple activation, x, int64_t pixels, const float[::1] mean,
                               double[:, ::1] sums, float[::1] max_dz):
    """Fills max_dz and the rows of `sums`: sum of dz, sum of dz * (x - mean)."""
    cdef dfp_gradient_sums s
    cdef dfp_status status
    cdef dfp_normalization_gradient g = gradient(dy, y, activation, x, pixels, mean.shape[0])
    g.mean = address(mean)
    s.sum_dz, s.sum_dz_x, s.max_dz = &sums[0, 0], &sums[1, 0], &max_dz[0]
    with nogil:
        status = kernels.batch_norm_backward_reduce(&g, &s)
    check(status)


def batch_norm_backward(dy, y, tuple activation, x, const float[::1] mean,
                        const float[::1] factor_dz, const float[::1] factor_x,
                        const float[::1] constant, const float[::1] minimum,
                        const float[::1] maximum, const float[::1] max_dz, int bits,
                        int64_t channels, int16_t[::1] dx, int16_t[::1] dz):
    """Fills dx and dz, one of which may be None; returns (exponent, max_abs) of dx, then of dz.
    The numbers of each channel may be None as far as the result does not need them."""
    cdef int64_t elements = dz.shape[0] if dx is None else dx.shape[0]
    cdef dfp_result x_result = result_in(dx)
    cdef dfp_result z_result = result_in(dz)
    cdef dfp_status status
    cdef int64_t pixels = elements // channels
    cdef dfp_normalization_gradient g = gradient(dy, y, activation, x, pixels, channels)
    g.mean, g.minimum, g.maximum = address(mean), address(minimum), address(maximum)
    g.factor_dz, g.factor_x = address(factor_dz), address(factor_x)
    g.constant, g.max_dz, g.bits = address(constant), address(max_dz), bits
    with nogil:
        status = kernels.batch_norm_backward(&g, &x_result, &z_result)
    check(status)
    return ((x_result.scale.exponent, x_result.scale.max_abs),
            (z_result.scale.exponent, z_result.scale.max_abs))


def sum_gradients(list gradients, y, int activation, int bits, int16_t[::1] dz,
                  const float[::1] factors=None):
    """Fills dz; returns (exponent, max_abs). `y` is (int16 data or None, exponent, max_abs);
    `factors` may be None."""
    cdef dfp_gradient_sum s
    cdef dfp_result result = result_in(dz)
    cdef dfp_status status
    cdef bytearray memory = bytearray(len(gradients) * sizeof(dfp_operand))
    cdef dfp_operand *operands = <dfp_operand *><char *>memory
    cdef int64_t i
    for i in range(len(gradients)):
        operands[i] = operand(gradients[i])
    s.elements, s.count, s.gradients = dz.shape[0], len(gradients), operands
    s.y = optional(y[0], y[1], y[2])
    s.activation, s.bits, s.factors = <dfp_activation>activation, bits, address(factors)
    with nogil:
        status = kernels.sum_gradients(&s, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


cdef dfp_pool_axis pool_axis(tuple numbers) except *:
    cdef dfp_pool_axis a
    a.size, a.out, a.pool, a.stride, a.pad = numbers
    return a


cdef dfp_pooling pooling(tuple description) except *:
    """From (batch, channels, rows, columns), each axis (in, out, pool, stride, pad); and, for sums
    instead of averages, True."""
    cdef dfp_pooling p
    p.batch, p.channels, p.sums = description[0], description[1], len(description) > 4
    p.rows, p.columns = pool_axis(description[2]), pool_axis(description[3])
    return p


def max_pool_forward(description, x, x_exponent, x_max, int16_t[::1] y):
    """Fills y; returns (exponent, max_abs)."""
    cdef dfp_pooling p = pooling(description)
    cdef dfp_tensor tx = describe(x, x_exponent, x_max)
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    with nogil:
        status = kernels.max_pool_forward(&p, &tx, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def max_pool_backward(description, dy, dy_exponent, dy_max, x, y, int bits, int16_t[::1] dx):
    """Fills dx; returns (exponent, max_abs). Of x and y only the integers matter."""
    cdef dfp_pooling p = pooling(description)
    cdef dfp_tensor tdy = describe(dy, dy_exponent, dy_max)
    cdef dfp_tensor tx = describe(x, 0, 0)
    cdef dfp_tensor ty = describe(y, 0, 0)
    cdef dfp_result result = result_in(dx)
    cdef dfp_status status
    with nogil:
        status = kernels.max_pool_backward(&p, &tdy, &tx, &ty, &result, bits)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def average_pool_forward(description, x, x_exponent, x_max, int bits, int16_t[::1] y):
    """Fills y; returns (exponent, max_abs)."""
    cdef dfp_pooling p = pooling(description)
    cdef dfp_tensor tx = describe(x, x_exponent, x_max)
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    with nogil:
        status = kernels.average_pool_forward(&p, &tx, &result, bits)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def average_pool_backward(description, dy, dy_exponent, dy_max, int bits, int16_t[::1] dx):
    """Fills dx; returns (exponent, max_abs)."""
    cdef dfp_pooling p = pooling(description)
    cdef dfp_tensor tdy = describe(dy, dy_exponent, dy_max)
    cdef dfp_result result = result_in(dx)
    cdef dfp_status status
    with nogil:
        status = kernels.average_pool_backward(&p, &tdy, &result, bits)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def upsample(description, const int16_t[::1] x, int16_t[::1] y):
    """`description` is that of the pooling of y whose result has the shape of x."""
    cdef dfp_pooling p = pooling(description)
    with nogil:
        kernels.upsample(&p, &x[0], &y[0])


def global_average_pool(const int16_t[::1] x, int exponent, int max_abs, float[:, ::1] y):
    cdef dfp_tensor tx = describe(x, exponent, max_abs)
    cdef int64_t batch = y.shape[0], channels = y.shape[1]
    with nogil:
        kernels.global_average_pool(&tx, batch, x.shape[0] // (batch * channels), channels,
                                    &y[0, 0])


def count_equal(const int16_t[::1] x, const int16_t[:, ::1] y, float[:, ::1] counts):
    cdef int64_t batch = y.shape[0], channels = y.shape[1]
    with nogil:
        kernels.count_equal(&x[0], &y[0, 0], batch, x.shape[0] // (batch * channels), channels,
                            &counts[0, 0])


def spread(const int16_t[:, ::1] dy, const int16_t[::1] x, const int16_t[:, ::1] y,
           int16_t[::1] dx):
    """x and y may both be None."""
    cdef int64_t batch = dy.shape[0], channels = dy.shape[1]
    cdef const int16_t *x_data = NULL if x is None else &x[0]
    cdef const int16_t *y_data = NULL if y is None else &y[0, 0]
    with nogil:
        kernels.spread(&dy[0, 0], x_data, y_data, batch, dx.shape[0] // (batch * channels),
                       channels, &dx[0])


cdef dfp_layer_norm layer_norm(x, const float[::1] gamma, int bits, float[:, ::1] statistics,
                               int64_t elements) except *:
    """`statistics` has the rows mean and 1 / deviation."""
    cdef dfp_layer_norm n
    n.x, n.gamma, n.bits = operand(x), address(gamma), bits
    n.pixels = statistics.shape[1]
    n.channels = elements // n.pixels
    n.mean, n.rstd = &statistics[0, 0], &statistics[1, 0]
    return n


def layer_norm_forward(x, const float[::1] gamma, const float[::1] beta, double epsilon, int bits,
                       float[:, ::1] statistics, int16_t[::1] y):
    """Fills y and the rows of `statistics`; returns (exponent, max_abs). gamma and beta may be
    None."""
    cdef dfp_layer_norm n = layer_norm(x, gamma, bits, statistics, y.shape[0])
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    n.beta, n.epsilon = address(beta), epsilon
    with nogil:
        status = kernels.layer_norm_forward(&n, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def layer_norm_backward(x, dy, const float[::1] gamma, int bits, float[:, ::1] statistics,
                        int16_t[::1] dx, float[:, ::1] parameters):
    """Fills dx and the rows of `parameters`, the gradients of gamma and beta; returns (exponent,
    max_abs) of dx."""
    cdef dfp_layer_norm n = layer_norm(x, gamma, bits, statistics, dx.shape[0])
    cdef dfp_result result = result_in(dx)
    cdef dfp_status status
    n.dy, n.beta, n.epsilon = operand(dy), NULL, 0
    with nogil:
        status = kernels.layer_norm_backward(&n, &result, &parameters[0, 0], &parameters[1, 0])
    check(status)
    return result.scale.exponent, result.scale.max_abs


cdef dfp_group_norm group_norm(x, const float[::1] gamma, int bits, float[:, :, ::1] statistics,
                               float[:, :, ::1] channel_range, int64_t elements) except *:
    """`statistics` has mean and 1 / deviation, `channel_range` minimum and maximum."""
    cdef dfp_group_norm n
    n.x, n.gamma, n.bits = operand(x), address(gamma), bits
    n.images, n.groups = statistics.shape[1], statistics.shape[2]
    n.channels = channel_range.shape[2]
    n.pixels = elements // (n.images * n.channels)
    n.mean, n.rstd = &statistics[0, 0, 0], &statistics[1, 0, 0]
    n.minimum, n.maximum = &channel_range[0, 0, 0], &channel_range[1, 0, 0]
    return n


def group_norm_forward(x, const float[::1] gamma, const float[::1] beta, double epsilon, int bits,
                       float[:, :, ::1] statistics, float[:, :, ::1] channel_range,
                       int16_t[::1] y):
    """Fills y, `statistics` and `channel_range`; returns (exponent, max_abs). gamma and beta may be
    None."""
    cdef dfp_group_norm n = group_norm(x, gamma, bits, statistics, channel_range, y.shape[0])
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    n.beta, n.epsilon = address(beta), epsilon
    with nogil:
        status = kernels.group_norm_forward(&n, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def group_norm_backward(x, dy, const float[::1] gamma, int bits, float[:, :, ::1] statistics,
                        float[:, :, ::1] channel_range, int16_t[::1] dx, float[:, ::1] parameters):
    """Fills dx and the rows of `parameters`, the gradients of gamma and beta; returns (exponent,
    max_abs) of dx."""
    cdef dfp_group_norm n = group_norm(x, gamma, bits, statistics, channel_range, dx.shape[0])
    cdef dfp_result result = result_in(dx)
    cdef dfp_status status
    n.dy, n.beta, n.epsilon = operand(dy), NULL, 0
    with nogil:
        status = kernels.group_norm_backward(&n, &result, &parameters[0, 0], &parameters[1, 0])
    check(status)
    return result.scale.exponent, result.scale.max_abs


cdef dfp_product product(shape, a, b) except *:
    cdef dfp_product p
    p.groups, p.pixels, p.channels = shape
    p.a, p.b = operand(a), operand(b)
    return p


def multiply_tensors(shape, a, b, const float[::1] factors, int bits, int16_t[::1] y):
    """Fills y; returns (exponent, max_abs). `shape` is (groups, pixels, channels); either b or
    factors are absent."""
    cdef dfp_product p = product(shape, a, b)
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    p.factors, p.bits = address(factors), bits
    with nogil:
        status = kernels.multiply_tensors(&p, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def sum_products(shape, a, b, float[::1] sums):
    """Fills `sums` (groups * channels)."""
    cdef dfp_product p = product(shape, a, b)
    cdef dfp_status status
    with nogil:
        status = kernels.sum_products(&p, &sums[0])
    check(status)


cdef dfp_extremum extremum(a, b, bint smaller, int bits, int64_t elements) except *:
    cdef dfp_extremum e
    e.elements, e.a, e.b = elements, operand(a), operand(b)
    e.smaller, e.bits = smaller, bits
    return e


def extremum_forward(a, b, bint smaller, int bits, int16_t[::1] y):
    """Fills y; returns (exponent, max_abs)."""
    cdef dfp_extremum e = extremum(a, b, smaller, bits, y.shape[0])
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    with nogil:
        status = kernels.extremum_forward(&e, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def extremum_backward(a, b, bint smaller, dy, dy_exponent, dy_max, int16_t[::1] da,
                      int16_t[::1] db):
    """Fills da and db; returns (exponent, max_abs) of each."""
    cdef dfp_extremum e = extremum(a, b, smaller, 0, da.shape[0])
    cdef dfp_tensor tdy = describe(dy, dy_exponent, dy_max)
    cdef dfp_result first = result_in(da)
    cdef dfp_result second = result_in(db)
    cdef dfp_status status
    with nogil:
        status = kernels.extremum_backward(&e, &tdy, &first, &second)
    check(status)
    return ((first.scale.exponent, first.scale.max_abs),
            (second.scale.exponent, second.scale.max_abs))


cdef dfp_prelu prelu(x, dy, const float[::1] slopes, int bits, int64_t elements) except *:
    cdef dfp_prelu p
    p.x, p.dy = operand(x), operand(dy)
    p.slopes, p.bits, p.channels = address(slopes), bits, slopes.shape[0]
    p.pixels = elements // p.channels
    return p


def prelu_forward(x, absent, const float[::1] slopes, int bits, int16_t[::1] y):
    """Fills y; returns (exponent, max_abs)."""
    cdef dfp_prelu p = prelu(x, absent, slopes, bits, y.shape[0])
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    with nogil:
        status = kernels.prelu_forward(&p, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def prelu_backward(x, dy, const float[::1] slopes, int bits, int16_t[::1] dx, float[::1] dslopes):
    """Fills dx and dslopes; returns (exponent, max_abs) of dx."""
    cdef dfp_prelu p = prelu(x, dy, slopes, bits, dx.shape[0])
    cdef dfp_result result = result_in(dx)
    cdef dfp_status status
    with nogil:
        status = kernels.prelu_backward(&p, &result, &dslopes[0])
    check(status)
    return result.scale.exponent, result.scale.max_abs


def pad_and_crop(description, const int16_t[::1] x, int16_t[::1] y):
    """`description` holds the numbers of dfp_pad_and_crop_shape, in the order of its fields."""
    cdef dfp_pad_and_crop_shape f
    (f.batch, f.channels, f.in_h, f.in_w, f.out_h, f.out_w, f.top, f.left) = description
    with nogil:
        kernels.pad_and_crop(&f, &x[0], &y[0])


def concatenate(int64_t outer, list parts, const int64_t[::1] sizes, int bits, int16_t[::1] y):
    """Fills y with parts side by side, each as `operand` takes it; returns (exponent, max_abs)."""
    cdef dfp_concatenation c
    cdef dfp_result result = result_in(y)
    cdef dfp_status status
    cdef bytearray memory = bytearray(len(parts) * sizeof(dfp_operand))
    cdef dfp_operand *operands = <dfp_operand *><char *>memory
    cdef int64_t i
    for i in range(len(parts)):
        operands[i] = operand(parts[i])
    c.outer, c.parts, c.bits = outer, len(parts), bits
    c.operands, c.sizes = operands, &sizes[0]
    with nogil:
        status = kernels.concatenate(&c, &result)
    check(status)
    return result.scale.exponent, result.scale.max_abs


def quantize(x, int bits, int rounding, uint64_t seed, int16_t[::1] q):
    """Fills q from an operand in FP32 or in blocks; returns (exponent, max_abs)."""
    cdef dfp_operand given = operand(x)
    cdef dfp_scale result
    cdef dfp_status status
    with nogil:
        status = kernels.quantize(&given, q.shape[0], bits, <dfp_rounding>rounding, seed, &q[0],
                                  &result)
    check(status)
    return result.exponent, result.max_abs


def expand_blocks(x, float[::1] to):
    """Fills `to` from an operand in blocks."""
    cdef dfp_operand given = operand(x)
    with nogil:
        kernels.expand_blocks(&given, to.shape[0], &to[0])


def block_of(int64_t group_channels):
    """The number of channels of a block, 0 if there are no blocks of such channels."""
    cdef int shift = dfp_block_shift(group_channels)
    return 1 << shift if shift else 0


def dequantize(const int16_t[::1] q, int exponent, float[::1] x):
    with nogil:
        kernels.dequantize(&q[0], q.shape[0], exponent, &x[0])


def max_abs(const int16_t[::1] q):
    cdef int32_t result
    with nogil:
        result = kernels.max_abs(&q[0], q.shape[0])
    return result


def measure(const int16_t[::1] q, int exponent, int max_abs, int bits, x):
    """([number of magnitudes of at least 2**k for k = 0 to 14], number of those of 2**bits - 1, sum
    of squares; of x: how many elements are not 0, sum of squares, that of the errors). `x` is an
    operand, or None: its numbers are then 0."""
    cdef dfp_tensor t = describe(q, exponent, max_abs)
    cdef dfp_operand given = operand((None, 0, 0, None) if x is None else x)
    cdef dfp_measurement result
    cdef dfp_status status
    with nogil:
        status = kernels.measure(&t, q.shape[0], bits, &given, &result)
    check(status)
    at_least = [result.at_least[k] for k in range(15)]
    return (at_least, result.saturated, result.squares, result.numbers, result.signal,
            result.noise)


def last_run_counts():
    """(blocks of columns of the result, runs, pairs of products) of the product that this thread
    computed last."""
    cdef dfp_run_counts counts = dfp_last_run_counts()
    return counts.results, counts.runs, counts.pairs


def down_convert(const int32_t[::1] v, int exponent, int bits, int rounding, uint64_t seed,
                 int16_t[::1] q):
    """Fills q; returns (exponent, max_abs)."""
    cdef dfp_scale result
    with nogil:
        result = kernels.down_convert(&v[0], v.shape[0], exponent, bits, <dfp_rounding>rounding,
                                      seed, &q[0])
    return result.exponent, result.max_abs


def add_aligned(const int16_t[::1] large, int large_exponent, const int16_t[::1] small,
                int small_exponent, int32_t[::1] total):
    """Fills total; returns its exponent. large_exponent >= small_exponent."""
    cdef int32_t exponent
    with nogil:
        exponent = kernels.add_aligned(&large[0], large_exponent, &small[0], small_exponent,
                                       large.shape[0], &total[0])
    return exponent


def multiply(const int16_t[::1] a, const int16_t[::1] b, int32_t[::1] product):
    with nogil:
        kernels.multiply(&a[0], &b[0], a.shape[0], &product[0])


def list_known_isas():
    """Names of all instruction sets that kernels are written for, slowest first."""
    cdef const char *const *names
    cdef int n = dfp_list_known_isas(&names)
    return [names[i].decode() for i in range(n)]


def list_functions():
    """Names of the activations whose gradient needs their argument, in the order of the
    enumeration."""
    cdef const char *const *names
    cdef int n = dfp_list_functions(&names)
    return [names[i].decode() for i in range(n)]


def list_isas():
    """[(name, whether it runs here)], slowest first."""
    cdef const dfp_isa *isas
    cdef int n = dfp_list_isas(&isas)
    return [(isas[i].kernels.name.decode(), bool(isas[i].runs)) for i in range(n)]


def select_isa(most):
    """Selects the fastest instruction set that runs here and is not faster than `most` (a name, or
    None for no limit); returns its name, or None, selecting nothing, if there is no such name."""
    global kernels
    cdef bytes name = b"" if most is None else most.encode()
    cdef const dfp_kernels *best = dfp_best_isa(NULL if most is None else <const char *>name)
    if best == NULL:
        return None
    kernels = best
    return best.name.decode()


def isa():
    return kernels.name.decode()


def cpu_name():
    cdef char[49] name
    dfp_cpu_name(name)
    return name.decode().strip()


def set_num_threads(int threads):
    with nogil:
        dfp_set_num_threads(threads)


def get_num_threads():
    return dfp_get_num_threads()


cdef class Memory:
    """A block of the memory pool that returns to it with its last reference."""

    cdef void *memory
    cdef Py_ssize_t size

    def __cinit__(self, Py_ssize_t size):
        self.size = size
        self.memory = dfp_pool_take(size)
        if self.memory == NULL:
            raise MemoryError(f"dfpkeras: {size} bytes could not be allocated")

    def __dealloc__(self):
        if self.memory != NULL:
            dfp_pool_give(self.memory)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.memory, self.size, False, flags)


def memory_statistics():
    """(bytes in use, bytes kept for reuse, most bytes in use at one time)."""
    cdef dfp_pool_statistics s = dfp_pool_read()
    return s.in_use, s.cached, s.peak_in_use


def poison_memory(bint on):
    """For tests: whether memory that is new or no longer in use is filled with NaN."""
    dfp_pool_poison(on)


def release_memory():
    """Frees what is kept for reuse, and the workspace of the kernels."""
    with nogil:
        dfp_pool_release()
        dfp_release_workspace()


def call_in_default_float_environment(function, *args, **kwargs):
    """function(*args, **kwargs), while rounding to nearest and keeping subnormal numbers."""
    cdef fenv_t environment
    fegetenv(&environment)
    fesetenv(FE_DFL_ENV)
    try:
        return function(*args, **kwargs)
    finally:
        fesetenv(&environment)


def keep_thread_state():
    """Has Python keep its state of the calling thread for as long as the thread lives.

    A thread that Python did not start gets a state for each call into Python, and loses it at the
    end of the call: memory is mapped and unmapped every time.
    """
    PyGILState_Ensure()


def run_multiply_adds(int64_t repetitions, bint with_memory):
    """Runs the multiply-adds of `repetitions` tiles in every thread; returns how many they were."""
    cdef int64_t count
    with nogil:
        count = kernels.run_multiply_adds(repetitions, with_memory)
    return count
