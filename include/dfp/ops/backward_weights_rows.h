/* backward_weights of any other convolution: x transposed to
 * [channel][row % stride_h][column % stride_w][row / stride_h][column / stride_w], with zeros
 * around it, so that the pixels that one tap reads are contiguous at any offset.
 *
 * One row of it holds out_w + reach_w values, reach_w = (kernel_w - 1) * dilation_w / stride_w, and
 * begins `pitch` values after the previous one: the zeros at the end of one row are those at the
 * beginning of the next where all phases have both. Pixels of one image then follow each other,
 * pitch - out_w columns of which belong to no output; dy is packed with zeros there. Pairs are
 * adjacent values of this sequence; it restarts with each image (of a volume: with each output plane,
 * for which x is transposed once for each plane of the kernel), and is padded to even length. */

static int dfp_is_not_pointwise(const dfp_conv *c) { return !dfp_is_pointwise(c); }

static int64_t dfp_odd_lines(int64_t values) {
    /* An odd number of cache lines: channels must not compete for the same cache sets. */
    return (dfp_ceil_div(values, DFP_LINE) | 1) * DFP_LINE;
}

/* The part of one transposed row that holds input: `count` values from `first` on, which begin with
 * input column `column`. */
typedef struct {
    int64_t first, count, column;
} dfp_inside;

static dfp_inside dfp_phase_inside(const dfp_weights_gradient *g, int64_t phase) {
    const dfp_conv *c = &g->c;
    int64_t before = c->pad_left - phase;
    dfp_inside in = {before > 0 ? dfp_ceil_div(before, c->stride_w) : 0, 0, 0};
    if (in.first > g->row_values) in.first = g->row_values;
    in.column = phase + in.first * c->stride_w - c->pad_left;
    if (in.column < c->in_w) in.count = dfp_ceil_div(c->in_w - in.column, c->stride_w);
    if (in.count > g->row_values - in.first) in.count = g->row_values - in.first;
    return in;
}

static void dfp_plan_rows(dfp_weights_gradient *g) {
    const dfp_conv *c = &g->c;
    int64_t rows = c->batch * c->out_d * c->out_h, phases = c->stride_h * c->stride_w;
    g->reach_h = (c->kernel_h - 1) * c->dilation_h / c->stride_h;
    g->reach_w = (c->kernel_w - 1) * c->dilation_w / c->stride_w;
    g->row_values = c->out_w + g->reach_w;
    int64_t shared = g->reach_w;
    for (int64_t phase = 0; phase < c->stride_w; ++phase) {
        dfp_inside in = dfp_phase_inside(g, phase);
        int64_t after = g->row_values - in.first - in.count;
        if (shared > in.first) shared = in.first;
        if (shared > after) shared = after;
    }
    g->pitch = g->row_values - shared;
    g->rows_per_block = DFP_BLOCK_PIXELS / c->out_w;
    if (g->rows_per_block < 1) g->rows_per_block = 1;
    if (g->rows_per_block > rows) g->rows_per_block = rows;
    g->blocks = dfp_ceil_div(rows, g->rows_per_block);
    g->segments_per_block = g->rows_per_block / c->out_h + 2;
    g->pairs_per_block = dfp_ceil_div(g->rows_per_block * g->pitch, 2) + g->segments_per_block;
    int64_t slots = g->rows_per_block + g->segments_per_block * g->reach_h;
    g->phase_values = slots * g->pitch;
    g->channel_values = dfp_odd_lines(c->kernel_d * phases * g->phase_values + shared + 2);
    g->row_step = 2;
}

static int64_t dfp_place_in_rows(const dfp_weights_gradient *g, int64_t tap, int64_t channel) {
    const dfp_conv *c = &g->c;
    int64_t plane = tap / (c->kernel_h * c->kernel_w);
    int64_t row = tap / c->kernel_w % c->kernel_h * c->dilation_h;
    int64_t column = tap % c->kernel_w * c->dilation_w;
    int64_t phase = (plane * c->stride_h + row % c->stride_h) * c->stride_w + column % c->stride_w;
    return channel * g->channel_values + phase * g->phase_values + row / c->stride_h * g->pitch +
           column / c->stride_w;
}

/* to[i * plane + j] = x[j][i] for `count` >= 1 pixels, which may be fewer than a block of the
 * transposition has; where there is room, zeros follow up to 8. */
