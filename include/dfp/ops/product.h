/* Products of tensors, element by element, rounded to nearest-even INT16. One factor may have one number
 * for all pixels of a channel; its gradient is the sum of products over these pixels.
 *
 * The product of the largest magnitudes gives the exponent before the pass. Sums are in FP32 within a
 * part, lane by lane in ascending order, in FP64 after: lanes pairwise, parts in ascending order. */

typedef struct {
    const dfp_product *p;
    dfp_rows rows;  /* of one group */
    int64_t group;  /* elements */
    float scale;    /* of the numbers of a (times those of b if it has the shape of a) */
    float *factors; /* [group][a row]: of b, times that scale; NULL if it has the shape of a */
    float limit;
    int16_t *y;
    int32_t *largest; /* of each part of each group */
} dfp_multiplication;

/* DFP_STEP products of a at `i` and of b there, or of the factors. */
DFP_INLINE dfp_vi dfp_product_step(const dfp_multiplication *m, const dfp_operand *a,
                                   dfp_kind a_kind, const dfp_operand *b, dfp_kind b_kind,
                                   int64_t i, const float *factors) {
    dfp_vf z[2], scale = dfp_broadcast_float(m->scale);
    for (int h = 0; h < 2; ++h, i += DFP_LANES) {
        z[h] = dfp_load_operand(a, a_kind, i);
        if (b_kind == DFP_ABSENT)
            z[h] = dfp_multiply_float(z[h], dfp_load_float(factors + h * DFP_LANES));
        else
            z[h] =
                dfp_multiply_float(dfp_multiply_float(z[h], dfp_load_operand(b, b_kind, i)), scale);
    }
    return dfp_round_between(z, -m->limit, m->limit);
}

DFP_INLINE dfp_vi dfp_product_row(const dfp_multiplication *m, dfp_kind a_kind, dfp_kind b_kind,
                                  int64_t first, int64_t length, const float *factors,
                                  dfp_vi largest) {
    const dfp_operand *a = &m->p->a, *b = &m->p->b;
    int64_t c = 0;
    for (; c + DFP_STEP <= length; c += DFP_STEP) {
        dfp_vi q = dfp_product_step(m, a, a_kind, b, b_kind, first + c, factors + c);
        largest = dfp_emit(m->y + first + c, q, DFP_STEP, m->rows.large, largest);
    }
    if (c < length) {
        dfp_tail tails[2];
        int64_t at = first + c, count = length - c;
        dfp_operand a_tail = dfp_copy_tail(a, a_kind, at, count, &tails[0]);
        dfp_operand b_tail = dfp_copy_tail(b, b_kind, at, count, &tails[1]);
        dfp_vi q = dfp_product_step(m, &a_tail, a_kind, &b_tail, b_kind, 0, factors + c);
        largest = dfp_emit(m->y + at, q, count, m->rows.large, largest);
    }
    return largest;
}

DFP_INLINE void dfp_product_part(const dfp_multiplication *m, dfp_kind a_kind, dfp_kind b_kind,
                                 int64_t task) {
    int64_t group = task / m->rows.parts;
    dfp_part part = dfp_part_at(&m->rows, task % m->rows.parts);
    const float *factors = m->factors + group * dfp_padded_row(&m->rows);
    dfp_vi largest = dfp_zero();
    for (int64_t r = 0; r < part.rows; ++r)
        largest =
            dfp_product_row(m, a_kind, b_kind, group * m->group + part.first + r * part.length,
                            part.length, factors, largest);
    m->largest[task] = dfp_largest_int_lane(largest);
}

static void dfp_product_task(void *context, int64_t task, int worker) {
    const dfp_multiplication *m = context;
    (void)worker;
#define DFP_CASE(a, b)                                                                             \
    case 3 * a + b: dfp_product_part(m, a, b, task); break;
    switch (3 * dfp_kind_of(&m->p->a) + dfp_kind_of(&m->p->b)) {
        DFP_CASE(DFP_INTEGERS, DFP_ABSENT)
        DFP_CASE(DFP_INTEGERS, DFP_INTEGERS)
        DFP_CASE(DFP_INTEGERS, DFP_FLOATS)
        DFP_CASE(DFP_FLOATS, DFP_ABSENT)
        DFP_CASE(DFP_FLOATS, DFP_INTEGERS)
        DFP_CASE(DFP_FLOATS, DFP_FLOATS)
    }
#undef DFP_CASE
}

/* The largest magnitude of b, 0 if all are 0; Inf or NaN if it holds any. */
static double dfp_largest_factor(const dfp_product *p, int64_t elements, int32_t *chunk_max) {
    if (!p->factors) return dfp_operand_largest(&p->b, elements, chunk_max);
    double largest = 0.0;
    for (int64_t i = 0; i < p->groups * p->channels; ++i) {
        double magnitude = fabs((double)p->factors[i]);
        if (!(magnitude <= largest)) largest = magnitude; /* NaN stays */
        if (isnan(largest)) break;
    }
    return largest;
}

