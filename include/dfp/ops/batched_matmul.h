/* Many products C = A * B of one shape. A task is some rows of one product: it packs each block of
 * columns of B itself, so that the block and its rows of A stay in the second-level cache. */

/* Rows of a task: enough to reuse a packed block, and so few that tasks suffice for all threads. */
#define DFP_LEAST_BATCH_ROWS 96
#define DFP_MOST_BATCH_ROWS 288

typedef struct {
    const dfp_batched_matmul *m;
    const int16_t *a, *b;
    float *c;
    dfp_flush_rule rule;
    dfp_power scale;
    int in_place; /* whether rows of A are read where they are */
    int64_t pairs, rows_per_task, row_tasks;
    int64_t *b_rows;
    dfp_segment segments[2];
    char *workers;
    size_t worker_bytes;
} dfp_batch;

/* The scratch memory of a task. */
typedef struct {
    int16_t *packed, *copied; /* a block of B, rows of A */
    int32_t *ends;
    dfp_span *spans;
    const int16_t **a;
    float **c;
} dfp_batch_scratch;

static dfp_batch_scratch dfp_take_batch_scratch(const dfp_batch *p, char **memory) {
    size_t pairs = (size_t)p->pairs, rows = (size_t)p->rows_per_task;
    dfp_batch_scratch s;
    s.packed = dfp_take(memory, pairs * 2 * DFP_BLOCK * sizeof *s.packed);
    s.copied = dfp_take(memory, p->in_place ? 0 : rows * pairs * 2 * sizeof *s.copied);
    s.ends = dfp_take(memory, pairs * sizeof *s.ends);
    s.spans = dfp_take(memory, (pairs + 1) * sizeof *s.spans);
    s.a = dfp_take(memory, rows * sizeof *s.a);
    s.c = dfp_take(memory, rows * sizeof *s.c);
    return s;
}

/* Rows of A that begin at `from`, one after the other, each as whole pairs. */
static void dfp_copy_batch_rows(const dfp_batch *p, const int16_t *from, int64_t rows,
                                int16_t *to) {
    const dfp_batched_matmul *m = p->m;
    int64_t length = 2 * p->pairs;
    if (m->a_row == 1) dfp_transpose(from, m->a_column, to, length, m->k, rows);
    for (int64_t i = 0; i < rows; ++i) {
        const int16_t *row = from + i * m->a_row;
        if (m->a_column == 1)
            memcpy(to + i * length, row, (size_t)m->k * sizeof *to);
        else if (m->a_row != 1)
            for (int64_t k = 0; k < m->k; ++k) to[i * length + k] = row[k * m->a_column];
        if (m->k % 2) to[i * length + m->k] = 0;
    }
}

/* Lists rows [first, first + count) of one product's A and C. */
static dfp_row_list dfp_batch_rows(const dfp_batch *p, int64_t product, int64_t first,
                                   int64_t count, const dfp_batch_scratch *s) {
    const dfp_batched_matmul *m = p->m;
    const int16_t *a = p->a + m->a_first[product] + first * m->a_row;
    float *c = p->c + m->c_first[product] + first * m->c_row;
    if (!p->in_place) dfp_copy_batch_rows(p, a, count, s->copied);
    for (int64_t i = 0; i < count; ++i) {
        s->a[i] = p->in_place ? a + i * m->a_row : s->copied + i * 2 * p->pairs;
        s->c[i] = c + i * m->c_row;
    }
    return (dfp_row_list){count, s->a, s->c};
}

static void dfp_batch_task(void *context, int64_t task, int worker) {
    const dfp_batch *p = context;
    const dfp_batched_matmul *m = p->m;
    int64_t product = task / p->row_tasks, first = task % p->row_tasks * p->rows_per_task;
    int64_t count = m->m - first < p->rows_per_task ? m->m - first : p->rows_per_task;
    char *memory = p->workers + (size_t)worker * p->worker_bytes;
    dfp_batch_scratch s = dfp_take_batch_scratch(p, &memory);
    dfp_row_list rows = dfp_batch_rows(p, product, first, count, &s);
    dfp_pack_source source = {p->b + m->b_first[product], p->b_rows,   p->pairs, m->n, m->b_column,
                              p->pairs * 2 * DFP_PANEL,   2 * p->pairs};
    for (int64_t column = 0; column < m->n; column += DFP_BLOCK) {
        int64_t panels = dfp_block_panels(m->n, column);
        dfp_pack_panels(&source, column, panels, s.packed);
        int64_t spans =
            dfp_plan_block(s.packed, p->pairs, panels, p->rule, p->segments, 2, s.ends, s.spans);
        dfp_tile_arguments job = {.row_step = 2,
                                  .spans = s.spans,
                                  .spans_end = s.spans + spans,
                                  .b = s.packed,
                                  .panel_stride = source.panel_stride,
                                  .from_zero = 1,
                                  .epilogue = {1, p->scale, NULL}};
        dfp_multiply_block(&job, &rows, column, m->n);
    }
}

/* Whole tiles of rows, so many that the threads have several tasks each. */
static void dfp_cut_batch(dfp_batch *p) {
    const dfp_batched_matmul *m = p->m;
    int64_t cuts = dfp_ceil_div(DFP_TASKS_PER_THREAD * dfp_get_num_threads(), m->products);
    int64_t rows = dfp_ceil_div(m->m, cuts);
    if (rows < DFP_LEAST_BATCH_ROWS) rows = DFP_LEAST_BATCH_ROWS;
    if (rows > DFP_MOST_BATCH_ROWS) rows = DFP_MOST_BATCH_ROWS;
    rows = dfp_ceil_div(dfp_ceil_div(m->m, dfp_ceil_div(m->m, rows)), DFP_TILE_ROWS);
    p->rows_per_task = rows * DFP_TILE_ROWS;
    p->row_tasks = dfp_ceil_div(m->m, p->rows_per_task);
}

static dfp_status dfp_run_batch(dfp_batch *p) {
    const dfp_batched_matmul *m = p->m;
    char *end = NULL;
    dfp_cut_batch(p);
    dfp_take_batch_scratch(p, &end);
    p->worker_bytes = (size_t)(end - (char *)NULL);
    p->workers = dfp_worker_workspace(p->worker_bytes);
    p->b_rows = dfp_shared_workspace((size_t)p->pairs * 2 * sizeof *p->b_rows);
    if (!p->workers || !p->b_rows) return DFP_OUT_OF_MEMORY;
    for (int64_t k = 0; k < 2 * p->pairs; ++k) p->b_rows[k] = k < m->k ? k * m->b_row : -1;
    dfp_parallel(m->products * p->row_tasks, dfp_batch_task, p);
    return DFP_OK;
}

static dfp_status dfp_matrix_multiply_batch(const dfp_batched_matmul *m, const dfp_tensor *a,
                                            const dfp_tensor *b, float *c) {
    dfp_batch p = {
        .m = m,
        .a = a->data,
        .b = b->data,
        .c = c,
        .rule = {a->max_abs, m->flush_every, 0},
        .scale = dfp_power_of_two(a->exponent + b->exponent),
        .in_place = m->a_column == 1 && m->k % 2 == 0,
        .pairs = dfp_ceil_div(m->k, 2),
    };
    p.segments[0] = (dfp_segment){0, p.pairs};
    dfp_begin();
    dfp_status status = dfp_run_batch(&p);
    dfp_end();
    return status;
}
