/* The entries of Winograd's algorithm in the lists of convolutions. */

/* Magnitude bits of the points' integers in backward_weights. */
#define DFP_WINOGRAD_IMAGE_BITS 14
#define DFP_WINOGRAD_GRADIENT_BITS 15

static int dfp_winograd_accepts(const dfp_conv *c) {
    return c->in_d == 1 && c->kernel_d == 1 && c->kernel_h == 3 && c->kernel_w == 3 &&
           c->stride_h == 1 && c->stride_w == 1 && c->dilation_h == 1 && c->dilation_w == 1 &&
           c->groups == 1 && c->flush_every == 0;
}

/* The tiles of an image whose results are result_h x result_w pixels. */
static dfp_winograd_operand dfp_winograd_images(const dfp_winograd_transforms *t,
                                                dfp_winograd_role role, const dfp_tensor *x,
                                                int64_t batch, int64_t height, int64_t width,
                                                int64_t channels, int64_t result_h,
                                                int64_t result_w) {
    dfp_winograd_operand o = {.transforms = t, .role = role, .data = x->data, .channels = channels};
    o.height = height;
    o.width = width;
    o.tiles_h = dfp_ceil_div(result_h, t->outputs);
    o.tiles_w = dfp_ceil_div(result_w, t->outputs);
    o.patches = batch * o.tiles_h * o.tiles_w;
    return o;
}

static dfp_winograd_operand dfp_winograd_kernels(const dfp_winograd_transforms *t,
                                                 const dfp_tensor *w, const dfp_conv *c) {
    return (dfp_winograd_operand){.transforms = t,
                                  .role = DFP_WINOGRAD_WEIGHTS,
                                  .data = w->data,
                                  .patches = c->in_channels,
                                  .channels = c->out_channels,
                                  .tap_stride = c->in_channels * c->out_channels,
                                  .patch_stride = c->out_channels,
                                  .bits = t->weight_bits};
}

static dfp_status dfp_winograd_forward(const dfp_winograd_transforms *t, const dfp_conv *c,
                                       const dfp_tensor *x, const dfp_tensor *w, float *y) {
    dfp_winograd_convolution v = {.columns = c->out_channels, .out_h = c->out_h, .out_w = c->out_w};
    v.in = dfp_winograd_images(t, DFP_WINOGRAD_INPUT, x, c->batch, c->in_h, c->in_w, c->in_channels,
                               c->out_h, c->out_w);
    v.in.pad_top = c->pad_top;
    v.in.pad_left = c->pad_left;
    v.in.bits = t->image_bits;
    v.weights = dfp_winograd_kernels(t, w, c);
    v.out = y;
    v.blocks = dfp_output_blocks(c, c->out_channels);
    v.epilogue = (dfp_epilogue){1, dfp_power_of_two(x->exponent + w->exponent), c->bias};
    v.ranges = (dfp_channel_ranges){c->out_channels, c->minimum, c->maximum, NULL, 0};
    dfp_begin();
    dfp_status status = dfp_winograd_convolve(&v);
    dfp_end();
    return status;
}

/* A convolution of dy with the kernel turned around, whose channels and filters change places. */
static dfp_status dfp_winograd_backward_data(const dfp_winograd_transforms *t, const dfp_conv *c,
                                             const dfp_tensor *dy, const dfp_tensor *w, float *dx) {
    dfp_winograd_convolution v = {.columns = c->in_channels, .out_h = c->in_h, .out_w = c->in_w};
    v.in = dfp_winograd_images(t, DFP_WINOGRAD_INPUT, dy, c->batch, c->out_h, c->out_w,
                               c->out_channels, c->in_h, c->in_w);
    v.in.pad_top = 2 - c->pad_top;
    v.in.pad_left = 2 - c->pad_left;
    v.in.bits = t->image_bits;
    v.weights = dfp_winograd_kernels(t, w, c);
    v.weights.rotated = 1;
    v.transposed = 1;
    v.out = dx;
    v.blocks = dfp_input_blocks(c, c->in_channels);
    v.epilogue = (dfp_epilogue){1, dfp_power_of_two(dy->exponent + w->exponent), c->bias};
    dfp_begin();
    dfp_status status = dfp_winograd_convolve(&v);
    dfp_end();
    return status;
}

