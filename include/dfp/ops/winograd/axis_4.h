/* F(4, 3) along one axis, of vectors `s` apart, in place: docs/numerics.md, "Winograd". */
#define OUTPUTS 4
/* Of both axes: the weights' matrix is 3 * diag(2^weight_shift) times the usual one. */
#define FACTOR (1.0f / 9.0f)
/* Magnitude bits of the points' integers in forward and backward_data. */
#define IMAGE_BITS 13
#define WEIGHT_BITS 14
#define IMAGE_COST 50.0

static const int WG(weight_shift)[] = {2, 1, 1, 3, 3, 0};

DFP_INLINE dfp_vf WG(times)(float factor, dfp_vf v) {
    return dfp_multiply_float(dfp_broadcast_float(factor), v);
}

DFP_INLINE void WG(input_axis)(dfp_vf *v, int s) {
    dfp_vf d1 = v[s], d2 = v[2 * s], d3 = v[3 * s], d4 = v[4 * s], d5 = v[5 * s];
    dfp_vf even4 = dfp_subtract_float(d4, WG(times)(4.0f, d2));
    dfp_vf odd4 = dfp_subtract_float(d3, WG(times)(4.0f, d1));
    dfp_vf even = dfp_subtract_float(d4, d2), odd = dfp_subtract_float(d3, d1);
    v[0] = dfp_add_float(WG(times)(4.0f, v[0]), dfp_subtract_float(d4, WG(times)(5.0f, d2)));
    v[s] = dfp_add_float(even4, odd4);
    v[2 * s] = dfp_subtract_float(even4, odd4);
    odd = dfp_add_float(odd, odd);
    v[3 * s] = dfp_add_float(even, odd);
    v[4 * s] = dfp_subtract_float(even, odd);
    v[5 * s] = dfp_add_float(WG(times)(4.0f, d1), dfp_subtract_float(d5, WG(times)(5.0f, d3)));
}

DFP_INLINE void WG(weights_axis)(dfp_vf *v, int s) {
    dfp_vf g0 = v[0], g1 = v[s], g2 = v[2 * s];
    dfp_vf sum = dfp_add_float(g0, g2), wide = dfp_add_float(g0, WG(times)(4.0f, g2));
    v[0] = WG(times)(3.0f, g0);
    v[s] = dfp_subtract_float(dfp_subtract_float(dfp_broadcast_float(0.0f), sum), g1);
    v[2 * s] = dfp_subtract_float(g1, sum);
    g1 = dfp_add_float(g1, g1);
    v[3 * s] = dfp_add_float(wide, g1);
    v[4 * s] = dfp_subtract_float(wide, g1);
    v[5 * s] = WG(times)(3.0f, g2);
}

DFP_INLINE void WG(gradient_axis)(dfp_vf *v, int s) {
    dfp_vf y0 = v[0], y1 = v[s], y2 = v[2 * s], y3 = v[3 * s];
    dfp_vf even = dfp_add_float(y0, y2), odd = dfp_add_float(y1, y3);
    dfp_vf even4 = dfp_add_float(y0, WG(times)(4.0f, y2));
    dfp_vf odd8 = dfp_add_float(WG(times)(2.0f, y1), WG(times)(8.0f, y3));
    v[s] = dfp_add_float(even, odd);
    v[2 * s] = dfp_subtract_float(even, odd);
    v[3 * s] = dfp_add_float(even4, odd8);
    v[4 * s] = dfp_subtract_float(even4, odd8);
    v[5 * s] = y3;
}

DFP_INLINE void WG(output_axis)(dfp_vf *v, int s) {
    dfp_vf a = dfp_add_float(v[s], v[2 * s]), b = dfp_subtract_float(v[s], v[2 * s]);
    dfp_vf c = dfp_add_float(v[3 * s], v[4 * s]), d = dfp_subtract_float(v[3 * s], v[4 * s]);
    v[0] = dfp_add_float(dfp_add_float(v[0], a), c);
    v[s] = dfp_add_float(b, WG(times)(2.0f, d));
    v[2 * s] = dfp_add_float(a, WG(times)(4.0f, c));
    v[3 * s] = dfp_add_float(dfp_add_float(b, WG(times)(8.0f, d)), v[5 * s]);
}

DFP_INLINE void WG(weights_gradient_axis)(dfp_vf *v, int s) {
    dfp_vf a = dfp_add_float(v[s], v[2 * s]), b = dfp_subtract_float(v[2 * s], v[s]);
    dfp_vf c = dfp_add_float(v[3 * s], v[4 * s]), d = dfp_subtract_float(v[3 * s], v[4 * s]);
    v[0] = dfp_add_float(dfp_subtract_float(WG(times)(3.0f, v[0]), a), c);
    v[s] = dfp_add_float(b, WG(times)(2.0f, d));
    v[2 * s] = dfp_add_float(dfp_subtract_float(WG(times)(4.0f, c), a), WG(times)(3.0f, v[5 * s]));
}