static void dfp_run_product(dfp_multiplication *m, dfp_result *y) {
    const dfp_product *p = m->p;
    int64_t elements = p->groups * m->group, parts = p->groups * m->rows.parts;
    double a_largest = dfp_operand_largest(&p->a, elements, m->largest);
    double b_largest = dfp_largest_factor(p, elements, m->largest);
    double unit = dfp_operand_unit(&p->a) * dfp_operand_unit(&p->b);
    dfp_range range = {.finite = isfinite(a_largest) && isfinite(b_largest)};
    range.bound = dfp_add_term(&range, a_largest * b_largest);
    dfp_add_term(&range, unit);
    int32_t e = dfp_range_exponent(&range, p->bits);
    m->y = dfp_begin_result(y, e, elements);
    if (!m->y) return;
    m->scale = (float)(unit * dfp_exp2_double(-e));
    m->limit = (float)((1 << p->bits) - 1);
    for (int64_t g = 0; p->factors && g < p->groups; ++g)
        dfp_repeat(&m->rows, p->factors + g * p->channels,
                   dfp_operand_unit(&p->a) * dfp_exp2_double(-e),
                   m->factors + g * dfp_padded_row(&m->rows));
    dfp_parallel(parts, dfp_product_task, m);
    y->scale.max_abs = dfp_largest_of(m->largest, parts);
}

static dfp_status dfp_multiply_tensors(const dfp_product *p, dfp_result *y) {
    dfp_multiplication m = {.p = p, .rows = dfp_cut_rows(p->pixels, p->channels)};
    m.group = m.rows.elements;
    m.rows.large = dfp_is_large(p->groups * m.group) && m.group % DFP_ROW_MULTIPLE == 0;
    size_t factors = (size_t)(p->factors ? p->groups : 1) * dfp_row_bytes(&m.rows);
    size_t maxima =
        (size_t)(DFP_CHUNKS(p->groups * m.group) + p->groups * m.rows.parts) * sizeof(int32_t);
    dfp_begin();
    char *memory = dfp_shared_workspace(dfp_round_up(factors, 64) + dfp_round_up(maxima, 64));
    if (memory) {
        m.factors = dfp_take(&memory, factors);
        m.largest = dfp_take(&memory, maxima);
        dfp_run_product(&m, y);
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}

typedef struct {
    const dfp_product *p;
    dfp_rows rows; /* of one group */
    char *workers; /* of each: lanes of one row, then the same in FP64 */
    size_t worker_bytes;
    double *sums; /* [group][part][channels] */
} dfp_product_sums;

DFP_INLINE void dfp_add_products(const dfp_product *p, dfp_kind a_kind, dfp_kind b_kind,
                                 dfp_part part, int64_t base, float *lanes) {
    for (int64_t r = 0; r < part.rows; ++r) {
        int64_t at = base + part.first + r * part.length, i = 0;
        for (; i + DFP_LANES <= part.length; i += DFP_LANES) {
            dfp_vf product = dfp_multiply_float(dfp_load_operand(&p->a, a_kind, at + i),
                                                dfp_load_operand(&p->b, b_kind, at + i));
            dfp_store_float(lanes + i, dfp_add_float(dfp_load_float(lanes + i), product));
        }
        for (; i < part.length; ++i) {
            float product = dfp_element(&p->a, a_kind, at + i) * dfp_element(&p->b, b_kind, at + i);
            lanes[i] += product;
        }
    }
}

static void dfp_product_sums_task(void *context, int64_t task, int worker) {
    const dfp_product_sums *s = context;
    const dfp_product *p = s->p;
    int64_t group = task / s->rows.parts;
    dfp_part part = dfp_part_at(&s->rows, task % s->rows.parts);
    char *memory = s->workers + (size_t)worker * s->worker_bytes;
    float *lanes = dfp_take(&memory, dfp_row_bytes(&s->rows));
    double *wide = dfp_take(&memory, 2 * dfp_row_bytes(&s->rows));
    dfp_kind a = dfp_kind_of(&p->a), b = dfp_kind_of(&p->b);
    memset(lanes, 0, dfp_row_bytes(&s->rows));
    if (a == DFP_INTEGERS && b == DFP_INTEGERS)
        dfp_add_products(p, DFP_INTEGERS, DFP_INTEGERS, part, group * s->rows.elements, lanes);
    else
        dfp_add_products(p, a, b, part, group * s->rows.elements, lanes);
    dfp_finish_sum(lanes, wide, part, p->channels, s->sums + task * p->channels);
}

/* sums[group][c] = sum over the group's pixels of a * b. */
static dfp_status dfp_sum_products(const dfp_product *p, float *sums) {
    dfp_product_sums s = {.p = p, .rows = dfp_cut_rows(p->pixels, p->channels)};
    int64_t tasks = p->groups * s.rows.parts;
    double unit = dfp_operand_unit(&p->a) * dfp_operand_unit(&p->b);
    dfp_begin();
    s.worker_bytes = 3 * dfp_row_bytes(&s.rows);
    s.workers = dfp_worker_workspace(s.worker_bytes);
    s.sums = dfp_shared_workspace((size_t)(tasks * p->channels) * sizeof(double));
    int ready = s.workers && s.sums;
    if (ready) {
        dfp_parallel(tasks, dfp_product_sums_task, &s);
        for (int64_t i = 0; i < p->groups * p->channels; ++i) {
            const double *of_part = s.sums + i / p->channels * s.rows.parts * p->channels;
            double sum = 0.0;
            for (int64_t part = 0; part < s.rows.parts; ++part)
                sum += of_part[part * p->channels + i % p->channels];
            sums[i] = (float)(sum * unit);
        }
    }
    dfp_end();
    return ready ? DFP_OK : DFP_OUT_OF_MEMORY;
}
