/* FP32, or blocks that stand for it, to INT16 with one shared power-of-two exponent, and back. */

/* Elements that one task converts: 256 KiB of FP32, a fraction of a second-level cache. */
#define DFP_CHUNK 65536
#define DFP_CHUNKS(n) (((n) + DFP_CHUNK - 1) / DFP_CHUNK)

/* Elements of blocks that become FP32 at a time, in the first-level cache. */
#define DFP_EXPANDED 1024

typedef struct {
    dfp_operand x; /* not DFP16 */
    int16_t *q;
    int64_t n;
    int32_t limit; /* 2^bits - 1 */
    dfp_rounding rounding;
    uint64_t seed;
    int large; /* see dfp_is_large */
    dfp_power scale;
    int32_t *chunk_max;
} dfp_quantization;

/* The numbers of elements first to last of an operand as FP32: its own, or in `piece`. */
static const float *dfp_floats_of(const dfp_operand *x, int64_t first, int64_t last, float *piece) {
    if (x->floats) return x->floats + first;
    for (int64_t i = first; i < last;) {
        float scale = x->scales[i >> x->block_shift];
        int64_t end = last;
        if (x->block_shift < DFP_ONE_BLOCK) end = ((i >> x->block_shift) + 1) << x->block_shift;
        if (end > last) end = last;
        for (; i < end; ++i) piece[i - first] = (float)x->integers.data[i] * scale;
    }
    return piece;
}

/* Elements from `first` on that are taken at a time. */
static int64_t dfp_piece_end(const dfp_operand *x, int64_t first, int64_t last) {
    return x->floats || last - first < DFP_EXPANDED ? last : first + DFP_EXPANDED;
}

static int32_t dfp_largest_int16(const int16_t *q, int64_t n) {
    int32_t largest = 0;
    for (int64_t i = 0; i < n; ++i) {
        int32_t v = q[i], magnitude = v < 0 ? -v : v;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* The same of blocks, of which most need not be read: their scale bounds them. */
static int32_t dfp_largest_bits_of_blocks(const dfp_operand *x, int64_t first, int64_t last) {
    union {
        float value;
        int32_t bits;
    } largest = {0.0f};
    int64_t width = (int64_t)1 << x->block_shift;
    for (; first < last; first += width) {
        float scale = x->scales[first >> x->block_shift];
        if (isnan(scale)) return INT32_MAX;
        if (scale * INT16_MAX <= largest.value) continue;
        float most = (float)dfp_largest_int16(x->integers.data + first, width) * scale;
        if (most > largest.value) largest.value = most;
    }
    return largest.bits;
}

static void dfp_largest_task(void *context, int64_t task, int worker) {
    const dfp_quantization *q = context;
    int64_t first = task * DFP_CHUNK, last = first + DFP_CHUNK < q->n ? first + DFP_CHUNK : q->n;
    (void)worker;
    q->chunk_max[task] = q->x.floats ? dfp_largest_bits(q->x.floats + first, last - first)
                                     : dfp_largest_bits_of_blocks(&q->x, first, last);
}

/* Counter-based generator: 24 random bits from (seed, index), by the 64-bit finalizer of splitmix64
 * (Steele, Lea and Flood, 2014). */
static inline uint32_t dfp_random24(uint64_t seed, uint64_t index) {
    uint64_t z = seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ (z >> 31)) >> 40);
}

/* Whether a magnitude with the discarded `fraction`, 0 <= fraction < 1, is rounded up. */
static inline int dfp_rounds_up(dfp_rounding rounding, float fraction, uint64_t seed,
                                uint64_t index) {
    if (rounding == DFP_STOCHASTIC) return (float)dfp_random24(seed, index) * 0x1p-24f < fraction;
    return rounding == DFP_BIASED && fraction >= 0.25f;
}

/* `count` elements from `first` on, which are `x`; returns the largest magnitude. */
static int32_t dfp_convert_nearest(const dfp_quantization *q, const float *x, int64_t first,
                                   int64_t count) {
    dfp_vf s = dfp_broadcast_float(q->scale.first), t = dfp_broadcast_float(q->scale.second);
    int16_t *to = q->q + first, lanes[DFP_STEP];
    dfp_vi most = dfp_zero();
    int64_t i = 0;
    for (; i + DFP_STEP <= count; i += DFP_STEP) {
        dfp_vf low = dfp_multiply_float(dfp_multiply_float(dfp_load_float(x + i), s), t);
        dfp_vf high = dfp_load_float(x + i + DFP_LANES);
        high = dfp_multiply_float(dfp_multiply_float(high, s), t);
        dfp_vi both =
            dfp_narrow(dfp_clamp(dfp_round(low), q->limit), dfp_clamp(dfp_round(high), q->limit));
        most = dfp_max_int16(most, dfp_absolute(both));
        dfp_store_result(to + i, both, q->large);
    }
    for (int64_t rest = i; rest < count; ++rest) {
        int32_t v = (int32_t)lrintf(x[rest] * q->scale.first * q->scale.second);
        to[rest] = (int16_t)(v > q->limit ? q->limit : v < -q->limit ? -q->limit : v);
    }
    dfp_store(lanes, most);
    int32_t largest = dfp_largest_int16(lanes, DFP_STEP);
    int32_t of_rest = dfp_largest_int16(to + i, count - i);
    return largest > of_rest ? largest : of_rest;
}

