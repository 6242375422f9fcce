/* Runs every kernel of one instruction set on small operands and prints a hash of each result:
 *
 *     isa_program kernels NAME     one line per case
 *     isa_program small NAME MODE  the same with three threads and with operands so small that FP32
 *                                  results are subnormal, called in the floating-point mode
 *                                  default, flush, downward, upward or toward-zero
 *     isa_program dispatch         the instruction set that DFPKERAS_MAX_ISA and this CPU lead to
 *     isa_program overread NAME    reads one element too much on purpose
 *     isa_program concurrent NAME  convolutions, batch norms and poolings from four threads at
 *                                  once, three threads each
 *
 * Operands end where a page without access begins: whoever reads on, faults. */
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "dfp.h"

#define PAGE 4096

static uint64_t random_state;

/* log2 of the magnitude of integer tensors; floats have its square. */
static int half_scale;

static uint32_t next_random(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

/* `bytes` bytes whose end touches an inaccessible page. */
static void *guarded(size_t bytes) {
    size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
    char *memory =
        mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + pages, PAGE, PROT_NONE)) exit(2);
    return memory + pages - bytes;
}

typedef enum { RANDOM, LARGEST, ZERO } content;

static dfp_tensor tensor(int64_t n, int bits, content c) {
    int16_t *data = guarded((size_t)n * sizeof(int16_t));
    int32_t limit = (1 << bits) - 1, largest = 0;
    for (int64_t i = 0; i < n; ++i) {
        int32_t sign = next_random() & 1 ? 1 : -1;
        int32_t v = c == RANDOM ? (int32_t)(next_random() % (uint32_t)(limit + 1)) : limit;
        data[i] = (int16_t)(c == ZERO ? 0 : c == LARGEST ? limit : sign * v);
        if (abs(data[i]) > largest) largest = abs(data[i]);
    }
    return (dfp_tensor){data, half_scale - bits, largest};
}

/* Appended to the names of results. */
static const char *suffix = "";

static void print_hash(const char *what, int number, const void *data, size_t bytes) {
    const unsigned char *p = data;
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * UINT64_C(1099511628211);
    printf("%s%s %d %016llx\n", what, suffix, number, (unsigned long long)hash);
}

static void print_result(const char *what, int number, const dfp_result *r, int64_t n) {
    print_hash(what, number, r->data, (size_t)n * 2);
    print_hash(what, number, &r->scale, sizeof r->scale);
}

#define DEPTH(in, out, kernel, stride, dilation, pad)                                              \
    .in_d = in, .out_d = out, .kernel_d = kernel, .stride_d = stride, .dilation_d = dilation,      \
    .pad_front = pad
#define IMAGE DEPTH(1, 1, 1, 1, 1, 0)

/* batch, in_h, in_w, in_channels, out_h, out_w, out_channels, kernel, stride, dilation, padding before,
 * groups, flush_every */
static const dfp_conv convolutions[] = {
    {1, 5, 5, 3, 5, 5, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE},
    {2, 7, 7, 8, 7, 7, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE},
    {1, 4, 9, 6, 4, 9, 33, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, IMAGE},
    {1, 8, 8, 5, 4, 4, 48, 3, 3, 2, 2, 1, 1, 0, 0, 1, 0, IMAGE},
    {2, 6, 6, 16, 6, 6, 64, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, IMAGE},
    {1, 9, 7, 4, 5, 3, 70, 3, 3, 1, 2, 2, 1, 0, 0, 1, 0, IMAGE},
    {1, 6, 5, 12, 6, 5, 18, 3, 2, 1, 1, 1, 2, 1, 1, 3, 0, IMAGE},
    {1, 5, 5, 6, 5, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1, 6, 0, IMAGE},
    {1, 13, 13, 3, 4, 4, 20, 5, 5, 3, 3, 1, 1, 1, 1, 1, 0, IMAGE},
    {1, 3, 3, 130, 3, 3, 129, 1, 1, 1, 1, 1, 1, 0, 0, 1, 16, IMAGE},
};

static const dfp_conv volumes[] = {
    {1, 5, 5, 3, 5, 5, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, DEPTH(4, 4, 3, 1, 1, 1)},
    {2, 4, 6, 8, 4, 6, 40, 1, 3, 1, 1, 1, 1, 0, 1, 1, 0, DEPTH(5, 2, 2, 2, 2, 0)},
    {1, 6, 5, 12, 3, 3, 18, 3, 2, 2, 2, 1, 1, 0, 0, 3, 0, DEPTH(1, 1, 3, 1, 1, 1)},
    {2, 3, 4, 6, 3, 2, 9, 1, 1, 1, 2, 1, 1, 0, 0, 1, 0, DEPTH(7, 3, 1, 3, 1, 0)},
    {1, 8, 7, 20, 4, 4, 70, 3, 3, 2, 2, 1, 1, 0, 1, 1, 16, DEPTH(6, 3, 3, 2, 1, 0)},
};

/* Of these, Winograd's algorithm has other results. */
static const dfp_conv winograd_convolutions[] = {
    {1, 1, 1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE},
    {2, 9, 6, 40, 9, 6, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE},
    {3, 13, 12, 5, 11, 10, 19, 3, 3, 1, 1, 1, 1, 0, 0, 1, 0, IMAGE},
    {1, 5, 4, 64, 5, 4, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE},
};

static dfp_status convolve(const dfp_kernels *k, dfp_direction direction, const dfp_conv *c,
                           dfp_numerics numerics, const dfp_tensor *a, const dfp_tensor *b,
                           float *result) {
    return dfp_choose_conv(k, direction, c, 1u << numerics)->run(c, a, b, result);
}

static void print_convolution_hash(const char *direction, const char *algorithm, int number,
                                   const float *result, int64_t n) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", direction, algorithm);
    print_hash(name, number, result, (size_t)n * sizeof *result);
}

static void run_convolutions(const dfp_kernels *k, const dfp_conv *list, int count,
                             dfp_numerics numerics, const char *algorithm) {
    for (int i = 0; i < count; ++i) {
        const dfp_conv *c = &list[i];
        int64_t nx = c->batch * c->in_d * c->in_h * c->in_w * c->in_channels;
        int64_t ny = c->batch * c->out_d * c->out_h * c->out_w * c->out_channels;
        int64_t taps = c->kernel_d * c->kernel_h * c->kernel_w;
        int64_t nw = taps * c->in_channels / c->groups * c->out_channels;
        /* With a fixed interval, bits for which 16 products are safe in the worst case. */
        int bits = c->flush_every ? 13 : 15;
        for (content kind = RANDOM; kind <= ZERO; ++kind) {
            dfp_tensor x = tensor(nx, bits, kind), w = tensor(nw, bits, kind);
            dfp_tensor dy = tensor(ny, bits, kind);
            float *y = guarded((size_t)ny * 4), *dx = guarded((size_t)nx * 4);
            float *dw = guarded((size_t)nw * 4);
            if (convolve(k, DFP_FORWARD, c, numerics, &x, &w, y) ||
                convolve(k, DFP_BACKWARD_DATA, c, numerics, &dy, &w, dx) ||
                convolve(k, DFP_BACKWARD_WEIGHTS, c, numerics, &x, &dy, dw))
                exit(2);
            print_convolution_hash("forward", algorithm, 3 * i + kind, y, ny);
            print_convolution_hash("backward_data", algorithm, 3 * i + kind, dx, nx);
            print_convolution_hash("backward_weights", algorithm, 3 * i + kind, dw, nw);
        }
    }
}

