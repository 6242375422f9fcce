/* dw[kh, kw, ci, co] = sum over output pixels of x[tap pixel, ci] * dy[pixel, co].
 *
 * The reduction runs over output pixels; pairs are adjacent pixels of one output row (n, oh), a row of
 * odd length is padded with a zero. The packed operand is dy, the broadcast one x, transposed to
 * [channel][row][column % stride][column / stride], where the pixels that one tap sees are contiguous.
 *
 * The order of the FP32 additions depends on the shape alone:
 *   - a block is max(1, 1024 / out_w) of the batch * out_h output rows, or, for a 1x1 convolution
 *     without padding, 1024 consecutive output pixels, which then count as one row; the last block
 *     may be smaller; the flush schedule begins anew in each block;
 *   - blocks are dealt to P = min(blocks, 16, max(1, 2^20 / elements of dw)) parts, part p taking the
 *     blocks [p * blocks / P, (p + 1) * blocks / P);
 *   - within a part runs are added in ascending order, starting from 0; then parts, ascending. */

#define DFP_BLOCK_PIXELS 1024
/* INT16 in a cache line. */
#define DFP_LINE 32
#define DFP_MOST_PARTS 16
#define DFP_PARTS_ELEMENTS (1 << 20)
/* Bytes of transposed x that stay in the second-level cache beside a block of dy. */
#define DFP_TRANSPOSED_BYTES (256 << 10)

typedef struct {
    dfp_conv c;
    const int16_t *x, *dy;
    dfp_flush_rule rule;
    float *dw;      /* part 0 */
    float *partial; /* parts 1, 2, ... */
    dfp_power scale;

    int64_t group_in, group_out, taps, elements;
    int pointwise;
    int64_t rows_per_block, blocks, parts;
    int64_t segments_per_block, pairs_per_block; /* at most */
    int64_t pairs_per_row, phase_w, row_stride;
    int64_t plane; /* INT16 of one transposed channel */
    int64_t channels_per_task, channel_tasks, blocks_per_task, column_tasks;
    char *workers;
    size_t worker_bytes;
} dfp_weights_gradient;

/* The scratch memory of one thread. */
typedef struct {
    int16_t *transposed;
    int16_t *packed;
    int64_t *dy_rows;
    int32_t *ends;
    dfp_segment *segments;
    dfp_span *spans;
} dfp_weights_scratch;

static int64_t dfp_slots(const dfp_weights_gradient *g) {
    const dfp_conv *c = &g->c;
    int64_t reach = (c->kernel_h - 1) * c->dilation_h + 1;
    return g->rows_per_block * c->stride_h + (g->rows_per_block / c->out_h + 2) * reach;
}

static int64_t dfp_odd_lines(int64_t values) {
    /* An odd number of cache lines: planes must not compete for the same cache sets. */
    return (dfp_ceil_div(values, DFP_LINE) | 1) * DFP_LINE;
}

static void dfp_plan_pixels(dfp_weights_gradient *g) {
    int64_t pixels = g->c.batch * g->c.out_h * g->c.out_w;
    g->blocks = dfp_ceil_div(pixels, DFP_BLOCK_PIXELS);
    g->segments_per_block = 1;
    g->pairs_per_block = dfp_ceil_div(pixels < DFP_BLOCK_PIXELS ? pixels : DFP_BLOCK_PIXELS, 2);
    g->plane = dfp_odd_lines(2 * g->pairs_per_block);
}

static void dfp_plan_rows(dfp_weights_gradient *g) {
    const dfp_conv *c = &g->c;
    int64_t rows = c->batch * c->out_h;
    int64_t scratch_w = (c->out_w - 1) * c->stride_w + (c->kernel_w - 1) * c->dilation_w + 1;
    g->rows_per_block = DFP_BLOCK_PIXELS / c->out_w;
    if (g->rows_per_block < 1) g->rows_per_block = 1;
    if (g->rows_per_block > rows) g->rows_per_block = rows;
    g->blocks = dfp_ceil_div(rows, g->rows_per_block);
    g->pairs_per_row = dfp_ceil_div(c->out_w, 2);
    g->segments_per_block = g->rows_per_block;
    g->pairs_per_block = g->rows_per_block * g->pairs_per_row;
    g->phase_w = dfp_ceil_div(scratch_w, c->stride_w);
    g->row_stride = c->stride_w * g->phase_w;
    g->plane = dfp_odd_lines(dfp_slots(g) * g->row_stride + 2);
}

