/* Depthwise backward_weights: dw[tap][c] = the sum over all result pixels of x * dy, in pairs of
 * neighbouring pixels of a row.
 *
 * A run of at most DFP_RUN_PAIRS pairs is summed in INT32 if max|x| * sum|dy| proves it safe for every
 * channel of a block, otherwise its halves are. Runs add up in FP32 in ascending order within a part,
 * parts in FP64; runs and parts depend on data and shape alone. */

#define DFP_RUN_PAIRS 8
/* Elements of dy in a part, unless there would be too many parts. */
#define DFP_DEPTHWISE_PART (64 << 10)
#define DFP_MOST_DEPTHWISE_PARTS 64
/* Neighbouring taps whose sums are in registers together. */
#define DFP_DEPTHWISE_TAPS 3

typedef struct {
    const dfp_conv *c;
    dfp_pixel_source x, dy;
    int32_t max_x, max_dy;
    dfp_power scale;
    int64_t rows_per_part, parts;
    int64_t tap_sums; /* numbers of a tap: whole blocks of channels */
    float *sums;      /* [part][tap][tap_sums] */
    float *dw;
    char *workers;
    size_t worker_bytes;
} dfp_depthwise_gradient;

/* The pixels of one row of dy, and of the rows of x that its taps need. */
typedef struct {
    dfp_pixel_list x, dy;
    dfp_run_counts counts; /* of a task */
} dfp_gradient_rows;

/* The same for one step of channels, which begin at `from`. */
typedef struct {
    const int16_t *const *x, *const *dy;
    int64_t from;
} dfp_gradient_step;

static dfp_gradient_step dfp_gradient_step_at(const dfp_depthwise_gradient *g,
                                              const dfp_gradient_rows *l, int64_t c) {
    if (c < dfp_whole_channels(g->x.channels))
        return (dfp_gradient_step){l->x.whole, l->dy.whole, c};
    return (dfp_gradient_step){l->x.tail, l->dy.tail, 0};
}

/* Whether the INT32 sums of `pairs` pairs of pixels from `pair` on cannot overflow, in a block of
 * channels [first, end). */
static int dfp_is_safe_run(const dfp_depthwise_gradient *g, const dfp_gradient_rows *l,
                           int64_t first, int64_t end, int64_t pair, int64_t pairs) {
    const int16_t one_and_one[2] = {1, 1};
    dfp_vi ones = dfp_broadcast_pair(one_and_one), largest = dfp_zero();
    if ((int64_t)g->max_x * g->max_dy * 2 * pairs <= INT32_MAX) return 1;
    for (int64_t c = first; c < end; c += DFP_STEP) {
        dfp_gradient_step step = dfp_gradient_step_at(g, l, c);
        dfp_vi sum[2] = {dfp_zero(), dfp_zero()}, dy[2];
        for (int64_t p = pair; p < pair + pairs; ++p) {
            dfp_pair_channels(step.dy[2 * p] + step.from, step.dy[2 * p + 1] + step.from, dy);
            for (int h = 0; h < 2; ++h)
                sum[h] = dfp_multiply_add(sum[h], dfp_absolute(dy[h]), ones);
        }
        largest = dfp_largest(largest, dfp_largest(sum[0], sum[1]));
    }
    return dfp_largest_lane(largest) <= dfp_run_limit(g->max_x);
}

/* Adds one run to the sums of `taps` neighbouring taps; x and dy begin at its first pixels. */
DFP_INLINE void dfp_add_run(const dfp_depthwise_gradient *g, dfp_gradient_step s, int64_t pairs,
                            int64_t taps, float *sums) {
    int64_t stride = g->c->stride_w, dilation = g->c->dilation_w;
    dfp_vi sum[DFP_DEPTHWISE_TAPS][2];
    for (int64_t t = 0; t < taps; ++t) sum[t][0] = sum[t][1] = dfp_zero();
    for (int64_t p = 0; p < pairs; ++p, s.x += 2 * stride, s.dy += 2) {
        dfp_vi dy[2], x[2];
        dfp_pair_channels(s.dy[0] + s.from, s.dy[1] + s.from, dy);
        for (int64_t t = 0; t < taps; ++t) {
            const int16_t *const *tap = s.x + t * dilation;
            dfp_pair_channels(tap[0] + s.from, tap[stride] + s.from, x);
            for (int h = 0; h < 2; ++h) sum[t][h] = dfp_multiply_add(sum[t][h], x[h], dy[h]);
        }
    }
    for (int64_t t = 0; t < taps; ++t, sums += g->tap_sums) {
        dfp_order_channels(sum[t]);
        for (int h = 0; h < 2; ++h) {
            float *to = sums + h * DFP_LANES;
            dfp_store_float(to, dfp_add_float(dfp_load_float(to), dfp_to_float(sum[t][h])));
        }
    }
}