/* Of these, channels make blocks of every size; strides of 2 and few channels take other paths. */
static const dfp_conv block_convolutions[] = {
    {2, 7, 7, 16, 7, 7, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE},
    {1, 6, 9, 128, 6, 9, 48, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, IMAGE},
    {1, 9, 8, 32, 5, 4, 80, 3, 3, 2, 2, 1, 1, 1, 0, 1, 0, IMAGE},
    {1, 8, 8, 64, 4, 4, 128, 1, 1, 2, 2, 1, 1, 0, 0, 1, 0, IMAGE},
    {1, 6, 5, 96, 6, 5, 192, 3, 3, 1, 1, 1, 1, 1, 1, 2, 0, IMAGE},
    {3, 10, 9, 16, 10, 9, 160, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE},
};

static void run_in_blocks(const dfp_kernels *k, dfp_direction direction, const dfp_conv *c,
                          dfp_numerics numerics, int number) {
    int forward = direction == DFP_FORWARD;
    int64_t nx = c->batch * c->in_h * c->in_w * c->in_channels;
    int64_t ny = c->batch * c->out_h * c->out_w * c->out_channels, n = forward ? ny : nx;
    int64_t channels = (forward ? c->out_channels : c->in_channels) / c->groups;
    dfp_tensor a = tensor(forward ? nx : ny, 15, RANDOM);
    dfp_tensor w = tensor(c->kernel_h * c->kernel_w * c->in_channels / c->groups * c->out_channels,
                          15, RANDOM);
    size_t scales = (size_t)(n >> dfp_block_shift(channels)) * sizeof(float);
    float *range = guarded((size_t)c->out_channels * 8);
    dfp_conv blocks = *c;
    blocks.block_integers = guarded((size_t)n * 2);
    blocks.block_scales = guarded(scales);
    if (forward) blocks.minimum = range, blocks.maximum = range + c->out_channels;
    if (convolve(k, direction, &blocks, numerics, &a, &w, NULL)) exit(2);
    const char *name = forward ? "forward_in_blocks" : "backward_data_in_blocks";
    print_hash(name, number, blocks.block_integers, (size_t)n * 2);
    print_hash(name, number, blocks.block_scales, scales);
    if (forward) print_hash(name, number, range, (size_t)c->out_channels * 8);
}

static void run_convolutions_in_blocks(const dfp_kernels *k) {
    for (int i = 0; i < (int)(sizeof block_convolutions / sizeof *block_convolutions); ++i) {
        for (int numerics = DFP_DIRECT; numerics <= DFP_WINOGRAD_4X4; ++numerics) {
            const dfp_conv *c = &block_convolutions[i];
            run_in_blocks(k, DFP_FORWARD, c, (dfp_numerics)numerics, 3 * i + numerics);
            run_in_blocks(k, DFP_BACKWARD_DATA, c, (dfp_numerics)numerics, 3 * i + numerics);
        }
    }
}

static float *numbers(int64_t n) {
    float *x = guarded((size_t)n * 4);
    fenv_t callers;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    for (int64_t i = 0; i < n; ++i) {
        float fraction = (float)next_random() / 1073741824.0f - 1.0f;
        x[i] = ldexpf(fraction, (int)(next_random() % 12) + 2 * half_scale);
    }
    fesetenv(&callers);
    return x;
}

/* Channels: whole vectors and remainders, several blocks; strides, dilation and odd rows. */
static const dfp_conv depthwise_convolutions[] = {
    {1, 5, 5, 3, 5, 5, 3, 3, 3, 1, 1, 1, 1, 1, 1, 3, 0, IMAGE},
    {2, 7, 6, 33, 4, 3, 33, 3, 3, 2, 2, 1, 1, 1, 0, 33, 0, IMAGE},
    {1, 9, 20, 70, 9, 20, 70, 3, 3, 1, 1, 1, 1, 1, 1, 70, 0, IMAGE},
    {1, 8, 9, 130, 4, 3, 130, 2, 5, 1, 1, 4, 1, 0, 0, 130, 0, IMAGE},
    {1, 4, 3, 16, 2, 1, 16, 1, 1, 3, 3, 1, 1, 0, 0, 16, 0, IMAGE},
};

static void run_depthwise(const dfp_kernels *k) {
    for (int i = 0; i < (int)(sizeof depthwise_convolutions / sizeof *depthwise_convolutions);
         ++i) {
        dfp_conv c = depthwise_convolutions[i];
        int64_t channels = c.in_channels, nx = c.batch * c.in_h * c.in_w * channels;
        int64_t ny = c.batch * c.out_h * c.out_w * channels;
        int64_t nw = c.kernel_h * c.kernel_w * channels;
        float *bias = numbers(channels);
        for (content kind = RANDOM; kind <= ZERO; ++kind) {
            dfp_tensor x = tensor(nx, 14, kind), w = tensor(nw, 15, kind),
                       dy = tensor(ny, 15, kind);
            float *y = guarded((size_t)ny * 4), *dx = guarded((size_t)nx * 4);
            float *dw = guarded((size_t)nw * 4);
            c.bias = kind == RANDOM ? bias : NULL;
            if (k->depthwise_forward(&c, &x, &w, y) ||
                k->depthwise_backward_data(&c, &dy, &w, dx) ||
                k->depthwise_backward_weights(&c, &x, &dy, dw))
                exit(2);
            print_hash("depthwise_forward", 3 * i + kind, y, (size_t)ny * 4);
            print_hash("depthwise_backward_data", 3 * i + kind, dx, (size_t)nx * 4);
            print_hash("depthwise_backward_weights", 3 * i + kind, dw, (size_t)nw * 4);
        }
    }
}

static void run_depthwise_in_blocks(const dfp_kernels *k) {
    static const dfp_conv list[] = {
        {1, 9, 8, 64, 9, 8, 64, 3, 3, 1, 1, 1, 1, 1, 1, 64, 0, IMAGE},
        {2, 7, 6, 48, 4, 3, 48, 3, 3, 2, 2, 1, 1, 1, 0, 48, 0, IMAGE},
    };
    for (int i = 0; i < 2; ++i) {
        dfp_conv c = list[i];
        int64_t channels = c.in_channels, nx = c.batch * c.in_h * c.in_w * channels;
        int64_t ny = c.batch * c.out_h * c.out_w * channels;
        int32_t shift = dfp_block_shift(channels);
        dfp_tensor x = tensor(nx, 14, RANDOM), w = tensor(9 * channels, 15, RANDOM);
        dfp_tensor dy = tensor(ny, 15, RANDOM);
        for (int backward = 0; backward < 2; ++backward) {
            size_t n = (size_t)(backward ? nx : ny);
            c.block_integers = guarded(n * 2);
            c.block_scales = guarded((n >> shift) * 4);
            if (backward ? k->depthwise_backward_data(&c, &dy, &w, NULL)
                         : k->depthwise_forward(&c, &x, &w, NULL))
                exit(2);
            print_hash("depthwise_in_blocks", 2 * i + backward, c.block_integers, n * 2);
            print_hash("depthwise_in_blocks", 2 * i + backward, c.block_scales, (n >> shift) * 4);
        }
    }
}