static dfp_status dfp_winograd_backward_weights(const dfp_winograd_transforms *t, const dfp_conv *c,
                                                const dfp_tensor *x, const dfp_tensor *dy,
                                                float *dw) {
    dfp_winograd_weights_gradient g = {.parts = {.dw = dw, .factor = t->factor}};
    g.x = dfp_winograd_images(t, DFP_WINOGRAD_INPUT, x, c->batch, c->in_h, c->in_w, c->in_channels,
                              c->out_h, c->out_w);
    g.x.pad_top = c->pad_top;
    g.x.pad_left = c->pad_left;
    g.x.bits = DFP_WINOGRAD_IMAGE_BITS;
    g.dy = dfp_winograd_images(t, DFP_WINOGRAD_GRADIENT, dy, c->batch, c->out_h, c->out_w,
                               c->out_channels, c->out_h, c->out_w);
    g.dy.bits = DFP_WINOGRAD_GRADIENT_BITS;
    g.parts.scale = dfp_power_of_two(x->exponent + dy->exponent);
    dfp_begin();
    dfp_status status = dfp_winograd_run_gradient(&g);
    dfp_end();
    return status;
}

/* As many multiply-adds as the transform of one point of weights costs. Like those of the transforms
 * (image_cost), from measurements with AVX2 on Zen 3. */
#define DFP_WINOGRAD_WEIGHT_COST 120.0

static double dfp_winograd_cost(const dfp_winograd_transforms *t, const dfp_conv *c,
                                int64_t result_h, int64_t result_w) {
    double tiles = (double)(c->batch * dfp_ceil_div(result_h, t->outputs) *
                            dfp_ceil_div(result_w, t->outputs));
    double area = t->points * t->points, in = (double)c->in_channels, out = (double)c->out_channels;
    return area * (tiles * in * out + t->image_cost * tiles * (in + out) +
                   DFP_WINOGRAD_WEIGHT_COST * in * out);
}

#define DFP_WINOGRAD_ALGORITHM(m)                                                                  \
    static dfp_status dfp_winograd_forward_##m(const dfp_conv *c, const dfp_tensor *x,             \
                                               const dfp_tensor *w, float *y) {                    \
        return dfp_winograd_forward(&dfp_winograd_transforms_##m, c, x, w, y);                     \
    }                                                                                              \
    static dfp_status dfp_winograd_backward_data_##m(const dfp_conv *c, const dfp_tensor *dy,      \
                                                     const dfp_tensor *w, float *dx) {             \
        return dfp_winograd_backward_data(&dfp_winograd_transforms_##m, c, dy, w, dx);             \
    }                                                                                              \
    static dfp_status dfp_winograd_backward_weights_##m(const dfp_conv *c, const dfp_tensor *x,    \
                                                        const dfp_tensor *dy, float *dw) {         \
        return dfp_winograd_backward_weights(&dfp_winograd_transforms_##m, c, x, dy, dw);          \
    }                                                                                              \
    static double dfp_winograd_cost_of_y_##m(const dfp_conv *c) {                                  \
        return dfp_winograd_cost(&dfp_winograd_transforms_##m, c, c->out_h, c->out_w);             \
    }                                                                                              \
    static double dfp_winograd_cost_of_x_##m(const dfp_conv *c) {                                  \
        return dfp_winograd_cost(&dfp_winograd_transforms_##m, c, c->in_h, c->in_w);               \
    }

DFP_WINOGRAD_ALGORITHM(2)
DFP_WINOGRAD_ALGORITHM(4)
