/* Upper bounds of the speed, for benchmarks: the multiply-adds of the micro-kernel alone. */

/* Bytes of packed columns, half of a small first-level cache. */
#define DFP_SPEED_BYTES (16 << 10)

typedef struct {
    int64_t repetitions;
    int with_memory;
} dfp_speed;

/* A result nobody reads, so that the compiler keeps what computes it. */
static volatile uint32_t dfp_speed_result;

#define DFP_SPEED_VECTORS (DFP_TILE_PANELS * DFP_PANEL / DFP_LANES)
#define DFP_SPEED_PAIRS (DFP_SPEED_BYTES / (DFP_TILE_PANELS * 2 * DFP_PANEL * (int)sizeof(int16_t)))

/* The instructions of one tile on registers: no loads, no flush. */
static uint32_t dfp_bare_multiply_adds(int64_t repetitions) {
    dfp_vi sum[DFP_TILE_ROWS][DFP_SPEED_VECTORS], column[DFP_SPEED_VECTORS], a = dfp_zero();
    DFP_UNROLL for (int v = 0; v < DFP_SPEED_VECTORS; ++v) {
        column[v] = dfp_zero();
        DFP_UNROLL for (int r = 0; r < DFP_TILE_ROWS; ++r) sum[r][v] = dfp_zero();
    }
    for (int64_t k = 0; k < repetitions * DFP_SPEED_PAIRS; ++k) {
        /* As far as the compiler knows, operands change: every product has to be computed. */
        DFP_UNROLL for (int v = 0; v < DFP_SPEED_VECTORS; ++v) column[v] =
            dfp_in_register(column[v]);
        DFP_UNROLL for (int r = 0; r < DFP_TILE_ROWS; ++r) {
            a = dfp_in_register(a);
            DFP_UNROLL for (int v = 0; v < DFP_SPEED_VECTORS; ++v) sum[r][v] =
                dfp_multiply_add(sum[r][v], a, column[v]);
        }
    }
    DFP_UNROLL for (int r = 0; r < DFP_TILE_ROWS; ++r)
        DFP_UNROLL for (int v = 0; v < DFP_SPEED_VECTORS; ++v) a =
            dfp_largest(a, dfp_in_register(sum[r][v]));
    return dfp_largest_lane(a);
}

/* One tile repeatedly, with its operands in the first-level cache. */
static void dfp_cached_tiles(int64_t repetitions) {
    _Alignas(64) int16_t rows[DFP_TILE_ROWS][2 * DFP_SPEED_PAIRS + DFP_LINE];
    _Alignas(64) int16_t b[DFP_SPEED_BYTES / sizeof(int16_t)];
    _Alignas(64) float c[DFP_TILE_ROWS][DFP_BLOCK];
    dfp_span span = {0, DFP_SPEED_PAIRS, 1};
    dfp_tile_arguments job = {.row_step = 2,
                              .spans = &span,
                              .spans_end = &span + 1,
                              .b = b,
                              .panel_stride = DFP_SPEED_PAIRS * 2 * DFP_PANEL,
                              .from_zero = 1};
    memset(rows, 1, sizeof rows);
    memset(b, 1, sizeof b);
    for (int r = 0; r < DFP_TILE_ROWS; ++r) {
        job.rows[r] = rows[r];
        job.c[r] = c[r];
    }
    for (int64_t i = 0; i < repetitions; ++i) dfp_whole_tile(&job, DFP_TILE_PANELS);
}

static void dfp_speed_task(void *context, int64_t task, int worker) {
    const dfp_speed *s = context;
    (void)task, (void)worker;
    if (s->with_memory)
        dfp_cached_tiles(s->repetitions);
    else
        dfp_speed_result = dfp_bare_multiply_adds(s->repetitions);
}

static int64_t dfp_run_multiply_adds(int64_t repetitions, int with_memory) {
    dfp_speed s = {repetitions, with_memory};
    dfp_begin();
    int64_t threads = dfp_get_num_threads();
    dfp_parallel(threads, dfp_speed_task, &s);
    dfp_end();
    return threads * repetitions * DFP_SPEED_PAIRS * 2 * DFP_TILE_ROWS * DFP_TILE_PANELS *
           DFP_PANEL;
}