static void run_matmuls(const dfp_kernels *k) {
    static const dfp_matmul products[] = {
        {1, 1, 1, 0, 0, 0},    {7, 17, 33, 0, 0, 0},  {6, 64, 40, 1, 0, 0},
        {13, 100, 8, 0, 1, 0}, {20, 33, 31, 1, 1, 0}, {5, 16, 1000, 0, 0, 8},
    };
    for (int i = 0; i < (int)(sizeof products / sizeof *products); ++i) {
        const dfp_matmul *m = &products[i];
        dfp_tensor a = tensor(m->m * m->k, 14, RANDOM), b = tensor(m->k * m->n, 14, RANDOM);
        float *c = guarded((size_t)(m->m * m->n) * 4);
        if (k->matmul(m, &a, &b, c)) exit(2);
        print_hash("matmul", i, c, (size_t)(m->m * m->n) * 4);
        dfp_matmul with_bias = *m;
        with_bias.bias = numbers(m->n);
        if (k->matmul(&with_bias, &a, &b, c)) exit(2);
        print_hash("bias", i, c, (size_t)(m->m * m->n) * 4);
        if (k->sum_channels(&b, m->k, m->n, c)) exit(2);
        print_hash("sum_channels", i, c, (size_t)m->n * 4);
    }
}

/* Extreme values among them; the last one has the longest reduction. */
/* The products of attention: scores of queries and keys, values weighted by scores. */
static void run_batched_matmuls(const dfp_kernels *k) {
    enum { IMAGES = 2, HEADS = 3, QUERIES = 7, KEYS = 37, MOST = IMAGES * HEADS };
    static const int64_t channels[] = {1, 8, 33};
    for (int i = 0; i < 3; ++i) {
        int64_t d = channels[i], row = HEADS * d, query[MOST], key[MOST], score[MOST];
        for (int64_t j = 0; j < MOST; ++j) {
            query[j] = j / HEADS * QUERIES * row + j % HEADS * d;
            key[j] = j / HEADS * KEYS * row + j % HEADS * d;
            score[j] = j * QUERIES * KEYS;
        }
        dfp_tensor q = tensor(IMAGES * QUERIES * row, 14, RANDOM);
        dfp_tensor v = tensor(IMAGES * KEYS * row, 14, i ? RANDOM : LARGEST);
        dfp_tensor s = tensor(MOST * QUERIES * KEYS, 14, RANDOM);
        size_t scores = MOST * QUERIES * KEYS * 4, values = (size_t)(IMAGES * QUERIES * row) * 4;
        float *c = guarded(scores), *y = guarded(values);
        dfp_batched_matmul m = {MOST, QUERIES, KEYS, d, query, key, score, row, 1, 1, row, KEYS, 0};
        if (k->batched_matmul(&m, &q, &v, c)) exit(2);
        print_hash("scores", i, c, scores);
        m = (dfp_batched_matmul){MOST, QUERIES, d,   KEYS, score, key, query,
                                 KEYS, 1,       row, 1,    row,   8};
        if (k->batched_matmul(&m, &s, &v, y)) exit(2);
        print_hash("values", i, y, values);
    }
}

static void run_int8_matmuls(const dfp_kernels *k) {
    static const dfp_matmul products[] = {
        {1, 1, 1, 0, 0, 0, 0},      {7, 17, 33, 0, 0, 0, 0},  {6, 64, 40, 1, 0, 0, 0},
        {13, 100, 8, 0, 1, 0, 0},   {97, 33, 31, 1, 1, 0, 0}, {12, 129, 64, 0, 0, 0, 0},
        {2, 3, 131071, 0, 1, 0, 0},
    };
    for (int i = 0; i < (int)(sizeof products / sizeof *products); ++i) {
        const dfp_matmul *m = &products[i];
        int8_t *a = guarded((size_t)(m->m * m->k)), *b = guarded((size_t)(m->k * m->n));
        int32_t *c = guarded((size_t)(m->m * m->n) * 4);
        for (int64_t j = 0; j < m->m * m->k; ++j) a[j] = m->k > 1000 ? -128 : (int8_t)next_random();
        for (int64_t j = 0; j < m->k * m->n; ++j) b[j] = m->k > 1000 ? -128 : (int8_t)next_random();
        if (k->matmul_int8(m, a, b, c)) exit(2);
        print_hash("matmul_int8", i, c, (size_t)(m->m * m->n) * 4);
    }
}

static void run_quantizations(const dfp_kernels *k) {
    static const int64_t sizes[] = {1, 15, 16, 31, 64, 1003};
    for (int i = 0; i < 6; ++i) {
        for (int rounding = DFP_NEAREST; rounding <= DFP_BIASED; ++rounding) {
            int64_t n = sizes[i];
            int16_t *q = guarded((size_t)n * 2);
            float *x = numbers(n), *back = guarded((size_t)n * 4);
            dfp_scale scale;
            dfp_operand given = {.floats = x};
            int bits = 2 + 13 * i / 5;
            if (k->quantize(&given, n, bits, (dfp_rounding)rounding, 7, q, &scale)) exit(2);
            k->dequantize(q, n, scale.exponent, back);
            print_hash("quantize", 4 * i + rounding, q, (size_t)n * 2);
            print_hash("scale", 4 * i + rounding, &scale, sizeof scale);
            print_hash("dequantize", 4 * i + rounding, back, (size_t)n * 4);
        }
    }
}

static void run_arithmetic(const dfp_kernels *k) {
    int64_t n = 77;
    dfp_tensor a = tensor(n, 15, RANDOM), b = tensor(n, 15, RANDOM);
    int32_t *wide = guarded((size_t)n * 4);
    int16_t *q = guarded((size_t)n * 2);
    for (int rounding = DFP_NEAREST; rounding <= DFP_BIASED; ++rounding) {
        int32_t exponent = k->add_aligned(a.data, 3, b.data, 3 - 5 * rounding, n, wide);
        k->down_convert(wide, n, exponent, 15, (dfp_rounding)rounding, 3, q);
        print_hash("add", rounding, q, (size_t)n * 2);
        k->multiply(a.data, b.data, n, wide);
        k->down_convert(wide, n, 0, 12, (dfp_rounding)rounding, 3, q);
        print_hash("multiply", rounding, q, (size_t)n * 2);
    }
    int32_t largest = k->max_abs(a.data, n);
    print_hash("max_abs", 0, &largest, sizeof largest);
}

/* Pixels and channels: whole vectors and rows, remainders of both, several parts. */
static const int64_t batch_norms[][2] = {
    {1, 1}, {3, 5}, {16, 32}, {11, 17}, {333, 3}, {9, 530}, {1030, 64},
};

