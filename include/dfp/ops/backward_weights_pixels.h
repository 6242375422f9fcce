/* backward_weights of 1x1 (or 1x1x1) convolutions without padding: x in micro-panels of DFP_TILE_ROWS channels,
 * [channels / 6][pairs][6][2], as the micro-kernel reads it. Pairs are adjacent output pixels. */

/* INT16 of one pair of a micro-panel. */
#define DFP_MICRO (2 * DFP_TILE_ROWS)

static int dfp_is_pointwise(const dfp_conv *c) {
    return c->kernel_d * c->kernel_h * c->kernel_w == 1 && c->pad_front == 0 && c->pad_top == 0 &&
           c->pad_left == 0;
}

static void dfp_plan_pixels(dfp_weights_gradient *g) {
    int64_t pixels = g->c.batch * g->c.out_d * g->c.out_h * g->c.out_w;
    g->blocks = dfp_ceil_div(pixels, DFP_BLOCK_PIXELS);
    g->segments_per_block = 1;
    g->pairs_per_block = dfp_ceil_div(pixels < DFP_BLOCK_PIXELS ? pixels : DFP_BLOCK_PIXELS, 2);
    g->row_step = DFP_MICRO;
    g->channel_values = 2 * g->pairs_per_block + 1;
}

/* DFP_PIECE values are copied at once: a pair of a micro-panel, and four more that the next copy
 * overwrites. There are four INT16 between micro-panels. */
static inline int64_t dfp_micro_panel_values(int64_t pairs) {
    return pairs * DFP_MICRO + DFP_PIECE - DFP_MICRO;
}

/* The position of the first pair of a channel. */
static inline int64_t dfp_micro_panel_place(int64_t pairs, int64_t channel) {
    return channel / DFP_TILE_ROWS * dfp_micro_panel_values(pairs) + channel % DFP_TILE_ROWS * 2;
}

static int64_t dfp_place_in_micro_panels(const dfp_weights_gradient *g, int64_t tap,
                                         int64_t channel) {
    (void)tap;
    return dfp_micro_panel_place(g->pairs_per_block, channel);
}

/* Lists the positions of a block's pixels in x and dy. */
static void dfp_list_pixels(const dfp_weights_gradient *g, int64_t block, dfp_weights_scratch *s) {
    const dfp_conv *c = &g->c;
    int64_t plane_pixels = c->out_h * c->out_w, pixel = block * DFP_BLOCK_PIXELS, k = 0;
    int64_t end = pixel + DFP_BLOCK_PIXELS, pixels = c->batch * c->out_d * plane_pixels;
    if (end > pixels) end = pixels;
    while (pixel < end) {
        int64_t plane = dfp_input_plane(c, pixel / plane_pixels, 0);
        int64_t row = pixel % plane_pixels / c->out_w;
        int64_t column = pixel % c->out_w, last = pixel - column + c->out_w;
        int64_t x = (plane * c->in_h + row * c->stride_h) * c->in_w * c->in_channels;
        for (; pixel < last && pixel < end; ++pixel, ++column) {
            s->x_rows[k] = x + column * c->stride_w * c->in_channels;
            s->dy_rows[k++] = pixel * c->out_channels;
        }
    }
    if (k % 2) s->x_rows[k] = s->dy_rows[k] = -1, ++k;
    s->pairs = k / 2;
    s->segments[0] = (dfp_segment){0, k / 2};
    s->segments[1] = (dfp_segment){0, 0};
}

/* to[2 * i] = even[i], to[2 * i + 1] = odd[i]; odd may be NULL for zeros. */
static void dfp_interleave_pixels(const int16_t *even, const int16_t *odd, int64_t channels,
                                  int16_t *to) {
    int64_t i = 0;
    for (; odd && i + 16 <= channels; i += 16) dfp_interleave(even + i, odd + i, to + 2 * i);
    for (; i < channels; ++i) {
        to[2 * i] = even[i];
        to[2 * i + 1] = odd ? odd[i] : 0;
    }
}

/* Rows of `channels` values, listed by their positions in x, as micro-panels; the last row may be
 * -1 for zeros. `pair` has room for 2 * channels + DFP_PIECE values. */
static void dfp_interleave_rows(const int16_t *x, const int64_t *x_rows, int64_t pairs,
                                int64_t channels, int64_t panel_values, int16_t *pair,
                                int16_t *to) {
    int64_t panels = dfp_ceil_div(channels, DFP_TILE_ROWS);
    memset(pair + 2 * channels, 0, DFP_PIECE * sizeof(int16_t));
    for (int64_t k = 0; k < pairs; ++k, to += DFP_MICRO) {
        const int16_t *odd = x_rows[2 * k + 1] < 0 ? NULL : x + x_rows[2 * k + 1];
        for (int64_t r = 2 * k + DFP_ROWS_AHEAD; r < 2 * k + DFP_ROWS_AHEAD + 2; ++r)
            dfp_fetch_row(x, x_rows, 2 * pairs, r, channels);
        dfp_interleave_pixels(x + x_rows[2 * k], odd, channels, pair);
        for (int64_t p = 0; p < panels; ++p)
            memcpy(to + p * panel_values, pair + p * DFP_MICRO, DFP_PIECE * sizeof(int16_t));
    }
}

static void dfp_gather_pixels(const dfp_weights_gradient *g, int64_t block, int64_t channel,
                              int64_t channels, dfp_weights_scratch *s) {
    dfp_list_pixels(g, block, s);
    dfp_interleave_rows(g->x + channel, s->x_rows, s->pairs, channels,
                        dfp_micro_panel_values(g->pairs_per_block), s->pair, s->broadcast);
}

static dfp_status dfp_backward_weights_by_pixels(const dfp_conv *c, const dfp_tensor *x,
                                                 const dfp_tensor *dy, float *dw) {
    static const dfp_weights_gathering by_pixels = {dfp_plan_pixels, dfp_place_in_micro_panels,
                                                    dfp_gather_pixels};
    return dfp_backward_weights_by(&by_pixels, c, x, dy, dw);
}
