/* F(2, 3) along one axis, of vectors `s` apart, in place: docs/numerics.md, "Winograd". */
#define OUTPUTS 2
#define FACTOR 1.0f
/* Magnitude bits of the points' integers in forward and backward_data. */
#define IMAGE_BITS 13
#define WEIGHT_BITS 13
#define IMAGE_COST 40.0

static const int WG(weight_shift)[] = {0, 1, 1, 0};

DFP_INLINE void WG(input_axis)(dfp_vf *v, int s) {
    dfp_vf d0 = v[0], d1 = v[s], d2 = v[2 * s], d3 = v[3 * s];
    v[0] = dfp_subtract_float(d0, d2);
    v[s] = dfp_add_float(d1, d2);
    v[2 * s] = dfp_subtract_float(d2, d1);
    v[3 * s] = dfp_subtract_float(d1, d3);
}

DFP_INLINE void WG(weights_axis)(dfp_vf *v, int s) {
    dfp_vf g1 = v[s], g2 = v[2 * s], sum = dfp_add_float(v[0], g2);
    v[s] = dfp_add_float(sum, g1);
    v[2 * s] = dfp_subtract_float(sum, g1);
    v[3 * s] = g2;
}

DFP_INLINE void WG(gradient_axis)(dfp_vf *v, int s) {
    dfp_vf y0 = v[0], y1 = v[s];
    v[s] = dfp_add_float(y0, y1);
    v[2 * s] = dfp_subtract_float(y0, y1);
    v[3 * s] = dfp_subtract_float(dfp_broadcast_float(0.0f), y1);
}

DFP_INLINE void WG(output_axis)(dfp_vf *v, int s) {
    dfp_vf m1 = v[s], m2 = v[2 * s], sum = dfp_add_float(m1, m2);
    v[0] = dfp_add_float(v[0], sum);
    v[s] = dfp_subtract_float(dfp_subtract_float(m1, m2), v[3 * s]);
}

DFP_INLINE void WG(weights_gradient_axis)(dfp_vf *v, int s) {
    dfp_vf m1 = v[s], m2 = v[2 * s], sum = dfp_add_float(m1, m2);
    v[0] = dfp_add_float(v[0], sum);
    v[s] = dfp_subtract_float(m1, m2);
    v[2 * s] = dfp_add_float(sum, v[3 * s]);
}
