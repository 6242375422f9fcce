/* Depthwise forward and backward_data: every result pixel is a sum over taps, in pairs of taps.
 *
 *   out[n, i, j, c] = sum over taps (r, k) of
 *                     in[n, i / phases * step + r, j / phases * step + k, c] * w[tap][c]
 *
 * Forward has one phase, its step is the stride. In backward_data the strides are the phases (see
 * conv_backward_data.h). A block of 64 channels has its own flush schedule (see flush_schedule.h). */

/* Result elements of a task. */
#define DFP_DEPTHWISE_TASK (64 << 10)

typedef struct {
    int64_t taps, pairs;
    int64_t *pixels;  /* of each tap: where its pixel is in the list, from that of column 0 */
    int16_t *weights; /* [block][panel][pair][16][2], channels as dfp_pair_channels orders them */
    int32_t *ends;    /* [block][pairs]: the pair at which each run ends */
    int64_t *runs;    /* of each block */
} dfp_depthwise_phase;

typedef struct {
    dfp_pixel_source source;
    int64_t batch, out_h, out_w;
    int64_t step_h, step_w, phases_h, phases_w;
    dfp_taps *rows, *columns; /* of each phase */
    int64_t most_rows, most_taps;
    const int16_t *weights; /* [kernel_h][kernel_w][channels] */
    int64_t kernel_w;
    int32_t max_in;
    dfp_power scale;
    float *bias;             /* or NULL */
    float *out;              /* or NULL, if the result is wanted in blocks */
    dfp_block_result blocks; /* if it is */
    dfp_depthwise_phase *phases;
    int64_t rows_per_task;
    char *workers;
    size_t worker_bytes;
} dfp_depthwise;

static int64_t dfp_channel_blocks(int64_t channels) { return dfp_ceil_div(channels, DFP_BLOCK); }

/* INT16 from the first to the second vector of a step in packed weights. */
static inline int64_t dfp_second_vector(int64_t pairs) {
    return DFP_LANES / DFP_PANEL * pairs * 2 * DFP_PANEL + DFP_LANES % DFP_PANEL * 2;
}

/* The weights of a step, which has `pairs` pairs. */
static inline int16_t *dfp_step_weights(const dfp_depthwise_phase *p, int64_t pairs, int64_t c) {
    return p->weights + c / DFP_PANEL * pairs * 2 * DFP_PANEL + c % DFP_PANEL * 2;
}

/* The weights of one tap for a step of channels from c on; zeros after the last channel, and for the
 * tap after the last one. */
static void dfp_tap_weights(const dfp_depthwise *d, const dfp_taps *rows, const dfp_taps *columns,
                            int64_t tap, int64_t c, int16_t *to) {
    int64_t channels = d->source.channels,
            count = channels - c < DFP_STEP ? channels - c : DFP_STEP;
    memset(to, 0, DFP_STEP * sizeof *to);
    if (tap >= rows->count * columns->count || count <= 0) return;
    int64_t kernel = rows->kernel_index[tap / columns->count] * d->kernel_w +
                     columns->kernel_index[tap % columns->count];
    memcpy(to, d->weights + kernel * channels + c, (size_t)count * sizeof *to);
}

static void dfp_pack_phase(const dfp_depthwise *d, const dfp_taps *rows, const dfp_taps *columns,
                           dfp_depthwise_phase *p) {
    int16_t even[DFP_STEP], odd[DFP_STEP];
    int64_t blocks = dfp_channel_blocks(d->source.channels);
    for (int64_t t = 0; t < p->taps; ++t)
        p->pixels[t] = t / columns->count * d->source.width + columns->offset[t % columns->count] -
                       d->source.first;
    for (int64_t c = 0; c < blocks * DFP_BLOCK; c += DFP_STEP) {
        int16_t *to = dfp_step_weights(p, p->pairs, c);
        for (int64_t k = 0; k < p->pairs; ++k, to += 2 * DFP_PANEL) {
            dfp_vi pairs[2];
            dfp_tap_weights(d, rows, columns, 2 * k, c, even);
            dfp_tap_weights(d, rows, columns, 2 * k + 1, c, odd);
            dfp_pair_channels(even, odd, pairs);
            dfp_store(to, pairs[0]);
            dfp_store(to + dfp_second_vector(p->pairs), pairs[1]);
        }
    }
    for (int64_t b = 0; b < blocks && p->pairs; ++b) {
        p->runs[b] = dfp_schedule(p->weights + b * p->pairs * 2 * DFP_BLOCK, p->pairs,
                                  DFP_BLOCK_PANELS, d->max_in, p->ends + b * p->pairs);
        dfp_count_runs((dfp_run_counts){1, p->runs[b], p->pairs});
    }
}

