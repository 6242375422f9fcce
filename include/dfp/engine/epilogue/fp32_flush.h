/* Part of the micro-kernel: INT32 sums of a run go to FP32, scaled after the last run. */
int scaled = span + 1 == t->spans_end && t->epilogue.scaled;
const float *bias = scaled ? t->epilogue.bias : NULL;
dfp_vf first = dfp_broadcast_float(t->epilogue.scale.first);
dfp_vf second = dfp_broadcast_float(t->epilogue.scale.second);
if (!from_zero && !scaled) {
    EACH_ROW EACH_VECTOR {
        float *c = t->c[r] + v * DFP_LANES;
        dfp_store_float(c, dfp_add_float(dfp_load_float(c), dfp_to_float(sum[r][v])));
    }
} else if (from_zero && !scaled) {
    EACH_ROW EACH_VECTOR dfp_store_float(t->c[r] + v * DFP_LANES, dfp_to_float(sum[r][v]));
} else if (from_zero && scaled && !bias) {
    EACH_ROW EACH_VECTOR {
        dfp_vf total = dfp_multiply_float(dfp_to_float(sum[r][v]), first);
        dfp_store_float(t->c[r] + v * DFP_LANES, dfp_multiply_float(total, second));
    }
} else {
    EACH_ROW EACH_VECTOR {
        float *c = t->c[r] + v * DFP_LANES;
        dfp_vf total = dfp_to_float(sum[r][v]);
        if (!from_zero) total = dfp_add_float(dfp_load_float(c), total);
        if (scaled) total = dfp_multiply_float(dfp_multiply_float(total, first), second);
        if (bias) total = dfp_add_float(total, dfp_load_float(bias + v * DFP_LANES));
        dfp_store_float(c, total);
    }
}