typedef struct {
    int64_t pixels, channels;
    dfp_operand x, residual, dy;
    float *statistics, *scale, *offset; /* statistics: mean, variance, minimum, maximum */
    dfp_activation activation;
} batch_norm;

static dfp_operand float_operand(int64_t n) { return (dfp_operand){.floats = numbers(n)}; }

static dfp_operand integer_operand(int64_t n) { return dfp_operand_of(tensor(n, 14, RANDOM)); }

static dfp_operand block_operand(int64_t n, int64_t channels) {
    dfp_tensor t = tensor(n, 15, RANDOM);
    int32_t shift = dfp_block_shift(channels);
    float *scales = guarded((size_t)(n >> shift) * sizeof *scales);
    for (int64_t i = 0; i < n >> shift; ++i) {
        int exponent = 2 * half_scale - 15 + (int)(next_random() % 5);
        scales[i] = ldexpf(1.0f, exponent < -126 ? -126 : exponent);
    }
    return (dfp_operand){{t.data, 0, 0}, NULL, scales, shift};
}

/* All combinations of operands come up among the cases. */
static batch_norm make_batch_norm(const int64_t shape[2], int variant) {
    int64_t n = shape[0] * shape[1], channels = shape[1];
    batch_norm b = {.pixels = shape[0], .channels = channels};
    b.x = variant < 6 ? float_operand(n) : integer_operand(n);
    b.activation = (dfp_activation)(variant % 3);
    if (variant % 4 == 1) b.residual = integer_operand(n);
    if (variant % 4 == 2) b.residual = float_operand(n);
    b.dy = variant % 2 ? float_operand(n) : integer_operand(n);
    b.statistics = guarded((size_t)channels * 16);
    b.scale = numbers(channels);
    b.offset = numbers(channels);
    return b;
}

static dfp_tensor normalize(const dfp_kernels *k, const batch_norm *b, int number) {
    int64_t n = b->pixels * b->channels, channels = b->channels;
    float *s = b->statistics;
    dfp_statistics found = {s, s + channels, s + 2 * channels, s + 3 * channels};
    dfp_result y = {.data = guarded((size_t)n * 2)}, unit = {.data = guarded((size_t)n * 2)};
    if (k->batch_norm_statistics(&b->x, b->pixels, channels, &found)) exit(2);
    print_hash("batch_norm_statistics", number, s, (size_t)channels * 16);
    dfp_normalization job = {.pixels = b->pixels,
                             .channels = channels,
                             .x = b->x,
                             .scale = b->scale,
                             .offset = b->offset,
                             .minimum = found.minimum,
                             .maximum = found.maximum,
                             .residual = b->residual,
                             .activation = b->activation,
                             .alpha = 0.25f,
                             .bits = 14,
                             .unit_scale = number % 2 ? b->offset : NULL,
                             .unit_offset = b->scale,
                             .unit_bits = 15};
    if (k->batch_norm_forward(&job, &y, &unit)) exit(2);
    if (job.unit_scale) print_hash("normalized", number, unit.data, (size_t)n * 2);
    print_hash("batch_norm_forward", number, y.data, (size_t)n * 2);
    print_hash("batch_norm_forward_scale", number, &y.scale, sizeof y.scale);
    return (dfp_tensor){y.data, y.scale.exponent, y.scale.max_abs};
}

static void differentiate(const dfp_kernels *k, const batch_norm *b, dfp_tensor y, int number) {
    int64_t n = b->pixels * b->channels, channels = b->channels;
    const float *s = b->statistics;
    double *sums = guarded((size_t)channels * 16);
    float *max_dz = guarded((size_t)channels * 4);
    dfp_gradient_sums found = {sums, sums + channels, max_dz};
    dfp_result dx = {.data = guarded((size_t)n * 2)}, dz = {.data = guarded((size_t)n * 2)};
    dfp_normalization_gradient g = {
        .pixels = b->pixels,
        .channels = channels,
        .dy = b->dy,
        .y = y,
        .activation = b->activation,
        .alpha = 0.25f,
        .scale = b->scale,
        .offset = b->offset,
        .x = b->x,
        .mean = s,
        .minimum = s + 2 * channels,
        .maximum = s + 3 * channels,
        .factor_dz = b->scale,
        .factor_x = b->offset,
        .constant = b->scale,
        .max_dz = max_dz,
        .bits = 14,
    };
    if (k->batch_norm_backward_reduce(&g, &found)) exit(2);
    print_hash("batch_norm_sums", number, sums, (size_t)channels * 16);
    print_hash("batch_norm_max_dz", number, max_dz, (size_t)channels * 4);
    for (int frozen = 0; frozen < 2; ++frozen) {
        if (frozen) {
            if (b->activation < DFP_FIRST_FUNCTION) g.x = (dfp_operand){.floats = NULL};
            g.factor_x = NULL;
            g.max_dz = NULL;
        }
        if (k->batch_norm_backward(&g, &dx, &dz)) exit(2);
        print_hash("batch_norm_dx", 2 * number + frozen, dx.data, (size_t)n * 2);
        print_hash("batch_norm_dx_scale", 2 * number + frozen, &dx.scale, sizeof dx.scale);
        print_hash("batch_norm_dz", 2 * number + frozen, dz.data, (size_t)n * 2);
        print_hash("batch_norm_dz_scale", 2 * number + frozen, &dz.scale, sizeof dz.scale);
    }
}

static void run_batch_norms(const dfp_kernels *k) {
    int number = 0;
    for (int i = 0; i < (int)(sizeof batch_norms / sizeof *batch_norms); ++i) {
        for (int variant = 0; variant < 12; variant += i == 6 ? 5 : 1, ++number) {
            batch_norm b = make_batch_norm(batch_norms[i], variant);
            differentiate(k, &b, normalize(k, &b, number), number);
        }
    }
}

/* Every function, with every kind of operands among the shapes. */
static void run_functions(const dfp_kernels *k) {
    int number = 0;
    suffix = "_functions";
    for (int i = 0; i < (int)(sizeof batch_norms / sizeof *batch_norms); ++i) {
        const int64_t *shape = batch_norms[i];
        for (int f = DFP_FIRST_FUNCTION; f < DFP_ACTIVATION_COUNT; ++f, ++number) {
            batch_norm b = make_batch_norm(shape, (f + i) % 12);
            b.activation = (dfp_activation)f;
            if (shape[1] % 16 == 0 && f % 3 == 0)
                b.x = block_operand(shape[0] * shape[1], shape[1]);
            differentiate(k, &b, normalize(k, &b, number), number);
        }
    }
    suffix = "";
}

static dfp_operand any_operand(int64_t n, int64_t channels, int kind) {
    if (kind == 2 && channels % 16 == 0) return block_operand(n, channels);
    return kind ? integer_operand(n) : float_operand(n);
}

