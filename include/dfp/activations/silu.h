/* v * sigmoid(v), also called swish. */
#define DFP_silu_TURN -1.2784645f
#define DFP_silu_STEEPEST 1.1

DFP_INLINE dfp_vf dfp_silu(dfp_vf v, float alpha) {
    (void)alpha;
    return v * dfp_sigmoid_float(v);
}

DFP_INLINE dfp_vf dfp_silu_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf s = dfp_sigmoid_float(v);
    return s * (v * (1.0f - s) + 1.0f);
}
