/* dx = transposed convolution of dy with w, plus a bias if there is one. For strides (sd, sh, sw) the
 * input pixels fall into sd * sh * sw phases (plane % sd, row % sh, column % sw); within one phase every
 * pixel sees the same taps at the same offsets in dy, so each phase is a tap convolution of stride 1. */

/* The taps that reach planes, rows or columns of this phase, by ascending offset in dy. */
static void dfp_phase_taps(dfp_taps *t, int64_t phase, int64_t kernel, int64_t stride,
                           int64_t dilation, int64_t pad) {
    t->count = 0;
    for (int64_t k = kernel - 1; k >= 0; --k) {
        int64_t distance = phase + pad - k * dilation;
        if (distance % stride) continue;
        t->offset[t->count] = distance / stride;
        t->kernel_index[t->count++] = k;
    }
}

static dfp_taps dfp_room_for_taps(char **memory, int64_t kernel) {
    dfp_taps t = {0, dfp_take(memory, dfp_taps_bytes(kernel)), NULL};
    t.kernel_index = t.offset + kernel;
    return t;
}

static int64_t dfp_phase_extent(int64_t extent, int64_t phase, int64_t stride) {
    return phase < extent ? dfp_ceil_div(extent - phase, stride) : 0;
}

/* One pixel that is the bias, or zero. */
static void dfp_write_bias(const dfp_tap_convolution *t, int64_t at, int64_t channels) {
    float block[DFP_BLOCK];
    int64_t width = (int64_t)1 << t->blocks.shift;
    if (t->out && t->bias) memcpy(t->out + at, t->bias, (size_t)channels * sizeof(float));
    if (t->out && !t->bias) memset(t->out + at, 0, (size_t)channels * sizeof(float));
    if (!t->out && !t->bias) dfp_write_zero_blocks(&t->blocks, at, channels);
    for (int64_t c = 0; !t->out && t->bias && c < channels; c += width) {
        memcpy(block, t->bias + c, (size_t)width * sizeof(float));
        dfp_write_block(&t->blocks, block, width, 0, at + c);
    }
}

/* No tap reaches this phase: one row of it. */
static void dfp_bias_row_task(void *context, int64_t task, int worker) {
    const dfp_tap_convolution *t = context;
    int64_t image = task / t->grid_h / t->grid_d, plane = task / t->grid_h % t->grid_d;
    int64_t row = t->out_first + image * t->out_image + plane * t->out_plane;
    row += task % t->grid_h * t->out_row;
    (void)worker;
    for (int64_t j = 0; j < t->grid_w; ++j, row += t->out_pixel)
        dfp_write_bias(t, row, t->groups * t->out_columns);
}

/* Rows and columns by phases, for the planes of one phase. */
static dfp_status dfp_run_phases(const dfp_conv *c, dfp_tap_convolution *t, char *memory) {
    int64_t first = t->out_first;
    for (int64_t row = 0; row < c->stride_h; ++row) {
        dfp_phase_taps(&t->rows, row, c->kernel_h, c->stride_h, c->dilation_h, c->pad_top);
        t->grid_h = dfp_phase_extent(c->in_h, row, c->stride_h);
        for (int64_t column = 0; column < c->stride_w; ++column) {
            dfp_phase_taps(&t->columns, column, c->kernel_w, c->stride_w, c->dilation_w,
                           c->pad_left);
            t->grid_w = dfp_phase_extent(c->in_w, column, c->stride_w);
            t->out_first = first + (row * c->in_w + column) * c->in_channels;
            if (!t->grid_h || !t->grid_w) continue;
            if (!t->planes.count || !t->rows.count || !t->columns.count) {
                dfp_parallel(dfp_grid_rows(t), dfp_bias_row_task, t);
                continue;
            }
            dfp_status status = dfp_tap_run(t, memory);
            if (status != DFP_OK) return status;
        }
    }
    return DFP_OK;
}

/* Few channels would leave most columns of a panel empty. Then a cell of neighbouring pixels of dx is
 * one pixel of the grid, and its pixels' channels are the columns: the taps of a cell are those of all
 * its pixels, the weights zero where a pixel does not have the tap. The cell is that of
 * {1, 2} * stride_h x {1, 2} * stride_w, with at most 64 columns and without groups, which costs least,
 * counted in panels times taps for each pixel, if it costs less than three quarters of separate
 * phases. */
typedef struct {
    int64_t h, w;
} dfp_cell;

/* The taps that reach any of the first `cell` rows (or columns), by ascending offset in dy; `offsets`
 * has room for 2 * kernel. */
