/* Padding with zeros, cropping, and slicing an axis, which is cropping. */

typedef struct {
    const dfp_pad_and_crop_shape *f;
    const int16_t *x;
    int16_t *y;
    dfp_row_tasks tasks; /* over the rows of y */
} dfp_pad_and_crop_plan;

static int64_t dfp_between(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

static void dfp_pad_and_crop_row(const dfp_pad_and_crop_plan *r, int64_t row) {
    const dfp_pad_and_crop_shape *f = r->f;
    int64_t i = row % f->out_h - f->top, inside = i >= 0 && i < f->in_h;
    /* x fills the columns [first, end) of y. */
    int64_t first = inside ? dfp_between(f->left, 0, f->out_w) : f->out_w;
    int64_t end = dfp_between(f->left + f->in_w, first, f->out_w);
    size_t pixel = (size_t)f->channels * sizeof(int16_t);
    int16_t *y = r->y + row * f->out_w * f->channels;
    memset(y, 0, (size_t)first * pixel);
    if (end > first) {
        int64_t from = (row / f->out_h * f->in_h + i) * f->in_w + first - f->left;
        memcpy(y + first * f->channels, r->x + from * f->channels, (size_t)(end - first) * pixel);
    }
    memset(y + end * f->channels, 0, (size_t)(f->out_w - end) * pixel);
}

static void dfp_pad_and_crop_task(void *context, int64_t task, int worker) {
    const dfp_pad_and_crop_plan *r = context;
    dfp_extent rows = dfp_rows_of(&r->tasks, task);
    (void)worker;
    for (int64_t row = rows.first; row < rows.end; ++row) dfp_pad_and_crop_row(r, row);
}

static void dfp_pad_and_crop(const dfp_pad_and_crop_shape *f, const int16_t *x, int16_t *y) {
    dfp_pad_and_crop_plan r = {.f = f, .x = x, .y = y};
    r.tasks = dfp_share_rows(f->batch * f->out_h, f->out_w * f->channels, DFP_POOL_TASK);
    dfp_begin();
    dfp_parallel(r.tasks.count, dfp_pad_and_crop_task, &r);
    dfp_end();
}
