/* Which pixels belong to which window of a pooling, and how the kernels read and write them. */

/* Elements of the larger tensor that one task takes; more where neighbouring tasks share work. */
#define DFP_POOL_TASK (32 << 10)
#define DFP_POOL_GRADIENT_TASK (128 << 10)

typedef struct {
    int64_t first, end;
} dfp_extent;

/* The pixels of the window of result o. */
static inline dfp_extent dfp_window_of(const dfp_pool_axis *a, int64_t o) {
    int64_t first = o * a->stride - a->pad, end = first + a->pool;
    return (dfp_extent){first > 0 ? first : 0, end < a->in ? end : a->in};
}

/* The results whose windows hold pixel i; end <= first if there are none. */
static inline dfp_extent dfp_windows_over(const dfp_pool_axis *a, int64_t i) {
    int64_t last = (i + a->pad) / a->stride, before = i + a->pad - a->pool;
    return (dfp_extent){before < 0 ? 0 : before / a->stride + 1, last < a->out ? last + 1 : a->out};
}

/* The most windows that hold one pixel. */
static int64_t dfp_most_windows(const dfp_pool_axis *a) {
    int64_t most = dfp_ceil_div(a->pool, a->stride);
    return most < a->out ? most : a->out;
}

static void dfp_fill_windows_of(const dfp_pool_axis *a, dfp_extent *table) {
    for (int64_t o = 0; o < a->out; ++o) table[o] = dfp_window_of(a, o);
}

static void dfp_fill_windows_over(const dfp_pool_axis *a, dfp_extent *table) {
    for (int64_t i = 0; i < a->in; ++i) table[i] = dfp_windows_over(a, i);
}

/* Rows [batch * height] of a tensor, shared out to tasks. */
typedef struct {
    int64_t rows, per_task, count;
    int large; /* whether the tensor is, see dfp_is_large */
} dfp_row_tasks;

static dfp_row_tasks dfp_share_rows(int64_t rows, int64_t row_elements, int64_t task_elements) {
    dfp_row_tasks t = {.rows = rows, .per_task = dfp_ceil_div(task_elements, row_elements)};
    t.count = dfp_ceil_div(rows, t.per_task);
    t.large = dfp_is_large(rows * row_elements);
    return t;
}

static dfp_row_tasks dfp_share_input_rows(const dfp_pooling *p) {
    return dfp_share_rows(p->batch * p->rows.in, p->columns.in * p->channels,
                          DFP_POOL_GRADIENT_TASK);
}

static dfp_row_tasks dfp_share_output_rows(const dfp_pooling *p) {
    int64_t rows = p->batch * p->rows.out;
    dfp_row_tasks t =
        dfp_share_rows(rows, p->rows.stride * p->columns.in * p->channels, DFP_POOL_TASK);
    t.large = dfp_is_large(rows * p->columns.out * p->channels);
    return t;
}

static dfp_extent dfp_rows_of(const dfp_row_tasks *t, int64_t task) {
    int64_t first = task * t->per_task, end = first + t->per_task;
    return (dfp_extent){first, end < t->rows ? end : t->rows};
}

/* A tensor that vectors are read from; elements after its end read as 0. */
typedef struct {
    const int16_t *data, *end;
} dfp_readable;

/* Whether all channels fill whole vectors; a constant in the inner loops, which are compiled twice:
 * with a call in them, the compiler would not keep vectors in registers. */
static int dfp_whole_vectors(const dfp_pooling *p) { return p->channels % DFP_STEP == 0; }

DFP_INLINE dfp_vi dfp_read(const dfp_readable *t, int whole, int64_t i) {
    const int16_t *p = t->data + i;
    if (whole || p + DFP_STEP <= t->end) return dfp_load(p);
    int16_t step[DFP_STEP] = {0};
    memcpy(step, p, (size_t)(t->end - p) * sizeof *step);
    return dfp_load(step);
}

/* The channels that a vector from channel c on holds. */
DFP_INLINE int64_t dfp_step_channels(int64_t channels, int whole, int64_t c) {
    return whole || channels - c >= DFP_STEP ? DFP_STEP : channels - c;
}

DFP_INLINE dfp_vi dfp_broadcast_int16(int64_t value) {
    int16_t pair[2] = {(int16_t)value, (int16_t)value};
    return dfp_broadcast_pair(pair);
}

static dfp_readable dfp_input_of(const dfp_pooling *p, const int16_t *x) {
    return (dfp_readable){x, x + p->batch * p->rows.in * p->columns.in * p->channels};
}

static dfp_readable dfp_output_of(const dfp_pooling *p, const int16_t *y) {
    return (dfp_readable){y, y + p->batch * p->rows.out * p->columns.out * p->channels};
}

/* DFP_STEP sums in INT32. */
typedef struct {
    dfp_vi low, high;
} dfp_wide;

DFP_INLINE dfp_wide dfp_add_wide(dfp_wide sum, dfp_vi q) {
    return (dfp_wide){dfp_add(sum.low, dfp_widen_low(q)), dfp_add(sum.high, dfp_widen_high(q))};
}

/* sum * scale as INT16, to the nearest integers. */
DFP_INLINE dfp_vi dfp_round_wide(dfp_wide sum, float scale, float limit) {
    dfp_vf factor = dfp_broadcast_float(scale);
    dfp_vf scaled[2] = {dfp_multiply_float(dfp_to_float(sum.low), factor),
                        dfp_multiply_float(dfp_to_float(sum.high), factor)};
    return dfp_round_between(scaled, -limit, limit);
}
