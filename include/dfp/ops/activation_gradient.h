/* dz: the gradient dy where the activation passed its argument on, 0 elsewhere; or dy times the slope of
 * a function at x * scale + offset. */

/* What the kernels read: tensors [pixels][channels], x and y absent where they are not needed. */
typedef struct {
    dfp_operand dy, y, x;
    int32_t top;                  /* y passes from 1 to top */
    float x_scale;                /* the value of 1 in an integer x */
    const dfp_function *function; /* or NULL */
    float alpha;
    float *scale, *offset; /* of a row: from x's numbers to the function's argument */
} dfp_gradient_source;

/* As in Keras, the gradient at 0 and at 6 is 0. */
static int32_t dfp_largest_passing(dfp_activation activation, int32_t y_exponent) {
    double six = 6.0 * dfp_exp2_double(-y_exponent);
    if (activation != DFP_RELU6 || six > INT16_MAX) return INT16_MAX;
    int32_t whole = (int32_t)six;
    return whole < six ? whole : whole - 1;
}

static dfp_gradient_source dfp_source_of(const dfp_normalization_gradient *g) {
    dfp_gradient_source s = {.dy = g->dy, .x = g->x, .x_scale = (float)dfp_operand_unit(&g->x)};
    s.function = dfp_function_of(g->activation);
    s.alpha = g->alpha;
    if (g->activation == DFP_LINEAR || s.function) return s;
    s.y = dfp_operand_of(g->y);
    s.top = dfp_largest_passing(g->activation, g->y.exponent);
    return s;
}

/* Fills the rows of a function's scale and offset, for which `memory` has room. */
static void dfp_repeat_argument(dfp_gradient_source *s, const dfp_rows *rows,
                                const dfp_normalization_gradient *g, char *memory) {
    if (!s->function) return;
    s->scale = dfp_take(&memory, dfp_row_bytes(rows));
    s->offset = dfp_take(&memory, dfp_row_bytes(rows));
    dfp_repeat(rows, g->scale, s->x_scale, s->scale);
    dfp_repeat(rows, g->offset, 1.0, s->offset);
}

/* dz, in units of dy's numbers, for `count` columns of a row from c on. */
DFP_INLINE void dfp_fill_dz(const dfp_gradient_source *s, dfp_kind dy_kind, dfp_kind x_kind,
                            int64_t at, int64_t c, int64_t count, float *dz) {
    int64_t i = 0;
    dfp_fill_argument(&s->x, x_kind, s->scale, s->offset, at, c, count, dz);
    /* What fills the last step up. */
    size_t rest = dfp_round_up((size_t)count, DFP_STEP) - (size_t)count;
    memset(dz + count, 0, rest * sizeof *dz);
    s->function->slope(dz, count, s->alpha);
    for (; i + DFP_LANES <= count; i += DFP_LANES)
        dfp_store_float(dz + i, dfp_load_float(dz + i) * dfp_load_operand(&s->dy, dy_kind, at + i));
    for (; i < count; ++i) dz[i] *= dfp_element(&s->dy, dy_kind, at + i);
}

/* The same for `count` elements from `first` on, copied into `tails`: see dfp_copy_tail. */
static dfp_gradient_source dfp_copy_source(const dfp_gradient_source *s, int64_t first,
                                           int64_t count, dfp_tail tails[3]) {
    dfp_gradient_source copy = *s;
    const dfp_operand *from[] = {&s->dy, &s->y, &s->x};
    dfp_operand *to[] = {&copy.dy, &copy.y, &copy.x};
    for (int i = 0; i < 3; ++i)
        *to[i] = dfp_copy_tail(from[i], dfp_kind_of(from[i]), first, count, &tails[i]);
    return copy;
}

/* One vector of x - mean. */
DFP_INLINE dfp_vf dfp_load_distance(const dfp_gradient_source *s, dfp_kind x_kind, int64_t i,
                                    dfp_vf minus_mean) {
    dfp_vf x = dfp_load_operand(&s->x, x_kind, i);
    if (x_kind == DFP_INTEGERS) x = dfp_multiply_float(x, dfp_broadcast_float(s->x_scale));
    return dfp_add_float(x, minus_mean);
}

/* One vector of dz, in units of dy's numbers. */
DFP_INLINE dfp_vf dfp_load_dz(const dfp_gradient_source *s, dfp_kind dy_kind, int masked,
                              int64_t i) {
    dfp_vf dz = dfp_load_operand(&s->dy, dy_kind, i);
    if (!masked) return dz;
    return dfp_keep_between(dz, dfp_load_widen(s->y.integers.data + i), s->top);
}
