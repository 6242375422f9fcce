/* dx = transposed convolution of dy with w. For strides (sh, sw) the input pixels fall into sh * sw
 * phases (row % sh, column % sw); within one phase every pixel sees the same taps at the same offsets
 * in dy, so each phase is a tap convolution of stride 1. */

/* The taps that reach rows (or columns) of this phase, by ascending offset in dy. */
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

/* No tap reaches this phase: one row of it is zero. */
static void dfp_zero_row_task(void *context, int64_t task, int worker) {
    const dfp_tap_convolution *t = context;
    float *row = t->out + task / t->grid_h * t->out_image + task % t->grid_h * t->out_row;
    (void)worker;
    for (int64_t j = 0; j < t->grid_w; ++j)
        memset(row + j * t->out_pixel, 0,
               (size_t)(t->groups * t->out_columns) * sizeof(float));
}

static dfp_status dfp_run_phases(const dfp_conv *c, dfp_tap_convolution *t, char *memory) {
    float *dx = t->out;
    for (int64_t row = 0; row < c->stride_h; ++row) {
        dfp_phase_taps(&t->rows, row, c->kernel_h, c->stride_h, c->dilation_h, c->pad_top);
        t->grid_h = dfp_phase_extent(c->in_h, row, c->stride_h);
        for (int64_t column = 0; column < c->stride_w; ++column) {
            dfp_phase_taps(&t->columns, column, c->kernel_w, c->stride_w, c->dilation_w,
                           c->pad_left);
            t->grid_w = dfp_phase_extent(c->in_w, column, c->stride_w);
            t->out = dx + (row * c->in_w + column) * c->in_channels;
            if (!t->grid_h || !t->grid_w) continue;
            if (!t->rows.count || !t->columns.count) {
                dfp_parallel(t->batch * t->grid_h, dfp_zero_row_task, t);
                continue;
            }
            dfp_status status = dfp_tap_run(t, memory);
            if (status != DFP_OK) return status;
        }
    }
    return DFP_OK;
}

static dfp_status dfp_conv_backward_data(const dfp_conv *c, const dfp_tensor *dy,
                                         const dfp_tensor *w, float *dx) {
    int64_t group_in = c->in_channels / c->groups, group_out = c->out_channels / c->groups;
    dfp_tap_convolution t = {
        .in = dy->data, .batch = c->batch, .in_h = c->out_h, .in_w = c->out_w,
        .in_channels = c->out_channels, .channels = group_out, .step_h = 1, .step_w = 1,
        .groups = c->groups, .out_columns = group_in,
        .rule = {dy->max_abs, c->flush_every},
        .weights = w->data, .kernel_w = c->kernel_w, .kernel_stride = group_in * c->out_channels,
        .inner_stride = 1, .column_stride = c->out_channels, .group_stride = group_out,
        .out = dx, .out_image = c->in_h * c->in_w * c->in_channels,
        .out_row = c->stride_h * c->in_w * c->in_channels,
        .out_pixel = c->stride_w * c->in_channels,
        .scale = dfp_power_of_two(dy->exponent + w->exponent),
    };
    size_t bytes = dfp_tap_plan_bytes(&t, c->kernel_h * c->kernel_w) +
                   dfp_taps_bytes(c->kernel_h) + dfp_taps_bytes(c->kernel_w);
    dfp_status status = DFP_OUT_OF_MEMORY;
    dfp_begin();
    char *memory = dfp_shared_workspace(bytes);
    if (memory) {
        t.rows = dfp_room_for_taps(&memory, c->kernel_h);
        t.columns = dfp_room_for_taps(&memory, c->kernel_w);
        status = dfp_run_phases(c, &t, memory);
    }
    dfp_end();
    return status;
}
