/* v / (1 + |v|) */
#define DFP_softsign_TURN INFINITY
#define DFP_softsign_STEEPEST 1.0

DFP_INLINE dfp_vf dfp_softsign(dfp_vf v, float alpha) {
    (void)alpha;
    return v / (dfp_absolute_float(v) + 1.0f);
}

DFP_INLINE dfp_vf dfp_softsign_slope(dfp_vf v, float alpha) {
    (void)alpha;
    dfp_vf n = dfp_absolute_float(v) + 1.0f;
    return 1.0f / n / n;
}
