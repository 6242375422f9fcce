/* y = activation(x * scale + offset + residual) in one pass, rounded to nearest-even INT16.
 *
 * FP32 multiplication and addition are monotone, so the largest result follows from the ranges of
 * each channel, and with it the exponent, before the pass; 2^-exponent is part of scale and offset,
 * unless the activation is a function: then its values are multiplied by it.
 * Values that round up beyond the largest integer are clamped. The same pass can write the
 * normalised x, which takes half of x's memory until the backward pass. */

typedef struct {
    const dfp_normalization *n;
    dfp_rows rows;
    const dfp_function *function; /* or NULL */
    float unit;                   /* 2^-exponent if there is a function, else 1 */
    float *scale, *offset;        /* of a row, times 2^-exponent if there is none */
    float residual_scale;
    float low, high;
    float *unit_scale, *unit_offset; /* of a row, times 2^-exponent of the normalised x */
    float unit_limit;
    int16_t *y, *normalized;               /* NULL where not wanted */
    int32_t *largest, *largest_normalized; /* of each part */
} dfp_forward;

/* The largest magnitudes that a part has written so far, by lanes. */
typedef struct {
    dfp_vi y, normalized;
} dfp_forward_written;

/* The largest magnitude of the activation's results of arguments in [bottom, top]. */
static double dfp_largest_result(const dfp_normalization *n, double bottom, double top) {
    const dfp_function *function = dfp_function_of(n->activation);
    if (function) return dfp_largest_value(function, bottom, top, n->alpha);
    double bound = n->activation == DFP_LINEAR && -bottom > top ? -bottom : top > 0 ? top : 0.0;
    return n->activation == DFP_RELU6 && bound > 6.0 ? 6.0 : bound;
}

static dfp_range dfp_forward_range(const dfp_normalization *n, double x_largest,
                                   double residual_largest) {
    dfp_range range = {.finite = 1};
    double unit = dfp_operand_unit(&n->x);
    double top = -INFINITY, bottom = INFINITY;
    for (int64_t c = 0; c < n->channels; ++c) {
        double ends[2] = {n->minimum ? n->minimum[c] : -x_largest,
                          n->maximum ? n->maximum[c] : x_largest};
        dfp_add_term(&range, n->scale[c] * unit);
        dfp_add_term(&range, n->offset[c]);
        for (int i = 0; i < 2; ++i) {
            double product = n->scale[c] * ends[i], z = product + n->offset[c];
            dfp_add_term(&range, product);
            top = z > top ? z : top;
            bottom = z < bottom ? z : bottom;
        }
    }
    dfp_add_term(&range, residual_largest);
    top += residual_largest;
    bottom -= residual_largest;
    /* The arguments of a function are FP32 numbers. */
    if (dfp_function_of(n->activation)) range.finite &= range.terms < 0x1p124;
    if (range.finite) range.bound = dfp_largest_result(n, bottom, top);
    return range;
}

/* DFP_STEP results, for the columns from c on. */
DFP_INLINE dfp_vi dfp_forward_step(const dfp_forward *f, const dfp_operand *x, dfp_kind x_kind,
                                   const dfp_operand *residual, dfp_kind residual_kind, int64_t i,
                                   int64_t c) {
    dfp_vf residual_scale = dfp_broadcast_float(f->residual_scale);
    dfp_vf z[2];
    for (int h = 0; h < 2; ++h, i += DFP_LANES, c += DFP_LANES) {
        dfp_vf x_scale = dfp_load_float(f->scale + c);
        z[h] = dfp_multiply_float(dfp_load_operand(x, x_kind, i), x_scale);
        z[h] = dfp_add_float(z[h], dfp_load_float(f->offset + c));
        if (residual_kind == DFP_ABSENT) continue;
        dfp_vf r = dfp_load_operand(residual, residual_kind, i);
        z[h] = dfp_add_float(z[h], dfp_multiply_float(r, residual_scale));
    }
    return dfp_round_between(z, f->low, f->high);
}

/* The activation's values, in units of the result, for `count` columns of a row from c on. */
static void dfp_forward_function(const dfp_forward *f, dfp_kind x_kind, dfp_kind residual_kind,
                                 int64_t at, int64_t c, int64_t count, float *z) {
    const dfp_operand *residual = &f->n->residual;
    int64_t i = 0;
    dfp_fill_argument(&f->n->x, x_kind, f->scale, f->offset, at, c, count, z);
    if (residual_kind == DFP_INTEGERS)
        dfp_add_scaled(residual, DFP_INTEGERS, f->residual_scale, 0, at, count, z);
    if (residual_kind == DFP_FLOATS)
        dfp_add_scaled(residual, DFP_FLOATS, f->residual_scale, 0, at, count, z);
    f->function->value(z, count, f->n->alpha);
    for (; i < count; i += DFP_LANES) dfp_store_float(z + i, dfp_load_float(z + i) * f->unit);
}