/* The same for all taps of one row of the kernel. */
static void dfp_add_run_of_row(const dfp_depthwise_gradient *g, dfp_gradient_step s, int64_t pairs,
                               float *sums) {
    int64_t t = 0, taps = g->c->kernel_w, dilation = g->c->dilation_w;
    for (; t + DFP_DEPTHWISE_TAPS <= taps; t += DFP_DEPTHWISE_TAPS) {
        dfp_add_run(g, s, pairs, DFP_DEPTHWISE_TAPS, sums + t * g->tap_sums);
        s.x += DFP_DEPTHWISE_TAPS * dilation;
    }
    for (; t < taps; ++t, s.x += dilation) dfp_add_run(g, s, pairs, 1, sums + t * g->tap_sums);
}

/* Adds `pairs` pairs of pixels from `pair` on, in as many runs as it takes. */
static void dfp_add_pairs(const dfp_depthwise_gradient *g, dfp_gradient_rows *l, int64_t first,
                          int64_t end, int64_t pair, int64_t pairs, float *sums) {
    if (pairs > 1 && !dfp_is_safe_run(g, l, first, end, pair, pairs)) {
        dfp_add_pairs(g, l, first, end, pair, pairs / 2, sums);
        dfp_add_pairs(g, l, first, end, pair + pairs / 2, pairs - pairs / 2, sums);
        return;
    }
    l->counts.runs += 1;
    l->counts.pairs += pairs;
    for (int64_t c = first; c < end; c += DFP_STEP) {
        dfp_gradient_step step = dfp_gradient_step_at(g, l, c);
        step.dy += 2 * pair;
        step.x += 2 * pair * g->c->stride_w;
        for (int64_t kh = 0; kh < g->c->kernel_h; ++kh, step.x += g->x.width)
            dfp_add_run_of_row(g, step, pairs, sums + kh * g->c->kernel_w * g->tap_sums + c);
    }
}

static void dfp_add_gradient_row(const dfp_depthwise_gradient *g, int64_t image, int64_t i,
                                 dfp_gradient_rows *l, float *sums) {
    const dfp_conv *c = g->c;
    int64_t pairs = g->dy.width / 2, channels = g->x.channels;
    dfp_list_row_pixels(&g->dy, image, i, &l->dy, 0);
    for (int64_t kh = 0; kh < c->kernel_h; ++kh)
        dfp_list_row_pixels(&g->x, image, i * c->stride_h - c->pad_top + kh * c->dilation_h, &l->x,
                            kh);
    for (int64_t first = 0; first < channels; first += DFP_BLOCK) {
        int64_t end = first + DFP_BLOCK < channels ? first + DFP_BLOCK : channels;
        for (int64_t pair = 0; pair < pairs; pair += DFP_RUN_PAIRS) {
            int64_t left = pairs - pair;
            dfp_add_pairs(g, l, first, end, pair, left < DFP_RUN_PAIRS ? left : DFP_RUN_PAIRS,
                          sums);
        }
    }
}

static int64_t dfp_gradient_taps(const dfp_depthwise_gradient *g) {
    return g->c->kernel_h * g->c->kernel_w;
}

