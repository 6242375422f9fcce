/* backward_weights by Winograd's algorithm: each point of dw is the product of the points of x and of
 * dy, summed over tiles.
 *
 * The order of the FP32 additions depends on the shape alone: a chunk is 128 consecutive tiles, in each
 * of which the flush schedule begins anew; chunks are dealt to parts as blocks are in
 * conv_backward_weights.h; within a part runs are added in ascending order, starting from 0, then
 * transformed to the nine taps; then parts, ascending. */

#define DFP_WINOGRAD_CHUNK 128
/* Channels of x and of dy, at most, whose products a task adds up. */
#define DFP_WINOGRAD_MOST_CHANNELS 128

typedef struct {
    dfp_winograd_operand x, dy;
    dfp_weights_parts parts;
    float scales[DFP_WINOGRAD_MOST_POINTS];
    int64_t chunks;
    int64_t pairs;                                          /* of tiles of a chunk, at most */
    int64_t channels, columns, channel_tasks, column_tasks; /* of a task; columns in whole blocks */
    int64_t x_point, x_tile, dy_point, dy_tile;             /* INT16 from one to the next */
    int64_t sums_row;                                       /* FP32 from one channel to the next */
    char *workers;
    size_t worker_bytes;
} dfp_winograd_weights_gradient;

typedef struct {
    int16_t *x, *dy; /* [tile][point][channels of a task] */
    int16_t *broadcast, *packed;
    int64_t *x_rows, *dy_rows;
    int32_t *ends;
    dfp_span *spans;
    int16_t *pair;
    const int16_t **rows;
    float **results;
    float *sums; /* [point][channel][column] */
} dfp_winograd_chunk;

static dfp_winograd_chunk dfp_winograd_take_chunk(const dfp_winograd_weights_gradient *g,
                                                  char **memory) {
    dfp_winograd_chunk s;
    int64_t tiles = 2 * g->pairs, area = dfp_winograd_area(&g->x);
    int64_t panels = dfp_ceil_div(g->channels, DFP_TILE_ROWS);
    size_t values = (size_t)(panels * dfp_micro_panel_values(g->pairs));
    s.x = dfp_take(memory, (size_t)(tiles * g->x_tile) * sizeof(int16_t));
    s.dy = dfp_take(memory, (size_t)(tiles * g->dy_tile) * sizeof(int16_t));
    s.broadcast = dfp_take(memory, values * sizeof(int16_t));
    s.packed = dfp_take(memory, (size_t)(tiles * g->columns) * sizeof(int16_t));
    s.x_rows = dfp_take(memory, (size_t)tiles * sizeof(int64_t));
    s.dy_rows = dfp_take(memory, (size_t)tiles * sizeof(int64_t));
    s.ends = dfp_take(memory, (size_t)g->pairs * sizeof(int32_t));
    s.spans = dfp_take(memory, (size_t)g->pairs * sizeof(dfp_span));
    s.pair = dfp_take(memory, (size_t)(2 * g->channels + DFP_PIECE) * sizeof(int16_t));
    s.rows = dfp_take(memory, (size_t)g->channels * sizeof *s.rows);
    s.results = dfp_take(memory, (size_t)g->channels * sizeof *s.results);
    s.sums = dfp_take(memory, (size_t)(area * g->channels * g->sums_row) * sizeof(float));
    return s;
}

/* The channels of x and columns of dw of one task. */
typedef struct {
    int64_t channel, channels, column, columns;
} dfp_winograd_range;

/* The points of the tiles [first, first + tiles). */
static void dfp_winograd_emit_chunk(const dfp_winograd_weights_gradient *g,
                                    const dfp_winograd_range *r, int64_t first, int64_t tiles,
                                    const dfp_winograd_chunk *s) {
    dfp_winograd_target x = {
        .rounded = s->x, .patch_stride = g->x_tile, .point_stride = g->x_point};
    dfp_winograd_target dy = {
        .rounded = s->dy, .patch_stride = g->dy_tile, .point_stride = g->dy_point};
    dfp_winograd_emit(&g->x, first, first + tiles, r->channel, r->channels, x);
    dfp_winograd_emit(&g->dy, first, first + tiles, r->column, r->columns, dy);
}

