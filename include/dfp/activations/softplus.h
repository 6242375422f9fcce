/* log(1 + exp(v)) */
#define DFP_softplus_TURN INFINITY
#define DFP_softplus_STEEPEST 1.0

DFP_INLINE dfp_vf dfp_softplus(dfp_vf v, float alpha) {
    (void)alpha;
    return dfp_softplus_float(v);
}

DFP_INLINE dfp_vf dfp_softplus_slope(dfp_vf v, float alpha) {
    (void)alpha;
    return dfp_sigmoid_float(v);
}
