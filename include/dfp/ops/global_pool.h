/* Reductions of each image to one pixel, and their gradients. */

/* Channels that one task reduces. */
#define DFP_GLOBAL_CHANNELS 256
/* This many INT16 numbers always fit an INT32 sum. */
#define DFP_GLOBAL_PIXELS 65536

typedef struct {
    const int16_t *x, *y;
    int64_t batch, pixels, channels;
    int64_t blocks; /* of channels */
    double factor;
    float *result; /* [batch][channels] */
} dfp_global_reduction;

/* The channels [first, end) of one image. */
typedef struct {
    int64_t image, first, end;
} dfp_channel_block;

static dfp_channel_block dfp_channel_block_of(const dfp_global_reduction *g, int64_t task) {
    int64_t first = task % g->blocks * DFP_GLOBAL_CHANNELS, end = first + DFP_GLOBAL_CHANNELS;
    return (dfp_channel_block){task / g->blocks, first, end < g->channels ? end : g->channels};
}

static void dfp_add_block(const dfp_global_reduction *g, dfp_channel_block b, int64_t first,
                          int64_t end, int64_t *totals) {
    int32_t sums[DFP_GLOBAL_CHANNELS] = {0};
    int64_t count = b.end - b.first;
    for (int64_t pixel = first; pixel < end; ++pixel) {
        const int16_t *x = g->x + (b.image * g->pixels + pixel) * g->channels + b.first;
        for (int64_t c = 0; c < count; ++c) sums[c] += x[c];
    }
    for (int64_t c = 0; c < count; ++c) totals[c] += sums[c];
}

static void dfp_global_average_task(void *context, int64_t task, int worker) {
    const dfp_global_reduction *g = context;
    dfp_channel_block b = dfp_channel_block_of(g, task);
    int64_t totals[DFP_GLOBAL_CHANNELS] = {0};
    (void)worker;
    for (int64_t first = 0; first < g->pixels; first += DFP_GLOBAL_PIXELS) {
        int64_t end = first + DFP_GLOBAL_PIXELS;
        dfp_add_block(g, b, first, end < g->pixels ? end : g->pixels, totals);
    }
    float *y = g->result + b.image * g->channels;
    for (int64_t c = b.first; c < b.end; ++c)
        y[c] = (float)((double)totals[c - b.first] / (double)g->pixels * g->factor);
}

static void dfp_count_equal_task(void *context, int64_t task, int worker) {
    const dfp_global_reduction *g = context;
    dfp_channel_block b = dfp_channel_block_of(g, task);
    const int16_t *y = g->y + b.image * g->channels;
    int32_t counts[DFP_GLOBAL_CHANNELS] = {0};
    (void)worker;
    for (int64_t pixel = 0; pixel < g->pixels; ++pixel) {
        const int16_t *x = g->x + (b.image * g->pixels + pixel) * g->channels;
        for (int64_t c = b.first; c < b.end; ++c) counts[c - b.first] += x[c] == y[c];
    }
    for (int64_t c = b.first; c < b.end; ++c)
        g->result[b.image * g->channels + c] = (float)counts[c - b.first];
}

static void dfp_run_global_reduction(dfp_global_reduction *g, dfp_task task) {
    g->blocks = dfp_ceil_div(g->channels, DFP_GLOBAL_CHANNELS);
    dfp_begin();
    dfp_parallel(g->batch * g->blocks, task, g);
    dfp_end();
}

static void dfp_global_average_pool(const dfp_tensor *x, int64_t batch, int64_t pixels,
                                    int64_t channels, float *y) {
    dfp_global_reduction g = {.x = x->data,
                              .batch = batch,
                              .pixels = pixels,
                              .channels = channels,
                              .factor = dfp_exp2_double(x->exponent),
                              .result = y};
    dfp_run_global_reduction(&g, dfp_global_average_task);
}

static void dfp_count_equal(const int16_t *x, const int16_t *y, int64_t batch, int64_t pixels,
                            int64_t channels, float *counts) {
    dfp_global_reduction g = {
        .x = x, .y = y, .batch = batch, .pixels = pixels, .channels = channels, .result = counts};
    dfp_run_global_reduction(&g, dfp_count_equal_task);
}

typedef struct {
    const int16_t *dy, *x, *y;
    int16_t *dx;
    int64_t pixels, channels;
    dfp_row_tasks tasks; /* over the pixels of all images */
} dfp_spreading;

static void dfp_spread_where_equal(const dfp_spreading *s, int64_t pixel, int16_t *dx) {
    int64_t image = pixel / s->pixels * s->channels;
    const int16_t *x = s->x + pixel * s->channels, *dy = s->dy + image, *y = s->y + image;
    for (int64_t c = 0; c < s->channels; ++c) dx[c] = x[c] == y[c] ? dy[c] : 0;
}

static void dfp_spread_task(void *context, int64_t task, int worker) {
    const dfp_spreading *s = context;
    dfp_extent pixels = dfp_rows_of(&s->tasks, task);
    (void)worker;
    for (int64_t pixel = pixels.first; pixel < pixels.end; ++pixel) {
        int16_t *dx = s->dx + pixel * s->channels;
        const int16_t *dy = s->dy + pixel / s->pixels * s->channels;
        if (s->x)
            dfp_spread_where_equal(s, pixel, dx);
        else
            memcpy(dx, dy, (size_t)s->channels * sizeof *dx);
    }
}

static void dfp_spread(const int16_t *dy, const int16_t *x, const int16_t *y, int64_t batch,
                       int64_t pixels, int64_t channels, int16_t *dx) {
    dfp_spreading s = {.dy = dy, .x = x, .y = y, .dx = dx, .pixels = pixels, .channels = channels};
    s.tasks = dfp_share_rows(batch * pixels, channels, DFP_POOL_TASK);
    dfp_begin();
    dfp_parallel(s.tasks.count, dfp_spread_task, &s);
    dfp_end();
}
