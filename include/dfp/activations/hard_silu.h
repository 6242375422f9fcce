/* v * hard_sigmoid(v) */
#define DFP_hard_silu_TURN -1.5f
#define DFP_hard_silu_STEEPEST 1.5

DFP_INLINE dfp_vf dfp_hard_silu(dfp_vf v, float alpha) { return v * dfp_hard_sigmoid(v, alpha); }

DFP_INLINE dfp_vf dfp_hard_silu_slope(dfp_vf v, float alpha) {
    return dfp_hard_sigmoid(v, alpha) + v * dfp_hard_sigmoid_slope(v, alpha);
}
