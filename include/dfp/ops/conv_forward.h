/* y = conv(x, w) + bias: the taps are the kernel's own, ascending. */

static size_t dfp_taps_bytes(int64_t count) {
    return dfp_round_up((size_t)count * 2 * sizeof(int64_t), 64);
}

static dfp_taps dfp_forward_taps(char **memory, int64_t kernel, int64_t dilation, int64_t pad) {
    dfp_taps t = {kernel, dfp_take(memory, dfp_taps_bytes(kernel)), NULL};
    t.kernel_index = t.offset + kernel;
    for (int64_t i = 0; i < kernel; ++i) {
        t.offset[i] = i * dilation - pad;
        t.kernel_index[i] = i;
    }
    return t;
}

static dfp_status dfp_conv_forward(const dfp_conv *c, const dfp_tensor *x, const dfp_tensor *w,
                                   float *y) {
    int64_t group_in = c->in_channels / c->groups, group_out = c->out_channels / c->groups;
    int64_t taps = c->kernel_d * c->kernel_h * c->kernel_w;
    dfp_tap_convolution t = {
        .in = x->data,
        .batch = c->batch,
        .in_d = c->in_d,
        .in_h = c->in_h,
        .in_w = c->in_w,
        .in_channels = c->in_channels,
        .channels = group_in,
        .grid_d = c->out_d,
        .grid_h = c->out_h,
        .grid_w = c->out_w,
        .step_d = c->stride_d,
        .step_h = c->stride_h,
        .step_w = c->stride_w,
        .groups = c->groups,
        .out_columns = group_out,
        .rule = {x->max_abs, c->flush_every, 0},
        .weights = w->data,
        .kernel_h = c->kernel_h,
        .kernel_w = c->kernel_w,
        .kernel_stride = group_in * c->out_channels,
        .inner_stride = c->out_channels,
        .column_stride = 1,
        .group_stride = group_out,
        .out = y,
        .blocks = dfp_output_blocks(c, group_out),
        .out_image = c->out_d * c->out_h * c->out_w * c->out_channels,
        .out_plane = c->out_h * c->out_w * c->out_channels,
        .out_row = c->out_w * c->out_channels,
        .out_pixel = c->out_channels,
        .scale = dfp_power_of_two(x->exponent + w->exponent),
        .bias = c->bias,
        .ranges = {c->out_channels, c->minimum, c->maximum, NULL, 0},
    };
    size_t bytes = dfp_tap_plan_bytes(&t, taps) + dfp_taps_bytes(c->kernel_d) +
                   dfp_taps_bytes(c->kernel_h) + dfp_taps_bytes(c->kernel_w);
    dfp_status status = DFP_OUT_OF_MEMORY;
    dfp_begin();
    char *memory = dfp_shared_workspace(bytes);
    if (memory) {
        t.planes = dfp_forward_taps(&memory, c->kernel_d, c->dilation_d, c->pad_front);
        t.rows = dfp_forward_taps(&memory, c->kernel_h, c->dilation_h, c->pad_top);
        t.columns = dfp_forward_taps(&memory, c->kernel_w, c->dilation_w, c->pad_left);
        status = dfp_tap_run(&t, memory);
    }
    dfp_end();
    return status;
}