static void run_products(const dfp_kernels *k) {
    /* groups, pixels, channels */
    static const int64_t shapes[][3] = {{1, 1, 1},   {3, 7, 5},   {2, 16, 32},  {4, 11, 17},
                                        {2, 333, 3}, {1, 9, 528}, {2, 1030, 64}};
    for (int i = 0; i < 7; ++i) {
        int64_t channels = shapes[i][2], n = shapes[i][0] * shapes[i][1] * channels;
        for (int kinds = 0; kinds < 9; ++kinds) {
            dfp_product p = {.groups = shapes[i][0], .pixels = shapes[i][1], .channels = channels};
            dfp_result y = {.data = guarded((size_t)n * 2)};
            float *sums = guarded((size_t)(p.groups * channels) * 4);
            p.a = any_operand(n, channels, kinds / 3);
            p.b = any_operand(n, channels, kinds % 3);
            p.bits = 15;
            if (k->multiply_tensors(&p, &y) || k->sum_products(&p, sums)) exit(2);
            print_result("product", 9 * i + kinds, &y, n);
            print_hash("sum_products", 9 * i + kinds, sums, (size_t)(p.groups * channels) * 4);
            p.b = (dfp_operand){.floats = NULL};
            p.factors = numbers(p.groups * channels);
            if (k->multiply_tensors(&p, &y)) exit(2);
            print_result("product_of_channels", 9 * i + kinds, &y, n);
        }
    }
}

static void run_layer_norms(const dfp_kernels *k) {
    for (int i = 0; i < (int)(sizeof batch_norms / sizeof *batch_norms); ++i) {
        int64_t pixels = batch_norms[i][0], channels = batch_norms[i][1], n = pixels * channels;
        for (int kinds = 0; kinds < 9; ++kinds) {
            float *statistics = guarded((size_t)pixels * 8);
            float *parameters = guarded((size_t)channels * 8);
            dfp_layer_norm job = {.pixels = pixels, .channels = channels, .bits = 14};
            dfp_result y = {.data = guarded((size_t)n * 2)}, dx = {.data = guarded((size_t)n * 2)};
            job.x = any_operand(n, channels, kinds / 3);
            job.dy = any_operand(n, channels, kinds % 3);
            job.gamma = kinds % 2 ? numbers(channels) : NULL;
            job.beta = kinds % 4 > 1 ? numbers(channels) : NULL;
            job.epsilon = 1e-3;
            job.mean = statistics;
            job.rstd = statistics + pixels;
            if (k->layer_norm_forward(&job, &y)) exit(2);
            print_result("layer_norm", 9 * i + kinds, &y, n);
            print_hash("layer_norm_statistics", 9 * i + kinds, statistics, (size_t)pixels * 8);
            if (k->layer_norm_backward(&job, &dx, parameters, parameters + channels)) exit(2);
            print_result("layer_norm_dx", 9 * i + kinds, &dx, n);
            print_hash("layer_norm_parameters", 9 * i + kinds, parameters, (size_t)channels * 8);
        }
    }
}

static void run_group_norms(const dfp_kernels *k) {
    /* images, pixels, channels, groups */
    static const int64_t shapes[][4] = {{1, 1, 1, 1},   {3, 7, 6, 2},     {2, 16, 32, 32},
                                        {4, 11, 17, 1}, {2, 333, 48, 16}, {3, 1030, 64, 8}};
    for (int i = 0; i < 6; ++i) {
        const int64_t *s = shapes[i], n = s[0] * s[1] * s[2];
        for (int kinds = 0; kinds < 9; ++kinds) {
            float *statistics = guarded((size_t)(s[0] * s[3]) * 8);
            float *range = guarded((size_t)(s[0] * s[2]) * 8);
            float *parameters = guarded((size_t)s[2] * 8);
            dfp_group_norm job = {s[0], s[1], s[2], s[3], .epsilon = 1e-3, .bits = 14};
            dfp_result y = {.data = guarded((size_t)n * 2)}, dx = {.data = guarded((size_t)n * 2)};
            job.x = any_operand(n, s[2], kinds / 3);
            job.dy = any_operand(n, s[2], kinds % 3);
            job.gamma = kinds % 2 ? numbers(s[2]) : NULL;
            job.beta = kinds % 4 > 1 ? numbers(s[2]) : NULL;
            job.mean = statistics;
            job.rstd = statistics + s[0] * s[3];
            job.minimum = range;
            job.maximum = range + s[0] * s[2];
            if (k->group_norm_forward(&job, &y)) exit(2);
            print_result("group_norm", 9 * i + kinds, &y, n);
            print_hash("group_norm_statistics", 9 * i + kinds, statistics,
                       (size_t)(s[0] * s[3]) * 8);
            print_hash("group_norm_range", 9 * i + kinds, range, (size_t)(s[0] * s[2]) * 8);
            if (k->group_norm_backward(&job, &dx, parameters, parameters + s[2])) exit(2);
            print_result("group_norm_dx", 9 * i + kinds, &dx, n);
            print_hash("group_norm_parameters", 9 * i + kinds, parameters, (size_t)s[2] * 8);
        }
    }
}

static void run_extrema(const dfp_kernels *k) {
    for (int i = 0; i < (int)(sizeof batch_norms / sizeof *batch_norms); ++i) {
        int64_t channels = batch_norms[i][1], n = batch_norms[i][0] * channels;
        for (int kinds = 0; kinds < 9; ++kinds) {
            dfp_extremum e = {.elements = n, .smaller = kinds % 2, .bits = 14};
            dfp_tensor dy = tensor(n, 15, RANDOM);
            dfp_result y = {.data = guarded((size_t)n * 2)}, da = {.data = guarded((size_t)n * 2)},
                       db = {.data = guarded((size_t)n * 2)};
            e.a = any_operand(n, channels, kinds / 3);
            e.b = kinds == 4 ? e.a : any_operand(n, channels, kinds % 3);
            if (k->extremum_forward(&e, &y) || k->extremum_backward(&e, &dy, &da, &db)) exit(2);
            print_result("extremum", 9 * i + kinds, &y, n);
            print_result("extremum_gradient", 9 * i + kinds, &da, n);
            print_result("extremum_gradient", 9 * i + kinds, &db, n);
        }
    }
}

static void run_prelus(const dfp_kernels *k) {
    for (int i = 0; i < (int)(sizeof batch_norms / sizeof *batch_norms); ++i) {
        int64_t channels = batch_norms[i][1], n = batch_norms[i][0] * channels;
        for (int kinds = 0; kinds < 9; ++kinds) {
            dfp_prelu p = {.pixels = batch_norms[i][0], .channels = channels, .bits = 15};
            dfp_result y = {.data = guarded((size_t)n * 2)}, dx = {.data = guarded((size_t)n * 2)};
            float *sums = guarded((size_t)channels * 4);
            p.x = any_operand(n, channels, kinds / 3);
            p.dy = any_operand(n, channels, kinds % 3);
            p.slopes = numbers(channels);
            if (k->prelu_forward(&p, &y) || k->prelu_backward(&p, &dx, sums)) exit(2);
            print_result("prelu", 9 * i + kinds, &y, n);
            print_result("prelu_dx", 9 * i + kinds, &dx, n);
            print_hash("prelu_slopes", 9 * i + kinds, sums, (size_t)channels * 4);
        }
    }
}

