/* Per channel: sum of dz, sum of dz * (x - mean), max|dz|, in one read.
 *
 * FP32 within a part, lane by lane in ascending order, FP64 after: lanes pairwise, parts in
 * ascending order. With an integer dy the sum of dz is exact: 128 rows of 32767 stay below 2^24. */

typedef struct {
    dfp_rows rows;
    dfp_gradient_source source;
    const float *mean;
    char *workers;
    size_t worker_bytes;
    double *sum_dz, *sum_dz_x; /* [part][channels] */
    float *max_dz;             /* [part][channels] */
} dfp_reduction;

/* The lanes of one row: sums over the rows of a part. */
typedef struct {
    float *minus_mean, *dz, *dz_x, *largest;
    double *wide;
} dfp_reduction_lanes;

static dfp_reduction_lanes dfp_take_reduction_lanes(const dfp_rows *r, char *memory) {
    dfp_reduction_lanes l;
    float **rows[] = {&l.minus_mean, &l.dz, &l.dz_x, &l.largest};
    for (int i = 0; i < 4; ++i) *rows[i] = dfp_take(&memory, dfp_row_bytes(r));
    l.wide = dfp_take(&memory, 2 * dfp_row_bytes(r));
    return l;
}

DFP_INLINE void dfp_add_to_lanes(const dfp_reduction_lanes *l, int64_t i, dfp_vf dz,
                                 dfp_vf distance) {
    dfp_vf product = dfp_multiply_float(dz, distance), size = dfp_absolute_float(dz);
    dfp_store_float(l->dz + i, dfp_add_float(dfp_load_float(l->dz + i), dz));
    dfp_store_float(l->dz_x + i, dfp_add_float(dfp_load_float(l->dz_x + i), product));
    dfp_store_float(l->largest + i, dfp_max_float(size, dfp_load_float(l->largest + i)));
}

/* One vector of lanes: that of the gradients from `at` on, `length` elements before that of the next
 * row. */
DFP_INLINE void dfp_add_gradients(const dfp_gradient_source *s, dfp_kind dy_kind, int masked,
                                  dfp_kind x_kind, int64_t at, int64_t length,
                                  const dfp_reduction_lanes *l, int64_t i) {
    dfp_prefetch(&s->x, x_kind, at + length);
    dfp_prefetch(&s->dy, dy_kind, at + length);
    if (masked) dfp_prefetch(&s->y, DFP_INTEGERS, at + length);
    dfp_vf dz = dfp_load_dz(s, dy_kind, masked, at);
    dfp_add_to_lanes(l, i, dz, dfp_load_distance(s, x_kind, at, dfp_load_float(l->minus_mean + i)));
}

DFP_INLINE void dfp_reduce_row(const dfp_gradient_source *s, dfp_kind dy_kind, int masked,
                               dfp_kind x_kind, int64_t first, int64_t length,
                               const dfp_reduction_lanes *l) {
    int64_t i = 0;
    for (; i + DFP_LANES <= length; i += DFP_LANES)
        dfp_add_gradients(s, dy_kind, masked, x_kind, first + i, length, l, i);
    if (i < length) {
        dfp_tail tails[3];
        dfp_gradient_source tail = dfp_copy_source(s, first + i, length - i, tails);
        dfp_add_gradients(&tail, dy_kind, masked, x_kind, 0, 0, l, i);
    }
}

/* A row with a function: dz first, then the sums. */
DFP_INLINE void dfp_reduce_function_row(const dfp_gradient_source *s, dfp_kind dy_kind,
                                        dfp_kind x_kind, int64_t first, int64_t length,
                                        const dfp_reduction_lanes *l) {
    _Alignas(64) float dz[DFP_FUNCTION_PIECE];
    for (int64_t c = 0; c < length; c += DFP_FUNCTION_PIECE) {
        int64_t left = length - c, count = left < DFP_FUNCTION_PIECE ? left : DFP_FUNCTION_PIECE;
        int64_t at = first + c, whole = count - count % DFP_LANES, i = 0;
        dfp_fill_dz(s, dy_kind, x_kind, at, c, count, dz);
        for (; i < whole; i += DFP_LANES)
            dfp_add_to_lanes(
                l, c + i, dfp_load_float(dz + i),
                dfp_load_distance(s, x_kind, at + i, dfp_load_float(l->minus_mean + c + i)));
        if (i == count) continue;
        dfp_tail tail;
        dfp_gradient_source copy = *s;
        copy.x = dfp_copy_tail(&s->x, x_kind, at + i, count - i, &tail);
        dfp_add_to_lanes(
            l, c + i, dfp_load_float(dz + i),
            dfp_load_distance(&copy, x_kind, 0, dfp_load_float(l->minus_mean + c + i)));
    }
}

DFP_INLINE void dfp_reduce_function(const dfp_reduction *d, dfp_kind dy_kind, dfp_kind x_kind,
                                    dfp_part part, const dfp_reduction_lanes *l) {
    for (int64_t r = 0; r < part.rows; ++r)
        dfp_reduce_function_row(&d->source, dy_kind, x_kind, part.first + r * part.length,
                                part.length, l);
}

DFP_INLINE void dfp_reduce_part(const dfp_reduction *d, dfp_kind dy_kind, int masked,
                                dfp_kind x_kind, dfp_part part, const dfp_reduction_lanes *l) {
    for (int64_t r = 0; r < part.rows; ++r)
        dfp_reduce_row(&d->source, dy_kind, masked, x_kind, part.first + r * part.length,
                       part.length, l);
}

