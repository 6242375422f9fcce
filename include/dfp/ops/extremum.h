/* The larger (or the smaller) of two numbers, element by element, rounded to nearest-even INT16, and its
 * gradient, which goes to the first of two equal ones. */

typedef struct {
    const dfp_extremum *e;
    dfp_rows rows;
    float scales[2]; /* of the numbers of a and b */
    float limit;
    const int16_t *dy;       /* of the gradient */
    int16_t *results[2];     /* y; or da and db */
    int32_t *largest;        /* of each part, of results[0] */
    int32_t *largest_second; /* of results[1] */
} dfp_extremum_run;

/* Both operands of a row, in units of the result; their room is a whole number of steps. */
typedef struct {
    _Alignas(64) float a[DFP_ROW], b[DFP_ROW];
} dfp_extremum_row;

static void dfp_load_numbers(const dfp_operand *o, float scale, int64_t at, int64_t count,
                             float *to) {
    if (o->floats)
        dfp_add_scaled(o, DFP_FLOATS, scale, 1, at, count, to);
    else
        dfp_add_scaled(o, DFP_INTEGERS, scale, 1, at, count, to);
}

static void dfp_load_extremum_row(const dfp_extremum_run *r, int64_t at, int64_t count,
                                  dfp_extremum_row *row) {
    dfp_load_numbers(&r->e->a, r->scales[0], at, count, row->a);
    dfp_load_numbers(&r->e->b, r->scales[1], at, count, row->b);
}

static void dfp_extremum_task(void *context, int64_t task, int worker) {
    const dfp_extremum_run *r = context;
    dfp_part part = dfp_part_at(&r->rows, task);
    dfp_extremum_row row = {{0}, {0}};
    dfp_vi largest = dfp_zero();
    (void)worker;
    for (int64_t i = 0, at = part.first; i < part.rows; ++i, at += part.length) {
        dfp_load_extremum_row(r, at, part.length, &row);
        for (int64_t c = 0; c < part.length; c += DFP_STEP) {
            dfp_vf both[2];
            for (int h = 0; h < 2; ++h) {
                dfp_vf a = dfp_load_float(row.a + c + h * DFP_LANES);
                dfp_vf b = dfp_load_float(row.b + c + h * DFP_LANES);
                both[h] = r->e->smaller ? dfp_min_float(a, b) : dfp_max_float(a, b);
            }
            int64_t left = part.length - c, count = left < DFP_STEP ? left : DFP_STEP;
            dfp_vi q = dfp_round_between(both, -r->limit, r->limit);
            largest = dfp_emit(r->results[0] + at + c, q, count, r->rows.large, largest);
        }
    }
    r->largest[task] = dfp_largest_int_lane(largest);
}

/* All ones where the gradient goes to a. */
DFP_INLINE dfp_vi dfp_extremum_mask(const dfp_extremum_run *r, const dfp_extremum_row *row,
                                    int64_t c) {
    dfp_vi mask[2];
    for (int h = 0; h < 2; ++h) {
        dfp_vf a = dfp_load_float(row->a + c + h * DFP_LANES);
        dfp_vf b = dfp_load_float(row->b + c + h * DFP_LANES);
        mask[h] = r->e->smaller ? (dfp_vi)(a <= b) : (dfp_vi)(a >= b);
    }
    return dfp_narrow(mask[0], mask[1]);
}

static void dfp_extremum_gradient_task(void *context, int64_t task, int worker) {
    const dfp_extremum_run *r = context;
    dfp_part part = dfp_part_at(&r->rows, task);
    dfp_readable dy = {r->dy, r->dy + r->rows.elements};
    dfp_extremum_row row = {{0}, {0}};
    dfp_vi largest[2] = {dfp_zero(), dfp_zero()};
    (void)worker;
    for (int64_t i = 0, at = part.first; i < part.rows; ++i, at += part.length) {
        dfp_load_extremum_row(r, at, part.length, &row);
        for (int64_t c = 0; c < part.length; c += DFP_STEP) {
            int64_t left = part.length - c, count = left < DFP_STEP ? left : DFP_STEP;
            dfp_vi mask = dfp_extremum_mask(r, &row, c), q = dfp_read(&dy, 0, at + c);
            dfp_vi parts[2] = {q & mask, q & ~mask};
            for (int k = 0; k < 2; ++k)
                largest[k] =
                    dfp_emit(r->results[k] + at + c, parts[k], count, r->rows.large, largest[k]);
        }
    }
    r->largest[task] = dfp_largest_int_lane(largest[0]);
    r->largest_second[task] = dfp_largest_int_lane(largest[1]);
}

