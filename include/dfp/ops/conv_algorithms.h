/* What the algorithms of convolutions have in common. */

static int dfp_accepts_any_conv(const dfp_conv *c) {
    (void)c;
    return 1;
}

/* Multiply-adds of the definition. */
static double dfp_conv_products(const dfp_conv *c) {
    double outputs = (double)(c->batch * c->out_h * c->out_w * c->out_channels);
    return outputs * (double)(c->kernel_h * c->kernel_w * (c->in_channels / c->groups));
}
