/* v where positive, else alpha * v. */
/* For a negative alpha, values fall to 0 at 0: the ends of an interval have the largest. */
#define DFP_leaky_relu_TURN INFINITY
#define DFP_leaky_relu_STEEPEST fmax(1.0, fabs(alpha))

DFP_INLINE dfp_vf dfp_leaky_relu(dfp_vf v, float alpha) {
    return dfp_positive_part(v) + alpha * dfp_negative_part(v);
}

DFP_INLINE dfp_vf dfp_leaky_relu_slope(dfp_vf v, float alpha) {
    return dfp_choose(v > 0.0f, dfp_broadcast_float(1.0f), dfp_broadcast_float(alpha));
}