/* DFP_STEP numbers of the normalised x. */
DFP_INLINE dfp_vi dfp_normalized_step(const dfp_forward *f, const dfp_operand *x, dfp_kind x_kind,
                                      int64_t i, int64_t c) {
    dfp_vf z[2];
    for (int h = 0; h < 2; ++h, i += DFP_LANES, c += DFP_LANES) {
        z[h] = dfp_load_operand(x, x_kind, i);
        z[h] = dfp_multiply_float(z[h], dfp_load_float(f->unit_scale + c));
        z[h] = dfp_add_float(z[h], dfp_load_float(f->unit_offset + c));
    }
    return dfp_round_between(z, -f->unit_limit, f->unit_limit);
}

/* `count` elements, read at `i` of the operands and written at `to`, for the columns from c on. */
DFP_INLINE void dfp_forward_emit(const dfp_forward *f, const dfp_operand *x, dfp_kind x_kind,
                                 const dfp_operand *residual, dfp_kind residual_kind, int64_t i,
                                 int64_t to, int64_t c, int64_t count,
                                 dfp_forward_written *written) {
    if (f->y) {
        dfp_vi q = dfp_forward_step(f, x, x_kind, residual, residual_kind, i, c);
        written->y = dfp_emit(f->y + to, q, count, f->rows.large, written->y);
    }
    if (f->normalized) {
        dfp_vi q = dfp_normalized_step(f, x, x_kind, i, c);
        written->normalized =
            dfp_emit(f->normalized + to, q, count, f->rows.large, written->normalized);
    }
}

DFP_INLINE void dfp_forward_row(const dfp_forward *f, dfp_kind x_kind, dfp_kind residual_kind,
                                int64_t first, int64_t length, dfp_forward_written *written) {
    const dfp_operand *x = &f->n->x, *residual = &f->n->residual;
    int64_t c = 0;
    for (; c + DFP_STEP <= length; c += DFP_STEP)
        dfp_forward_emit(f, x, x_kind, residual, residual_kind, first + c, first + c, c, DFP_STEP,
                         written);
    if (c < length) {
        dfp_tail tails[2];
        int64_t at = first + c, count = length - c;
        dfp_operand x_tail = dfp_copy_tail(x, x_kind, at, count, &tails[0]);
        dfp_operand residual_tail = dfp_copy_tail(residual, residual_kind, at, count, &tails[1]);
        dfp_forward_emit(f, &x_tail, x_kind, &residual_tail, residual_kind, 0, at, c, count,
                         written);
    }
}

/* A row with a function: its values first, then the steps that write. */
DFP_INLINE void dfp_forward_function_row(const dfp_forward *f, dfp_kind x_kind,
                                         dfp_kind residual_kind, int64_t first, int64_t length,
                                         dfp_forward_written *written) {
    _Alignas(64) float z[DFP_FUNCTION_PIECE] = {0};
    for (int64_t c = 0; c < length; c += DFP_FUNCTION_PIECE) {
        int64_t left = length - c, count = left < DFP_FUNCTION_PIECE ? left : DFP_FUNCTION_PIECE;
        dfp_forward_function(f, x_kind, residual_kind, first + c, c, count, z);
        for (int64_t i = 0; i < count; i += DFP_STEP) {
            dfp_vf both[2] = {dfp_load_float(z + i), dfp_load_float(z + i + DFP_LANES)};
            int64_t rest = count - i < DFP_STEP ? count - i : DFP_STEP;
            written->y = dfp_emit(f->y + first + c + i, dfp_round_between(both, f->low, f->high),
                                  rest, f->rows.large, written->y);
        }
    }
}

DFP_INLINE void dfp_forward_part(const dfp_forward *f, dfp_kind x_kind, dfp_kind residual_kind,
                                 int64_t index) {
    dfp_part part = dfp_part_at(&f->rows, index);
    dfp_forward_written written = {dfp_zero(), dfp_zero()};
    dfp_forward rest = *f;
    if (f->function) rest.y = NULL;
    for (int64_t r = 0; r < part.rows; ++r) {
        int64_t first = part.first + r * part.length;
        if (f->function && f->y)
            dfp_forward_function_row(f, x_kind, residual_kind, first, part.length, &written);
        if (rest.y || rest.normalized)
            dfp_forward_row(&rest, x_kind, residual_kind, first, part.length, &written);
    }
    f->largest[index] = dfp_largest_int_lane(written.y);
    f->largest_normalized[index] = dfp_largest_int_lane(written.normalized);
}