static void dfp_reduce_kinds(const dfp_reduction *d, dfp_part part, const dfp_reduction_lanes *l) {
    int masked = dfp_kind_of(&d->source.y) != DFP_ABSENT;
    if (d->source.function) {
        dfp_kind dy = dfp_kind_of(&d->source.dy), x = dfp_kind_of(&d->source.x);
        if (dy == DFP_INTEGERS && x == DFP_INTEGERS)
            dfp_reduce_function(d, DFP_INTEGERS, DFP_INTEGERS, part, l);
        else
            dfp_reduce_function(d, dy, x, part, l);
        return;
    }
#define DFP_CASE(dy, masked, x)                                                                    \
    case 6 * dy + 3 * masked + x: dfp_reduce_part(d, dy, masked, x, part, l); break;
    switch (6 * dfp_kind_of(&d->source.dy) + 3 * masked + dfp_kind_of(&d->source.x)) {
        DFP_CASE(DFP_INTEGERS, 0, DFP_INTEGERS)
        DFP_CASE(DFP_INTEGERS, 0, DFP_FLOATS)
        DFP_CASE(DFP_INTEGERS, 1, DFP_INTEGERS)
        DFP_CASE(DFP_INTEGERS, 1, DFP_FLOATS)
        DFP_CASE(DFP_FLOATS, 0, DFP_INTEGERS)
        DFP_CASE(DFP_FLOATS, 0, DFP_FLOATS)
        DFP_CASE(DFP_FLOATS, 1, DFP_INTEGERS)
        DFP_CASE(DFP_FLOATS, 1, DFP_FLOATS)
    }
#undef DFP_CASE
}

static void dfp_finish_sum(const float *lanes, double *wide, dfp_part part, int64_t channels,
                           double *sum) {
    dfp_widen_lanes(lanes, part.length, wide);
    dfp_add_pixels(wide, part.length / channels, channels);
    memcpy(sum, wide, (size_t)channels * sizeof *sum);
}

static void dfp_reduce_task(void *context, int64_t task, int worker) {
    const dfp_reduction *d = context;
    int64_t channels = d->rows.channels;
    dfp_part part = dfp_part_at(&d->rows, task);
    dfp_reduction_lanes l =
        dfp_take_reduction_lanes(&d->rows, d->workers + (size_t)worker * d->worker_bytes);
    dfp_repeat(&d->rows, d->mean, -1.0, l.minus_mean);
    memset(l.dz, 0, dfp_row_bytes(&d->rows));
    memset(l.dz_x, 0, dfp_row_bytes(&d->rows));
    memset(l.largest, 0, dfp_row_bytes(&d->rows));
    dfp_reduce_kinds(d, part, &l);
    dfp_finish_sum(l.dz, l.wide, part, channels, d->sum_dz + task * channels);
    dfp_finish_sum(l.dz_x, l.wide, part, channels, d->sum_dz_x + task * channels);
    dfp_largest_pixels(l.largest, part.length / channels, channels);
    memcpy(d->max_dz + task * channels, l.largest, (size_t)channels * sizeof(float));
}

/* Adds up all parts in part 0. */
static void dfp_merge_gradients(const dfp_reduction *d) {
    int64_t channels = d->rows.channels;
    for (int64_t index = 1; index < d->rows.parts; ++index) {
        const double *dz = d->sum_dz + index * channels, *dz_x = d->sum_dz_x + index * channels;
        const float *max_dz = d->max_dz + index * channels;
        for (int64_t c = 0; c < channels; ++c) {
            d->sum_dz[c] += dz[c];
            d->sum_dz_x[c] += dz_x[c];
            d->max_dz[c] = max_dz[c] > d->max_dz[c] ? max_dz[c] : d->max_dz[c];
        }
    }
}

/* Writes the result from the sums of all parts. */
static void dfp_write_gradient_sums(const dfp_reduction *d, const dfp_gradient_sums *sums) {
    double unit = dfp_operand_unit(&d->source.dy);
    dfp_merge_gradients(d);
    for (int64_t c = 0; c < d->rows.channels; ++c) {
        sums->sum_dz[c] = d->sum_dz[c] * unit;
        sums->sum_dz_x[c] = d->sum_dz_x[c] * unit;
        /* The maximum ignores NaN, the sum does not. */
        sums->max_dz[c] = isnan(d->sum_dz[c]) ? NAN : (float)(d->max_dz[c] * unit);
    }
}

static void dfp_run_reduction(dfp_reduction *d, const dfp_gradient_sums *sums) {
    dfp_parallel(d->rows.parts, dfp_reduce_task, d);
    dfp_write_gradient_sums(d, sums);
}

static dfp_status dfp_batch_norm_backward_reduce(const dfp_normalization_gradient *g,
                                                 const dfp_gradient_sums *sums) {
    dfp_reduction d = {.rows = dfp_cut_rows(g->pixels, g->channels), .mean = g->mean};
    size_t numbers = (size_t)(d.rows.parts * g->channels);
    dfp_begin();
    d.worker_bytes = 6 * dfp_row_bytes(&d.rows);
    d.workers = dfp_worker_workspace(d.worker_bytes);
    char *memory = dfp_shared_workspace(2 * dfp_round_up(numbers * sizeof(double), 64) +
                                        dfp_round_up(numbers * sizeof(float), 64) +
                                        2 * dfp_row_bytes(&d.rows));
    int ready = d.workers && memory;
    if (ready) {
        d.source = dfp_source_of(g);
        d.sum_dz = dfp_take(&memory, numbers * sizeof(double));
        d.sum_dz_x = dfp_take(&memory, numbers * sizeof(double));
        d.max_dz = dfp_take(&memory, numbers * sizeof(float));
        dfp_repeat_argument(&d.source, &d.rows, g, memory);
        dfp_run_reduction(&d, sums);
    }
    dfp_end();
    return ready ? DFP_OK : DFP_OUT_OF_MEMORY;
}
