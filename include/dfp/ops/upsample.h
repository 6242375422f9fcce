/* Every pixel of an image as often as a window has pixels; the gradient is a sum pooling (average_pool.h). */

typedef struct {
    const dfp_pooling *p; /* whose input is the result */
    const int16_t *x;
    int16_t *y;
    dfp_row_tasks tasks; /* over the rows of x */
} dfp_upsampling;

static void dfp_upsample_row(const dfp_upsampling *u, int64_t row) {
    const dfp_pooling *p = u->p;
    size_t pixel = (size_t)p->channels * sizeof(int16_t), length = (size_t)p->columns.in * pixel;
    char *first = (char *)u->y + (size_t)(row * p->rows.pool) * length, *to = first;
    const char *from = (const char *)u->x + (size_t)(row * p->columns.out) * pixel;
    for (int64_t w = 0; w < p->columns.out; ++w, from += pixel)
        for (int64_t i = 0; i < p->columns.pool; ++i, to += pixel) memcpy(to, from, pixel);
    for (int64_t i = 1; i < p->rows.pool; ++i, to += length) memcpy(to, first, length);
}

static void dfp_upsample_task(void *context, int64_t task, int worker) {
    const dfp_upsampling *u = context;
    dfp_extent rows = dfp_rows_of(&u->tasks, task);
    (void)worker;
    for (int64_t row = rows.first; row < rows.end; ++row) dfp_upsample_row(u, row);
}

static void dfp_upsample(const dfp_pooling *p, const int16_t *x, int16_t *y) {
    dfp_upsampling u = {.p = p, .x = x, .y = y};
    u.tasks = dfp_share_rows(p->batch * p->rows.out, p->rows.pool * p->columns.in * p->channels,
                             DFP_POOL_TASK);
    dfp_begin();
    dfp_parallel(u.tasks.count, dfp_upsample_task, &u);
    dfp_end();
}
