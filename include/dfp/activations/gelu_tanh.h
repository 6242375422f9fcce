/* v * sigmoid(2 * u), u = sqrt(2 / pi) * (v + 0.044715 * v^3). */
#define DFP_gelu_tanh_TURN -0.7524614f
#define DFP_gelu_tanh_STEEPEST 1.13

DFP_INLINE dfp_vf dfp_gelu_tanh_sigmoid(dfp_vf v) {
    return dfp_sigmoid_float(v * (v * v * 0.0713548163f + 1.5957691216f));
}

DFP_INLINE dfp_vf dfp_gelu_tanh(dfp_vf v, float alpha) {
    (void)alpha;
    return v * dfp_gelu_tanh_sigmoid(v);
}

DFP_INLINE dfp_vf dfp_gelu_tanh_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf near = dfp_limited(v, -16.0f, 16.0f), s = dfp_gelu_tanh_sigmoid(near);
    return s + near * (near * near * (3.0f * 0.0713548163f) + 1.5957691216f) * (s * (1.0f - s));
}
