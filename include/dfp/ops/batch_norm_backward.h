/* dx = factor_dz * dz + factor_x * (x - mean) + constant, and dz itself, in one pass, rounded to
 * nearest-even INT16. The exponent of dx is known before the pass from a bound of each channel; dz
 * keeps the integers and the exponent of an integer dy, unless it is multiplied by a function's slope. */

typedef struct {
    const dfp_normalization_gradient *g;
    dfp_rows rows;
    dfp_gradient_source source;
    float *factor_dz, *factor_x, *minus_mean, *constant; /* of a row; all but the mean times 2^-e */
    float dx_limit, dz_limit, dz_scale;
    int16_t *dx, *dz;                 /* NULL where not wanted */
    int32_t *largest_dx, *largest_dz; /* of each part */
    char *argument;                   /* for dfp_repeat_argument */
} dfp_backward;

/* Whether dx depends on x otherwise than by dz. */
static int dfp_has_distance(const dfp_normalization_gradient *g) {
    return dfp_kind_of(&g->x) != DFP_ABSENT && g->factor_x;
}

static dfp_range dfp_backward_range(const dfp_normalization_gradient *g, double dy_largest) {
    dfp_range range = {.finite = 1};
    double unit = dfp_operand_unit(&g->dy);
    for (int64_t c = 0; c < g->channels; ++c) {
        double max_dz = g->max_dz ? g->max_dz[c] : dy_largest;
        double bound = dfp_add_term(&range, g->factor_dz[c] * max_dz);
        dfp_add_term(&range, g->factor_dz[c] * unit);
        if (dfp_has_distance(g)) {
            double mean = g->mean[c], factor = g->factor_x[c];
            double above = dfp_add_term(&range, factor * (g->maximum[c] - mean));
            double below = dfp_add_term(&range, factor * (g->minimum[c] - mean));
            dfp_add_term(&range, factor);
            /* x - mean is computed in FP32. */
            range.finite &= isfinite((float)(g->maximum[c] - mean)) != 0;
            range.finite &= isfinite((float)(g->minimum[c] - mean)) != 0;
            bound += (above > below ? above : below) + dfp_add_term(&range, g->constant[c]);
        }
        if (bound > range.bound) range.bound = bound;
    }
    return range;
}

/* The largest magnitudes that a part has written so far, by lanes. */
typedef struct {
    dfp_vi dx, dz;
} dfp_written;

/* DFP_STEP elements of dx from as many of dz, for the columns from c on. */
DFP_INLINE dfp_vi dfp_dx_step(const dfp_backward *b, const dfp_vf dz[2],
                              const dfp_gradient_source *s, dfp_kind x_kind, int64_t i, int64_t c) {
    dfp_vf dx[2];
    for (int h = 0; h < 2; ++h, i += DFP_LANES, c += DFP_LANES) {
        dx[h] = dfp_multiply_float(dz[h], dfp_load_float(b->factor_dz + c));
        if (x_kind == DFP_ABSENT) continue;
        dfp_vf x = dfp_load_distance(s, x_kind, i, dfp_load_float(b->minus_mean + c));
        x = dfp_multiply_float(x, dfp_load_float(b->factor_x + c));
        dx[h] = dfp_add_float(dfp_add_float(dx[h], x), dfp_load_float(b->constant + c));
    }
    return dfp_round_between(dx, -b->dx_limit, b->dx_limit);
}

DFP_INLINE dfp_vi dfp_dz_step(const dfp_backward *b, const dfp_vf dz[2]) {
    dfp_vf scale = dfp_broadcast_float(b->dz_scale);
    dfp_vf scaled[2] = {dfp_multiply_float(dz[0], scale), dfp_multiply_float(dz[1], scale)};
    return dfp_round_between(scaled, -b->dz_limit, b->dz_limit);
}

/* `count` elements of dz, and of dx with x at `i` of the source, written at `to`. */
DFP_INLINE void dfp_write_gradients(const dfp_backward *b, const dfp_vf dz[2],
                                    const dfp_gradient_source *s, dfp_kind x_kind, int64_t i,
                                    int64_t to, int64_t c, int64_t count, dfp_written *written) {
    int large = b->rows.large;
    if (b->dz) written->dz = dfp_emit(b->dz + to, dfp_dz_step(b, dz), count, large, written->dz);
    if (b->dx)
        written->dx =
            dfp_emit(b->dx + to, dfp_dx_step(b, dz, s, x_kind, i, c), count, large, written->dx);
}

/* `count` elements, read at `i` of the source and written at `to`, for the columns from c on. */
DFP_INLINE void dfp_backward_step(const dfp_backward *b, const dfp_gradient_source *s,
                                  dfp_kind dy_kind, int masked, dfp_kind x_kind, int64_t i,
                                  int64_t to, int64_t c, int64_t count, dfp_written *written) {
    dfp_vf dz[2] = {dfp_load_dz(s, dy_kind, masked, i),
                    dfp_load_dz(s, dy_kind, masked, i + DFP_LANES)};
    dfp_write_gradients(b, dz, s, x_kind, i, to, c, count, written);
}

