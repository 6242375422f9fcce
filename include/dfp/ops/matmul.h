/* C = op(A) * op(B) + bias: a tap convolution with one tap over an image of m rows and one column. */

/* Rows of op(A) that one task transposes. */
#define DFP_TRANSPOSE_ROWS 64

typedef struct {
    const int16_t *from;
    int16_t *to;
    int64_t rows, columns; /* of `to` */
} dfp_transposition;

/* to[r][c] = from[c][r] for one stripe of rows. */
static void dfp_transpose_task(void *context, int64_t task, int worker) {
    const dfp_transposition *t = context;
    int64_t first = task * DFP_TRANSPOSE_ROWS;
    int64_t last = first + DFP_TRANSPOSE_ROWS < t->rows ? first + DFP_TRANSPOSE_ROWS : t->rows;
    (void)worker;
    dfp_transpose(t->from + first, t->rows, t->to + first * t->columns, t->columns, t->columns,
                  last - first);
}

/* Whether packing B stretch by stretch is better; rows of A are then read in place. */
static int dfp_has_few_rows(const dfp_matmul *m) {
    return m->m <= DFP_FEW_ROWS && m->k % 2 == 0 && m->flush_every == 0;
}

static dfp_status dfp_multiply_few_rows(const dfp_matmul *m, dfp_tap_convolution *t, char *memory) {
    int64_t *rows = dfp_take(&memory, (size_t)m->k * sizeof(int64_t));
    for (int64_t k = 0; k < m->k; ++k) rows[k] = k * t->inner_stride;
    dfp_few_rows f = {
        .m = m->m,
        .pairs = m->k / 2,
        .source = {t->weights, rows, m->k / 2, m->n, t->column_stride, 0, m->k},
        .limit = dfp_run_limit(t->rule.max_a),
        .epilogue = {1, t->scale, t->bias},
    };
    for (int64_t row = 0; row < m->m; ++row) {
        f.rows[row] = t->in + row * m->k;
        f.results[row] = t->out + row * m->n;
    }
    return dfp_run_few_rows(&f);
}

static size_t dfp_few_rows_bytes(const dfp_matmul *m, const dfp_tap_convolution *t) {
    (void)t;
    return (size_t)m->k * sizeof(int64_t);
}

/* INT16 moved: B is read once. */
static int64_t dfp_few_rows_cost(const dfp_matmul *m) { return m->k * m->n; }

static int dfp_accepts_all(const dfp_matmul *m) {
    (void)m;
    return 1;
}

static dfp_status dfp_multiply_one_tap(const dfp_matmul *m, dfp_tap_convolution *t, char *memory) {
    (void)m;
    return dfp_tap_run(t, memory);
}

static size_t dfp_one_tap_bytes(const dfp_matmul *m, const dfp_tap_convolution *t) {
    (void)m;
    return dfp_tap_plan_bytes(t, 1);
}

/* INT16 moved: B is read, written packed, and read again. */
static int64_t dfp_one_tap_cost(const dfp_matmul *m) { return 3 * m->k * m->n; }

/* An algorithm of the matrix product: what it accepts, its cost, and the class of its results. */
typedef struct {
    int (*accepts)(const dfp_matmul *m);
    int64_t (*cost)(const dfp_matmul *m);
    dfp_numerics numerics;
    size_t (*bytes)(const dfp_matmul *m, const dfp_tap_convolution *t); /* of memory for run */
    dfp_status (*run)(const dfp_matmul *m, dfp_tap_convolution *t, char *memory);
} dfp_matmul_algorithm;

static const dfp_matmul_algorithm dfp_matmul_algorithms[] = {
    {dfp_has_few_rows, dfp_few_rows_cost, DFP_DIRECT, dfp_few_rows_bytes, dfp_multiply_few_rows},
    {dfp_accepts_all, dfp_one_tap_cost, DFP_DIRECT, dfp_one_tap_bytes, dfp_multiply_one_tap},
};

/* The cheapest algorithm that accepts the operation. */
static const dfp_matmul_algorithm *dfp_matmul_algorithm_for(const dfp_matmul *m) {
    const dfp_matmul_algorithm *best = NULL;
    const size_t count = sizeof dfp_matmul_algorithms / sizeof *dfp_matmul_algorithms;
    for (const dfp_matmul_algorithm *a = dfp_matmul_algorithms; a < dfp_matmul_algorithms + count;
         ++a)
        if (a->accepts(m) && (!best || a->cost(m) < best->cost(m))) best = a;
    return best;
}

static dfp_status dfp_run_matmul(const dfp_matmul *m, const dfp_tensor *a, dfp_tap_convolution *t,
                                 char *memory) {
    int64_t zero[2] = {0, 0};
    t->rows = (dfp_taps){1, zero, zero + 1};
    t->planes = t->columns = t->rows;
    if (m->transpose_a) {
        int16_t *transposed = dfp_take(&memory, (size_t)(m->m * m->k) * sizeof(int16_t));
        dfp_transposition job = {a->data, transposed, m->m, m->k};
        dfp_parallel(dfp_ceil_div(m->m, DFP_TRANSPOSE_ROWS), dfp_transpose_task, &job);
        t->in = transposed;
    }
    return dfp_matmul_algorithm_for(m)->run(m, t, memory);
}

static size_t dfp_matmul_bytes(const dfp_matmul *m, const dfp_tap_convolution *t) {
    size_t transposed = m->transpose_a ? (size_t)(m->m * m->k) * sizeof(int16_t) : 0;
    size_t rest = dfp_matmul_algorithm_for(m)->bytes(m, t);
    return dfp_round_up(transposed, 64) + dfp_round_up(rest, 64);
}

static dfp_status dfp_matrix_multiply(const dfp_matmul *m, const dfp_tensor *a, const dfp_tensor *b,
                                      float *c) {
    dfp_tap_convolution t = {
        .in = a->data,
        .batch = 1,
        .in_d = 1,
        .in_h = m->m,
        .in_w = 1,
        .in_channels = m->k,
        .channels = m->k,
        .grid_d = 1,
        .grid_h = m->m,
        .grid_w = 1,
        .step_d = 1,
        .step_h = 1,
        .step_w = 1,
        .groups = 1,
        .out_columns = m->n,
        .rule = {a->max_abs, m->flush_every, 0},
        .weights = b->data,
        .kernel_h = 1,
        .kernel_w = 1,
        .inner_stride = m->transpose_b ? 1 : m->n,
        .column_stride = m->transpose_b ? m->k : 1,
        .out = c,
        .out_row = m->n,
        .scale = dfp_power_of_two(a->exponent + b->exponent),
        .bias = m->bias,
    };
    dfp_status status = DFP_OUT_OF_MEMORY;
    dfp_begin();
    char *memory = dfp_shared_workspace(dfp_matmul_bytes(m, &t));
    if (memory) status = dfp_run_matmul(m, a, &t, memory);
    dfp_end();
    return status;
}
