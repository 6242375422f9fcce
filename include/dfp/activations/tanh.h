#define DFP_tanh_TURN INFINITY
#define DFP_tanh_STEEPEST 1.0

DFP_INLINE dfp_vf dfp_tanh(dfp_vf v, float alpha) {
    (void)alpha;
    return dfp_tanh_float(v);
}

DFP_INLINE dfp_vf dfp_tanh_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf t = dfp_tanh_float(v);
    return 1.0f - t * t;
}