DFP_INLINE void dfp_backward_row(const dfp_backward *b, dfp_kind dy_kind, int masked,
                                 dfp_kind x_kind, int64_t first, int64_t length,
                                 dfp_written *written) {
    const dfp_gradient_source *s = &b->source;
    int64_t c = 0;
    for (; c + DFP_STEP <= length; c += DFP_STEP)
        dfp_backward_step(b, s, dy_kind, masked, x_kind, first + c, first + c, c, DFP_STEP,
                          written);
    if (c < length) {
        dfp_tail tails[3];
        dfp_gradient_source tail = dfp_copy_source(s, first + c, length - c, tails);
        dfp_backward_step(b, &tail, dy_kind, masked, x_kind, 0, first + c, c, length - c, written);
    }
}

/* A row with a function: dz first, then the steps that write. */
DFP_INLINE void dfp_backward_function_row(const dfp_backward *b, dfp_kind dy_kind, dfp_kind x_kind,
                                          int64_t first, int64_t length, dfp_written *written) {
    _Alignas(64) float dz[DFP_FUNCTION_PIECE];
    dfp_kind distance = !dfp_has_distance(b->g) ? DFP_ABSENT : x_kind;
    for (int64_t c = 0; c < length; c += DFP_FUNCTION_PIECE) {
        int64_t left = length - c, count = left < DFP_FUNCTION_PIECE ? left : DFP_FUNCTION_PIECE;
        dfp_fill_dz(&b->source, dy_kind, x_kind, first + c, c, count, dz);
        for (int64_t i = 0; i < count; i += DFP_STEP) {
            int64_t rest = count - i < DFP_STEP ? count - i : DFP_STEP, at = first + c + i;
            dfp_vf both[2] = {dfp_load_float(dz + i), dfp_load_float(dz + i + DFP_LANES)};
            if (rest == DFP_STEP) {
                dfp_write_gradients(b, both, &b->source, distance, at, at, c + i, rest, written);
            } else {
                dfp_tail tail;
                dfp_gradient_source copy = b->source;
                copy.x = dfp_copy_tail(&b->source.x, x_kind, at, rest, &tail);
                dfp_write_gradients(b, both, &copy, distance, 0, at, c + i, rest, written);
            }
        }
    }
}

static void dfp_backward_function(const dfp_backward *b, int64_t index) {
    dfp_part part = dfp_part_at(&b->rows, index);
    dfp_written written = {dfp_zero(), dfp_zero()};
    dfp_kind dy = dfp_kind_of(&b->source.dy), x = dfp_kind_of(&b->source.x);
    for (int64_t r = 0; r < part.rows; ++r) {
        int64_t first = part.first + r * part.length;
        if (dy == DFP_INTEGERS && x == DFP_INTEGERS)
            dfp_backward_function_row(b, DFP_INTEGERS, DFP_INTEGERS, first, part.length, &written);
        else
            dfp_backward_function_row(b, dy, x, first, part.length, &written);
    }
    b->largest_dx[index] = dfp_largest_int_lane(written.dx);
    b->largest_dz[index] = dfp_largest_int_lane(written.dz);
}

DFP_INLINE void dfp_backward_part(const dfp_backward *b, dfp_kind dy_kind, int masked,
                                  dfp_kind x_kind, int64_t index) {
    dfp_part part = dfp_part_at(&b->rows, index);
    dfp_written written = {dfp_zero(), dfp_zero()};
    for (int64_t r = 0; r < part.rows; ++r)
        dfp_backward_row(b, dy_kind, masked, x_kind, part.first + r * part.length, part.length,
                         &written);
    b->largest_dx[index] = dfp_largest_int_lane(written.dx);
    b->largest_dz[index] = dfp_largest_int_lane(written.dz);
}

static void dfp_backward_task(void *context, int64_t task, int worker) {
    const dfp_backward *b = context;
    int masked = dfp_kind_of(&b->source.y) != DFP_ABSENT;
    (void)worker;
    if (b->source.function) {
        dfp_backward_function(b, task);
        return;
    }
#define DFP_CASE(dy, masked, x)                                                                    \
    case 6 * dy + 3 * masked + x: dfp_backward_part(b, dy, masked, x, task); break;
    switch (6 * dfp_kind_of(&b->source.dy) + 3 * masked + dfp_kind_of(&b->source.x)) {
        DFP_CASE(DFP_INTEGERS, 0, DFP_ABSENT)
        DFP_CASE(DFP_INTEGERS, 0, DFP_INTEGERS)
        DFP_CASE(DFP_INTEGERS, 0, DFP_FLOATS)
        DFP_CASE(DFP_INTEGERS, 1, DFP_ABSENT)
        DFP_CASE(DFP_INTEGERS, 1, DFP_INTEGERS)
        DFP_CASE(DFP_INTEGERS, 1, DFP_FLOATS)
        DFP_CASE(DFP_FLOATS, 0, DFP_ABSENT)
        DFP_CASE(DFP_FLOATS, 0, DFP_INTEGERS)
        DFP_CASE(DFP_FLOATS, 0, DFP_FLOATS)
        DFP_CASE(DFP_FLOATS, 1, DFP_ABSENT)
        DFP_CASE(DFP_FLOATS, 1, DFP_INTEGERS)
        DFP_CASE(DFP_FLOATS, 1, DFP_FLOATS)
    }
#undef DFP_CASE
}

