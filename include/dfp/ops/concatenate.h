/* Concatenation of tensors, converted to one shared exponent. */

typedef struct {
    const dfp_concatenation *c;
    int16_t *y;
    int64_t row;         /* elements of a row of y */
    dfp_row_tasks tasks; /* over the rows of y */
    double *largest;     /* magnitude of each part */
    float *factors;      /* the value of 1 in each part, in units of y */
    int32_t *chunk_max;
    float limit;
} dfp_concatenation_plan;

/* A row of one part. */
DFP_INLINE void dfp_rescale_row(const dfp_operand *o, dfp_kind kind, int64_t from, int64_t count,
                                dfp_vf factor, float limit, int large, int16_t *to) {
    for (int64_t i = 0; i < count; i += DFP_STEP) {
        int64_t left = count - i < DFP_STEP ? count - i : DFP_STEP, at = from + i;
        dfp_operand here = *o;
        dfp_tail tail;
        if (left < DFP_STEP) {
            here = dfp_copy_tail(o, kind, at, left, &tail);
            at = 0;
        }
        dfp_vf v[2] = {dfp_multiply_float(dfp_load_operand(&here, kind, at), factor),
                       dfp_multiply_float(dfp_load_operand(&here, kind, at + DFP_LANES), factor)};
        dfp_emit(to + i, dfp_round_between(v, -limit, limit), left, large, dfp_zero());
    }
}

/* The rows `rows` of part `i`, which begins at element `first` of a row of y. */
static void dfp_join_part(const dfp_concatenation_plan *j, dfp_extent rows, int64_t i,
                          int64_t first) {
    const dfp_operand *o = &j->c->operands[i];
    dfp_vf factor = dfp_broadcast_float(j->factors[i]);
    int64_t size = j->c->sizes[i];
    int large = j->tasks.large;
    int16_t *to = j->y + rows.first * j->row + first;
    for (int64_t row = rows.first; row < rows.end; ++row, to += j->row) {
        if (o->floats)
            dfp_rescale_row(o, DFP_FLOATS, row * size, size, factor, j->limit, large, to);
        else if (dfp_shares_exponent(o) && j->factors[i] == 1.0f)
            memcpy(to, o->integers.data + row * size, (size_t)size * sizeof *to);
        else
            dfp_rescale_row(o, DFP_INTEGERS, row * size, size, factor, j->limit, large, to);
    }
}

static void dfp_join_task(void *context, int64_t task, int worker) {
    const dfp_concatenation_plan *j = context;
    dfp_extent rows = dfp_rows_of(&j->tasks, task);
    int64_t first = 0;
    (void)worker;
    for (int64_t i = 0; i < j->c->parts; first += j->c->sizes[i], ++i)
        dfp_join_part(j, rows, i, first);
}

/* What the largest number needs, but not below the smallest exponent of integer parts: that would
 * gain nothing. */
static int32_t dfp_common_exponent(const dfp_concatenation_plan *j) {
    dfp_range range = {.finite = 1};
    int32_t finest = DFP_MAX_EXPONENT;
    for (int64_t i = 0; i < j->c->parts; ++i) {
        const dfp_operand *o = &j->c->operands[i];
        dfp_add_term(&range, j->largest[i]);
        if (!dfp_shares_exponent(o))
            finest = DFP_MIN_EXPONENT;
        else if (j->largest[i] > 0 && o->integers.exponent < finest)
            finest = o->integers.exponent;
    }
    range.bound = range.terms;
    int32_t e = dfp_range_exponent(&range, j->c->bits);
    return range.bound > 0 && e < finest ? finest : e;
}

/* Rounding is monotone: the largest of a part stays the largest. */
static int32_t dfp_join_parts(dfp_concatenation_plan *j, int32_t e) {
    float most = 0;
    j->limit = (float)((1 << j->c->bits) - 1);
    for (int64_t i = 0; i < j->c->parts; ++i) {
        j->factors[i] = (float)(dfp_operand_unit(&j->c->operands[i]) * dfp_exp2_double(-e));
        float largest = (float)(j->largest[i] * dfp_exp2_double(-e));
        most = largest > most ? largest : most;
    }
    dfp_parallel(j->tasks.count, dfp_join_task, j);
    return (int32_t)lrintf(most < j->limit ? most : j->limit);
}

static void dfp_run_concatenation(dfp_concatenation_plan *j, dfp_result *y) {
    const dfp_concatenation *c = j->c;
    for (int64_t i = 0; i < c->parts; ++i)
        j->largest[i] = dfp_operand_largest(&c->operands[i], c->outer * c->sizes[i], j->chunk_max);
    int32_t e = dfp_common_exponent(j);
    if (dfp_begin_result(y, e, c->outer * j->row)) y->scale.max_abs = dfp_join_parts(j, e);
}

static dfp_status dfp_concatenate(const dfp_concatenation *c, dfp_result *y) {
    dfp_concatenation_plan j = {.c = c, .y = y->data};
    for (int64_t i = 0; i < c->parts; ++i) j.row += c->sizes[i];
    j.tasks = dfp_share_rows(c->outer, j.row, DFP_POOL_TASK);
    size_t largest = (size_t)c->parts * sizeof *j.largest;
    size_t factors = (size_t)c->parts * sizeof *j.factors;
    size_t chunks = (size_t)DFP_CHUNKS(c->outer * j.row) * sizeof *j.chunk_max;
    dfp_begin();
    char *memory =
        dfp_shared_workspace(dfp_round_up(largest, 64) + dfp_round_up(factors, 64) + chunks);
    if (memory) {
        j.largest = dfp_take(&memory, largest);
        j.factors = dfp_take(&memory, factors);
        j.chunk_max = dfp_take(&memory, chunks);
        dfp_run_concatenation(&j, y);
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}