/* Whether a chunk is the first of all, and whether it is the first of its part. */
typedef struct {
    int is_first, from_zero;
} dfp_winograd_place;

/* sums of one point += the tiles of a chunk, for the block of columns that is packed at `packed`. */
static void dfp_winograd_add_block(const dfp_winograd_weights_gradient *g,
                                   const dfp_winograd_range *r, int64_t point, int64_t pairs,
                                   int64_t block, dfp_winograd_place place,
                                   const dfp_winograd_chunk *s) {
    int64_t panels = dfp_block_panels(r->columns, block * DFP_BLOCK);
    const int16_t *packed = s->packed + block * pairs * 2 * DFP_BLOCK;
    dfp_segment segments[2] = {{0, pairs}, {0, 0}};
    dfp_flush_rule rule = {(1 << g->x.bits) - 1, 0, !place.is_first};
    int64_t spans =
        dfp_plan_block(packed, pairs, panels, rule, segments, DFP_MICRO, s->ends, s->spans);
    dfp_tile_arguments job = {.row_step = DFP_MICRO,
                              .spans = s->spans,
                              .spans_end = s->spans + spans,
                              .b = packed,
                              .panel_stride = pairs * 2 * DFP_PANEL,
                              .from_zero = place.from_zero};
    for (int64_t i = 0; i < r->channels; ++i)
        s->results[i] = s->sums + (point * g->channels + i) * g->sums_row + block * DFP_BLOCK;
    dfp_row_list rows = {r->channels, s->rows, s->results};
    dfp_multiply_block(&job, &rows, 0, panels * DFP_PANEL);
}

static void dfp_winograd_add_point(const dfp_winograd_weights_gradient *g,
                                   const dfp_winograd_range *r, int64_t point, int64_t tiles,
                                   dfp_winograd_place place, const dfp_winograd_chunk *s) {
    int64_t pairs = dfp_ceil_div(tiles, 2);
    for (int64_t i = 0; i < 2 * pairs; ++i) {
        s->x_rows[i] = i < tiles ? i * g->x_tile + point * g->x_point : -1;
        s->dy_rows[i] = i < tiles ? i * g->dy_tile + point * g->dy_point : -1;
    }
    dfp_interleave_rows(s->x, s->x_rows, pairs, r->channels, dfp_micro_panel_values(g->pairs),
                        s->pair, s->broadcast);
    for (int64_t i = 0; i < r->channels; ++i)
        s->rows[i] = s->broadcast + dfp_micro_panel_place(g->pairs, i);
    dfp_pack_source source = {s->dy,    s->dy_rows, pairs, r->columns, 1, pairs * 2 * DFP_PANEL,
                              2 * pairs};
    dfp_pack_panels(&source, 0, dfp_ceil_div(r->columns, DFP_PANEL), s->packed);
    for (int64_t block = 0; block * DFP_BLOCK < r->columns; ++block)
        dfp_winograd_add_block(g, r, point, pairs, block, place, s);
}

static void dfp_winograd_gradient_task(void *context, int64_t task, int worker) {
    const dfp_winograd_weights_gradient *g = context;
    char *memory = g->workers + (size_t)worker * g->worker_bytes;
    dfp_winograd_chunk s = dfp_winograd_take_chunk(g, &memory);
    int64_t column_task = task % g->column_tasks, rest = task / g->column_tasks;
    int64_t channel_task = rest % g->channel_tasks, part = rest / g->channel_tasks;
    dfp_winograd_range r = {.channel = channel_task * g->channels,
                            .column = column_task * g->columns};
    r.channels = g->x.channels - r.channel;
    if (r.channels > g->channels) r.channels = g->channels;
    r.columns = g->dy.channels - r.column;
    if (r.columns > g->columns) r.columns = g->columns;
    int64_t parts = g->parts.count;
    int64_t begin = part * g->chunks / parts, end = (part + 1) * g->chunks / parts;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
        int64_t first = chunk * DFP_WINOGRAD_CHUNK, tiles = g->x.patches - first;
        if (tiles > DFP_WINOGRAD_CHUNK) tiles = DFP_WINOGRAD_CHUNK;
        dfp_winograd_place place = {chunk == 0, chunk == begin};
        dfp_winograd_emit_chunk(g, &r, first, tiles, &s);
        for (int64_t point = 0; point < dfp_winograd_area(&g->x); ++point)
            dfp_winograd_add_point(g, &r, point, tiles, place, &s);
    }
    float *dw = dfp_weights_part(&g->parts, part);
    for (int64_t i = 0; i < r.channels; ++i)
        g->x.transforms->weights_gradient(
            s.sums + i * g->sums_row, g->channels * g->sums_row, g->scales, r.columns,
            dw + (r.channel + i) * g->dy.channels + r.column, g->x.channels * g->dy.channels);
}

