/* Runs every kernel of one instruction set on small operands and prints a hash of each result:
 *
 *     isa_program kernels NAME     one line per case
 *     isa_program dispatch         the instruction set that DFPKERAS_MAX_ISA and this CPU lead to
 *     isa_program overread NAME    reads one element too much on purpose
 *     isa_program concurrent NAME  the convolutions from four threads at once, three threads each
 *
 * Operands end where a page without access begins: whoever reads on, faults. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dfp.h"

#define PAGE 4096

static uint64_t random_state;

static uint32_t next_random(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

/* `bytes` bytes whose end touches an inaccessible page. */
static void *guarded(size_t bytes) {
    size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
    char *memory = mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
    return (dfp_tensor){data, -bits, largest};
}

static void print_hash(const char *what, int number, const void *data, size_t bytes) {
    const unsigned char *p = data;
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * UINT64_C(1099511628211);
    printf("%s %d %016llx\n", what, number, (unsigned long long)hash);
}

/* batch, in_h, in_w, in_channels, out_h, out_w, out_channels, kernel, stride, dilation, padding before,
 * groups, flush_every */
static const dfp_conv convolutions[] = {
    {1, 5, 5, 3, 5, 5, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},
    {2, 7, 7, 8, 7, 7, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},
    {1, 4, 9, 6, 4, 9, 33, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0},
    {1, 8, 8, 5, 4, 4, 48, 3, 3, 2, 2, 1, 1, 0, 0, 1, 0},
    {2, 6, 6, 16, 6, 6, 64, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0},
    {1, 9, 7, 4, 5, 3, 70, 3, 3, 1, 2, 2, 1, 0, 0, 1, 0},
    {1, 6, 5, 12, 6, 5, 18, 3, 2, 1, 1, 1, 2, 1, 1, 3, 0},
    {1, 5, 5, 6, 5, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1, 6, 0},
    {1, 13, 13, 3, 4, 4, 20, 5, 5, 3, 3, 1, 1, 1, 1, 1, 0},
    {1, 3, 3, 130, 3, 3, 129, 1, 1, 1, 1, 1, 1, 0, 0, 1, 16},
};

static void run_convolutions(const dfp_kernels *k) {
    for (int i = 0; i < (int)(sizeof convolutions / sizeof *convolutions); ++i) {
        const dfp_conv *c = &convolutions[i];
        int64_t nx = c->batch * c->in_h * c->in_w * c->in_channels;
        int64_t ny = c->batch * c->out_h * c->out_w * c->out_channels;
        int64_t nw = c->kernel_h * c->kernel_w * c->in_channels / c->groups * c->out_channels;
        /* With a fixed interval, bits for which 16 products are safe in the worst case. */
        int bits = c->flush_every ? 13 : 15;
        for (content kind = RANDOM; kind <= ZERO; ++kind) {
            dfp_tensor x = tensor(nx, bits, kind), w = tensor(nw, bits, kind);
            dfp_tensor dy = tensor(ny, bits, kind);
            float *y = guarded((size_t)ny * 4), *dx = guarded((size_t)nx * 4);
            float *dw = guarded((size_t)nw * 4);
            if (k->conv_forward(c, &x, &w, y) || k->conv_backward_data(c, &dy, &w, dx) ||
                k->conv_backward_weights(c, &x, &dy, dw))
                exit(2);
            print_hash("forward", 3 * i + kind, y, (size_t)ny * 4);
            print_hash("backward_data", 3 * i + kind, dx, (size_t)nx * 4);
            print_hash("backward_weights", 3 * i + kind, dw, (size_t)nw * 4);
        }
    }
}

static float *numbers(int64_t n) {
    float *x = guarded((size_t)n * 4);
    for (int64_t i = 0; i < n; ++i)
        x[i] = ((float)next_random() / 1073741824.0f - 1.0f) * (float)(1 << (next_random() % 12));
    return x;
}

static void run_matmuls(const dfp_kernels *k) {
    static const dfp_matmul products[] = {
        {1, 1, 1, 0, 0, 0},   {7, 17, 33, 0, 0, 0},  {6, 64, 40, 1, 0, 0},
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

static void run_quantizations(const dfp_kernels *k) {
    static const int64_t sizes[] = {1, 15, 16, 31, 64, 1003};
    for (int i = 0; i < 6; ++i) {
        for (int rounding = DFP_NEAREST; rounding <= DFP_BIASED; ++rounding) {
            int64_t n = sizes[i];
            int16_t *q = guarded((size_t)n * 2);
            float *x = numbers(n), *back = guarded((size_t)n * 4);
            dfp_scale scale;
            if (k->quantize(x, n, 2 + 13 * i / 5, (dfp_rounding)rounding, 7, q, &scale)) exit(2);
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

static const dfp_kernels *find(const char *name) {
    const dfp_isa *isas;
    int n = dfp_list_isas(&isas);
    for (int i = 0; i < n; ++i)
        if (!strcmp(isas[i].kernels->name, name)) return isas[i].kernels;
    fprintf(stderr, "no instruction set %s\n", name);
    exit(2);
}

static void *convolve_repeatedly(void *kernels) {
    const dfp_kernels *k = kernels;
    static int16_t x[2 * 9 * 9 * 8], w[3 * 3 * 8 * 40];
    float *y = malloc(2 * 9 * 9 * 40 * sizeof *y), *dx = malloc(sizeof x * 2);
    float *dw = malloc(sizeof w * 2);
    dfp_conv c = {2, 9, 9, 8, 9, 9, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0};
    static int16_t dy[2 * 9 * 9 * 40];
    dfp_tensor tx = {x, 0, 1}, tw = {w, 0, 1}, tdy = {dy, 0, 1};
    for (int i = 0; i < 20 && y && dx && dw; ++i) {
        k->conv_forward(&c, &tx, &tw, y);
        k->conv_backward_data(&c, &tdy, &tw, dx);
        k->conv_backward_weights(&c, &tx, &tdy, dw);
    }
    free(y);
    free(dx);
    free(dw);
    return NULL;
}

static void run_concurrently(const dfp_kernels *k) {
    pthread_t threads[4];
    dfp_set_num_threads(3);
    for (int i = 0; i < 4; ++i)
        if (pthread_create(&threads[i], NULL, convolve_repeatedly, (void *)k)) exit(2);
    for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "dispatch")) {
        const dfp_kernels *best = dfp_best_isa(getenv("DFPKERAS_MAX_ISA"));
        puts(best ? best->name : "none");
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "kernels")) {
        const dfp_kernels *k = find(argv[2]);
        run_convolutions(k);
        run_matmuls(k);
        run_quantizations(k);
        run_arithmetic(k);
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
    fputs("usage: isa_program kernels NAME | dispatch | overread NAME | concurrent NAME\n", stderr);
    return 2;
}