static void dfp_forward_task(void *context, int64_t task, int worker) {
    const dfp_forward *f = context;
    (void)worker;
#define DFP_CASE(x, residual)                                                                      \
    case 3 * x + residual: dfp_forward_part(f, x, residual, task); break;
    switch (3 * dfp_kind_of(&f->n->x) + dfp_kind_of(&f->n->residual)) {
        DFP_CASE(DFP_INTEGERS, DFP_ABSENT)
        DFP_CASE(DFP_INTEGERS, DFP_INTEGERS)
        DFP_CASE(DFP_INTEGERS, DFP_FLOATS)
        DFP_CASE(DFP_FLOATS, DFP_ABSENT)
        DFP_CASE(DFP_FLOATS, DFP_INTEGERS)
        DFP_CASE(DFP_FLOATS, DFP_FLOATS)
    }
#undef DFP_CASE
}

/* Prepares results of an exponent. */
static void dfp_scale_y(dfp_forward *f, int32_t e) {
    const dfp_normalization *n = f->n;
    double unit = dfp_exp2_double(-e), limit = (1 << n->bits) - 1, six = 6.0 * unit;
    f->high = (float)(n->activation == DFP_RELU6 && six < limit ? six : limit);
    f->low = n->activation == DFP_LINEAR || f->function ? -f->high : 0.0f;
    f->unit = f->function ? (float)unit : 1.0f;
    if (f->function) unit = 1.0;
    f->residual_scale = (float)(dfp_operand_unit(&n->residual) * unit);
    dfp_repeat(&f->rows, n->scale, dfp_operand_unit(&n->x) * unit, f->scale);
    dfp_repeat(&f->rows, n->offset, unit, f->offset);
}

static void dfp_plan_y(dfp_forward *f, double x_largest, double residual_largest, dfp_result *y) {
    dfp_range range = dfp_forward_range(f->n, x_largest, residual_largest);
    int32_t e = dfp_range_exponent(&range, f->n->bits);
    f->y = dfp_begin_result(y, e, f->rows.elements);
    if (f->y) dfp_scale_y(f, e);
}

static void dfp_plan_normalized(dfp_forward *f, double x_largest, dfp_result *normalized) {
    dfp_normalization plain = *f->n;
    if (!plain.unit_scale) return;
    plain.scale = plain.unit_scale;
    plain.offset = plain.unit_offset;
    plain.activation = DFP_LINEAR;
    dfp_range range = dfp_forward_range(&plain, x_largest, 0);
    int32_t e = dfp_range_exponent(&range, plain.unit_bits);
    f->normalized = dfp_begin_result(normalized, e, f->rows.elements);
    if (!f->normalized) return;
    double unit = dfp_exp2_double(-e);
    f->unit_limit = (float)((1 << plain.unit_bits) - 1);
    dfp_repeat(&f->rows, plain.scale, dfp_operand_unit(&plain.x) * unit, f->unit_scale);
    dfp_repeat(&f->rows, plain.offset, unit, f->unit_offset);
}

static void dfp_run_forward(dfp_forward *f, dfp_result *y, dfp_result *normalized) {
    const dfp_normalization *n = f->n;
    int64_t elements = f->rows.elements;
    double x_largest = n->minimum ? 0 : dfp_operand_largest(&n->x, elements, f->largest);
    double residual_largest = dfp_operand_largest(&n->residual, elements, f->largest);
    dfp_plan_y(f, x_largest, residual_largest, y);
    dfp_plan_normalized(f, x_largest, normalized);
    if (!f->y && !f->normalized) return;
    dfp_parallel(f->rows.parts, dfp_forward_task, f);
    if (f->y) y->scale.max_abs = dfp_largest_of(f->largest, f->rows.parts);
    if (f->normalized)
        normalized->scale.max_abs = dfp_largest_of(f->largest_normalized, f->rows.parts);
}

static dfp_status dfp_batch_norm_forward(const dfp_normalization *n, dfp_result *y,
                                         dfp_result *normalized) {
    dfp_forward f = {.n = n, .rows = dfp_cut_rows(n->pixels, n->channels)};
    f.function = dfp_function_of(n->activation);
    size_t row = dfp_row_bytes(&f.rows);
    size_t maxima = (size_t)(DFP_CHUNKS(f.rows.elements) + f.rows.parts) * sizeof(int32_t);
    dfp_begin();
    char *memory = dfp_shared_workspace(4 * row + 2 * dfp_round_up(maxima, 64));
    if (memory) {
        f.scale = dfp_take(&memory, row);
        f.offset = dfp_take(&memory, row);
        f.unit_scale = dfp_take(&memory, row);
        f.unit_offset = dfp_take(&memory, row);
        f.largest = dfp_take(&memory, maxima);
        f.largest_normalized = dfp_take(&memory, maxima);
        dfp_run_forward(&f, y, normalized);
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}
