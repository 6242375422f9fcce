/* forward and backward_data by Winograd's algorithm: tiles are transformed to points, each point is a
 * product of matrices over channels, and the points of the result are transformed back. A task does
 * that for some tiles at a time, so that points stay in a cache. */

/* Tiles of a task. */
#define DFP_WINOGRAD_LEAST_TILES 24
#define DFP_WINOGRAD_MOST_TILES 96
/* Bytes of the points of a task's tiles. */
#define DFP_WINOGRAD_TASK_BYTES (1536 << 10)

typedef struct {
    dfp_winograd_operand in, weights;
    int64_t columns; /* channels of the result */
    int64_t out_h, out_w;
    float *out;              /* or NULL, if the result is wanted in blocks */
    dfp_block_result blocks; /* if it is */
    dfp_epilogue epilogue;
    dfp_channel_ranges ranges; /* of the columns */

    /* Derived. */
    int64_t pairs, column_blocks, tiles_per_task;
    /* From one tile to the next: an odd number of cache lines, or rows of a product would compete for
     * the same cache sets. */
    int64_t tile_points, tile_sums;
    float scales[DFP_WINOGRAD_MOST_POINTS]; /* of the weights */
    int16_t *points;                        /* of the weights: [point][row][padded channels] */
    int transposed;  /* whether columns of the product are rows of `points` */
    int16_t *packed; /* [point][block][panel][pair][16][2] */
    dfp_span *spans; /* [point][block][pairs] */
    int64_t *span_counts;
    int64_t *rows; /* where row k of the weights' matrix lies in those of a point */
    char *workers;
    size_t worker_bytes;
} dfp_winograd_convolution;

static int64_t dfp_winograd_row_points(const dfp_winograd_convolution *w) {
    return dfp_winograd_padded(w->weights.channels);
}

/* Rows of the weights' matrices that one task transforms. */
#define DFP_WINOGRAD_ROWS 8

static void dfp_winograd_weights_task(void *context, int64_t task, int worker) {
    const dfp_winograd_convolution *w = context;
    int64_t row = dfp_winograd_row_points(w), first = task * DFP_WINOGRAD_ROWS;
    int64_t rows = w->weights.patches, end = first + DFP_WINOGRAD_ROWS;
    dfp_winograd_target to = {
        .rounded = w->points + first * row, .patch_stride = row, .point_stride = rows * row};
    (void)worker;
    dfp_winograd_emit(&w->weights, first, end < rows ? end : rows, 0, w->weights.channels, to);
}

/* Packs one block of columns of one point and finds its flush schedule. */
static void dfp_winograd_pack_task(void *context, int64_t task, int worker) {
    const dfp_winograd_convolution *w = context;
    int64_t point = task / w->column_blocks, column = task % w->column_blocks * DFP_BLOCK,
            pairs = w->pairs;
    int64_t row = dfp_winograd_row_points(w), panels = dfp_block_panels(w->columns, column);
    int16_t *packed = w->packed + task * pairs * 2 * DFP_BLOCK;
    /* In the memory of a task's tiles, which hold more than so many pairs. */
    int32_t *ends = (int32_t *)(w->workers + (size_t)worker * w->worker_bytes);
    dfp_segment segments[2] = {{0, pairs}, {0, 0}};
    dfp_pack_source source = {w->points + point * w->weights.patches * row,
                              w->rows,
                              pairs,
                              w->columns,
                              w->transposed ? row : 1,
                              pairs * 2 * DFP_PANEL,
                              2 * pairs};
    dfp_flush_rule rule = {(1 << w->in.bits) - 1, 0, 0};
    dfp_pack_panels(&source, column, panels, packed);
    w->span_counts[task] =
        dfp_plan_block(packed, pairs, panels, rule, segments, 2, ends, w->spans + task * pairs);
}

/* What a worker holds of the tiles of its task. */
typedef struct {
    int64_t first, count;
    int16_t *points; /* [tile][point][padded channels], tiles tile_points apart */
    float *scales;   /* [tile][point] */
    float *unrounded;
    float *sums; /* [tile][point][64], tiles tile_sums apart */
    const int16_t **rows;
    float **results;
    int64_t *pixels; /* [tile][outputs][outputs]: elements of the result, -1 outside of it */
    float *staged; /* a tile's pixels of one block of columns, before they are written in blocks */
} dfp_winograd_tiles;

static dfp_winograd_tiles dfp_winograd_take(const dfp_winograd_convolution *w, char **memory) {
    dfp_winograd_tiles t = {0};
    int64_t tiles = w->tiles_per_task;
    int outputs = w->in.transforms->outputs;
    t.points = dfp_take(memory, (size_t)(tiles * w->tile_points) * sizeof(int16_t));
    int64_t kept = dfp_winograd_kept_patches(&w->in) * dfp_winograd_kept_channels(&w->in);
    t.unrounded = dfp_take(memory, (size_t)(kept * dfp_winograd_area(&w->in)) * sizeof(float));
    t.scales = dfp_take(memory, (size_t)(tiles * dfp_winograd_area(&w->in)) * sizeof(float));
    t.sums = dfp_take(memory, (size_t)(tiles * w->tile_sums) * sizeof(float));
    t.rows = dfp_take(memory, (size_t)tiles * sizeof *t.rows);
    t.results = dfp_take(memory, (size_t)tiles * sizeof *t.results);
    t.pixels = dfp_take(memory, (size_t)(tiles * outputs * outputs) * sizeof *t.pixels);
    t.staged = dfp_take(memory, (size_t)(outputs * outputs * DFP_BLOCK) * sizeof *t.staged);
    return t;
}