static void dfp_plan_parts(dfp_weights_gradient *g) {
    g->parts = DFP_PARTS_ELEMENTS / g->elements;
    if (g->parts > DFP_MOST_PARTS) g->parts = DFP_MOST_PARTS;
    if (g->parts > g->blocks) g->parts = g->blocks;
    if (g->parts < 1) g->parts = 1;
}

/* Cuts channels and columns into tasks; results do not depend on how. */
static void dfp_plan_tasks(dfp_weights_gradient *g) {
    int64_t threads = dfp_get_num_threads(), blocks = dfp_ceil_div(g->group_out, DFP_BLOCK);
    int64_t channels = DFP_TRANSPOSED_BYTES / (g->plane * (int64_t)sizeof(int16_t));
    if (channels < 8) channels = 8;
    if (channels > g->group_in) channels = g->group_in;
    g->channel_tasks = dfp_ceil_div(g->group_in, channels);
    g->channels_per_task = dfp_ceil_div(g->group_in, g->channel_tasks);
    if (g->channel_tasks > 1) g->channels_per_task = dfp_ceil_div(g->channels_per_task, 8) * 8;
    g->channel_tasks = dfp_ceil_div(g->group_in, g->channels_per_task);
    int64_t others = g->parts * g->c.groups * g->channel_tasks;
    g->column_tasks = dfp_ceil_div(3 * threads, others);
    if (g->column_tasks > blocks) g->column_tasks = blocks;
    g->blocks_per_task = dfp_ceil_div(blocks, g->column_tasks);
    g->column_tasks = dfp_ceil_div(blocks, g->blocks_per_task);
}

static dfp_weights_scratch dfp_weights_take(const dfp_weights_gradient *g, char *memory) {
    dfp_weights_scratch s;
    int64_t pairs = g->pairs_per_block, segments = g->segments_per_block;
    s.transposed =
        dfp_take(&memory, (size_t)(g->channels_per_task * g->plane) * sizeof(int16_t));
    s.packed = dfp_take(&memory, (size_t)pairs * 2 * DFP_BLOCK * sizeof(int16_t));
    s.dy_rows = dfp_take(&memory, (size_t)pairs * 2 * sizeof(int64_t));
    s.ends = dfp_take(&memory, (size_t)pairs * sizeof(int32_t));
    s.segments = dfp_take(&memory, (size_t)(segments + 1) * sizeof(dfp_segment));
    s.spans = dfp_take(&memory, (size_t)(pairs + segments) * sizeof(dfp_span));
    return s;
}

static size_t dfp_weights_scratch_bytes(const dfp_weights_gradient *g) {
    char *nowhere = (char *)(uintptr_t)64;
    dfp_weights_scratch s = dfp_weights_take(g, nowhere);
    return (size_t)((char *)(s.spans + g->pairs_per_block + g->segments_per_block) - nowhere);
}

/* Transposes one input row of `channels` channels, a phase of columns at a time. */
static void dfp_transpose_row(const dfp_weights_gradient *g, int64_t image, int64_t row,
                              int64_t channel, int64_t channels, int16_t *to) {
    const dfp_conv *c = &g->c;
    const int16_t *x = g->x + (image * c->in_h + row) * c->in_w * c->in_channels + channel;
    for (int64_t phase = 0; phase < c->stride_w; ++phase, to += g->phase_w) {
        int64_t before = c->pad_left - phase;
        int64_t first = before > 0 ? dfp_ceil_div(before, c->stride_w) : 0;
        int64_t column = phase + first * c->stride_w - c->pad_left;
        int64_t count = column < c->in_w ? dfp_ceil_div(c->in_w - column, c->stride_w) : 0;
        if (first > g->phase_w) first = g->phase_w;
        if (count > g->phase_w - first) count = g->phase_w - first;
        for (int64_t i = 0; i < channels; ++i) {
            int16_t *line = to + i * g->plane;
            memset(line, 0, (size_t)first * sizeof(int16_t));
            memset(line + first + count, 0,
                   (size_t)(g->phase_w - first - count) * sizeof(int16_t));
        }
        dfp_transpose(x + column * c->in_channels, c->stride_w * c->in_channels, to + first,
                      g->plane, count, channels);
    }
}

