/* v * tanh(softplus(v)); tanh(log(1 + e)) = e * (e + 2) / (e * (e + 2) + 2). */
#define DFP_mish_TURN -1.1924312f
#define DFP_mish_STEEPEST 1.089

DFP_INLINE dfp_vf dfp_mish_tanh(dfp_vf e) {
    dfp_vf n = e * (e + 2.0f);
    return n / (n + 2.0f);
}

/* exp(v) whose square FP32 holds: tanh is 1 long before. */
DFP_INLINE dfp_vf dfp_mish_exp(dfp_vf v) { return dfp_exp_float(dfp_limited(v, -87.0f, 40.0f)); }

DFP_INLINE dfp_vf dfp_mish(dfp_vf v, float alpha) {
    (void)alpha;
    return v * dfp_mish_tanh(dfp_mish_exp(v));
}

DFP_INLINE dfp_vf dfp_mish_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf near = dfp_limited(v, -87.0f, 40.0f), e = dfp_mish_exp(near), t = dfp_mish_tanh(e);
    return t + near * (1.0f - t * t) * (e / (e + 1.0f));
}
