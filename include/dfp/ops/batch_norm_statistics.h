/* Mean, variance and range of each channel in one read.
 *
 * Each part sums d = x - shift and d^2 in FP32, lane by lane in ascending order, where shift is the
 * mean of the part's first rows: with v the part's variance, (mean - shift)^2 <= v * rows / 8, so
 * at most about 4 bits of v can cancel, however far the mean is from 0. Lanes are added pairwise,
 * then parts in ascending order, in FP64, by the update of Chan, Golub and LeVeque (1979). The
 * scale of an integer x, a power of two, is applied last. */

#define DFP_SHIFT_ROWS 8

typedef struct {
    dfp_rows rows;
    const dfp_operand *x;
    char *workers;
    size_t worker_bytes;
    double *mean, *squares; /* [part][channels]: mean, sum of squared distances from it */
    float *low, *high;      /* [part][channels]: -minimum, maximum */
} dfp_moments;

/* The lanes of one row: sums over the rows of a part. */
typedef struct {
    float *minus_shift, *sum, *squares, *low, *high;
    double *wide, *wide_squares;
} dfp_moment_lanes;

static dfp_moment_lanes dfp_take_moment_lanes(const dfp_rows *r, char *memory) {
    dfp_moment_lanes l;
    float **rows[] = {&l.minus_shift, &l.sum, &l.squares, &l.low, &l.high};
    for (int i = 0; i < 5; ++i) *rows[i] = dfp_take(&memory, dfp_row_bytes(r));
    l.wide = dfp_take(&memory, 2 * dfp_row_bytes(r));
    l.wide_squares = dfp_take(&memory, 2 * dfp_row_bytes(r));
    return l;
}

/* The mean of the first rows, in FP64 so that a constant channel gets its constant. */
static void dfp_find_shift(const dfp_moments *m, dfp_part part, dfp_moment_lanes *l) {
    int64_t rows = part.rows < DFP_SHIFT_ROWS ? part.rows : DFP_SHIFT_ROWS;
    int64_t channels = m->rows.channels, pixels = part.length / channels;
    memset(l->wide, 0, (size_t)part.length * sizeof *l->wide);
    for (int64_t r = 0; r < rows; ++r) {
        int64_t at = part.first + r * part.length;
        const float *row = dfp_floats_of(m->x, at, at + part.length, l->minus_shift);
        for (int64_t i = 0; i < part.length; ++i) l->wide[i] += row[i];
    }
    dfp_add_pixels(l->wide, pixels, channels);
    for (int64_t c = 0; c < channels; ++c)
        l->minus_shift[c] = (float)(l->wide[c] / (double)(rows * pixels));
    dfp_repeat(&m->rows, l->minus_shift, -1.0, l->minus_shift);
}

/* One vector of lanes: that of x from `at` on, `length` elements before that of the next row. */
DFP_INLINE void dfp_add_moments(const dfp_operand *x, dfp_kind kind, int64_t at, int64_t length,
                                const dfp_moment_lanes *l, int64_t i) {
    dfp_prefetch(x, kind, at + length);
    dfp_vf v = dfp_load_operand(x, kind, at);
    dfp_vf d = dfp_add_float(v, dfp_load_float(l->minus_shift + i));
    dfp_store_float(l->sum + i, dfp_add_float(dfp_load_float(l->sum + i), d));
    dfp_vf square = dfp_multiply_float(d, d);
    dfp_store_float(l->squares + i, dfp_add_float(dfp_load_float(l->squares + i), square));
    dfp_store_float(l->low + i, dfp_min_float(v, dfp_load_float(l->low + i)));
    dfp_store_float(l->high + i, dfp_max_float(v, dfp_load_float(l->high + i)));
}

DFP_INLINE void dfp_add_row(const dfp_operand *x, dfp_kind kind, int64_t first, int64_t length,
                            const dfp_moment_lanes *l) {
    int64_t i = 0;
    for (; i + DFP_LANES <= length; i += DFP_LANES)
        dfp_add_moments(x, kind, first + i, length, l, i);
    if (i < length) {
        dfp_tail copy;
        dfp_operand tail = dfp_copy_tail(x, kind, first + i, length - i, &copy);
        dfp_add_moments(&tail, kind, 0, 0, l, i);
    }
}

static void dfp_clear_moments(const dfp_rows *r, dfp_moment_lanes *l) {
    for (int64_t i = 0; i < dfp_padded_row(r); ++i) {
        l->sum[i] = l->squares[i] = 0.0f;
        l->low[i] = INFINITY;
        l->high[i] = -INFINITY;
    }
}

