/* v times the normal distribution's function at v. */
#define DFP_gelu_TURN -0.7517916f
#define DFP_gelu_STEEPEST 1.129

DFP_INLINE dfp_vf dfp_gelu(dfp_vf v, float alpha) {
    (void)alpha;
    return v * dfp_normal_distribution(v, dfp_exp_float(v * v * -0.5f));
}

DFP_INLINE dfp_vf dfp_gelu_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf density = dfp_exp_float(v * v * -0.5f);
    return dfp_normal_distribution(v, density) + v * density * 0.39894228f;
}