DFP_INLINE void dfp_add_tap_pairs(const int16_t *const *window, int64_t from,
                                  const int16_t *weights, int64_t second, int64_t first,
                                  int64_t last, dfp_vi sum[2]) {
    for (int64_t k = first; k < last; ++k) {
        dfp_vi pairs[2];
        dfp_pair_channels(window[2 * k] + from, window[2 * k + 1] + from, pairs);
        const int16_t *w = weights + k * 2 * DFP_PANEL;
        sum[0] = dfp_multiply_add(sum[0], pairs[0], dfp_load(w));
        sum[1] = dfp_multiply_add(sum[1], pairs[1], dfp_load(w + second));
    }
}

/* FP32 sums of DFP_STEP channels from c on, which are those from `from` on in the window. */
DFP_INLINE void dfp_depthwise_sums(const dfp_depthwise_phase *p, int64_t pairs,
                                   const int16_t *const *window, int64_t from, int64_t c,
                                   dfp_vf total[2]) {
    const int16_t *weights = dfp_step_weights(p, pairs, c);
    int64_t second = dfp_second_vector(pairs), block = c / DFP_BLOCK, first = 0;
    const int32_t *ends = p->ends + block * pairs;
    dfp_vi sum[2] = {dfp_zero(), dfp_zero()};
    if (p->runs[block] == 1) {
        dfp_add_tap_pairs(window, from, weights, second, 0, pairs, sum);
        dfp_order_channels(sum);
        for (int h = 0; h < 2; ++h) total[h] = dfp_to_float(sum[h]);
        return;
    }
    total[0] = total[1] = dfp_broadcast_float(0.0f);
    for (int64_t run = 0; run < p->runs[block]; first = ends[run++]) {
        sum[0] = sum[1] = dfp_zero();
        dfp_add_tap_pairs(window, from, weights, second, first, ends[run], sum);
        dfp_order_channels(sum);
        for (int h = 0; h < 2; ++h) total[h] = dfp_add_float(total[h], dfp_to_float(sum[h]));
    }
}

DFP_INLINE void dfp_depthwise_step(const dfp_depthwise *d, const dfp_depthwise_phase *p,
                                   int64_t pairs, const int16_t *const *window, int64_t from,
                                   int64_t c, float *out) {
    dfp_vf total[2], first = dfp_broadcast_float(d->scale.first);
    dfp_vf second = dfp_broadcast_float(d->scale.second);
    dfp_depthwise_sums(p, pairs, window, from, c, total);
    for (int h = 0; h < 2; ++h) {
        dfp_vf y = dfp_multiply_float(dfp_multiply_float(total[h], first), second);
        if (d->bias) y = dfp_add_float(y, dfp_load_float(d->bias + c + h * DFP_LANES));
        dfp_store_float(out + h * DFP_LANES, y);
    }
}

/* One result pixel. `window` and `tail` list the pixels of its taps. */
DFP_INLINE void dfp_depthwise_channels(const dfp_depthwise *d, const dfp_depthwise_phase *p,
                                       int64_t pairs, const int16_t *const *window,
                                       const int16_t *const *tail, float *out) {
    int64_t whole = dfp_whole_channels(d->source.channels), count = d->source.channels - whole;
    for (int64_t c = 0; c < whole; c += DFP_STEP)
        dfp_depthwise_step(d, p, pairs, window, c, c, out + c);
    if (count) {
        float step[DFP_STEP];
        dfp_depthwise_step(d, p, pairs, tail, 0, whole, step);
        memcpy(out + whole, step, (size_t)count * sizeof *step);
    }
}