static int32_t dfp_convert_otherwise(const dfp_quantization *q, const float *x, int64_t first,
                                     int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        float scaled = x[i] * q->scale.first * q->scale.second;
        float magnitude = fabsf(scaled);
        int32_t v = (int32_t)magnitude;
        v += dfp_rounds_up(q->rounding, magnitude - (float)v, q->seed, (uint64_t)(first + i));
        v = v > q->limit ? q->limit : v;
        q->q[first + i] = (int16_t)(scaled < 0 ? -v : v);
    }
    return dfp_largest_int16(q->q + first, count);
}

static void dfp_convert_task(void *context, int64_t task, int worker) {
    const dfp_quantization *q = context;
    int64_t first = task * DFP_CHUNK, last = first + DFP_CHUNK < q->n ? first + DFP_CHUNK : q->n;
    int32_t largest = 0;
    float piece[DFP_EXPANDED];
    (void)worker;
    for (int64_t end; first < last; first = end) {
        end = dfp_piece_end(&q->x, first, last);
        const float *x = dfp_floats_of(&q->x, first, end, piece);
        int32_t of_piece = q->rounding == DFP_NEAREST
                               ? dfp_convert_nearest(q, x, first, end - first)
                               : dfp_convert_otherwise(q, x, first, end - first);
        largest = of_piece > largest ? of_piece : largest;
    }
    q->chunk_max[task] = largest;
}

static int32_t dfp_largest_of(const int32_t *v, int64_t n) {
    int32_t largest = 0;
    for (int64_t i = 0; i < n; ++i) largest = v[i] > largest ? v[i] : largest;
    return largest;
}

/* floor(log2(x)) of the positive finite number with these bits. */
static int32_t dfp_floor_log2(int32_t bits) {
    if (bits >= 1 << 23) return (bits >> 23) - 127;
    int32_t exponent = -150;
    for (; bits; bits >>= 1) ++exponent;
    return exponent;
}

static int32_t dfp_shared_exponent(int32_t largest_bits, int32_t magnitude_bits) {
    if (largest_bits >= 0x7f800000) return DFP_NONFINITE_EXPONENT;
    if (largest_bits == 0) return 0;
    int32_t e = dfp_floor_log2(largest_bits) - (magnitude_bits - 1);
    return e < DFP_MIN_EXPONENT ? DFP_MIN_EXPONENT : e;
}

static dfp_scale dfp_run_quantization(dfp_quantization *q, int32_t bits) {
    int64_t chunks = DFP_CHUNKS(q->n);
    dfp_parallel(chunks, dfp_largest_task, q);
    dfp_scale result = {dfp_shared_exponent(dfp_largest_of(q->chunk_max, chunks), bits), 0};
    if (result.exponent == DFP_NONFINITE_EXPONENT) {
        memset(q->q, 0, (size_t)q->n * sizeof(int16_t));
        return result;
    }
    q->scale = dfp_power_of_two(-result.exponent);
    dfp_parallel(chunks, dfp_convert_task, q);
    result.max_abs = dfp_largest_of(q->chunk_max, chunks);
    return result;
}

static dfp_status dfp_quantize(const dfp_operand *x, int64_t n, int32_t bits, dfp_rounding rounding,
                               uint64_t seed, int16_t *q, dfp_scale *result) {
    dfp_quantization job = {.x = *x,
                            .q = q,
                            .n = n,
                            .limit = (1 << bits) - 1,
                            .rounding = rounding,
                            .seed = seed,
                            .large = dfp_is_large(n)};
    dfp_begin();
    job.chunk_max = dfp_shared_workspace((size_t)(DFP_CHUNKS(n) + 1) * sizeof(int32_t));
    if (job.chunk_max) *result = dfp_run_quantization(&job, bits);
    dfp_end();
    return job.chunk_max ? DFP_OK : DFP_OUT_OF_MEMORY;
}

typedef struct {
    const dfp_operand *x;
    float *to;
    int64_t n;
} dfp_expansion;

static void dfp_expand_task(void *context, int64_t task, int worker) {
    const dfp_expansion *e = context;
    int64_t first = task * DFP_CHUNK, last = first + DFP_CHUNK < e->n ? first + DFP_CHUNK : e->n;
    (void)worker;
    dfp_floats_of(e->x, first, last, e->to + first);
}

static void dfp_expand_blocks(const dfp_operand *x, int64_t n, float *to) {
    dfp_expansion job = {x, to, n};
    dfp_begin();
    dfp_parallel(DFP_CHUNKS(n), dfp_expand_task, &job);
    dfp_end();
}

/* DFP16 is one block, whose scale may be subnormal: products are rounded once all the same. */
static void dfp_dequantize(const int16_t *q, int64_t n, int32_t exponent, float *x) {
    float scale;
    dfp_operand o = {{q, 0, 0}, NULL, &scale, DFP_ONE_BLOCK};
    dfp_expansion job = {&o, x, n};
    dfp_begin();
    scale = (float)dfp_exp2_double(exponent);
    dfp_parallel(DFP_CHUNKS(n), dfp_expand_task, &job);
    dfp_end();
}

static int32_t dfp_max_abs(const int16_t *q, int64_t n) { return dfp_largest_int16(q, n); }
