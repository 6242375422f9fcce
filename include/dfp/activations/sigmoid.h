/* 1 / (1 + exp(-v)) */
#define DFP_sigmoid_TURN INFINITY
#define DFP_sigmoid_STEEPEST 0.25

DFP_INLINE dfp_vf dfp_sigmoid(dfp_vf v, float alpha) {
    (void)alpha;
    return dfp_sigmoid_float(v);
}

DFP_INLINE dfp_vf dfp_sigmoid_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf s = dfp_sigmoid_float(v);
    return s * (1.0f - s);
}