/* Where the pixels of tile `tile` of the result lie. */
static void dfp_winograd_list_results(const dfp_winograd_convolution *w, int64_t tile,
                                      int64_t *pixels) {
    int64_t tiles_h = w->in.tiles_h, tiles_w = w->in.tiles_w, image = tile / (tiles_h * tiles_w);
    int outputs = w->in.transforms->outputs;
    int64_t top = tile / tiles_w % tiles_h * outputs, left = tile % tiles_w * outputs;
    for (int64_t i = top; i < top + outputs; ++i) {
        int64_t line = (image * w->out_h + i) * w->out_w;
        for (int64_t j = left; j < left + outputs; ++j)
            *pixels++ = i < w->out_h && j < w->out_w ? (line + j) * w->columns : -1;
    }
}

/* The sums of all points of a task's tiles for one block of columns. */
static void dfp_winograd_multiply(const dfp_winograd_convolution *w, const dfp_winograd_tiles *t,
                                  int64_t block) {
    int64_t area = dfp_winograd_area(&w->in), channels = dfp_winograd_padded(w->in.channels);
    int64_t panels = dfp_block_panels(w->columns, block * DFP_BLOCK);
    for (int64_t p = 0; p < area; ++p) {
        int64_t index = p * w->column_blocks + block;
        const dfp_span *spans = w->spans + index * w->pairs;
        dfp_tile_arguments job = {.row_step = 2,
                                  .spans = spans,
                                  .spans_end = spans + w->span_counts[index],
                                  .b = w->packed + index * w->pairs * 2 * DFP_BLOCK,
                                  .panel_stride = w->pairs * 2 * DFP_PANEL,
                                  .from_zero = 1};
        dfp_row_list rows = {t->count, t->rows, t->results};
        for (int64_t i = 0; i < t->count; ++i) {
            t->rows[i] = t->points + i * w->tile_points + p * channels;
            t->results[i] = t->sums + i * w->tile_sums + p * DFP_BLOCK;
        }
        dfp_multiply_block(&job, &rows, 0, panels * DFP_PANEL);
    }
}

static void dfp_winograd_write_block(const dfp_winograd_convolution *w, const dfp_winograd_tiles *t,
                                     int64_t block, int worker) {
    int64_t column = block * DFP_BLOCK, columns = w->columns - column;
    int per_tile = w->in.transforms->outputs * w->in.transforms->outputs;
    int area = dfp_winograd_area(&w->in);
    dfp_epilogue epilogue = dfp_epilogue_at(w->epilogue, column);
    float *minimum = dfp_ranges_of_worker(&w->ranges, worker) + column;
    int keep = w->ranges.minimum != NULL;
    if (columns > DFP_BLOCK) columns = DFP_BLOCK;
    for (int64_t i = 0; i < t->count; ++i) {
        float *pixels[DFP_WINOGRAD_MOST_POINTS], *inside[DFP_WINOGRAD_MOST_POINTS];
        int64_t count = 0;
        for (int j = 0; j < per_tile; ++j) {
            int64_t place = t->pixels[i * per_tile + j];
            pixels[j] = w->out ? w->out + place + column : t->staged + j * DFP_BLOCK;
            if (place < 0) pixels[j] = NULL;
            if (place >= 0) inside[count++] = pixels[j];
        }
        w->in.transforms->output(t->sums + i * w->tile_sums, t->scales + i * area, &epilogue,
                                 columns, pixels);
        if (!w->out)
            dfp_write_pixels(&w->blocks, pixels, t->pixels + i * per_tile, per_tile, column,
                             columns, keep);
        if (keep) dfp_widen_channel_range(inside, count, 0, columns, minimum, minimum + w->columns);
    }
}

static void dfp_winograd_tiles_task(void *context, int64_t task, int worker) {
    const dfp_winograd_convolution *w = context;
    char *memory = w->workers + (size_t)worker * w->worker_bytes;
    dfp_winograd_tiles t = dfp_winograd_take(w, &memory);
    int per_tile = w->in.transforms->outputs * w->in.transforms->outputs;
    int area = dfp_winograd_area(&w->in);
    t.first = task * w->tiles_per_task;
    t.count = w->in.patches - t.first;
    if (t.count > w->tiles_per_task) t.count = w->tiles_per_task;
    dfp_winograd_emit_each(&w->in, t.first, t.first + t.count, t.points, w->tile_points, t.scales,
                           t.unrounded);
    for (int64_t i = 0; i < t.count * area; ++i) t.scales[i] *= w->scales[i % area];
    for (int64_t i = 0; i < t.count; ++i)
        dfp_winograd_list_results(w, t.first + i, t.pixels + i * per_tile);
    for (int64_t block = 0; block < w->column_blocks; ++block) {
        dfp_winograd_multiply(w, &t, block);
        dfp_winograd_write_block(w, &t, block, worker);
    }
}