static int dfp_row_is_needed(const dfp_conv *c, int64_t slot) {
    for (int64_t kh = 0; kh < c->kernel_h; ++kh)
        if ((slot - kh * c->dilation_h) % c->stride_h == 0) return 1;
    return 0;
}

/* Transposes what the output rows [first, last] of one image need, from slot `slot` on; returns the
 * number of slots taken. */
static int64_t dfp_transpose_rows(const dfp_weights_gradient *g, int64_t image, int64_t first,
                                  int64_t last, int64_t slot, int64_t channel, int64_t channels,
                                  int16_t *transposed) {
    const dfp_conv *c = &g->c;
    int64_t height = (last - first) * c->stride_h + (c->kernel_h - 1) * c->dilation_h + 1;
    for (int64_t r = 0; r < height; ++r) {
        int64_t row = first * c->stride_h - c->pad_top + r;
        int16_t *to = transposed + (slot + r) * g->row_stride;
        if (!dfp_row_is_needed(c, r)) continue;
        if (row >= 0 && row < c->in_h) {
            dfp_transpose_row(g, image, row, channel, channels, to);
            continue;
        }
        for (int64_t i = 0; i < channels; ++i)
            memset(to + i * g->plane, 0, (size_t)g->row_stride * sizeof(int16_t));
    }
    return height;
}

/* Transposes a block of pixels; lists where they lie in dy and the one segment; returns its pairs. */
static int64_t dfp_gather_pixels(const dfp_weights_gradient *g, int64_t block, int64_t channel,
                                 int64_t channels, const dfp_weights_scratch *s) {
    const dfp_conv *c = &g->c;
    int64_t image_pixels = c->out_h * c->out_w, first = block * DFP_BLOCK_PIXELS;
    int64_t end = first + DFP_BLOCK_PIXELS, pixels = c->batch * image_pixels;
    if (end > pixels) end = pixels;
    for (int64_t pixel = first; pixel < end;) {
        int64_t image = pixel / image_pixels, row = pixel % image_pixels / c->out_w;
        int64_t column = pixel % c->out_w, count = c->out_w - column;
        /* Without strides all pixels of x follow each other. */
        if (c->stride_h * c->stride_w == 1) count = end - pixel;
        if (count > end - pixel) count = end - pixel;
        int64_t in_row = image * c->in_h + row * c->stride_h;
        const int16_t *x = g->x + (in_row * c->in_w + column * c->stride_w) * c->in_channels;
        dfp_transpose(x + channel, c->stride_w * c->in_channels, s->transposed + pixel - first,
                      g->plane, count, channels);
        pixel += count;
    }
    int64_t k = 0;
    for (int64_t pixel = first; pixel < end; ++pixel) s->dy_rows[k++] = pixel * c->out_channels;
    if (k % 2) s->dy_rows[k++] = -1;
    s->segments[0] = (dfp_segment){0, k / 2};
    s->segments[1] = (dfp_segment){0, 0};
    return k / 2;
}

/* Transposes a block of rows; lists where their pixels lie in dy and their segments; returns its
 * pairs. */
