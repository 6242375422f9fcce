/* y = max(x, 0) + slope * min(x, 0), where each channel has a slope, rounded to nearest-even INT16, and its
 * gradients: dx = dy where x > 0, dy * slope where x < 0, and 0 where x = 0, as in Keras;
 * dslope = the sum over pixels of dy * min(x, 0), in FP32 within a part, lane by lane in ascending order,
 * in FP64 after: lanes pairwise, parts in ascending order. */

typedef struct {
    const dfp_prelu *p;
    dfp_rows rows;
    float *slopes;           /* of a row */
    float x_scale, dy_scale; /* of their numbers */
    float limit;
    int16_t *result;
    int32_t *largest; /* of each part */
    char *workers;    /* backward, of each: lanes of one row, then the same in FP64 */
    size_t worker_bytes;
    double *sums; /* backward: [part][channels] */
} dfp_prelu_run;

/* Writes numbers that are in units of the result. */
DFP_INLINE dfp_vi dfp_emit_numbers(const dfp_prelu_run *r, const float *numbers, int64_t at,
                                   int64_t count, dfp_vi largest) {
    for (int64_t i = 0; i < count; i += DFP_STEP) {
        dfp_vf both[2] = {dfp_load_float(numbers + i), dfp_load_float(numbers + i + DFP_LANES)};
        int64_t rest = count - i < DFP_STEP ? count - i : DFP_STEP;
        dfp_vi q = dfp_round_between(both, -r->limit, r->limit);
        largest = dfp_emit(r->result + at + i, q, rest, r->rows.large, largest);
    }
    return largest;
}

static dfp_vi dfp_prelu_piece(const dfp_prelu_run *r, int64_t at, int64_t c, int64_t count,
                              dfp_vi largest) {
    _Alignas(64) float x[DFP_FUNCTION_PIECE] = {0};
    dfp_load_numbers(&r->p->x, r->x_scale, at, count, x);
    for (int64_t i = 0; i < count; i += DFP_LANES) {
        dfp_vf v = dfp_load_float(x + i), slope = dfp_load_float(r->slopes + c + i);
        dfp_store_float(x + i, dfp_positive_part(v) + slope * dfp_negative_part(v));
    }
    return dfp_emit_numbers(r, x, at, count, largest);
}

/* dx of a piece; adds to the sums of its columns. */
static dfp_vi dfp_prelu_gradient_piece(const dfp_prelu_run *r, int64_t at, int64_t c, int64_t count,
                                       float *lanes, dfp_vi largest) {
    _Alignas(64) float x[DFP_FUNCTION_PIECE] = {0}, dy[DFP_FUNCTION_PIECE] = {0};
    dfp_vf zero = dfp_broadcast_float(0.0f);
    dfp_load_numbers(&r->p->x, 1.0f, at, count, x);
    dfp_load_numbers(&r->p->dy, 1.0f, at, count, dy);
    for (int64_t i = 0; i < count; i += DFP_LANES) {
        dfp_vf v = dfp_load_float(x + i), d = dfp_load_float(dy + i);
        dfp_vf negative = dfp_choose(v < zero, d * dfp_load_float(r->slopes + c + i), zero);
        dfp_vf sum = dfp_load_float(lanes + c + i) + d * dfp_negative_part(v);
        dfp_store_float(lanes + c + i, sum);
        dfp_store_float(dy + i, dfp_choose(v > zero, d, negative) * r->dy_scale);
    }
    return dfp_emit_numbers(r, dy, at, count, largest);
}

static void dfp_prelu_task(void *context, int64_t task, int worker) {
    const dfp_prelu_run *r = context;
    dfp_part part = dfp_part_at(&r->rows, task);
    char *memory = r->workers ? r->workers + (size_t)worker * r->worker_bytes : NULL;
    float *lanes = memory ? dfp_take(&memory, dfp_row_bytes(&r->rows)) : NULL;
    dfp_vi largest = dfp_zero();
    if (lanes) memset(lanes, 0, dfp_row_bytes(&r->rows));
    for (int64_t i = 0, row = part.first; i < part.rows; ++i, row += part.length)
        for (int64_t c = 0; c < part.length; c += DFP_FUNCTION_PIECE) {
            int64_t left = part.length - c;
            int64_t count = left < DFP_FUNCTION_PIECE ? left : DFP_FUNCTION_PIECE;
            largest = lanes ? dfp_prelu_gradient_piece(r, row + c, c, count, lanes, largest)
                            : dfp_prelu_piece(r, row + c, c, count, largest);
        }
    r->largest[task] = dfp_largest_int_lane(largest);
    if (!lanes) return;
    double *wide = dfp_take(&memory, 2 * dfp_row_bytes(&r->rows));
    dfp_finish_sum(lanes, wide, part, r->p->channels, r->sums + task * r->p->channels);
}