static void run_upsamplings(const dfp_kernels *k) {
    static const int64_t channels[] = {1, 5, 32, 33, 70};
    for (int i = 0; i < 5; ++i) {
        dfp_pool_axis rows = {9, 3, 3, 3, 0}, columns = {14, 7, 2, 2, 0};
        dfp_pooling p = {2, channels[i], rows, columns, 1};
        int64_t n = 2 * 3 * 7 * channels[i];
        dfp_tensor x = tensor(n, 15, RANDOM), dy = tensor(6 * n, 15, i ? RANDOM : LARGEST);
        dfp_result dx = {.data = guarded((size_t)n * 2)};
        int16_t *y = guarded((size_t)n * 12);
        k->upsample(&p, x.data, y);
        print_hash("upsampling", i, y, (size_t)n * 12);
        if (k->average_pool_forward(&p, &dy, &dx, 15)) exit(2);
        print_result("sum_pooling", i, &dx, n);
    }
}

static void run_weighted_sums(const dfp_kernels *k) {
    for (int i = 0; i < 6; ++i) {
        int64_t n = 77 + 500 * i;
        dfp_operand operands[] = {integer_operand(n), float_operand(n), integer_operand(n)};
        dfp_gradient_sum sum = {.elements = n, .count = 1 + i % 3, .gradients = operands};
        dfp_result y = {.data = guarded((size_t)n * 2)};
        sum.factors = numbers(3);
        sum.bits = 15;
        if (k->sum_gradients(&sum, &y)) exit(2);
        print_result("weighted_sum", i, &y, n);
    }
}

/* A transposed convolution with a bias: backward_data in cells, phases, and phases without taps. */
static void run_transposed(const dfp_kernels *k) {
    static const int64_t channels[] = {3, 16, 70};
    for (int i = 0; i < 27; ++i) {
        int64_t kernel = 1 + i % 3, stride = 1 + i / 3 % 3, in = channels[i / 9];
        int64_t out = (7 - kernel) / stride + 1, n = 2 * 49 * in;
        dfp_conv c = {.batch = 2,
                      .in_h = 7,
                      .in_w = 7,
                      .in_channels = in,
                      .out_h = out,
                      .out_w = out,
                      .out_channels = 5,
                      .kernel_h = kernel,
                      .kernel_w = kernel,
                      .stride_h = stride,
                      .stride_w = stride,
                      .dilation_h = 1,
                      .dilation_w = 1,
                      .groups = 1,
                      IMAGE,
                      .bias = numbers(in)};
        dfp_tensor dy = tensor(2 * out * out * 5, 14, RANDOM);
        dfp_tensor w = tensor(kernel * kernel * in * 5, 13, RANDOM);
        float *dx = guarded((size_t)n * 4);
        const dfp_conv_algorithm *chosen = dfp_choose_conv(k, DFP_BACKWARD_DATA, &c, ~0u);
        if (chosen->run(&c, &dy, &w, dx)) exit(2);
        print_hash("transposed", i, dx, (size_t)n * 4);
        if (in % 16) continue;
        c.block_integers = guarded((size_t)n * 2);
        c.block_scales = guarded((size_t)(n / in) * 4);
        if (chosen->run(&c, &dy, &w, NULL)) exit(2);
        print_hash("transposed", 27 + i, c.block_integers, (size_t)n * 2);
        print_hash("transposed", 27 + i, c.block_scales, (size_t)(n / in) * 4);
    }
}

/* What becomes of operands in blocks outside of batch norms. */
static void combine_blocks(const dfp_kernels *k, const dfp_operand operands[3], int64_t rows,
                           int64_t channels, int number) {
    int64_t n = rows * channels, sizes[] = {channels, channels};
    dfp_gradient_sum sum = {n, 3, operands, {NULL, 0, 0}, DFP_LINEAR, 14};
    dfp_concatenation c = {rows, 2, operands, sizes, 14};
    dfp_result total = {.data = guarded((size_t)n * 2)}, both = {.data = guarded((size_t)n * 4)};
    float *values = guarded((size_t)n * 4);
    if (k->sum_gradients(&sum, &total) || k->concatenate(&c, &both)) exit(2);
    print_result("sum", number, &total, n);
    print_result("concatenate", number, &both, 2 * n);
    for (int rounding = DFP_NEAREST; rounding <= DFP_BIASED; ++rounding) {
        if (k->quantize(operands, n, 12, (dfp_rounding)rounding, 7, total.data, &total.scale))
            exit(2);
        print_result("quantize", 4 * number + rounding, &total, n);
    }
    k->expand_blocks(operands, n, values);
    print_hash("expand", number, values, (size_t)n * 4);
}

/* Some with rows that end within a step. */
static void run_batch_norms_in_blocks(const dfp_kernels *k) {
    static const int64_t shapes[][2] = {{16, 32}, {300, 48}, {9, 528}, {1030, 64}};
    suffix = "_in_blocks";
    for (int i = 0; i < 4; ++i) {
        int64_t channels = shapes[i][1], n = shapes[i][0] * channels;
        batch_norm b = make_batch_norm(shapes[i], 4 + i);
        b.x = block_operand(n, channels);
        b.dy = i % 2 ? b.dy : block_operand(n, channels);
        if (i > 1) b.residual = block_operand(n, channels);
        differentiate(k, &b, normalize(k, &b, i), i);
        dfp_operand operands[] = {b.x, b.dy, b.x};
        combine_blocks(k, operands, shapes[i][0], channels, i);
    }
    suffix = "";
}

/* A sum of tensors, the first of which is integer: a batch norm of one channel by 1 and 0. */
static void run_additions(const dfp_kernels *k) {
    static const float one = 1, zero = 0;
    for (int i = 0; i < 6; ++i) {
        int64_t n = 77 + 500 * i;
        dfp_normalization job = {.pixels = n,
                                 .channels = 1,
                                 .x = integer_operand(n),
                                 .scale = &one,
                                 .offset = &zero,
                                 .activation = (dfp_activation)(i / 2),
                                 .bits = 15};
        if (i % 3) job.residual = i % 3 == 1 ? integer_operand(n) : float_operand(n);
        dfp_result y = {.data = guarded((size_t)n * 2)}, unit = {.data = NULL};
        if (k->batch_norm_forward(&job, &y, &unit)) exit(2);
        print_hash("addition", i, y.data, (size_t)n * 2);
        print_hash("addition_scale", i, &y.scale, sizeof y.scale);
    }
}

/* Batch, channels, then rows and columns: in, out, pool, stride, pad. Windows that overlap or do not,
 * gaps, padding; whole vectors and remainders. */