static int64_t dfp_gather_rows_of_pixels(const dfp_weights_gradient *g, int64_t block, int64_t channel,
                                int64_t channels, const dfp_weights_scratch *s) {
    const dfp_conv *c = &g->c;
    int64_t row = block * g->rows_per_block, end = row + g->rows_per_block, slot = 0, k = 0;
    dfp_segment *segment = s->segments;
    if (end > c->batch * c->out_h) end = c->batch * c->out_h;
    while (row < end) {
        int64_t image = row / c->out_h, first = row % c->out_h;
        int64_t count = c->out_h - first < end - row ? c->out_h - first : end - row;
        for (int64_t i = 0; i < count; ++i, ++segment) {
            *segment = (dfp_segment){(slot + i * c->stride_h) * g->row_stride, g->pairs_per_row};
            for (int64_t j = 0; j < 2 * g->pairs_per_row; ++j)
                s->dy_rows[k++] = j < c->out_w ? ((row + i) * c->out_w + j) * c->out_channels : -1;
        }
        slot += dfp_transpose_rows(g, image, first, first + count - 1, slot, channel, channels,
                                   s->transposed);
        row += count;
    }
    *segment = (dfp_segment){0, 0};
    return k / 2;
}

/* The rows of one tile of dw: the broadcast operand and where the sums go. */
typedef struct {
    const int16_t *window[DFP_TILE_ROWS];
    float *dw[DFP_TILE_ROWS];
    int64_t valid;
} dfp_weights_rows;

static void dfp_choose_rows(const dfp_weights_gradient *g, const int16_t *transposed, float *dw,
                            int64_t channel, int64_t channels, int64_t m, dfp_weights_rows *rows) {
    const dfp_conv *c = &g->c;
    int64_t count = g->taps * channels;
    rows->valid = count - m < DFP_TILE_ROWS ? count - m : DFP_TILE_ROWS;
    for (int64_t r = 0; r < DFP_TILE_ROWS; ++r) {
        int64_t at = m + (r < rows->valid ? r : rows->valid - 1);
        int64_t tap = at / channels, i = at % channels;
        int64_t row = tap / c->kernel_w * c->dilation_h, column = tap % c->kernel_w * c->dilation_w;
        rows->window[r] = transposed + i * g->plane + row * g->row_stride +
                          column % c->stride_w * g->phase_w + column / c->stride_w;
        rows->dw[r] = dw + (tap * g->group_in + channel + i) * c->out_channels;
    }
}

/* dw (one part) += one block of pixels, for one block of columns. */
static void dfp_accumulate_block(const dfp_weights_gradient *g, const dfp_weights_scratch *s,
                                 int64_t pairs, int64_t spans, int64_t channel, int64_t channels,
                                 int64_t column, float *dw, int from_zero) {
    _Alignas(64) float tile[DFP_TILE_ROWS * DFP_BLOCK];
    dfp_weights_rows rows;
    int64_t panels = dfp_block_panels(g->group_out, column), panel_stride = pairs * 2 * DFP_PANEL;
    for (int64_t panel = 0; panel < panels; panel += DFP_TILE_PANELS) {
        int64_t count = panels - panel < DFP_TILE_PANELS ? panels - panel : DFP_TILE_PANELS;
        int64_t first = column + panel * DFP_PANEL, columns = g->group_out - first;
        if (columns > count * DFP_PANEL) columns = count * DFP_PANEL;
        size_t bytes = (size_t)columns * sizeof(float);
        for (int64_t m = 0; m < g->taps * channels; m += DFP_TILE_ROWS) {
            dfp_choose_rows(g, s->transposed, dw + first, channel, channels, m, &rows);
            memset(tile, 0, sizeof tile);
            for (int64_t r = 0; r < rows.valid && !from_zero; ++r)
                memcpy(tile + r * DFP_BLOCK, rows.dw[r], bytes);
            dfp_tile(rows.window, s->spans, spans, s->packed + panel * panel_stride, panel_stride,
                     count, tile);
            for (int64_t r = 0; r < rows.valid; ++r)
                memcpy(rows.dw[r], tile + r * DFP_BLOCK, bytes);
        }
    }
}