/* Reduces the lanes of a part to its results. */
static void dfp_finish_moments(const dfp_moments *m, dfp_part part, dfp_moment_lanes *l,
                               int64_t index) {
    int64_t channels = m->rows.channels, pixels = part.length / channels;
    double count = (double)(part.rows * pixels);
    double *mean = m->mean + index * channels, *squares = m->squares + index * channels;
    dfp_widen_lanes(l->sum, part.length, l->wide);
    dfp_widen_lanes(l->squares, part.length, l->wide_squares);
    dfp_add_pixels(l->wide, pixels, channels);
    dfp_add_pixels(l->wide_squares, pixels, channels);
    for (int64_t c = 0; c < channels; ++c) {
        mean[c] = l->wide[c] / count - l->minus_shift[c];
        squares[c] = l->wide_squares[c] - l->wide[c] * l->wide[c] / count;
    }
    for (int64_t i = 0; i < part.length; ++i) l->low[i] = -l->low[i];
    dfp_largest_pixels(l->low, pixels, channels);
    dfp_largest_pixels(l->high, pixels, channels);
    memcpy(m->low + index * channels, l->low, (size_t)channels * sizeof(float));
    memcpy(m->high + index * channels, l->high, (size_t)channels * sizeof(float));
}

DFP_INLINE void dfp_sum_moments(const dfp_moments *m, dfp_kind kind, dfp_part part,
                                dfp_moment_lanes *l) {
    dfp_find_shift(m, part, l);
    dfp_clear_moments(&m->rows, l);
    for (int64_t r = 0; r < part.rows; ++r)
        dfp_add_row(m->x, kind, part.first + r * part.length, part.length, l);
}

static void dfp_moments_task(void *context, int64_t task, int worker) {
    const dfp_moments *m = context;
    dfp_part part = dfp_part_at(&m->rows, task);
    dfp_moment_lanes l =
        dfp_take_moment_lanes(&m->rows, m->workers + (size_t)worker * m->worker_bytes);
    if (m->x->floats)
        dfp_sum_moments(m, DFP_FLOATS, part, &l);
    else
        dfp_sum_moments(m, DFP_INTEGERS, part, &l);
    dfp_finish_moments(m, part, &l, task);
}

/* Merges part `index` into part 0, which has `count` pixels. */
static void dfp_merge_moments(const dfp_moments *m, int64_t index, double count, double added) {
    int64_t channels = m->rows.channels;
    const double *mean = m->mean + index * channels, *squares = m->squares + index * channels;
    const float *low = m->low + index * channels, *high = m->high + index * channels;
    double weight = added / (count + added), spread = count * weight;
    for (int64_t c = 0; c < channels; ++c) {
        double d = mean[c] - m->mean[c];
        m->mean[c] += d * weight;
        m->squares[c] += squares[c] + d * d * spread;
        m->low[c] = low[c] > m->low[c] ? low[c] : m->low[c];
        m->high[c] = high[c] > m->high[c] ? high[c] : m->high[c];
    }
}

/* Writes the result from part 0, into which all others are merged. */
static void dfp_write_statistics(const dfp_moments *m, double count, const dfp_statistics *s) {
    double unit = dfp_operand_unit(m->x);
    for (int64_t c = 0; c < m->rows.channels; ++c) {
        double variance = m->squares[c] > 0 ? m->squares[c] / count : 0.0;
        float mean = (float)(m->mean[c] * unit);
        float low = (float)(-m->low[c] * unit), high = (float)(m->high[c] * unit);
        int finite = isfinite(mean) && isfinite(low) && isfinite(high);
        s->mean[c] = finite ? mean : NAN;
        s->variance[c] = finite ? (float)(variance * unit * unit) : NAN;
        s->minimum[c] = finite ? low : NAN;
        s->maximum[c] = finite ? high : NAN;
    }
}

/* Merges all parts into part 0; returns the number of their pixels. */
static double dfp_merge_all_moments(const dfp_moments *m) {
    double count = 0;
    for (int64_t index = 0; index < m->rows.parts; ++index) {
        dfp_part part = dfp_part_at(&m->rows, index);
        double added = (double)(part.rows * (part.length / m->rows.channels));
        if (index > 0) dfp_merge_moments(m, index, count, added);
        count += added;
    }
    return count;
}

static void dfp_run_moments(dfp_moments *m, const dfp_statistics *s) {
    dfp_parallel(m->rows.parts, dfp_moments_task, m);
    dfp_write_statistics(m, dfp_merge_all_moments(m), s);
}

static dfp_status dfp_batch_norm_statistics(const dfp_operand *x, int64_t pixels, int64_t channels,
                                            const dfp_statistics *s) {
    dfp_moments m = {.rows = dfp_cut_rows(pixels, channels), .x = x};
    size_t numbers = (size_t)(m.rows.parts * channels);
    dfp_begin();
    m.worker_bytes = 9 * dfp_row_bytes(&m.rows);
    m.workers = dfp_worker_workspace(m.worker_bytes);
    char *memory = dfp_shared_workspace(2 * dfp_round_up(numbers * sizeof(double), 64) +
                                        2 * dfp_round_up(numbers * sizeof(float), 64));
    int ready = m.workers && memory;
    if (ready) {
        m.mean = dfp_take(&memory, numbers * sizeof(double));
        m.squares = dfp_take(&memory, numbers * sizeof(double));
        m.low = dfp_take(&memory, numbers * sizeof(float));
        m.high = dfp_take(&memory, numbers * sizeof(float));
        dfp_run_moments(&m, s);
    }
    dfp_end();
    return ready ? DFP_OK : DFP_OUT_OF_MEMORY;
}