/* The largest of 1 and the slopes' magnitudes; NaN if they hold any. */
static double dfp_steepest_slope(const dfp_prelu *p) {
    double steepest = 1.0;
    for (int64_t c = 0; c < p->channels; ++c) {
        double magnitude = fabs((double)p->slopes[c]);
        if (!(magnitude <= steepest)) steepest = magnitude;
        if (isnan(steepest)) break;
    }
    return steepest;
}

/* Writes max(x, 0) + slope * min(x, 0), or dy times 1, slope or 0: `operand` is x or dy. */
static void dfp_run_prelu(dfp_prelu_run *r, const dfp_operand *operand, dfp_result *result) {
    const dfp_prelu *p = r->p;
    double of_x = dfp_operand_largest(&p->x, r->rows.elements, r->largest);
    double largest = dfp_operand_largest(operand, r->rows.elements, r->largest);
    double unit = dfp_operand_unit(operand), steepest = dfp_steepest_slope(p);
    dfp_range range = {.finite = isfinite(of_x) != 0};
    range.bound = dfp_add_term(&range, largest * steepest);
    dfp_add_term(&range, unit);
    dfp_add_term(&range, steepest);
    int32_t e = dfp_range_exponent(&range, p->bits);
    r->result = dfp_begin_result(result, e, r->rows.elements);
    if (!r->result) return;
    r->x_scale = r->dy_scale = (float)(unit * dfp_exp2_double(-e));
    r->limit = (float)((1 << p->bits) - 1);
    dfp_repeat(&r->rows, p->slopes, 1.0, r->slopes);
    dfp_parallel(r->rows.parts, dfp_prelu_task, r);
    result->scale.max_abs = dfp_largest_of(r->largest, r->rows.parts);
}

/* Takes memory for what both directions need and `sums` bytes; 0 if there is none. */
static int dfp_begin_prelu(dfp_prelu_run *r, size_t sums) {
    size_t maxima = (size_t)(DFP_CHUNKS(r->rows.elements) + r->rows.parts) * sizeof(int32_t);
    size_t row = dfp_row_bytes(&r->rows);
    dfp_begin();
    char *memory = dfp_shared_workspace(row + dfp_round_up(maxima, 64) + dfp_round_up(sums, 64));
    if (!memory) return 0;
    r->slopes = dfp_take(&memory, row);
    r->largest = dfp_take(&memory, maxima);
    r->sums = dfp_take(&memory, sums);
    return 1;
}

static dfp_status dfp_prelu_forward(const dfp_prelu *p, dfp_result *y) {
    dfp_prelu_run r = {.p = p, .rows = dfp_cut_rows(p->pixels, p->channels)};
    int enough = dfp_begin_prelu(&r, 0);
    if (enough) dfp_run_prelu(&r, &p->x, y);
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}

/* dslopes[c], all NaN if dx is not finite. */
static void dfp_add_up_slopes(const dfp_prelu_run *r, int finite, float *dslopes) {
    double unit = dfp_operand_unit(&r->p->x) * dfp_operand_unit(&r->p->dy);
    for (int64_t c = 0; c < r->p->channels; ++c) {
        double sum = 0.0;
        for (int64_t part = 0; finite && part < r->rows.parts; ++part)
            sum += r->sums[part * r->p->channels + c];
        dslopes[c] = finite ? (float)(sum * unit) : NAN;
    }
}

static dfp_status dfp_prelu_backward(const dfp_prelu *p, dfp_result *dx, float *dslopes) {
    dfp_prelu_run r = {.p = p, .rows = dfp_cut_rows(p->pixels, p->channels)};
    int enough = dfp_begin_prelu(&r, (size_t)(r.rows.parts * p->channels) * sizeof(double));
    if (enough) {
        r.worker_bytes = 3 * dfp_row_bytes(&r.rows);
        r.workers = dfp_worker_workspace(r.worker_bytes);
        enough = r.workers != NULL;
    }
    if (enough) {
        dfp_run_prelu(&r, &p->dy, dx);
        dfp_add_up_slopes(&r, dx->scale.exponent != DFP_NONFINITE_EXPONENT, dslopes);
    }
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}
