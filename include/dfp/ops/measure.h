/* What the integers of a tensor are like, for monitoring: counts and sums, in one pass over memory. */

/* Elements that stay in the first-level cache, few enough to be counted in INT16. */
#define DFP_MEASURED 4096
/* Sums of neighbouring elements, which compilers keep in vectors. */
#define DFP_MEASURING_LANES 8

typedef struct {
    dfp_tensor q;
    int64_t n;
    int32_t limit; /* 2^bits - 1 */
    dfp_operand x; /* in FP32 or in blocks, or absent */
    float unit;    /* 2^exponent */
    dfp_measurement *chunks;
} dfp_measuring;

static int64_t dfp_count_at_least(const int16_t *magnitudes, int64_t n, int16_t least) {
    int16_t count = 0;
    for (int64_t i = 0; i < n; ++i) count = (int16_t)(count + (magnitudes[i] >= least));
    return count;
}

static void dfp_measure_integers(const dfp_measuring *m, int64_t first, int64_t n,
                                 dfp_measurement *to) {
    int16_t magnitudes[DFP_MEASURED];
    const int16_t *q = m->q.data + first;
    int64_t squares = 0, count = n;
    for (int64_t i = 0; i < n; ++i) magnitudes[i] = (int16_t)(q[i] < 0 ? -q[i] : q[i]);
    for (int k = 0; k < DFP_MAX_BITS && count; ++k)
        to->at_least[k] += count = dfp_count_at_least(magnitudes, n, (int16_t)(1 << k));
    to->saturated += dfp_count_at_least(magnitudes, n, (int16_t)m->limit);
    for (int64_t i = 0; i < n; ++i) squares += (int32_t)q[i] * q[i];
    to->squares += squares;
}

static void dfp_measure_errors(const dfp_measuring *m, int64_t first, int64_t n,
                               dfp_measurement *to) {
    double signal[DFP_MEASURING_LANES] = {0}, noise[DFP_MEASURING_LANES] = {0};
    const int16_t *q = m->q.data + first;
    float piece[DFP_EXPANDED];
    const float *x = dfp_floats_of(&m->x, first, first + n, piece);
    int64_t whole = n / DFP_MEASURING_LANES * DFP_MEASURING_LANES;
    int16_t numbers = 0;
    for (int64_t i = 0; i < n; ++i) numbers = (int16_t)(numbers + (x[i] != 0));
    to->numbers += numbers;
    for (int64_t i = 0; i < whole; i += DFP_MEASURING_LANES) {
        for (int lane = 0; lane < DFP_MEASURING_LANES; ++lane) {
            double value = x[i + lane], error = value - (double)q[i + lane] * m->unit;
            signal[lane] += value * value;
            noise[lane] += error * error;
        }
    }
    for (int64_t i = whole; i < n; ++i) {
        double value = x[i], error = value - (double)q[i] * m->unit;
        signal[i - whole] += value * value;
        noise[i - whole] += error * error;
    }
    for (int lane = 0; lane < DFP_MEASURING_LANES; ++lane) {
        to->signal += signal[lane];
        to->noise += noise[lane];
    }
}

static void dfp_measure_task(void *context, int64_t task, int worker) {
    const dfp_measuring *m = context;
    int64_t first = task * DFP_CHUNK, last = first + DFP_CHUNK < m->n ? first + DFP_CHUNK : m->n;
    dfp_measurement *to = m->chunks + task;
    int has_numbers = m->x.floats || m->x.integers.data;
    (void)worker;
    memset(to, 0, sizeof *to);
    for (int64_t i = first; i < last; i += DFP_MEASURED)
        dfp_measure_integers(m, i, last - i < DFP_MEASURED ? last - i : DFP_MEASURED, to);
    for (int64_t i = first; has_numbers && i < last; i += DFP_EXPANDED)
        dfp_measure_errors(m, i, last - i < DFP_EXPANDED ? last - i : DFP_EXPANDED, to);
}

static void dfp_add_measurement(dfp_measurement *total, const dfp_measurement *part) {
    for (int k = 0; k < DFP_MAX_BITS; ++k) total->at_least[k] += part->at_least[k];
    total->saturated += part->saturated;
    total->numbers += part->numbers;
    total->squares += part->squares;
    total->signal += part->signal;
    total->noise += part->noise;
}

static dfp_status dfp_measure(const dfp_tensor *q, int64_t n, int32_t bits, const dfp_operand *x,
                              dfp_measurement *result) {
    dfp_measuring m = {.q = *q, .n = n, .limit = (1 << bits) - 1, .x = *x};
    memset(result, 0, sizeof *result);
    dfp_begin();
    m.unit = (float)dfp_exp2_double(q->exponent);
    m.chunks = dfp_shared_workspace((size_t)DFP_CHUNKS(n) * sizeof *m.chunks);
    if (m.chunks) {
        dfp_parallel(DFP_CHUNKS(n), dfp_measure_task, &m);
        for (int64_t i = 0; i < DFP_CHUNKS(n); ++i) dfp_add_measurement(result, m.chunks + i);
    }
    dfp_end();
    return m.chunks ? DFP_OK : DFP_OUT_OF_MEMORY;
}