static void dfp_depthwise_pixel(const dfp_depthwise *d, const dfp_depthwise_phase *p,
                                const int16_t *const *window, const int16_t *const *tail,
                                float *out) {
    switch (p->pairs) { /* The loops over few taps are unrolled: 3 x 3 and its phases. */
        case 0: memset(out, 0, (size_t)d->source.channels * sizeof *out); break;
        case 1: dfp_depthwise_channels(d, p, 1, window, tail, out); break;
        case 2: dfp_depthwise_channels(d, p, 2, window, tail, out); break;
        case 5: dfp_depthwise_channels(d, p, 5, window, tail, out); break;
        default: dfp_depthwise_channels(d, p, p->pairs, window, tail, out);
    }
}

static void dfp_depthwise_row(const dfp_depthwise *d, int64_t image, int64_t i,
                              const dfp_pixel_list *l, const int16_t **window, const int16_t **tail,
                              float *staged) {
    int64_t row_phase = i % d->phases_h, channels = d->source.channels;
    int has_tail = channels > dfp_whole_channels(channels);
    const dfp_taps *rows = d->rows + row_phase;
    for (int64_t r = 0; r < rows->count; ++r)
        dfp_list_row_pixels(&d->source, image, i / d->phases_h * d->step_h + rows->offset[r], l, r);
    for (int64_t phase = 0; phase < d->phases_w; ++phase) {
        const dfp_depthwise_phase *p = d->phases + row_phase * d->phases_w + phase;
        window[2 * p->pairs - (p->pairs > 0)] = tail[2 * p->pairs - (p->pairs > 0)] =
            d->source.zeros;
        for (int64_t j = phase, at = 0; j < d->out_w; j += d->phases_w, at += d->step_w) {
            for (int64_t t = 0; t < p->taps; ++t) window[t] = l->whole[at + p->pixels[t]];
            for (int64_t t = 0; t < p->taps && has_tail; ++t) tail[t] = l->tail[at + p->pixels[t]];
            int64_t place = ((image * d->out_h + i) * d->out_w + j) * channels;
            dfp_depthwise_pixel(d, p, window, tail, d->out ? d->out + place : staged);
            if (!d->out) dfp_write_blocks(&d->blocks, staged, channels, 0, place);
        }
    }
}

static size_t dfp_window_bytes(const dfp_depthwise *d) {
    return dfp_round_up((size_t)(d->most_taps + 1) * sizeof(int16_t *), 64);
}

/* One pixel, before it is written in blocks. */
static size_t dfp_staged_pixel_bytes(const dfp_depthwise *d) {
    return d->out ? 0 : dfp_round_up((size_t)d->source.channels * sizeof(float), 64);
}

static void dfp_depthwise_task(void *context, int64_t task, int worker) {
    const dfp_depthwise *d = context;
    char *memory = d->workers + (size_t)worker * d->worker_bytes;
    dfp_pixel_list list = dfp_take_pixel_list(&memory, d->most_rows * d->source.width);
    const int16_t **window = dfp_take(&memory, dfp_window_bytes(d));
    const int16_t **tail = dfp_take(&memory, dfp_window_bytes(d));
    float *staged = dfp_take(&memory, dfp_staged_pixel_bytes(d));
    int64_t row = task * d->rows_per_task, end = row + d->rows_per_task;
    if (end > d->batch * d->out_h) end = d->batch * d->out_h;
    for (; row < end; ++row)
        dfp_depthwise_row(d, row / d->out_h, row % d->out_h, &list, window, tail, staged);
}

static size_t dfp_phase_bytes(int64_t taps, int64_t channels) {
    int64_t pairs = (taps + 1) / 2, blocks = dfp_channel_blocks(channels);
    return dfp_round_up((size_t)taps * sizeof(int64_t), 64) +
           dfp_round_up((size_t)(blocks * pairs * 2 * DFP_BLOCK) * sizeof(int16_t), 64) +
           dfp_round_up((size_t)(blocks * pairs) * sizeof(int32_t), 64) +
           dfp_round_up((size_t)blocks * sizeof(int64_t), 64);
}

