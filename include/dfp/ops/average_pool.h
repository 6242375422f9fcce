/* The average of each window, over those of its pixels that x has, or their sum, and its gradient.
 *
 * Sums are exact in INT32: fewer than 2^16 numbers of INT16. In FP32 they are multiplied by the
 * product of a factor for the rows and one for the columns of the window. */

typedef struct {
    dfp_pooling p;
    dfp_readable q; /* x forward, dy backward */
    int16_t *result;
    dfp_row_tasks tasks; /* over the rows of the result */
    dfp_extent *extents; /* forward: of each window; backward: the windows over each column */
    /* Of each window: the value of 1 in q in units of the result, divided by rows; 1 / columns. */
    float *row_factors, *column_factors;
    float limit;
    int32_t *largest; /* of each task */
} dfp_average_pool;

/* What the sum of a window along one axis is divided by. */
static double dfp_divisor(const dfp_pooling *p, dfp_extent window) {
    return p->sums ? 1.0 : (double)(window.end - window.first);
}

/* unit / size of each window. */
static void dfp_fill_factors(const dfp_pooling *p, const dfp_pool_axis *axis, double unit,
                             float *factors) {
    for (int64_t o = 0; o < axis->out; ++o)
        factors[o] = (float)(unit / dfp_divisor(p, dfp_window_of(axis, o)));
}

/* How many pixels the windows over one pixel share, at most: the largest sum of 1 / size. */
static double dfp_largest_share(const dfp_pooling *p, const dfp_pool_axis *axis) {
    double largest = 0;
    for (int64_t i = 0; i < axis->in; ++i) {
        dfp_extent over = dfp_windows_over(axis, i);
        double share = 0;
        for (int64_t o = over.first; o < over.end; ++o)
            share += 1.0 / dfp_divisor(p, dfp_window_of(axis, o));
        largest = share > largest ? share : largest;
    }
    return largest;
}

DFP_INLINE dfp_vi dfp_average_step(const dfp_average_pool *a, int whole, int64_t image,
                                   dfp_extent rows, dfp_extent columns, int64_t c, float factor) {
    int64_t width = a->p.columns.in, channels = a->p.channels;
    dfp_wide sum = {dfp_zero(), dfp_zero()};
    for (int64_t h = rows.first; h < rows.end; ++h)
        for (int64_t w = columns.first; w < columns.end; ++w)
            sum =
                dfp_add_wide(sum, dfp_read(&a->q, whole, ((image + h) * width + w) * channels + c));
    return dfp_round_wide(sum, factor, a->limit);
}

DFP_INLINE dfp_vi dfp_average_row(const dfp_average_pool *a, int whole, int64_t row,
                                  dfp_vi largest) {
    const dfp_pooling *p = &a->p;
    int64_t image = row / p->rows.out * p->rows.in, o = row % p->rows.out, channels = p->channels;
    dfp_extent rows = dfp_window_of(&p->rows, o);
    int16_t *y = a->result + row * p->columns.out * channels;
    for (int64_t w = 0; w < p->columns.out; ++w, y += channels) {
        for (int64_t c = 0; c < channels; c += DFP_STEP) {
            float factor = a->row_factors[o] * a->column_factors[w];
            dfp_vi q = dfp_average_step(a, whole, image, rows, a->extents[w], c, factor);
            largest =
                dfp_emit(y + c, q, dfp_step_channels(channels, whole, c), a->tasks.large, largest);
        }
    }
    return largest;
}

/* FP32 sums, windows in row-major order. */
DFP_INLINE dfp_vi dfp_average_gradient_step(const dfp_average_pool *a, int whole, int64_t image,
                                            dfp_extent rows, dfp_extent columns, int64_t c) {
    const dfp_pooling *p = &a->p;
    dfp_vf sum[2] = {dfp_broadcast_float(0), dfp_broadcast_float(0)};
    for (int64_t o = rows.first; o < rows.end; ++o) {
        int64_t row = (image + o) * p->columns.out;
        for (int64_t w = columns.first; w < columns.end; ++w) {
            dfp_vi dy = dfp_read(&a->q, whole, (row + w) * p->channels + c);
            dfp_vf factor = dfp_broadcast_float(a->row_factors[o] * a->column_factors[w]);
            dfp_vf low = dfp_multiply_float(dfp_to_float(dfp_widen_low(dy)), factor);
            dfp_vf high = dfp_multiply_float(dfp_to_float(dfp_widen_high(dy)), factor);
            sum[0] = dfp_add_float(sum[0], low);
            sum[1] = dfp_add_float(sum[1], high);
        }
    }
    return dfp_round_between(sum, -a->limit, a->limit);
}