static void dfp_run_extremum(dfp_extremum_run *r, dfp_result *y) {
    const dfp_extremum *e = r->e;
    const dfp_operand *operands[] = {&e->a, &e->b};
    dfp_range range = {.finite = 1};
    for (int k = 0; k < 2; ++k) {
        double largest = dfp_operand_largest(operands[k], r->rows.elements, r->largest);
        dfp_add_term(&range, largest);
        range.bound = largest > range.bound ? largest : range.bound;
        dfp_add_term(&range, dfp_operand_unit(operands[k]));
    }
    int32_t exponent = dfp_range_exponent(&range, e->bits);
    r->results[0] = dfp_begin_result(y, exponent, r->rows.elements);
    if (!r->results[0]) return;
    for (int k = 0; k < 2; ++k)
        r->scales[k] = (float)(dfp_operand_unit(operands[k]) * dfp_exp2_double(-exponent));
    r->limit = (float)((1 << e->bits) - 1);
    dfp_parallel(r->rows.parts, dfp_extremum_task, r);
    y->scale.max_abs = dfp_largest_of(r->largest, r->rows.parts);
}

/* Takes memory; 0 if there is none. */
static int dfp_begin_extremum(dfp_extremum_run *r) {
    size_t maxima = (size_t)(DFP_CHUNKS(r->rows.elements) + r->rows.parts) * sizeof(int32_t);
    dfp_begin();
    char *memory = dfp_shared_workspace(2 * dfp_round_up(maxima, 64));
    if (!memory) return 0;
    r->largest = dfp_take(&memory, maxima);
    r->largest_second = dfp_take(&memory, maxima);
    return 1;
}

static dfp_status dfp_extremum_forward(const dfp_extremum *e, dfp_result *y) {
    dfp_extremum_run r = {.e = e, .rows = dfp_cut_rows(e->elements, 1)};
    int enough = dfp_begin_extremum(&r);
    if (enough) dfp_run_extremum(&r, y);
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}

/* Writes da and db. */
static void dfp_run_extremum_gradient(dfp_extremum_run *r, dfp_scale scale, dfp_result *da,
                                      dfp_result *db) {
    double a = dfp_operand_largest(&r->e->a, r->rows.elements, r->largest);
    double b = dfp_operand_largest(&r->e->b, r->rows.elements, r->largest);
    if (!isfinite(a) || !isfinite(b)) scale.exponent = DFP_NONFINITE_EXPONENT;
    r->results[0] = dfp_begin_result(da, scale.exponent, r->rows.elements);
    r->results[1] = dfp_begin_result(db, scale.exponent, r->rows.elements);
    if (!r->results[0]) return;
    r->scales[0] = (float)dfp_operand_unit(&r->e->a);
    r->scales[1] = (float)dfp_operand_unit(&r->e->b);
    dfp_parallel(r->rows.parts, dfp_extremum_gradient_task, r);
    da->scale.max_abs = dfp_largest_of(r->largest, r->rows.parts);
    db->scale.max_abs = dfp_largest_of(r->largest_second, r->rows.parts);
}

static dfp_status dfp_extremum_backward(const dfp_extremum *e, const dfp_tensor *dy, dfp_result *da,
                                        dfp_result *db) {
    dfp_extremum_run r = {.e = e, .rows = dfp_cut_rows(e->elements, 1), .dy = dy->data};
    int enough = dfp_begin_extremum(&r);
    if (enough) dfp_run_extremum_gradient(&r, (dfp_scale){dy->exponent, 0}, da, db);
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}