static size_t dfp_depthwise_bytes(const dfp_depthwise *d, int64_t kernel_h) {
    int64_t phases = d->phases_h * d->phases_w, channels = d->source.channels;
    size_t taps = (size_t)d->phases_h * dfp_taps_bytes(kernel_h) +
                  (size_t)d->phases_w * dfp_taps_bytes(d->kernel_w);
    return taps + dfp_round_up((size_t)d->phases_h * sizeof(dfp_taps), 64) +
           dfp_round_up((size_t)d->phases_w * sizeof(dfp_taps), 64) +
           dfp_round_up((size_t)phases * sizeof(dfp_depthwise_phase), 64) +
           (size_t)phases * dfp_phase_bytes(kernel_h * d->kernel_w, channels) +
           dfp_round_up((size_t)(channels + DFP_STEP) * sizeof(int16_t), 64) +
           dfp_round_up((size_t)(channels + DFP_STEP) * sizeof(float), 64);
}

static void dfp_plan_phase(dfp_depthwise *d, int64_t phase, char **memory) {
    const dfp_taps *rows = d->rows + phase / d->phases_w,
                   *columns = d->columns + phase % d->phases_w;
    int64_t blocks = dfp_channel_blocks(d->source.channels);
    dfp_depthwise_phase *p = d->phases + phase;
    p->taps = rows->count * columns->count;
    p->pairs = (p->taps + 1) / 2;
    p->pixels = dfp_take(memory, (size_t)p->taps * sizeof(int64_t));
    p->weights = dfp_take(memory, (size_t)(blocks * p->pairs * 2 * DFP_BLOCK) * sizeof(int16_t));
    p->ends = dfp_take(memory, (size_t)(blocks * p->pairs) * sizeof(int32_t));
    p->runs = dfp_take(memory, (size_t)blocks * sizeof(int64_t));
    dfp_pack_phase(d, rows, columns, p);
}

/* The columns that the taps of the grid's pixels span. */
static void dfp_span_columns(dfp_depthwise *d) {
    int64_t first = INT64_MAX, last = INT64_MIN;
    for (int64_t phase = 0; phase < d->phases_w; ++phase) {
        const dfp_taps *t = d->columns + phase;
        if (!t->count) continue;
        first = t->offset[0] < first ? t->offset[0] : first;
        last = t->offset[t->count - 1] > last ? t->offset[t->count - 1] : last;
    }
    d->source.first = first;
    d->source.width = last - first + 1 + (dfp_ceil_div(d->out_w, d->phases_w) - 1) * d->step_w;
}

static void dfp_choose_row_tasks(dfp_depthwise *d) {
    int64_t total = d->batch * d->out_h, tasks = DFP_TASKS_PER_THREAD * dfp_get_num_threads();
    int64_t most = DFP_DEPTHWISE_TASK / (d->out_w * d->source.channels);
    d->rows_per_task = total / tasks < most ? total / tasks : most;
    if (d->rows_per_task < 1) d->rows_per_task = 1;
}

/* Packs the weights and computes, once rows, columns and phases are listed. */
static dfp_status dfp_run_depthwise(dfp_depthwise *d, const float *bias, char *memory) {
    int64_t channels = d->source.channels;
    int16_t *zeros = dfp_take(&memory, (size_t)(channels + DFP_STEP) * sizeof(int16_t));
    memset(zeros, 0, (size_t)(channels + DFP_STEP) * sizeof *zeros);
    d->source.zeros = zeros;
    float *row = dfp_take(&memory, (size_t)(channels + DFP_STEP) * sizeof(float));
    memset(row, 0, (size_t)(channels + DFP_STEP) * sizeof *row);
    if (bias) d->bias = memcpy(row, bias, (size_t)channels * sizeof *row);
    dfp_span_columns(d);
    d->phases = dfp_take(&memory, (size_t)(d->phases_h * d->phases_w) * sizeof *d->phases);
    for (int64_t phase = 0; phase < d->phases_h * d->phases_w; ++phase)
        dfp_plan_phase(d, phase, &memory);
    dfp_choose_row_tasks(d);
    d->worker_bytes = dfp_pixel_list_bytes(d->most_rows * d->source.width) +
                      2 * dfp_window_bytes(d) + dfp_staged_pixel_bytes(d);
    d->workers = dfp_worker_workspace(d->worker_bytes);
    if (!d->workers) return DFP_OUT_OF_MEMORY;
    dfp_parallel(dfp_ceil_div(d->batch * d->out_h, d->rows_per_task), dfp_depthwise_task, d);
    return DFP_OK;
}

