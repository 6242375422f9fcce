/* Functions of vectors of FP32 numbers, from multiplications, additions and divisions in a fixed order:
 * the same to the last bit for every instruction set. Errors are measured in
 * tests/test_activation_kernels.py. */

/* The integers of a mask or of an exponent, as many as there are FP32 lanes. */
typedef int32_t dfp_lanes __attribute__((vector_size(4 * DFP_LANES)));

/* a where the mask is all ones, b where it is 0. */
DFP_INLINE dfp_vf dfp_choose(dfp_lanes mask, dfp_vf a, dfp_vf b) {
    return (dfp_vf)((mask & (dfp_lanes)a) | (~mask & (dfp_lanes)b));
}

DFP_INLINE dfp_vf dfp_positive_part(dfp_vf v) {
    return dfp_max_float(v, dfp_broadcast_float(0.0f));
}

DFP_INLINE dfp_vf dfp_negative_part(dfp_vf v) {
    return dfp_min_float(v, dfp_broadcast_float(0.0f));
}

DFP_INLINE dfp_vf dfp_limited(dfp_vf v, float low, float high) {
    return dfp_max_float(dfp_min_float(v, dfp_broadcast_float(high)), dfp_broadcast_float(low));
}

/* v = n * log(2) + rest, |rest| <= log(2) / 2. */
typedef struct {
    dfp_vi n;
    dfp_vf rest;
} dfp_reduced;

DFP_INLINE dfp_reduced dfp_reduce_exponent(dfp_vf v) {
    dfp_reduced r = {.n = dfp_round(v * 1.44269504f)};
    dfp_vf n = dfp_to_float(r.n);
    r.rest = (v - n * 0.693359375f) - n * -2.12194440e-4f;
    return r;
}

/* exp(r) - 1 for |r| <= log(2) / 2, by the polynomial of Moshier's Cephes library. */
DFP_INLINE dfp_vf dfp_exp_minus_1_near_0(dfp_vf r) {
    dfp_vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * (r * r) + r;
}

/* 2^n for -126 <= n <= 127. */
DFP_INLINE dfp_vf dfp_exp2_of_integer(dfp_vi n) { return (dfp_vf)(((dfp_lanes)n + 127) << 23); }

/* exp(v), of -87 below it and of 88 above. */
DFP_INLINE dfp_vf dfp_exp_float(dfp_vf v) {
    dfp_reduced r = dfp_reduce_exponent(dfp_limited(v, -87.0f, 88.0f));
    return (dfp_exp_minus_1_near_0(r.rest) + 1.0f) * dfp_exp2_of_integer(r.n);
}

/* exp(v) - 1, with FP32's relative accuracy near 0. */
DFP_INLINE dfp_vf dfp_exp_minus_1(dfp_vf v) {
    dfp_reduced r = dfp_reduce_exponent(dfp_limited(v, -87.0f, 88.0f));
    dfp_vf near_0 = dfp_exp_minus_1_near_0(r.rest);
    dfp_vf other = (near_0 + 1.0f) * dfp_exp2_of_integer(r.n) - 1.0f;
    return dfp_choose((dfp_lanes)r.n == 0, near_0, other);
}

DFP_INLINE dfp_vf dfp_sigmoid_float(dfp_vf v) { return 1.0f / (dfp_exp_float(-v) + 1.0f); }

/* tanh(v), with FP32's relative accuracy near 0: there by Cephes' polynomial. */
DFP_INLINE dfp_vf dfp_tanh_float(dfp_vf v) {
    dfp_vf square = v * v, p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square + -5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square + -3.33332819422e-1f;
    dfp_vf near_0 = p * square * v + v, other = 2.0f * dfp_sigmoid_float(v + v) - 1.0f;
    return dfp_choose(dfp_absolute_float(v) < 0.625f, near_0, other);
}

/* log(1 + t) for 0 <= t <= 1: 2 * atanh(t / (2 + t)), by its series. */
DFP_INLINE dfp_vf dfp_log_of_1_plus(dfp_vf t) {
    dfp_vf s = t / (t + 2.0f), square = s * s, p = square * (1.0f / 13.0f) + 1.0f / 11.0f;
    p = p * square + 1.0f / 9.0f;
    p = p * square + 1.0f / 7.0f;
    p = p * square + 1.0f / 5.0f;
    p = p * square + 1.0f / 3.0f;
    return 2.0f * (p * square * s + s);
}

/* log(1 + exp(v)) */
DFP_INLINE dfp_vf dfp_softplus_float(dfp_vf v) {
    return dfp_positive_part(v) + dfp_log_of_1_plus(dfp_exp_float(-dfp_absolute_float(v)));
}

/* The distribution function of the standard normal distribution at v; `density` is exp(-v^2 / 2).
 * Abramowitz and Stegun 1964, 7.1.26. */
DFP_INLINE dfp_vf dfp_normal_distribution(dfp_vf v, dfp_vf density) {
    dfp_vf t = 1.0f / (dfp_absolute_float(v) * (0.3275911f * 0.70710678f) + 1.0f);
    dfp_vf p = t * 1.061405429f + -1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t + -0.284496736f;
    p = p * t + 0.254829592f;
    dfp_vf tail = 0.5f * (p * t * density);
    return dfp_choose(v > 0.0f, 1.0f - tail, tail);
}