/* Cuts channels and columns into tasks; results do not depend on how. The fewer there are, the less
 * often are the points of a tensor computed. */
static void dfp_winograd_cut_tasks(dfp_winograd_weights_gradient *g) {
    int64_t most = DFP_WINOGRAD_MOST_CHANNELS, wanted = 2 * dfp_get_num_threads(), blocks;
    int64_t column_blocks = dfp_ceil_div(g->dy.channels, DFP_BLOCK);
    do {
        dfp_cut(g->x.channels, most, 1, &g->channels, &g->channel_tasks);
        dfp_cut(column_blocks, most / DFP_BLOCK, 1, &blocks, &g->column_tasks);
        most /= 2;
    } while (g->parts.count * g->channel_tasks * g->column_tasks < wanted && most >= DFP_BLOCK);
    g->columns = blocks * DFP_BLOCK;
}

/* Tiles and rows an odd number of cache lines apart do not compete for the same cache sets. */
static void dfp_winograd_lay_out(dfp_winograd_weights_gradient *g) {
    int64_t area = dfp_winograd_area(&g->x);
    g->x_point = dfp_winograd_padded(g->channels);
    g->dy_point = g->columns;
    g->x_tile = dfp_odd_lines(area * g->x_point);
    g->dy_tile = dfp_odd_lines(area * g->dy_point);
    g->sums_row = g->columns + DFP_LINE_BYTES / (int64_t)sizeof(float);
}

static dfp_status dfp_winograd_run_gradient(dfp_winograd_weights_gradient *g) {
    char *end = NULL;
    g->pairs =
        dfp_ceil_div(g->x.patches < DFP_WINOGRAD_CHUNK ? g->x.patches : DFP_WINOGRAD_CHUNK, 2);
    g->chunks = dfp_ceil_div(g->x.patches, DFP_WINOGRAD_CHUNK);
    g->parts.elements = 9 * g->x.channels * g->dy.channels;
    g->parts.count = dfp_count_parts(g->chunks, g->parts.elements);
    dfp_winograd_cut_tasks(g);
    dfp_winograd_lay_out(g);
    dfp_winograd_take_chunk(g, &end);
    g->worker_bytes = (size_t)(uintptr_t)end;
    int64_t most = g->x.channels > g->dy.channels ? g->x.channels : g->dy.channels;
    size_t zeros = dfp_round_up((size_t)most * sizeof(int16_t), 64);
    size_t partial = dfp_round_up(dfp_partial_bytes(&g->parts), 64);
    char *memory = dfp_shared_workspace(zeros + partial + dfp_winograd_measure_bytes(&g->x));
    g->workers = dfp_worker_workspace(g->worker_bytes);
    if (!memory || !g->workers) return DFP_OUT_OF_MEMORY;
    memset(memory, 0, zeros);
    g->x.zeros = g->dy.zeros = (const int16_t *)memory;
    g->parts.partial = (float *)(memory + zeros);
    dfp_winograd_measure(&g->x, (float *)(memory + zeros + partial));
    dfp_winograd_measure(&g->dy, (float *)(memory + zeros + partial));
    dfp_winograd_scales(&g->x, g->scales);
    for (int p = 0; p < dfp_winograd_area(&g->x); ++p) g->scales[p] *= g->dy.scales[p];
    dfp_parallel(g->parts.count * g->channel_tasks * g->column_tasks, dfp_winograd_gradient_task,
                 g);
    dfp_sum_parts(&g->parts);
    return DFP_OK;
}