static void dfp_transpose_pixels(const int16_t *x, int64_t pixel_stride, int16_t *to, int64_t plane,
                                 int64_t count, int64_t room, int64_t channels) {
    int16_t eight[8 * 8];
    if (count >= 8 || room < 8 || channels < 8) {
        dfp_transpose(x, pixel_stride, to, plane, count, channels);
        return;
    }
    memset(eight, 0, sizeof eight);
    for (int64_t next = 0; next < channels; next += 8) {
        int64_t i = next < channels - 8 ? next : channels - 8;
        for (int64_t j = 0; j < count; ++j)
            memcpy(eight + 8 * j, x + j * pixel_stride + i, 8 * sizeof(int16_t));
        dfp_transpose_8x8(eight, 8, to + i * plane, plane);
    }
}

/* One row of one phase, of `channels` channels; x is its input row or NULL for zeros. */
static void dfp_transpose_row(const dfp_weights_gradient *g, int64_t phase, const int16_t *x,
                              int64_t channels, int16_t *to) {
    dfp_inside in = dfp_phase_inside(g, phase);
    int64_t pixel_stride = g->c.stride_w * g->c.in_channels;
    if (!x) in.count = 0;
    if (in.count > 0)
        dfp_transpose_pixels(x + in.column * g->c.in_channels, pixel_stride, to + in.first,
                             g->channel_values, in.count, g->row_values - in.first, channels);
    int64_t end = in.first + in.count;
    for (int64_t i = 0; i < channels; ++i) {
        int16_t *line = to + i * g->channel_values;
        memset(line, 0, (size_t)in.first * sizeof(int16_t));
        memset(line + end, 0, (size_t)(g->row_values - end) * sizeof(int16_t));
    }
}

/* Transposes to slot `slot` the input of `count` rows of one output plane, from row `first` on. */
static void dfp_transpose_rows(const dfp_weights_gradient *g, int64_t plane, int64_t first,
                               int64_t count, int64_t slot, int64_t channel, int64_t channels,
                               int16_t *transposed) {
    const dfp_conv *c = &g->c;
    for (int64_t phase = 0; phase < c->kernel_d * c->stride_h * c->stride_w; ++phase) {
        int64_t from = dfp_input_plane(c, plane, phase / (c->stride_h * c->stride_w));
        int64_t row_phase = phase / c->stride_w % c->stride_h;
        int16_t *to = transposed + phase * g->phase_values + slot * g->pitch;
        for (int64_t r = 0; r < count + g->reach_h; ++r, to += g->pitch) {
            int64_t row = (first + r) * c->stride_h + row_phase - c->pad_top;
            const int16_t *x = g->x + (from * c->in_h + row) * c->in_w * c->in_channels + channel;
            int inside = from >= 0 && row >= 0 && row < c->in_h;
            dfp_transpose_row(g, phase % c->stride_w, inside ? x : NULL, channels, to);
        }
    }
}

/* Lists the positions in dy of the pixels of `count` output rows; returns their number, which is
 * even. */
static int64_t dfp_list_rows(const dfp_weights_gradient *g, int64_t row, int64_t count,
                             int64_t *dy_rows) {
    int64_t k = 0, out_w = g->c.out_w, pixel = row * out_w;
    for (int64_t i = 0; i < count; ++i) {
        for (int64_t j = 0; j < out_w; ++j) dy_rows[k++] = pixel++ * g->c.out_channels;
        for (int64_t j = out_w; i + 1 < count && j < g->pitch; ++j) dy_rows[k++] = -1;
    }
    if (k % 2) dy_rows[k++] = -1;
    return k;
}

static void dfp_gather_block_rows(const dfp_weights_gradient *g, int64_t block, int64_t channel,
                                  int64_t channels, dfp_weights_scratch *s) {
    const dfp_conv *c = &g->c;
    int64_t row = block * g->rows_per_block, end = row + g->rows_per_block, slot = 0, k = 0;
    dfp_segment *segment = s->segments;
    if (end > c->batch * c->out_d * c->out_h) end = c->batch * c->out_d * c->out_h;
    while (row < end) {
        int64_t plane = row / c->out_h, first = row % c->out_h;
        int64_t count = c->out_h - first < end - row ? c->out_h - first : end - row;
        int64_t listed = dfp_list_rows(g, row, count, s->dy_rows + k);
        *segment++ = (dfp_segment){slot * g->pitch, listed / 2};
        dfp_transpose_rows(g, plane, first, count, slot, channel, channels, s->broadcast);
        slot += count + g->reach_h;
        row += count;
        k += listed;
    }
    *segment = (dfp_segment){0, 0};
    s->pairs = k / 2;
}

static dfp_status dfp_backward_weights_by_rows(const dfp_conv *c, const dfp_tensor *x,
                                               const dfp_tensor *dy, float *dw) {
    static const dfp_weights_gathering by_rows = {dfp_plan_rows, dfp_place_in_rows,
                                                  dfp_gather_block_rows};
    return dfp_backward_weights_by(&by_rows, c, x, dy, dw);
}