static const dfp_pooling poolings[] = {
    {2, 32, {7, 3, 3, 2, 0}, {8, 3, 3, 2, 0}},     {1, 64, {6, 3, 2, 2, 0}, {5, 2, 2, 2, 0}},
    {2, 5, {5, 5, 3, 1, 1}, {4, 4, 3, 1, 1}},      {1, 33, {9, 3, 2, 3, 0}, {3, 3, 1, 1, 0}},
    {3, 1, {4, 1, 4, 4, 0}, {5, 1, 5, 5, 0}},      {1, 70, {1, 1, 1, 1, 0}, {50, 25, 3, 2, 0}},
    {1, 16, {30, 15, 3, 2, 0}, {90, 45, 3, 2, 0}}, {2, 96, {20, 20, 5, 1, 2}, {41, 41, 5, 1, 2}},
};

static void run_poolings(const dfp_kernels *k) {
    for (int i = 0; i < (int)(sizeof poolings / sizeof *poolings); ++i) {
        const dfp_pooling *p = &poolings[i];
        int64_t nx = p->batch * p->rows.in * p->columns.in * p->channels;
        int64_t ny = p->batch * p->rows.out * p->columns.out * p->channels;
        for (content kind = RANDOM; kind <= ZERO; ++kind) {
            /* Few bits make equal maxima. */
            dfp_tensor x = tensor(nx, kind == RANDOM ? 3 : 15, kind), dy = tensor(ny, 15, kind);
            dfp_result y = {.data = guarded((size_t)ny * 2)};
            dfp_result dx = {.data = guarded((size_t)nx * 2)};
            if (k->max_pool_forward(p, &x, &y)) exit(2);
            print_result("max_pool", 3 * i + kind, &y, ny);
            dfp_tensor maxima = {y.data, y.scale.exponent, y.scale.max_abs};
            if (k->max_pool_backward(p, &dy, &x, &maxima, &dx, 14)) exit(2);
            print_result("max_pool_backward", 3 * i + kind, &dx, nx);
            if (k->average_pool_forward(p, &x, &y, 14)) exit(2);
            print_result("average_pool", 3 * i + kind, &y, ny);
            if (k->average_pool_backward(p, &dy, &dx, 15)) exit(2);
            print_result("average_pool_backward", 3 * i + kind, &dx, nx);
        }
    }
}

static void run_global_poolings(const dfp_kernels *k) {
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 7, 33}, {2, 12, 300}, {1, 2000, 20}};
    for (int i = 0; i < 4; ++i) {
        int64_t batch = shapes[i][0], pixels = shapes[i][1], channels = shapes[i][2];
        int64_t n = batch * pixels * channels, ny = batch * channels;
        dfp_tensor x = tensor(n, 1, RANDOM), y = tensor(ny, 1, RANDOM), dy = tensor(ny, 15, RANDOM);
        float *averages = guarded((size_t)ny * 4), *counts = guarded((size_t)ny * 4);
        int16_t *dx = guarded((size_t)n * 2);
        k->global_average_pool(&x, batch, pixels, channels, averages);
        k->count_equal(x.data, y.data, batch, pixels, channels, counts);
        print_hash("global_average_pool", i, averages, (size_t)ny * 4);
        print_hash("count_equal", i, counts, (size_t)ny * 4);
        k->spread(dy.data, NULL, NULL, batch, pixels, channels, dx);
        print_hash("spread", 2 * i, dx, (size_t)n * 2);
        k->spread(dy.data, x.data, y.data, batch, pixels, channels, dx);
        print_hash("spread", 2 * i + 1, dx, (size_t)n * 2);
    }
}

static void run_arrangements(const dfp_kernels *k) {
    static const dfp_pad_and_crop_shape frames[] = {
        {2, 3, 5, 6, 8, 9, 1, 2},
        {1, 40, 5, 6, 3, 2, -1, -3},
        {30, 64, 1, 90, 1, 33, 0, -20},
    };
    static const int64_t sizes[] = {1, 31, 64, 7};
    for (int i = 0; i < 3; ++i) {
        const dfp_pad_and_crop_shape *f = &frames[i];
        dfp_tensor x = tensor(f->batch * f->in_h * f->in_w * f->channels, 15, RANDOM);
        int64_t n = f->batch * f->out_h * f->out_w * f->channels;
        int16_t *y = guarded((size_t)n * 2);
        k->pad_and_crop(f, x.data, y);
        print_hash("reframe", i, y, (size_t)n * 2);
    }
    for (int i = 0; i < 3; ++i) {
        int64_t outer = i ? 400 * i : 1;
        dfp_operand parts[4];
        for (int part = 0; part < 4; ++part)
            parts[part] = part == i ? float_operand(outer * sizes[part])
                                    : integer_operand(outer * sizes[part]);
        parts[3].integers.exponent += 2 * i;
        dfp_concatenation c = {outer, 4, parts, sizes, 14 - i};
        dfp_result y = {.data = guarded((size_t)(outer * 103) * 2)};
        if (k->concatenate(&c, &y)) exit(2);
        print_result("concatenate", i, &y, outer * 103);
    }
}

static const dfp_kernels *find(const char *name) {
    const dfp_isa *isas;
    int n = dfp_list_isas(&isas);
    for (int i = 0; i < n; ++i)
        if (!strcmp(isas[i].kernels->name, name)) return isas[i].kernels;
    fprintf(stderr, "no instruction set %s\n", name);
    exit(2);
}

static void convolve_repeatedly(const dfp_kernels *k) {
    static int16_t x[2 * 9 * 9 * 8], w[3 * 3 * 8 * 40];
    float *y = malloc(2 * 9 * 9 * 40 * sizeof *y), *dx = malloc(sizeof x * 2);
    float *dw = malloc(sizeof w * 2);
    dfp_conv c = {2, 9, 9, 8, 9, 9, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0, IMAGE};
    dfp_conv deep = {2, 9, 9, 8, 9, 9, 8, 3, 3, 1, 1, 1, 1, 1, 1, 8, 0, IMAGE};
    static int16_t dy[2 * 9 * 9 * 40];
    dfp_tensor tx = {x, 0, 1}, tw = {w, 0, 1}, tdy = {dy, 0, 1};
    for (int i = 0; i < 20 && y && dx && dw; ++i) {
        dfp_numerics numerics = i % 2 ? DFP_WINOGRAD_4X4 : DFP_DIRECT;
        convolve(k, DFP_FORWARD, &c, numerics, &tx, &tw, y);
        convolve(k, DFP_BACKWARD_DATA, &c, numerics, &tdy, &tw, dx);
        convolve(k, DFP_BACKWARD_WEIGHTS, &c, numerics, &tx, &tdy, dw);
        k->depthwise_forward(&deep, &tx, &tw, y);
        k->depthwise_backward_data(&deep, &tx, &tw, dx);
        k->depthwise_backward_weights(&deep, &tx, &tx, dw);
    }
    free(y);
    free(dx);
    free(dw);
}

