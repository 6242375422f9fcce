/* Products with few rows, such as a dense layer's forward and backward_data: B is read once, and
 * every value of it is used so few times that packing all of B first would cost more than the
 * products. So a stretch of K is packed into the second-level cache, and the runs that end in it
 * are multiplied at once; the pairs of the open run are kept for the next stretch. Flush schedule
 * and order of additions are those of dfp_tap_convolution. */

#define DFP_FEW_ROWS 48
/* A multiple of DFP_SCHEDULE_STEP. */
#define DFP_STRETCH 128
/* Blocks of columns that are packed together: 512 bytes of each row of B. */
#define DFP_STRETCH_BLOCKS 4

typedef struct {
    int64_t m, pairs;
    const int16_t *rows[DFP_FEW_ROWS];
    float *results[DFP_FEW_ROWS];
    dfp_pack_source source; /* of all of B */
    uint32_t limit;
    dfp_epilogue epilogue;
    int64_t blocks, blocks_per_task;
    char *workers;
    size_t worker_bytes;
} dfp_few_rows;

/* One block of columns: its open run and the pair at which that begins. */
typedef struct {
    dfp_run run;
    int64_t open;
} dfp_stretch_block;

typedef struct {
    int16_t *packed; /* [panel][waiting pairs, then the stretch][16][2] */
    int32_t *ends;
    dfp_span *spans;
    dfp_stretch_block *blocks;
} dfp_few_rows_scratch;

static dfp_few_rows_scratch dfp_few_rows_take(const dfp_few_rows *f, char **memory) {
    dfp_few_rows_scratch s;
    int64_t panels = f->blocks_per_task * DFP_BLOCK_PANELS;
    s.packed = dfp_take(memory, (size_t)(panels * f->source.panel_stride) * sizeof(int16_t));
    s.ends = dfp_take(memory, (DFP_STRETCH + 1) * sizeof(int32_t));
    s.spans = dfp_take(memory, (DFP_STRETCH + 1) * sizeof(dfp_span));
    s.blocks = dfp_take(memory, (size_t)f->blocks_per_task * sizeof(dfp_stretch_block));
    return s;
}

/* Finds the runs that end in the stretch [first, last); returns their number. */
static int64_t dfp_close_runs(const dfp_few_rows *f, dfp_stretch_block *b, const int16_t *packed,
                              int64_t panels, int64_t first, int64_t last, int32_t *ends) {
    int64_t stride = f->source.panel_stride / (2 * DFP_PANEL);
    const int16_t *origin = packed + (f->pairs - first) * 2 * DFP_PANEL;
    b->run.runs = 0;
    for (int64_t k = first; k < last; k += DFP_SCHEDULE_STEP) {
        int64_t end = k + DFP_SCHEDULE_STEP < last ? k + DFP_SCHEDULE_STEP : last;
        dfp_extend_step(&b->run, origin, stride, panels, k, end, f->limit, ends);
    }
    if (last == f->pairs) ends[b->run.runs++] = (int32_t)last;
    return b->run.runs;
}

/* C += the closed runs, for one block of columns whose packed pairs begin at `packed`. */
static void dfp_multiply_runs(const dfp_few_rows *f, const dfp_stretch_block *b,
                              const int16_t *packed, int64_t column, const int32_t *ends,
                              dfp_span *spans) {
    int64_t at = b->open;
    dfp_tile_arguments job = {.row_step = 2,
                              .spans = spans,
                              .spans_end = spans + b->run.runs,
                              .b = packed,
                              .panel_stride = f->source.panel_stride,
                              .from_zero = b->open == 0};
    for (int64_t i = 0; i < b->run.runs; ++i) {
        spans[i] = (dfp_span){2 * at, (int32_t)(ends[i] - at), 1};
        at = ends[i];
    }
    if (at == f->pairs) job.epilogue = f->epilogue;
    dfp_row_list rows = {f->m, f->rows, f->results};
    dfp_multiply_block(&job, &rows, column, f->source.columns);
}

/* Moves the pairs [open, last) of one block to before the next stretch. */
static void dfp_keep_open_run(const dfp_few_rows *f, const dfp_stretch_block *b, int16_t *packed,
                              int64_t panels, int64_t first, int64_t last) {
    size_t bytes = (size_t)(last - b->open) * 2 * DFP_PANEL * sizeof(int16_t);
    for (int64_t panel = 0; panel < panels; ++panel, packed += f->source.panel_stride)
        memmove(packed + (f->pairs - last + b->open) * 2 * DFP_PANEL,
                packed + (f->pairs - first + b->open) * 2 * DFP_PANEL, bytes);
}

static void dfp_few_rows_task(void *context, int64_t task, int worker) {
    const dfp_few_rows *f = context;
    char *memory = f->workers + (size_t)worker * f->worker_bytes;
    dfp_few_rows_scratch s = dfp_few_rows_take(f, &memory);
    int64_t first_block = task * f->blocks_per_task, blocks = f->blocks - first_block;
    if (blocks > f->blocks_per_task) blocks = f->blocks_per_task;
    memset(s.blocks, 0, (size_t)blocks * sizeof *s.blocks);
    for (int64_t first = 0; first < f->pairs; first += DFP_STRETCH) {
        int64_t last = first + DFP_STRETCH < f->pairs ? first + DFP_STRETCH : f->pairs;
        int64_t column = first_block * DFP_BLOCK, end = column + blocks * DFP_BLOCK;
        if (end > f->source.columns) end = f->source.columns;
        dfp_pack_source source = f->source;
        source.rows += 2 * first;
        source.groups = last - first;
        source.listed -= 2 * first;
        dfp_pack_panels(&source, column, dfp_ceil_div(end - column, DFP_PANEL),
                        s.packed + f->pairs * 2 * DFP_PANEL);
        int16_t *packed = s.packed;
        for (dfp_stretch_block *b = s.blocks; b < s.blocks + blocks; ++b) {
            int64_t panels = dfp_block_panels(f->source.columns, column);
            int64_t runs = dfp_close_runs(f, b, packed, panels, first, last, s.ends);
            dfp_count_runs((dfp_run_counts){first == 0, runs, last - first});
            if (runs) {
                int64_t begin = (f->pairs - first + b->open) * 2 * DFP_PANEL;
                dfp_multiply_runs(f, b, packed + begin, column, s.ends, s.spans);
                b->open = s.ends[b->run.runs - 1];
            }
            dfp_keep_open_run(f, b, packed, panels, first, last);
            packed += DFP_BLOCK_PANELS * f->source.panel_stride;
            column += DFP_BLOCK;
        }
    }
}

static dfp_status dfp_run_few_rows(dfp_few_rows *f) {
    int64_t threads = dfp_get_num_threads();
    f->blocks = dfp_ceil_div(f->source.columns, DFP_BLOCK);
    f->blocks_per_task = f->blocks / (DFP_TASKS_PER_THREAD * threads);
    if (f->blocks_per_task > DFP_STRETCH_BLOCKS) f->blocks_per_task = DFP_STRETCH_BLOCKS;
    if (f->blocks_per_task < 1) f->blocks_per_task = 1;
    f->source.panel_stride = (f->pairs + DFP_STRETCH) * 2 * DFP_PANEL;
    char *end = NULL;
    dfp_few_rows_take(f, &end);
    f->worker_bytes = (size_t)(uintptr_t)end;
    f->workers = dfp_worker_workspace(f->worker_bytes);
    if (!f->workers) return DFP_OUT_OF_MEMORY;
    dfp_parallel(dfp_ceil_div(f->blocks, f->blocks_per_task), dfp_few_rows_task, f);
    return DFP_OK;
}
