/* dz = the sum of the gradients of one tensor, masked by an activation, rounded to nearest-even
 * INT16. The sum of the largest magnitudes gives the exponent before the pass that writes.
 * Gradients are added in their order, in FP32, one row at a time in the first-level cache. */

typedef struct {
    const dfp_gradient_sum *s;
    dfp_rows rows;
    float *scales; /* of each gradient: what its numbers are multiplied by */
    int32_t top;   /* y passes from 1 to top */
    float limit;
    int16_t *dz;
    int32_t *largest; /* of each part */
} dfp_summation;

static void dfp_sum_row(const dfp_summation *m, int64_t at, int64_t count, float *sum) {
    for (int64_t i = 0; i < m->s->count; ++i) {
        const dfp_operand *gradient = m->s->gradients + i;
        float scale = m->scales[i];
        if (gradient->floats && i == 0)
            dfp_add_scaled(gradient, DFP_FLOATS, scale, 1, at, count, sum);
        else if (gradient->floats)
            dfp_add_scaled(gradient, DFP_FLOATS, scale, 0, at, count, sum);
        else if (i == 0)
            dfp_add_scaled(gradient, DFP_INTEGERS, scale, 1, at, count, sum);
        else
            dfp_add_scaled(gradient, DFP_INTEGERS, scale, 0, at, count, sum);
    }
}

/* Zeroes what the activation stopped; y begins at the sums' first element. */
static void dfp_mask_row(const int16_t *y, int32_t top, int64_t count, float *sum) {
    int64_t i = 0;
    for (; i + DFP_LANES <= count; i += DFP_LANES)
        dfp_store_float(sum + i,
                        dfp_keep_between(dfp_load_float(sum + i), dfp_load_widen(y + i), top));
    for (; i < count; ++i) sum[i] = y[i] > 0 && y[i] <= top ? sum[i] : 0.0f;
}

static void dfp_summation_task(void *context, int64_t task, int worker) {
    const dfp_summation *m = context;
    const int16_t *y = m->s->y.data;
    _Alignas(64) float sum[DFP_ROW] = {0};
    dfp_part part = dfp_part_at(&m->rows, task);
    dfp_vi largest = dfp_zero();
    (void)worker;
    for (int64_t r = 0, at = part.first; r < part.rows; ++r, at += part.length) {
        dfp_sum_row(m, at, part.length, sum);
        if (y) dfp_mask_row(y + at, m->top, part.length, sum);
        for (int64_t c = 0; c < part.length; c += DFP_STEP) {
            dfp_vf both[2] = {dfp_load_float(sum + c), dfp_load_float(sum + c + DFP_LANES)};
            int64_t left = part.length - c, count = left < DFP_STEP ? left : DFP_STEP;
            largest = dfp_emit(m->dz + at + c, dfp_round_between(both, -m->limit, m->limit), count,
                               m->rows.large, largest);
        }
    }
    m->largest[task] = dfp_largest_int_lane(largest);
}

static double dfp_factor_of(const dfp_gradient_sum *s, int64_t i) {
    return s->factors ? s->factors[i] : 1.0;
}

static void dfp_run_summation(dfp_summation *m, dfp_result *dz) {
    const dfp_gradient_sum *s = m->s;
    dfp_range range = {.finite = 1};
    for (int64_t i = 0; i < s->count; ++i) {
        double largest = dfp_operand_largest(&s->gradients[i], m->rows.elements, m->largest);
        dfp_add_term(&range, largest);
        range.bound += dfp_add_term(&range, largest * dfp_factor_of(s, i));
        dfp_add_term(&range, dfp_operand_unit(&s->gradients[i]) * dfp_factor_of(s, i));
    }
    int32_t e = dfp_range_exponent(&range, s->bits);
    m->dz = dfp_begin_result(dz, e, m->rows.elements);
    if (!m->dz) return;
    for (int64_t i = 0; i < s->count; ++i)
        m->scales[i] =
            (float)(dfp_operand_unit(&s->gradients[i]) * dfp_exp2_double(-e) * dfp_factor_of(s, i));
    m->limit = (float)((1 << s->bits) - 1);
    m->top = dfp_largest_passing(s->activation, s->y.exponent);
    dfp_parallel(m->rows.parts, dfp_summation_task, m);
    dz->scale.max_abs = dfp_largest_of(m->largest, m->rows.parts);
}

static dfp_status dfp_sum_gradients(const dfp_gradient_sum *s, dfp_result *dz) {
    dfp_summation m = {.s = s, .rows = dfp_cut_rows(s->elements, 1)};
    size_t scales = (size_t)s->count * sizeof(float);
    size_t maxima = (size_t)(DFP_CHUNKS(s->elements) + m.rows.parts) * sizeof(int32_t);
    dfp_begin();
    char *memory = dfp_shared_workspace(dfp_round_up(scales, 64) + dfp_round_up(maxima, 64));
    if (memory) {
        m.scales = dfp_take(&memory, scales);
        m.largest = dfp_take(&memory, maxima);
        dfp_run_summation(&m, dz);
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}