static int64_t dfp_cell_offsets(int64_t cell, int64_t kernel, int64_t stride, int64_t dilation,
                                int64_t pad, int64_t *offsets) {
    int64_t count = 0;
    for (int64_t pixel = 0; pixel < cell; ++pixel) {
        for (int64_t k = 0; k < kernel; ++k) {
            int64_t distance = pixel + pad - k * dilation, at = count;
            if (distance % stride) continue;
            while (at > 0 && offsets[at - 1] > distance / stride) --at;
            if (at > 0 && offsets[at - 1] == distance / stride) continue;
            memmove(offsets + at + 1, offsets + at, (size_t)(count++ - at) * sizeof *offsets);
            offsets[at] = distance / stride;
        }
    }
    return count;
}

static int64_t dfp_count_cell_taps(const dfp_conv *c, dfp_cell cell, int64_t *offsets) {
    return dfp_cell_offsets(cell.h, c->kernel_h, c->stride_h, c->dilation_h, c->pad_top, offsets) *
           dfp_cell_offsets(cell.w, c->kernel_w, c->stride_w, c->dilation_w, c->pad_left, offsets);
}

/* {0, 0} if phases are better. `offsets` is scratch memory. */
static dfp_cell dfp_choose_cell(const dfp_conv *c, int64_t *offsets) {
    dfp_cell best = {0, 0};
    int64_t area = c->stride_h * c->stride_w;
    /* Costs of four times the largest cell, so that they are whole numbers. */
    int64_t least = 12 * c->kernel_h * c->kernel_w * dfp_ceil_div(c->in_channels, DFP_PANEL);
    for (int64_t times = 0; times < 4 && c->groups == 1; ++times) {
        dfp_cell cell = {(1 + times / 2) * c->stride_h, (1 + times % 2) * c->stride_w};
        int64_t columns = cell.h * cell.w * c->in_channels;
        if (columns > DFP_BLOCK) continue;
        int64_t panels = dfp_count_cell_taps(c, cell, offsets) * dfp_ceil_div(columns, DFP_PANEL);
        int64_t cost = 16 * panels * area / (cell.h * cell.w);
        if (cost >= least) continue;
        least = cost;
        best = cell;
    }
    return best;
}

/* to[tap][co][pixel of the cell][ci]; zeros where a pixel does not have the tap. */
static void dfp_expand_weights(const dfp_conv *c, const dfp_tap_convolution *t, const int16_t *w,
                               int16_t *to) {
    size_t channel = (size_t)c->in_channels;
    int64_t matrix = c->in_channels * c->out_channels;
    for (int64_t tap = 0; tap < t->planes.count * t->rows.count * t->columns.count; ++tap) {
        int64_t tap_row = tap / t->columns.count;
        int64_t row = t->rows.offset[tap_row % t->rows.count] * c->stride_h;
        int64_t kd = t->planes.kernel_index[tap_row / t->rows.count];
        int64_t column = t->columns.offset[tap % t->columns.count] * c->stride_w;
        for (int64_t co = 0; co < c->out_channels; ++co) {
            for (int64_t pixel = 0; pixel < t->cell_h * t->cell_w; ++pixel, to += channel) {
                int64_t down = pixel / t->cell_w + c->pad_top - row;
                int64_t right = pixel % t->cell_w + c->pad_left - column;
                int64_t kh = down / c->dilation_h, kw = right / c->dilation_w;
                int has = down >= 0 && right >= 0 && down % c->dilation_h == 0 &&
                          right % c->dilation_w == 0 && kh < c->kernel_h && kw < c->kernel_w;
                const int16_t *from = w + ((kd * c->kernel_h + kh) * c->kernel_w + kw) * matrix;
                for (int64_t ci = 0; ci < c->in_channels; ++ci)
                    to[ci] = has ? from[ci * c->out_channels + co] : 0;
            }
        }
    }
}

/* Rows and columns by cells, for the planes of one phase that taps reach. */
static dfp_status dfp_run_cells(const dfp_conv *c, dfp_tap_convolution *t, dfp_cell cell,
                                char *memory) {
    t->cell_h = cell.h;
    t->cell_w = cell.w;
    t->result_h = c->in_h;
    t->result_w = c->in_w;
    t->grid_h = dfp_ceil_div(c->in_h, cell.h);
    t->grid_w = dfp_ceil_div(c->in_w, cell.w);
    t->step_h = cell.h / c->stride_h;
    t->step_w = cell.w / c->stride_w;
    t->rows.count = dfp_cell_offsets(cell.h, c->kernel_h, c->stride_h, c->dilation_h, c->pad_top,
                                     t->rows.offset);
    t->columns.count = dfp_cell_offsets(cell.w, c->kernel_w, c->stride_w, c->dilation_w,
                                        c->pad_left, t->columns.offset);
    for (int64_t i = 0; i < t->rows.count; ++i) t->rows.kernel_index[i] = i;
    for (int64_t i = 0; i < t->columns.count; ++i) t->columns.kernel_index[i] = i;
    t->kernel_h = t->rows.count;
    t->out_columns = cell.h * cell.w * c->in_channels;
    t->out_pixel = c->in_channels;
    t->kernel_w = t->columns.count;
    t->kernel_stride = c->out_channels * t->out_columns;
    t->inner_stride = t->out_columns;
    t->column_stride = 1;
    int64_t values = t->planes.count * t->rows.count * t->columns.count * t->kernel_stride;
    int16_t *weights = dfp_take(&memory, (size_t)values * sizeof(int16_t));
    dfp_expand_weights(c, t, t->weights, weights);
    for (int64_t i = 0; i < t->planes.count; ++i) t->planes.kernel_index[i] = i;
    t->weights = weights;
    float *bias = dfp_take(&memory, DFP_BLOCK * sizeof(float));
    for (int64_t i = 0; t->bias && i < t->out_columns; ++i) bias[i] = t->bias[i % c->in_channels];
    if (t->bias) t->bias = bias;
    return dfp_tap_run(t, memory);
}

