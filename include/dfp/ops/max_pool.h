/* The maximum of each window, and its gradient: dy at the first pixel that is the maximum. */

typedef struct {
    dfp_pooling p;
    dfp_readable x;
    int16_t *y;
    dfp_row_tasks tasks; /* over the rows of y */
    dfp_extent *columns; /* of each window */
    int32_t *largest;    /* of each task */
} dfp_max_pool;

/* `image` is the first row of an image among those of all images. */
DFP_INLINE dfp_vi dfp_window_maximum(const dfp_max_pool *m, int whole, int64_t image,
                                     dfp_extent rows, dfp_extent columns, int64_t c) {
    int64_t width = m->p.columns.in, channels = m->p.channels;
    int64_t first = ((image + rows.first) * width + columns.first) * channels + c;
    dfp_vi maximum = dfp_read(&m->x, whole, first);
    for (int64_t h = rows.first; h < rows.end; ++h, first += width * channels)
        for (int64_t w = 0; w < columns.end - columns.first; ++w)
            maximum = dfp_max_int16(maximum, dfp_read(&m->x, whole, first + w * channels));
    return maximum;
}

DFP_INLINE dfp_vi dfp_max_pool_row(const dfp_max_pool *m, int whole, int64_t row, dfp_vi largest) {
    const dfp_pooling *p = &m->p;
    int64_t image = row / p->rows.out * p->rows.in, channels = p->channels;
    dfp_extent rows = dfp_window_of(&p->rows, row % p->rows.out);
    int16_t *y = m->y + row * p->columns.out * channels;
    for (int64_t o = 0; o < p->columns.out; ++o, y += channels) {
        for (int64_t c = 0; c < channels; c += DFP_STEP) {
            dfp_vi maximum = dfp_window_maximum(m, whole, image, rows, m->columns[o], c);
            largest = dfp_emit(y + c, maximum, dfp_step_channels(channels, whole, c),
                               m->tasks.large, largest);
        }
    }
    return largest;
}

DFP_INLINE void dfp_max_pool_rows(dfp_max_pool m, int whole, int64_t task) {
    dfp_extent rows = dfp_rows_of(&m.tasks, task);
    dfp_vi largest = dfp_zero();
    for (int64_t row = rows.first; row < rows.end; ++row)
        largest = dfp_max_pool_row(&m, whole, row, largest);
    m.largest[task] = dfp_largest_int_lane(largest);
}

static void dfp_max_pool_task(void *context, int64_t task, int worker) {
    const dfp_max_pool *m = context;
    (void)worker;
    if (dfp_whole_vectors(&m->p))
        dfp_max_pool_rows(*m, 1, task);
    else
        dfp_max_pool_rows(*m, 0, task);
}