static void normalize_repeatedly(const dfp_kernels *k) {
    enum { PIXELS = 3000, CHANNELS = 40 };
    static float x[PIXELS * CHANNELS], one[CHANNELS];
    float s[4][CHANNELS], max_dz[CHANNELS];
    double sums[2][CHANNELS];
    int16_t *y = malloc(sizeof x / 2), *dx = malloc(sizeof x / 2), *unit = malloc(sizeof x / 2);
    dfp_statistics statistics = {s[0], s[1], s[2], s[3]};
    dfp_gradient_sums found = {sums[0], sums[1], max_dz};
    dfp_normalization n = {.pixels = PIXELS,
                           .channels = CHANNELS,
                           .x = {.floats = x},
                           .scale = one,
                           .offset = one,
                           .minimum = s[2],
                           .maximum = s[3],
                           .residual = {.floats = x},
                           .activation = DFP_RELU,
                           .bits = 14,
                           .unit_scale = one,
                           .unit_offset = one,
                           .unit_bits = 15};
    dfp_result unit_result = {.data = unit}, y_result = {.data = y}, dx_result = {.data = dx},
               dz_result = {.data = NULL};
    for (int i = 0; i < 10 && y && dx && unit; ++i) {
        k->batch_norm_statistics(&n.x, PIXELS, CHANNELS, &statistics);
        k->batch_norm_forward(&n, &y_result, &unit_result);
        dfp_normalization_gradient g = {.pixels = PIXELS,
                                        .channels = CHANNELS,
                                        .dy = {.floats = x},
                                        .y = {y, 0, 0},
                                        .activation = DFP_RELU,
                                        .x = n.x,
                                        .mean = s[0],
                                        .minimum = s[2],
                                        .maximum = s[3],
                                        .factor_dz = one,
                                        .factor_x = one,
                                        .constant = one,
                                        .bits = 14};
        k->batch_norm_backward_reduce(&g, &found);
        k->batch_norm_backward(&g, &dx_result, &dz_result);
    }
    free(y);
    free(dx);
}

static void pool_repeatedly(const dfp_kernels *k) {
    const dfp_pooling p = {8, 24, {40, 20, 3, 2, 0}, {40, 20, 3, 2, 0}};
    int64_t nx = 8 * 40 * 40 * 24, ny = 8 * 20 * 20 * 24;
    int16_t *x = calloc((size_t)nx, 2), *y = malloc((size_t)ny * 2), *dx = malloc((size_t)nx * 2);
    dfp_tensor tx = {x, 0, 1}, ty = {y, 0, 1};
    dfp_result y_result = {.data = y}, dx_result = {.data = dx};
    dfp_pad_and_crop_shape frame = {8, 24, 40, 40, 20, 20, -1, -1};
    for (int i = 0; i < 10 && x && y && dx; ++i) {
        k->max_pool_forward(&p, &tx, &y_result);
        k->max_pool_backward(&p, &ty, &tx, &ty, &dx_result, 15);
        k->average_pool_forward(&p, &tx, &y_result, 15);
        k->average_pool_backward(&p, &ty, &dx_result, 15);
        k->pad_and_crop(&frame, x, y);
    }
    free(x);
    free(y);
    free(dx);
}

static void *run_repeatedly(void *kernels) {
    convolve_repeatedly(kernels);
    normalize_repeatedly(kernels);
    pool_repeatedly(kernels);
    return NULL;
}

static void run_concurrently(const dfp_kernels *k) {
    pthread_t threads[4];
    dfp_set_num_threads(3);
    for (int i = 0; i < 4; ++i)
        if (pthread_create(&threads[i], NULL, run_repeatedly, (void *)k)) exit(2);
    for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
}

#define LENGTH(list) (int)(sizeof(list) / sizeof *(list))

static void run_winograd(const dfp_kernels *k) {
    int count = LENGTH(winograd_convolutions);
    run_convolutions(k, winograd_convolutions, count, DFP_WINOGRAD_2X2, "_winograd_2x2");
    run_convolutions(k, winograd_convolutions, count, DFP_WINOGRAD_4X4, "_winograd_4x4");
}

static void run_all(const dfp_kernels *k) {
    run_convolutions(k, convolutions, LENGTH(convolutions), DFP_DIRECT, "");
    run_depthwise(k);
    run_matmuls(k);
    run_quantizations(k);
    run_arithmetic(k);
    run_batch_norms(k);
    run_additions(k);
    run_poolings(k);
    run_global_poolings(k);
    run_arrangements(k);
    run_int8_matmuls(k);
    run_winograd(k);
    run_convolutions_in_blocks(k);
    run_batch_norms_in_blocks(k);
    run_depthwise_in_blocks(k);
    run_functions(k);
    run_products(k);
    run_layer_norms(k);
    run_transposed(k);
    run_convolutions(k, volumes, LENGTH(volumes), DFP_DIRECT, "_of_volumes");
    run_extrema(k);
    run_prelus(k);
    run_upsamplings(k);
    run_weighted_sums(k);
    run_group_norms(k);
    run_batched_matmuls(k);
}

/* What <fenv.h> cannot do: it has no mode that flushes to zero. */
static void set_control(unsigned long x86, unsigned long arm) {
#if defined(__x86_64__)
    (void)arm;
    _mm_setcsr(_mm_getcsr() | (unsigned int)x86);
#elif defined(__aarch64__)
    unsigned long control;
    (void)x86;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | arm));
#else
#error "the floating-point modes of this machine are not known here"
#endif
}

static void set_mode(const char *mode) {
    static const struct {
        const char *name;
        unsigned long x86, arm;
        float small, up, down; /* what 2^-149 * 1, 1 + 2^-25 and -1 - 2^-25 become */
    } modes[] = {
        {"default", 0, 0, 0x1p-149f, 1, -1},
        {"flush", 0x8040, 1ul << 24, 0, 1, -1},
        {"downward", 0x2000, 2ul << 22, 0x1p-149f, 1, -1 - 0x1p-23f},
        {"upward", 0x4000, 1ul << 22, 0x1p-149f, 1 + 0x1p-23f, -1},
        {"toward-zero", 0x6000, 3ul << 22, 0x1p-149f, 1, -1},
    };
    volatile float one = 1, tiny = 0x1p-149f, half = 0x1p-25f;
    for (int i = 0; i < 5; ++i) {
        if (strcmp(modes[i].name, mode)) continue;
        set_control(modes[i].x86, modes[i].arm);
        if (one * tiny == modes[i].small && one + half == modes[i].up &&
            -one - half == modes[i].down)
            return;
    }
    fprintf(stderr, "mode %s is unknown or not in force\n", mode);
    exit(2);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "dispatch")) {
        const dfp_kernels *best = dfp_best_isa(getenv("DFPKERAS_MAX_ISA"));
        puts(best ? best->name : "none");
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "kernels")) {
        run_all(find(argv[2]));
        return 0;
    }
    if (argc == 4 && !strcmp(argv[1], "small")) {
        half_scale = -64;
        dfp_set_num_threads(3);
        set_mode(argv[3]);
        run_all(find(argv[2]));
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "overread")) {
        dfp_tensor a = tensor(100, 15, RANDOM);
        return find(argv[2])->max_abs(a.data, 101) > 0 ? 0 : 1;
    }
    if (argc == 3 && !strcmp(argv[1], "concurrent")) {
        run_concurrently(find(argv[2]));
        return 0;
    }
    fputs("usage: isa_program kernels NAME | small NAME MODE | dispatch | overread NAME | "
          "concurrent NAME\n",
          stderr);
    return 2;
}
