/* 1.0507 * elu(v, 1.67326) (Klambauer et al., 2017). */
#define DFP_SELU_ALPHA 1.67326324f
#define DFP_SELU_SCALE 1.05070098f
#define DFP_selu_TURN INFINITY
#define DFP_selu_STEEPEST (1.0 * DFP_SELU_SCALE * DFP_SELU_ALPHA)

DFP_INLINE dfp_vf dfp_selu(dfp_vf v, float alpha) {
    (void)alpha;
    return DFP_SELU_SCALE * dfp_elu(v, DFP_SELU_ALPHA);
}

/* As in Keras, the slope at 0 is that above it. */
DFP_INLINE dfp_vf dfp_selu_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf below = DFP_SELU_SCALE * DFP_SELU_ALPHA * dfp_exp_float(v);
    return dfp_choose(v < 0.0f, below, dfp_broadcast_float(DFP_SELU_SCALE));
}