static void dfp_depthwise_gradient_task(void *context, int64_t task, int worker) {
    const dfp_depthwise_gradient *g = context;
    char *memory = g->workers + (size_t)worker * g->worker_bytes;
    dfp_gradient_rows l;
    l.x = dfp_take_pixel_list(&memory, g->c->kernel_h * g->x.width);
    l.dy = dfp_take_pixel_list(&memory, g->dy.width);
    l.counts = (dfp_run_counts){task == 0 ? dfp_channel_blocks(g->x.channels) : 0, 0, 0};
    int64_t row = task * g->rows_per_part, end = row + g->rows_per_part, out_h = g->c->out_h;
    float *sums = g->sums + task * dfp_gradient_taps(g) * g->tap_sums;
    memset(sums, 0, (size_t)(dfp_gradient_taps(g) * g->tap_sums) * sizeof *sums);
    if (end > g->c->batch * out_h) end = g->c->batch * out_h;
    for (; row < end; ++row) dfp_add_gradient_row(g, row / out_h, row % out_h, &l, sums);
    dfp_count_runs(l.counts);
}

/* The sums of one tap. */
static void dfp_merge_parts_task(void *context, int64_t tap, int worker) {
    const dfp_depthwise_gradient *g = context;
    int64_t channels = g->x.channels, stride = dfp_gradient_taps(g) * g->tap_sums;
    float *dw = g->dw + tap * channels;
    (void)worker;
    for (int64_t c = 0; c < channels; ++c) {
        const float *sums = g->sums + tap * g->tap_sums + c;
        double total = 0;
        for (int64_t part = 0; part < g->parts; ++part) total += sums[part * stride];
        dw[c] = (float)total * g->scale.first * g->scale.second;
    }
}

static void dfp_cut_depthwise_parts(dfp_depthwise_gradient *g) {
    int64_t rows = g->c->batch * g->c->out_h;
    g->rows_per_part = DFP_DEPTHWISE_PART / (g->c->out_w * g->x.channels);
    if (g->rows_per_part < dfp_ceil_div(rows, DFP_MOST_DEPTHWISE_PARTS))
        g->rows_per_part = dfp_ceil_div(rows, DFP_MOST_DEPTHWISE_PARTS);
    g->parts = dfp_ceil_div(rows, g->rows_per_part);
}

static dfp_status dfp_depthwise_backward_weights(const dfp_conv *c, const dfp_tensor *x,
                                                 const dfp_tensor *dy, float *dw) {
    int64_t channels = c->in_channels, even_w = c->out_w + c->out_w % 2;
    int64_t reach = (even_w - 1) * c->stride_w + (c->kernel_w - 1) * c->dilation_w + 1;
    dfp_depthwise_gradient g = {
        .c = c,
        .x = {x->data, c->in_h, c->in_w, channels, -c->pad_left, reach, NULL},
        .dy = {dy->data, c->out_h, c->out_w, channels, 0, even_w, NULL},
        .max_x = x->max_abs,
        .max_dy = dy->max_abs,
        .scale = dfp_power_of_two(x->exponent + dy->exponent),
        .tap_sums = dfp_channel_blocks(channels) * DFP_BLOCK,
        .dw = dw,
    };
    dfp_cut_depthwise_parts(&g);
    g.worker_bytes = dfp_pixel_list_bytes(c->kernel_h * reach) + dfp_pixel_list_bytes(even_w);
    size_t zeros = dfp_round_up((size_t)(channels + DFP_STEP) * sizeof(int16_t), 64);
    size_t sums = (size_t)(g.parts * dfp_gradient_taps(&g) * g.tap_sums) * sizeof(float);
    dfp_begin();
    g.workers = dfp_worker_workspace(g.worker_bytes);
    char *memory = dfp_shared_workspace(zeros + sums);
    int ready = g.workers && memory;
    if (ready) {
        g.x.zeros = g.dy.zeros = memset(dfp_take(&memory, zeros), 0, zeros);
        g.sums = dfp_take(&memory, sums);
        dfp_parallel(g.parts, dfp_depthwise_gradient_task, &g);
        dfp_parallel(dfp_gradient_taps(&g), dfp_merge_parts_task, &g);
    }
    dfp_end();
    return ready ? DFP_OK : DFP_OUT_OF_MEMORY;
}