/* The rows of factors that make dx in units of 2^e. */
static void dfp_repeat_factors(const dfp_backward *b, int32_t e) {
    const dfp_normalization_gradient *g = b->g;
    double unit = dfp_exp2_double(-e);
    dfp_repeat(&b->rows, g->factor_dz, dfp_operand_unit(&g->dy) * unit, b->factor_dz);
    if (!dfp_has_distance(g)) return;
    dfp_repeat(&b->rows, g->factor_x, unit, b->factor_x);
    dfp_repeat(&b->rows, g->mean, -1.0, b->minus_mean);
    dfp_repeat(&b->rows, g->constant, unit, b->constant);
}

static void dfp_plan_dx(dfp_backward *b, double dy_largest, dfp_result *dx) {
    if (!dx->data) return;
    dfp_range range = dfp_backward_range(b->g, dy_largest);
    b->dx = dfp_begin_result(dx, dfp_range_exponent(&range, b->g->bits), b->rows.elements);
    if (b->dx) dfp_repeat_factors(b, dx->scale.exponent);
    b->dx_limit = (float)((1 << b->g->bits) - 1);
}

static void dfp_plan_dz(dfp_backward *b, double dy_largest, dfp_result *dz) {
    const dfp_normalization_gradient *g = b->g;
    int32_t e = g->dy.integers.exponent;
    if (!dz->data) return;
    int keeps = dfp_shares_exponent(&g->dy) && !b->source.function;
    if (!keeps) {
        dfp_range range = {.finite = 1};
        for (int64_t c = 0; c < g->channels; ++c)
            dfp_add_term(&range, g->max_dz ? g->max_dz[c] : dy_largest);
        range.bound = range.terms;
        e = dfp_range_exponent(&range, g->bits);
    }
    b->dz = dfp_begin_result(dz, e, b->rows.elements);
    b->dz_limit = (float)(keeps ? INT16_MAX : (1 << g->bits) - 1);
    b->dz_scale = (float)(!keeps && b->dz ? dfp_operand_unit(&g->dy) * dfp_exp2_double(-e) : 1.0);
}

static void dfp_run_backward(dfp_backward *b, dfp_result *dx, dfp_result *dz) {
    const dfp_normalization_gradient *g = b->g;
    b->source = dfp_source_of(g);
    double dy_largest =
        g->max_dz ? 0 : dfp_operand_largest(&g->dy, b->rows.elements, b->largest_dx);
    if (b->source.function) dy_largest *= b->source.function->steepest(g->alpha);
    dfp_plan_dx(b, dy_largest, dx);
    dfp_plan_dz(b, dy_largest, dz);
    if (!b->dx && !b->dz) return;
    dfp_repeat_argument(&b->source, &b->rows, g, b->argument);
    dfp_parallel(b->rows.parts, dfp_backward_task, b);
    if (b->dx) dx->scale.max_abs = dfp_largest_of(b->largest_dx, b->rows.parts);
    if (b->dz) dz->scale.max_abs = dfp_largest_of(b->largest_dz, b->rows.parts);
}

static dfp_status dfp_batch_norm_backward(const dfp_normalization_gradient *g, dfp_result *dx,
                                          dfp_result *dz) {
    dfp_backward b = {.g = g, .rows = dfp_cut_rows(g->pixels, g->channels)};
    size_t row = dfp_row_bytes(&b.rows);
    size_t maxima = (size_t)(DFP_CHUNKS(b.rows.elements) + b.rows.parts) * sizeof(int32_t);
    dfp_begin();
    char *memory = dfp_shared_workspace(6 * row + 2 * dfp_round_up(maxima, 64));
    if (memory) {
        b.argument = dfp_take(&memory, 2 * row);
        b.factor_dz = dfp_take(&memory, row);
        b.factor_x = dfp_take(&memory, row);
        b.minus_mean = dfp_take(&memory, row);
        b.constant = dfp_take(&memory, row);
        b.largest_dx = dfp_take(&memory, maxima);
        b.largest_dz = dfp_take(&memory, maxima);
        dfp_run_backward(&b, dx, dz);
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}