static dfp_status dfp_max_pool_forward(const dfp_pooling *p, const dfp_tensor *x, dfp_result *y) {
    dfp_max_pool m = {.p = *p, .x = dfp_input_of(p, x->data), .y = y->data};
    m.tasks = dfp_share_output_rows(p);
    size_t columns = (size_t)p->columns.out * sizeof *m.columns;
    size_t largest = (size_t)m.tasks.count * sizeof *m.largest;
    dfp_begin();
    char *memory = dfp_shared_workspace(dfp_round_up(columns, 64) + largest);
    if (memory) {
        m.columns = dfp_take(&memory, columns);
        m.largest = dfp_take(&memory, largest);
        dfp_fill_windows_of(&p->columns, m.columns);
        dfp_parallel(m.tasks.count, dfp_max_pool_task, &m);
        y->scale = (dfp_scale){x->exponent, dfp_largest_of(m.largest, m.tasks.count)};
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}

/* A task writes rows of dx one by one. For the rows of windows over them it keeps the winners: for
 * each window the number of the pixel, counted row by row, that is its first maximum. */
typedef struct {
    dfp_pooling p;
    dfp_readable dy, x, y;
    int16_t *dx;
    dfp_row_tasks tasks;        /* over the rows of dx */
    dfp_extent *columns, *over; /* of each window; the windows over each column */
    float scale, limit;
    char *workers;
    size_t worker_bytes;
    int64_t kept_rows;  /* of winners, a power of two; row o is kept at o % kept_rows */
    int64_t winner_row; /* elements of one, after which a vector may be stored */
    int32_t *largest;   /* of each task */
} dfp_max_pool_gradient;

static int16_t *dfp_winners(const dfp_max_pool_gradient *g, int worker, int64_t o) {
    int16_t *winners = (int16_t *)(g->workers + (size_t)worker * g->worker_bytes);
    return winners + (o & (g->kept_rows - 1)) * g->winner_row;
}

/* Backwards over the window at (top, left), so that the first of equal pixels is written last. */
DFP_INLINE dfp_vi dfp_winner(const dfp_max_pool_gradient *g, int whole, int64_t image, int64_t top,
                             int64_t left, dfp_extent rows, dfp_extent columns, int64_t c,
                             dfp_vi maximum) {
    int64_t width = g->p.columns.in, channels = g->p.channels;
    dfp_vi winner = dfp_zero();
    for (int64_t h = rows.end - 1; h >= rows.first; --h) {
        int64_t row = (image + h) * width, number = (h - top) * g->p.columns.pool - left;
        for (int64_t w = columns.end - 1; w >= columns.first; --w) {
            dfp_vi x = dfp_read(&g->x, whole, (row + w) * channels + c);
            winner = dfp_replace_equal(winner, x, maximum, dfp_broadcast_int16(number + w));
        }
    }
    return winner;
}

/* Of row o of the windows of image n. Whole vectors are stored, in ascending order. */
DFP_INLINE void dfp_find_winners(const dfp_max_pool_gradient *g, int whole, int64_t n, int64_t o,
                                 int16_t *winners) {
    const dfp_pooling *p = &g->p;
    int64_t channels = p->channels, top = o * p->rows.stride - p->rows.pad;
    int64_t y = (n * p->rows.out + o) * p->columns.out * channels;
    dfp_extent rows = dfp_window_of(&p->rows, o);
    for (int64_t w = 0; w < p->columns.out; ++w, y += channels, winners += channels) {
        int64_t left = w * p->columns.stride - p->columns.pad;
        for (int64_t c = 0; c < channels; c += DFP_STEP) {
            dfp_vi maximum = dfp_read(&g->y, whole, y + c);
            dfp_store(winners + c, dfp_winner(g, whole, n * p->rows.in, top, left, rows,
                                              g->columns[w], c, maximum));
        }
    }
}

/* Adds dy of the windows `columns` of one row, from element `dy` on, where pixel
 * `number` - column * stride is the winner. */
DFP_INLINE dfp_wide dfp_add_won(const dfp_max_pool_gradient *g, int whole, dfp_wide sum, int64_t dy,
                                const int16_t *winners, dfp_extent columns, int64_t number) {
    int64_t channels = g->p.channels, stride = g->p.columns.stride;
    for (int64_t o = columns.first; o < columns.end; ++o) {
        dfp_vi winner = dfp_load(winners + o * channels);
        dfp_vi here = dfp_broadcast_int16(number - o * stride);
        dfp_vi q = dfp_read(&g->dy, whole, dy + o * channels);
        sum = dfp_add_wide(sum, dfp_keep_equal(q, winner, here));
    }
    return sum;
}

/* The vector from channel c on of pixel (h, w) of image n, under the windows `rows`. */
DFP_INLINE dfp_vi dfp_max_pool_gradient_step(const dfp_max_pool_gradient *g, int whole, int worker,
                                             int64_t n, int64_t h, int64_t w, dfp_extent rows,
                                             int64_t c) {
    const dfp_pooling *p = &g->p;
    dfp_wide sum = {dfp_zero(), dfp_zero()};
    for (int64_t o = rows.first; o < rows.end; ++o) {
        int64_t dy = (n * p->rows.out + o) * p->columns.out * p->channels + c;
        int64_t below = h + p->rows.pad - o * p->rows.stride;
        sum = dfp_add_won(g, whole, sum, dy, dfp_winners(g, worker, o) + c, g->over[w],
                          below * p->columns.pool + w + p->columns.pad);
    }
    return dfp_round_wide(sum, g->scale, g->limit);
}

DFP_INLINE dfp_vi dfp_max_pool_gradient_row(const dfp_max_pool_gradient *g, int whole, int worker,
                                            int64_t row, dfp_vi largest) {
    const dfp_pooling *p = &g->p;
    int64_t n = row / p->rows.in, h = row % p->rows.in, channels = p->channels;
    dfp_extent rows = dfp_windows_over(&p->rows, h);
    int16_t *dx = g->dx + row * p->columns.in * channels;
    for (int64_t w = 0; w < p->columns.in; ++w, dx += channels) {
        for (int64_t c = 0; c < channels; c += DFP_STEP) {
            dfp_vi q = dfp_max_pool_gradient_step(g, whole, worker, n, h, w, rows, c);
            largest =
                dfp_emit(dx + c, q, dfp_step_channels(channels, whole, c), g->tasks.large, largest);
        }
    }
    return largest;
}

DFP_INLINE void dfp_max_pool_gradient_rows(dfp_max_pool_gradient g, int whole, int64_t task,
                                           int worker) {
    const dfp_pooling *p = &g.p;
    dfp_extent rows = dfp_rows_of(&g.tasks, task);
    dfp_vi largest = dfp_zero();
    int64_t known = 0; /* rows of windows, of all images, whose winners have been found */
    for (int64_t row = rows.first; row < rows.end; ++row) {
        int64_t n = row / p->rows.in, before = n * p->rows.out;
        dfp_extent over = dfp_windows_over(&p->rows, row % p->rows.in);
        for (int64_t o = over.first; o < over.end; ++o) {
            if (before + o < known) continue;
            dfp_find_winners(&g, whole, n, o, dfp_winners(&g, worker, o));
            known = before + o + 1;
        }
        largest = dfp_max_pool_gradient_row(&g, whole, worker, row, largest);
    }
    g.largest[task] = dfp_largest_int_lane(largest);
}

static void dfp_max_pool_gradient_task(void *context, int64_t task, int worker) {
    const dfp_max_pool_gradient *g = context;
    if (dfp_whole_vectors(&g->p))
        dfp_max_pool_gradient_rows(*g, 1, task, worker);
    else
        dfp_max_pool_gradient_rows(*g, 0, task, worker);
}

/* Bits by which sums of `numbers` numbers are shifted right to have `bits` bits. */
static int32_t dfp_sum_shift(int64_t numbers, int32_t max_abs, int32_t bits) {
    int32_t shift = 0;
    while (numbers * max_abs >> (bits + shift)) ++shift;
    return shift;
}

static void dfp_run_max_pool_gradient(dfp_max_pool_gradient *g, const dfp_tensor *dy,
                                      dfp_result *dx, int32_t bits) {
    const dfp_pooling *p = &g->p;
    int64_t windows = dfp_most_windows(&p->rows) * dfp_most_windows(&p->columns);
    int32_t shift = dfp_sum_shift(windows, dy->max_abs, bits), e = dy->exponent + shift;
    if (e > DFP_MAX_EXPONENT) e = DFP_NONFINITE_EXPONENT;
    if (!dfp_begin_result(dx, e, p->batch * p->rows.in * p->columns.in * p->channels)) return;
    g->scale = dfp_exp2(-shift);
    g->limit = (float)((1 << bits) - 1);
    dfp_fill_windows_of(&p->columns, g->columns);
    dfp_fill_windows_over(&p->columns, g->over);
    dfp_parallel(g->tasks.count, dfp_max_pool_gradient_task, g);
    dx->scale.max_abs = dfp_largest_of(g->largest, g->tasks.count);
}

static dfp_status dfp_max_pool_backward(const dfp_pooling *p, const dfp_tensor *dy,
                                        const dfp_tensor *x, const dfp_tensor *y, dfp_result *dx,
                                        int32_t bits) {
    dfp_max_pool_gradient g = {
        .p = *p,
        .dy = dfp_output_of(p, dy->data),
        .x = dfp_input_of(p, x->data),
        .y = dfp_output_of(p, y->data),
        .dx = dx->data,
        .tasks = dfp_share_input_rows(p),
        .kept_rows = 1,
        .winner_row = p->columns.out * p->channels + DFP_STEP,
    };
    while (g.kept_rows < dfp_most_windows(&p->rows)) g.kept_rows *= 2;
    g.worker_bytes = dfp_round_up((size_t)(g.kept_rows * g.winner_row) * sizeof(int16_t), 64);
    size_t columns = (size_t)p->columns.out * sizeof *g.columns;
    size_t over = (size_t)p->columns.in * sizeof *g.over;
    size_t largest = (size_t)g.tasks.count * sizeof *g.largest;
    dfp_begin();
    char *memory =
        dfp_shared_workspace(dfp_round_up(columns, 64) + dfp_round_up(over, 64) + largest);
    g.workers = dfp_worker_workspace(g.worker_bytes);
    if (memory && g.workers) {
        g.columns = dfp_take(&memory, columns);
        g.over = dfp_take(&memory, over);
        g.largest = dfp_take(&memory, largest);
        dfp_run_max_pool_gradient(&g, dy, dx, bits);
    }
    dfp_end();
    return memory && g.workers ? DFP_OK : DFP_OUT_OF_MEMORY;
}
