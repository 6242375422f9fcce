/* v / 6 + 1 / 2 within [0, 1]. */
#define DFP_hard_sigmoid_TURN INFINITY
#define DFP_hard_sigmoid_STEEPEST (1.0 / 6.0)

DFP_INLINE dfp_vf dfp_hard_sigmoid(dfp_vf v, float alpha) {
    (void)alpha;
    return dfp_limited(v + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f);
}

/* As in Keras, 0 at -3 and at 3. */
DFP_INLINE dfp_vf dfp_hard_sigmoid_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_lanes within = dfp_absolute_float(v) < 3.0f;
    return dfp_choose(within, dfp_broadcast_float(1.0f / 6.0f), dfp_broadcast_float(0.0f));
}