/* The phases of planes, one after the other. */
static dfp_status dfp_run_planes(const dfp_conv *c, const dfp_tap_convolution *all, dfp_cell cell,
                                 char *memory) {
    dfp_status status = DFP_OK;
    for (int64_t plane = 0; plane < c->stride_d && status == DFP_OK; ++plane) {
        dfp_tap_convolution t = *all;
        dfp_phase_taps(&t.planes, plane, c->kernel_d, c->stride_d, c->dilation_d, c->pad_front);
        t.grid_d = dfp_phase_extent(c->in_d, plane, c->stride_d);
        t.out_first = plane * c->in_h * c->in_w * c->in_channels;
        if (!t.grid_d) continue;
        status = cell.h && t.planes.count ? dfp_run_cells(c, &t, cell, memory)
                                          : dfp_run_phases(c, &t, memory);
    }
    return status;
}

/* Enough for phases and for any cell. */
static size_t dfp_backward_data_bytes(const dfp_conv *c, const dfp_tap_convolution *t) {
    int64_t taps = c->kernel_d * c->kernel_h * c->kernel_w;
    dfp_tap_convolution cells = *t;
    size_t phases = dfp_tap_plan_bytes(t, taps);
    cells.out_columns = DFP_BLOCK;
    size_t expanded = (size_t)(4 * taps * c->out_channels * DFP_BLOCK) * sizeof(int16_t);
    size_t cell_bytes = dfp_tap_plan_bytes(&cells, 4 * taps) + dfp_round_up(expanded, 64) +
                        DFP_BLOCK * sizeof(float);
    int small = c->groups == 1 && c->stride_h * c->stride_w * c->in_channels <= DFP_BLOCK;
    return small && cell_bytes > phases ? cell_bytes : phases;
}

static dfp_status dfp_conv_backward_data(const dfp_conv *c, const dfp_tensor *dy,
                                         const dfp_tensor *w, float *dx) {
    int64_t group_in = c->in_channels / c->groups, group_out = c->out_channels / c->groups;
    dfp_tap_convolution t = {
        .in = dy->data,
        .batch = c->batch,
        .in_d = c->out_d,
        .in_h = c->out_h,
        .in_w = c->out_w,
        .in_channels = c->out_channels,
        .channels = group_out,
        .step_d = 1,
        .step_h = 1,
        .step_w = 1,
        .groups = c->groups,
        .out_columns = group_in,
        .rule = {dy->max_abs, c->flush_every, 0},
        .weights = w->data,
        .kernel_h = c->kernel_h,
        .kernel_w = c->kernel_w,
        .kernel_stride = group_in * c->out_channels,
        .inner_stride = 1,
        .column_stride = c->out_channels,
        .group_stride = group_out,
        .out = dx,
        .blocks = dfp_input_blocks(c, group_in),
        .out_image = c->in_d * c->in_h * c->in_w * c->in_channels,
        .out_plane = c->stride_d * c->in_h * c->in_w * c->in_channels,
        .out_row = c->stride_h * c->in_w * c->in_channels,
        .out_pixel = c->stride_w * c->in_channels,
        .scale = dfp_power_of_two(dy->exponent + w->exponent),
        .bias = c->bias,
    };
    size_t bytes = dfp_backward_data_bytes(c, &t) + dfp_taps_bytes(c->kernel_d) +
                   dfp_taps_bytes(2 * c->kernel_h) + dfp_taps_bytes(2 * c->kernel_w);
    dfp_status status = DFP_OUT_OF_MEMORY;
    dfp_begin();
    char *memory = dfp_shared_workspace(bytes);
    if (memory) {
        t.planes = dfp_room_for_taps(&memory, c->kernel_d);
        t.rows = dfp_room_for_taps(&memory, 2 * c->kernel_h);
        t.columns = dfp_room_for_taps(&memory, 2 * c->kernel_w);
        status = dfp_run_planes(c, &t, dfp_choose_cell(c, t.rows.offset), memory);
    }
    dfp_end();
    return status;
}