/* Tiles of a task; results do not depend on it. */
static int64_t dfp_winograd_tiles_per_task(const dfp_winograd_convolution *w) {
    int64_t area = dfp_winograd_area(&w->in);
    int64_t bytes = area * (2 * dfp_winograd_padded(w->in.channels) + 4 * DFP_BLOCK);
    int64_t wanted = DFP_TASKS_PER_THREAD * dfp_get_num_threads();
    int64_t tiles = DFP_WINOGRAD_TASK_BYTES / bytes, share = w->in.patches / wanted;
    if (tiles > DFP_WINOGRAD_MOST_TILES) tiles = DFP_WINOGRAD_MOST_TILES;
    if (tiles > share) tiles = share;
    if (tiles < DFP_WINOGRAD_LEAST_TILES) tiles = DFP_WINOGRAD_LEAST_TILES;
    return tiles / DFP_TILE_ROWS * DFP_TILE_ROWS;
}

/* Memory that all threads share, from `memory` on. */
static void dfp_winograd_share(dfp_winograd_convolution *w, char **memory) {
    int64_t area = dfp_winograd_area(&w->in), blocks = area * w->column_blocks;
    int64_t points = area * w->weights.patches * dfp_winograd_row_points(w);
    w->in.zeros = dfp_take(memory, (size_t)w->in.channels * sizeof(int16_t));
    w->points = dfp_take(memory, (size_t)points * sizeof(int16_t));
    w->packed = dfp_take(memory, (size_t)(blocks * w->pairs * 2 * DFP_BLOCK) * sizeof(int16_t));
    w->spans = dfp_take(memory, (size_t)(blocks * w->pairs) * sizeof(dfp_span));
    w->span_counts = dfp_take(memory, (size_t)blocks * sizeof(int64_t));
    w->rows = dfp_take(memory, (size_t)(2 * w->pairs) * sizeof(int64_t));
}

static int dfp_winograd_reserve(dfp_winograd_convolution *w, float **measuring) {
    char *end = NULL, *memory;
    w->tiles_per_task = dfp_winograd_tiles_per_task(w);
    dfp_winograd_take(w, &end);
    size_t before = (size_t)(uintptr_t)end;
    w->worker_bytes = dfp_round_up(before + dfp_channel_ranges_bytes(&w->ranges), 64);
    end = NULL;
    dfp_winograd_share(w, &end);
    size_t bytes = (size_t)(uintptr_t)end + dfp_winograd_measure_bytes(&w->weights);
    memory = dfp_shared_workspace(bytes);
    w->workers = dfp_worker_workspace(w->worker_bytes);
    if (!memory || !w->workers) return 0;
    w->ranges.workers = w->workers + before;
    w->ranges.worker_bytes = w->worker_bytes;
    dfp_winograd_share(w, &memory);
    memset((void *)(uintptr_t)w->in.zeros, 0, (size_t)w->in.channels * sizeof(int16_t));
    *measuring = (float *)memory;
    return 1;
}

/* The weights' points, packed, with their flush schedules. */
static void dfp_winograd_prepare_weights(dfp_winograd_convolution *w) {
    int64_t row = w->transposed ? 1 : dfp_winograd_row_points(w), rows = w->in.channels;
    for (int64_t k = 0; k < 2 * w->pairs; ++k) w->rows[k] = k < rows ? k * row : -1;
    dfp_parallel(dfp_ceil_div(w->weights.patches, DFP_WINOGRAD_ROWS), dfp_winograd_weights_task, w);
    dfp_parallel(dfp_winograd_area(&w->in) * w->column_blocks, dfp_winograd_pack_task, w);
}

static dfp_status dfp_winograd_convolve(dfp_winograd_convolution *w) {
    float *measuring;
    w->pairs = dfp_ceil_div(w->in.channels, 2);
    w->column_blocks = dfp_ceil_div(w->columns, DFP_BLOCK);
    w->tile_points = dfp_odd_lines(dfp_winograd_area(&w->in) * dfp_winograd_padded(w->in.channels));
    w->tile_sums = dfp_winograd_area(&w->in) * DFP_BLOCK + DFP_LINE_BYTES / (int64_t)sizeof(float);
    if (!dfp_winograd_reserve(w, &measuring)) return DFP_OUT_OF_MEMORY;
    dfp_winograd_measure(&w->weights, measuring);
    dfp_winograd_scales(&w->weights, w->scales);
    dfp_winograd_prepare_weights(w);
    dfp_clear_channel_ranges(&w->ranges);
    dfp_parallel(dfp_ceil_div(w->in.patches, w->tiles_per_task), dfp_winograd_tiles_task, w);
    dfp_merge_channel_ranges(&w->ranges);
    return DFP_OK;
}
