/* C = op(A) * op(B) of INT8, in INT32: the engine of INT8 with raw sums as epilogue. */

/* Rows of C that one task computes. */
#define DFP_INT8_TASK_ROWS 96

typedef struct {
    const dfp_matmul *m;
    const int8_t *a, *b;
    int32_t *c;
    /* The plan: it depends only on the shape and the instruction set. */
    int64_t groups, blocks, row_tasks;
    int in_place; /* rows of op(A) are whole groups and contiguous */
    /* Where the run keeps its data. */
    int8_t *rows;     /* op(A), rows padded to whole groups */
    int64_t *b_rows;  /* where each row of op(B) begins */
    int8_t *packed;   /* [block][panel][groups][16][4] */
    uint32_t *starts; /* initial values of the sums of each column */
} dfp_int8_product;

static void dfp_plan_int8(dfp_int8_product *p) {
    p->groups = dfp_ceil_div(p->m->k, 4);
    p->blocks = dfp_ceil_div(p->m->n, DFP_BLOCK);
    p->row_tasks = dfp_ceil_div(p->m->m, DFP_INT8_TASK_ROWS);
    p->in_place = !p->m->transpose_a && p->m->k % 4 == 0;
}

static int64_t dfp_int8_block_bytes(const dfp_int8_product *p) { return p->groups * 4 * DFP_BLOCK; }

/* Takes the run's memory, or counts its bytes from NULL. */
static char *dfp_take_int8(dfp_int8_product *p, char *memory) {
    size_t rows = p->in_place ? 0 : (size_t)(p->m->m * p->groups * 4);
    p->rows = dfp_take(&memory, rows);
    p->b_rows = dfp_take(&memory, (size_t)p->groups * 4 * sizeof(int64_t));
    p->packed = dfp_take(&memory, (size_t)(p->blocks * dfp_int8_block_bytes(p)));
    p->starts = dfp_take(&memory, (size_t)(p->blocks * DFP_BLOCK) * sizeof(uint32_t));
    return memory;
}

/* Copies the rows of op(A) of one task, padded with zeros. */
static void dfp_copy_int8_task(void *context, int64_t task, int worker) {
    const dfp_int8_product *p = context;
    const dfp_matmul *m = p->m;
    int64_t end = (task + 1) * DFP_INT8_TASK_ROWS;
    (void)worker;
    for (int64_t i = task * DFP_INT8_TASK_ROWS; i < end && i < m->m; ++i) {
        int8_t *row = p->rows + i * p->groups * 4;
        for (int64_t k = 0; k < m->k; ++k)
            row[k] = p->a[m->transpose_a ? k * m->m + i : i * m->k + k];
        memset(row + m->k, 0, (size_t)(p->groups * 4 - m->k));
    }
}

/* The initial values of the sums of each column of a packed block: see DFP_INT8_OFFSET. */
static void dfp_start_int8(const dfp_int8_product *p, const int8_t *packed, int64_t panels,
                           uint32_t *starts) {
    memset(starts, 0, DFP_BLOCK * sizeof *starts);
    for (int64_t i = 0; i < panels * p->groups && DFP_INT8_OFFSET; ++i, packed += 4 * DFP_PANEL) {
        uint32_t *start = starts + i / p->groups * DFP_PANEL;
        for (int c = 0; c < 4 * DFP_PANEL; ++c)
            start[c / 4] -= (uint32_t)(DFP_INT8_OFFSET * packed[c]);
    }
}

static void dfp_pack_int8_task(void *context, int64_t block, int worker) {
    const dfp_int8_product *p = context;
    const dfp_matmul *m = p->m;
    dfp_pack_source_int8 source = {.matrix = p->b,
                                   .rows = p->b_rows,
                                   .groups = p->groups,
                                   .columns = m->n,
                                   .column_stride = m->transpose_b ? m->k : 1,
                                   .panel_stride = p->groups * 4 * DFP_PANEL,
                                   .listed = p->groups * 4};
    int8_t *packed = p->packed + block * dfp_int8_block_bytes(p);
    int64_t panels = dfp_block_panels(m->n, block * DFP_BLOCK);
    (void)worker;
    dfp_pack_panels_int8(&source, block * DFP_BLOCK, panels, packed);
    dfp_start_int8(p, packed, panels, p->starts + block * DFP_BLOCK);
}

static void dfp_multiply_int8_task(void *context, int64_t task, int worker) {
    const dfp_int8_product *p = context;
    const dfp_matmul *m = p->m;
    const int8_t *a[DFP_INT8_TASK_ROWS];
    int32_t *c[DFP_INT8_TASK_ROWS];
    int64_t block = task % p->blocks, first = task / p->blocks * DFP_INT8_TASK_ROWS;
    int64_t left = m->m - first, count = left < DFP_INT8_TASK_ROWS ? left : DFP_INT8_TASK_ROWS;
    (void)worker;
    for (int64_t i = 0; i < count; ++i) {
        a[i] = (p->in_place ? p->a : p->rows) + (first + i) * p->groups * 4;
        c[i] = p->c + (first + i) * m->n;
    }
    dfp_span span = {0, (int32_t)p->groups, 1};
    dfp_tile_arguments_int8 job = {.row_step = 4,
                                   .spans = &span,
                                   .spans_end = &span + 1,
                                   .b = p->packed + block * dfp_int8_block_bytes(p),
                                   .panel_stride = p->groups * 4 * DFP_PANEL,
                                   .from_zero = 1,
                                   .epilogue = {p->starts}};
    dfp_row_list_int8 rows = {count, a, c};
    dfp_multiply_block_int8(&job, &rows, block * DFP_BLOCK, m->n);
}

static void dfp_run_int8(dfp_int8_product *p) {
    int64_t stride = p->m->transpose_b ? 1 : p->m->n;
    for (int64_t k = 0; k < p->groups * 4; ++k) p->b_rows[k] = k < p->m->k ? k * stride : -1;
    if (!p->in_place) dfp_parallel(p->row_tasks, dfp_copy_int8_task, p);
    dfp_parallel(p->blocks, dfp_pack_int8_task, p);
    dfp_parallel(p->row_tasks * p->blocks, dfp_multiply_int8_task, p);
}

static dfp_status dfp_matrix_multiply_int8(const dfp_matmul *m, const int8_t *a, const int8_t *b,
                                           int32_t *c) {
    dfp_int8_product p = {.m = m, .a = a, .b = b, .c = c};
    dfp_plan_int8(&p);
    dfp_begin();
    char *memory = dfp_shared_workspace((size_t)(dfp_take_int8(&p, NULL) - (char *)NULL));
    if (memory) {
        dfp_take_int8(&p, memory);
        dfp_run_int8(&p);
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}