DFP_INLINE dfp_vi dfp_average_gradient_row(const dfp_average_pool *a, int whole, int64_t row,
                                           dfp_vi largest) {
    const dfp_pooling *p = &a->p;
    int64_t image = row / p->rows.in * p->rows.out, channels = p->channels;
    dfp_extent rows = dfp_windows_over(&p->rows, row % p->rows.in);
    int16_t *dx = a->result + row * p->columns.in * channels;
    for (int64_t w = 0; w < p->columns.in; ++w, dx += channels) {
        for (int64_t c = 0; c < channels; c += DFP_STEP) {
            dfp_vi q = dfp_average_gradient_step(a, whole, image, rows, a->extents[w], c);
            largest =
                dfp_emit(dx + c, q, dfp_step_channels(channels, whole, c), a->tasks.large, largest);
        }
    }
    return largest;
}

DFP_INLINE void dfp_average_rows(dfp_average_pool a, int whole, int64_t task, int forward) {
    dfp_extent rows = dfp_rows_of(&a.tasks, task);
    dfp_vi largest = dfp_zero();
    for (int64_t row = rows.first; row < rows.end; ++row)
        largest = forward ? dfp_average_row(&a, whole, row, largest)
                          : dfp_average_gradient_row(&a, whole, row, largest);
    a.largest[task] = dfp_largest_int_lane(largest);
}

static void dfp_average_task(void *context, int64_t task, int worker) {
    const dfp_average_pool *a = context;
    (void)worker;
    if (dfp_whole_vectors(&a->p))
        dfp_average_rows(*a, 1, task, 1);
    else
        dfp_average_rows(*a, 0, task, 1);
}

static void dfp_average_gradient_task(void *context, int64_t task, int worker) {
    const dfp_average_pool *a = context;
    (void)worker;
    if (dfp_whole_vectors(&a->p))
        dfp_average_rows(*a, 1, task, 0);
    else
        dfp_average_rows(*a, 0, task, 0);
}

/* `largest_share` is the largest possible ratio of a result to max|q|. */
static void dfp_run_average_pool(dfp_average_pool *a, dfp_task task, const dfp_tensor *q,
                                 double largest_share, dfp_result *result, int64_t elements,
                                 int32_t bits) {
    double unit = q->max_abs ? dfp_exp2_double(q->exponent) : 0.0;
    dfp_range range = {.bound = q->max_abs * unit * largest_share, .finite = 1};
    range.terms = range.bound;
    int32_t e = dfp_range_exponent(&range, bits);
    if (!dfp_begin_result(result, e, elements)) return;
    dfp_fill_factors(&a->p, &a->p.rows, unit * dfp_exp2_double(-e), a->row_factors);
    dfp_fill_factors(&a->p, &a->p.columns, 1.0, a->column_factors);
    a->limit = (float)((1 << bits) - 1);
    dfp_parallel(a->tasks.count, task, a);
    result->scale.max_abs = dfp_largest_of(a->largest, a->tasks.count);
}

/* Begins the operation and takes memory for the tables; 0 if there is none. */
static int dfp_begin_average_pool(dfp_average_pool *a, int64_t columns) {
    size_t extents = (size_t)columns * sizeof *a->extents;
    size_t row_factors = (size_t)a->p.rows.out * sizeof *a->row_factors;
    size_t column_factors = (size_t)a->p.columns.out * sizeof *a->column_factors;
    size_t largest = (size_t)a->tasks.count * sizeof *a->largest;
    dfp_begin();
    char *memory = dfp_shared_workspace(dfp_round_up(extents, 64) + dfp_round_up(row_factors, 64) +
                                        dfp_round_up(column_factors, 64) + largest);
    if (!memory) return 0;
    a->extents = dfp_take(&memory, extents);
    a->row_factors = dfp_take(&memory, row_factors);
    a->column_factors = dfp_take(&memory, column_factors);
    a->largest = dfp_take(&memory, largest);
    return 1;
}

static dfp_status dfp_average_pool_forward(const dfp_pooling *p, const dfp_tensor *x, dfp_result *y,
                                           int32_t bits) {
    dfp_average_pool a = {.p = *p,
                          .q = dfp_input_of(p, x->data),
                          .result = y->data,
                          .tasks = dfp_share_output_rows(p)};
    int enough = dfp_begin_average_pool(&a, p->columns.out);
    if (enough) {
        dfp_fill_windows_of(&p->columns, a.extents);
        int64_t elements = p->batch * p->rows.out * p->columns.out * p->channels;
        double share = p->sums ? (double)(p->rows.pool * p->columns.pool) : 1.0;
        dfp_run_average_pool(&a, dfp_average_task, x, share, y, elements, bits);
    }
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}

static dfp_status dfp_average_pool_backward(const dfp_pooling *p, const dfp_tensor *dy,
                                            dfp_result *dx, int32_t bits) {
    dfp_average_pool a = {.p = *p,
                          .q = dfp_output_of(p, dy->data),
                          .result = dx->data,
                          .tasks = dfp_share_input_rows(p)};
    int enough = dfp_begin_average_pool(&a, p->columns.in);
    if (enough) {
        double share = dfp_largest_share(p, &p->rows) * dfp_largest_share(p, &p->columns);
        dfp_fill_windows_over(&p->columns, a.extents);
        int64_t elements = p->batch * p->rows.in * p->columns.in * p->channels;
        dfp_run_average_pool(&a, dfp_average_gradient_task, dy, share, dx, elements, bits);
    }
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}
