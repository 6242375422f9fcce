/* v where positive, else alpha * (exp(v) - 1). */
#define DFP_elu_TURN INFINITY
#define DFP_elu_STEEPEST fmax(1.0, fabs(alpha))

DFP_INLINE dfp_vf dfp_elu(dfp_vf v, float alpha) {
    return dfp_positive_part(v) + alpha * dfp_exp_minus_1(dfp_negative_part(v));
}

DFP_INLINE dfp_vf dfp_elu_slope(dfp_vf v, float alpha) {
    return dfp_choose(v > 0.0f, dfp_broadcast_float(1.0f), alpha * dfp_exp_float(v));
}