static dfp_status dfp_depthwise_forward(const dfp_conv *c, const dfp_tensor *x, const dfp_tensor *w,
                                        float *y) {
    dfp_depthwise d = {
        .source = {.data = x->data,
                   .rows = c->in_h,
                   .columns = c->in_w,
                   .channels = c->in_channels},
        .batch = c->batch,
        .out_h = c->out_h,
        .out_w = c->out_w,
        .step_h = c->stride_h,
        .step_w = c->stride_w,
        .phases_h = 1,
        .phases_w = 1,
        .most_rows = c->kernel_h,
        .most_taps = c->kernel_h * c->kernel_w,
        .weights = w->data,
        .kernel_w = c->kernel_w,
        .max_in = x->max_abs,
        .scale = dfp_power_of_two(x->exponent + w->exponent),
        .out = y,
        .blocks = dfp_output_blocks(c, c->out_channels),
    };
    dfp_status status = DFP_OUT_OF_MEMORY;
    dfp_begin();
    char *memory = dfp_shared_workspace(dfp_depthwise_bytes(&d, c->kernel_h));
    if (memory) {
        dfp_taps rows = dfp_forward_taps(&memory, c->kernel_h, c->dilation_h, c->pad_top);
        dfp_taps columns = dfp_forward_taps(&memory, c->kernel_w, c->dilation_w, c->pad_left);
        d.rows = &rows;
        d.columns = &columns;
        status = dfp_run_depthwise(&d, c->bias, memory);
    }
    dfp_end();
    return status;
}

static dfp_taps *dfp_list_phases(char **memory, int64_t kernel, int64_t stride, int64_t dilation,
                                 int64_t pad) {
    dfp_taps *phases = dfp_take(memory, (size_t)stride * sizeof *phases);
    for (int64_t phase = 0; phase < stride; ++phase) {
        phases[phase] = dfp_room_for_taps(memory, kernel);
        dfp_phase_taps(phases + phase, phase, kernel, stride, dilation, pad);
    }
    return phases;
}

static dfp_status dfp_depthwise_backward_data(const dfp_conv *c, const dfp_tensor *dy,
                                              const dfp_tensor *w, float *dx) {
    dfp_depthwise d = {
        .source = {.data = dy->data,
                   .rows = c->out_h,
                   .columns = c->out_w,
                   .channels = c->in_channels},
        .batch = c->batch,
        .out_h = c->in_h,
        .out_w = c->in_w,
        .step_h = 1,
        .step_w = 1,
        .phases_h = c->stride_h,
        .phases_w = c->stride_w,
        .most_rows = c->kernel_h,
        .most_taps = c->kernel_h * c->kernel_w,
        .weights = w->data,
        .kernel_w = c->kernel_w,
        .max_in = dy->max_abs,
        .scale = dfp_power_of_two(dy->exponent + w->exponent),
        .out = dx,
        .blocks = dfp_input_blocks(c, c->in_channels),
    };
    dfp_status status = DFP_OUT_OF_MEMORY;
    dfp_begin();
    char *memory = dfp_shared_workspace(dfp_depthwise_bytes(&d, c->kernel_h));
    if (memory) {
        d.rows = dfp_list_phases(&memory, c->kernel_h, c->stride_h, c->dilation_h, c->pad_top);
        d.columns = dfp_list_phases(&memory, c->kernel_w, c->stride_w, c->dilation_w, c->pad_left);
        status = dfp_run_depthwise(&d, NULL, memory);
    }
    dfp_end();
    return status;
}