static void dfp_weights_task(void *context, int64_t task, int worker) {
    const dfp_weights_gradient *g = context;
    int64_t column_task = task % g->column_tasks, rest = task / g->column_tasks;
    int64_t channel_task = rest % g->channel_tasks, group = rest / g->channel_tasks % g->c.groups;
    int64_t part = rest / g->channel_tasks / g->c.groups;
    int64_t channel = channel_task * g->channels_per_task, channels = g->group_in - channel;
    if (channels > g->channels_per_task) channels = g->channels_per_task;
    dfp_weights_scratch s =
        dfp_weights_take(g, g->workers + (size_t)worker * g->worker_bytes);
    float *dw = part ? g->partial + (part - 1) * g->elements : g->dw;
    int64_t first_block = part * g->blocks / g->parts, end_block = (part + 1) * g->blocks / g->parts;
    int64_t first = column_task * g->blocks_per_task * DFP_BLOCK;
    int64_t end = first + g->blocks_per_task * DFP_BLOCK;
    if (end > g->group_out) end = g->group_out;
    for (int64_t block = first_block; block < end_block; ++block) {
        int64_t in_channel = group * g->group_in + channel;
        int64_t pairs = g->pointwise ? dfp_gather_pixels(g, block, in_channel, channels, &s)
                                     : dfp_gather_rows_of_pixels(g, block, in_channel, channels, &s);
        dfp_pack_source source = {g->dy + group * g->group_out, s.dy_rows, pairs, g->group_out, 1};
        for (int64_t column = first; column < end; column += DFP_BLOCK) {
            int64_t spans = dfp_pack_block(&source, column, g->rule, s.segments, s.packed, s.ends,
                                           s.spans);
            dfp_accumulate_block(g, &s, pairs, spans, channel, channels, column,
                                 dw + group * g->group_out, block == first_block);
        }
    }
}

/* Elements of dw that one task sums over the parts and scales. */
#define DFP_SUM_ELEMENTS 16384

static void dfp_sum_parts_task(void *context, int64_t task, int worker) {
    const dfp_weights_gradient *g = context;
    int64_t first = task * DFP_SUM_ELEMENTS, last = first + DFP_SUM_ELEMENTS;
    (void)worker;
    if (last > g->elements) last = g->elements;
    for (int64_t part = 1; part < g->parts; ++part) {
        const float *p = g->partial + (part - 1) * g->elements;
        for (int64_t i = first; i < last; ++i) g->dw[i] += p[i];
    }
    for (int64_t i = first; i < last; ++i)
        g->dw[i] = g->dw[i] * g->scale.first * g->scale.second;
}

static dfp_status dfp_run_weights_gradient(dfp_weights_gradient *g) {
    g->partial =
        dfp_shared_workspace((size_t)((g->parts - 1) * g->elements) * sizeof(float) + 64);
    g->workers = dfp_worker_workspace(g->worker_bytes);
    if (!g->partial || !g->workers) return DFP_OUT_OF_MEMORY;
    dfp_parallel(g->parts * g->c.groups * g->channel_tasks * g->column_tasks, dfp_weights_task, g);
    dfp_parallel(dfp_ceil_div(g->elements, DFP_SUM_ELEMENTS), dfp_sum_parts_task, g);
    return DFP_OK;
}

static dfp_status dfp_conv_backward_weights(const dfp_conv *c, const dfp_tensor *x,
                                            const dfp_tensor *dy, float *dw) {
    dfp_weights_gradient g = {.c = *c, .x = x->data, .dy = dy->data, .dw = dw};
    g.rule = (dfp_flush_rule){x->max_abs, c->flush_every};
    g.scale = dfp_power_of_two(x->exponent + dy->exponent);
    g.group_in = c->in_channels / c->groups;
    g.group_out = c->out_channels / c->groups;
    g.taps = c->kernel_h * c->kernel_w;
    g.elements = g.taps * g.group_in * c->out_channels;
    g.pointwise = g.taps == 1 && c->pad_top == 0 && c->pad_left == 0;
    if (g.pointwise)
        dfp_plan_pixels(&g);
    else
        dfp_plan_rows(&g);
    dfp_plan_parts(&g);
    dfp_begin();
    dfp_plan_tasks(&g);
    g.worker_bytes = dfp_round_up(dfp_weights_scratch_bytes(&g), 64);
    dfp_status status = dfp_run_weights_gradient(&g);
    dfp_end();
    return status;
}
