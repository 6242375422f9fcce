/* The lists of algorithms of convolutions: docs/adding-an-algorithm.md. */

static int dfp_accepts_any_conv(const dfp_conv *c) {
    (void)c;
    return 1;
}

/* Multiply-adds of the definition. */
static double dfp_conv_products(const dfp_conv *c) {
    double outputs = (double)(c->batch * c->out_d * c->out_h * c->out_w * c->out_channels);
    int64_t taps = c->kernel_d * c->kernel_h * c->kernel_w;
    return outputs * (double)(taps * (c->in_channels / c->groups));
}

static const dfp_conv_algorithm dfp_forward_algorithms[] = {
    {"direct", DFP_DIRECT, dfp_accepts_any_conv, dfp_conv_products, dfp_conv_forward},
    {"winograd_2x2", DFP_WINOGRAD_2X2, dfp_winograd_accepts, dfp_winograd_cost_of_y_2,
     dfp_winograd_forward_2},
    {"winograd_4x4", DFP_WINOGRAD_4X4, dfp_winograd_accepts, dfp_winograd_cost_of_y_4,
     dfp_winograd_forward_4},
};

static const dfp_conv_algorithm dfp_backward_data_algorithms[] = {
    {"direct", DFP_DIRECT, dfp_accepts_any_conv, dfp_conv_products, dfp_conv_backward_data},
    {"winograd_2x2", DFP_WINOGRAD_2X2, dfp_winograd_accepts, dfp_winograd_cost_of_x_2,
     dfp_winograd_backward_data_2},
    {"winograd_4x4", DFP_WINOGRAD_4X4, dfp_winograd_accepts, dfp_winograd_cost_of_x_4,
     dfp_winograd_backward_data_4},
};

static const dfp_conv_algorithm dfp_backward_weights_algorithms[] = {
    {"direct", DFP_DIRECT, dfp_is_pointwise, dfp_conv_products, dfp_backward_weights_by_pixels},
    {"direct", DFP_DIRECT, dfp_is_not_pointwise, dfp_conv_products, dfp_backward_weights_by_rows},
    {"winograd_2x2", DFP_WINOGRAD_2X2, dfp_winograd_accepts, dfp_winograd_cost_of_y_2,
     dfp_winograd_backward_weights_2},
    {"winograd_4x4", DFP_WINOGRAD_4X4, dfp_winograd_accepts, dfp_winograd_cost_of_y_4,
     dfp_winograd_backward_weights_4},
};
