/* The convolution behind forward, backward_data and matmul: every pixel of an output grid is a sum
 * over taps, each a fixed offset into the input.
 *
 *   out[n, d, i, j, :] = sum over taps (p, r, c) of
 *       in[n, d * step_d + p, i * step_h + r, j * step_w + c, :] * B[tap]
 *
 * Input rows that a task needs are copied once into a padded scratch buffer, in which the window of
 * one tap row is contiguous: no im2col. The rows of all planes of taps follow each other there: an
 * image, with one plane, is the same as ever. A single tap that never leaves the input is read in
 * place. */

/* Planes, rows or columns of taps: input offsets, ascending, and the kernel index that each belongs to. */
typedef struct {
    int64_t count;
    int64_t *offset;
    int64_t *kernel_index;
} dfp_taps;

typedef struct {
    const int16_t *in;
    int64_t batch, in_d, in_h, in_w, in_channels;
    int64_t channels; /* of one group */
    int64_t grid_d, grid_h, grid_w, step_d, step_h, step_w;
    dfp_taps planes, rows, columns;

    int64_t groups;
    int64_t out_columns; /* of one group */
    dfp_flush_rule rule;
    const int16_t *weights;
    /* The weights of tap (d, h, w) begin at ((d * kernel_h + h) * kernel_w + w) * kernel_stride. */
    int64_t kernel_h, kernel_w, kernel_stride;
    int64_t inner_stride, column_stride, group_stride;

    float *out;              /* or NULL, if the result is wanted in blocks */
    dfp_block_result blocks; /* if it is */
    int64_t out_first;       /* element of the first pixel */
    int64_t out_image, out_plane, out_row, out_pixel; /* strides in elements */
    dfp_power scale;
    const float *bias;         /* of all groups, or NULL */
    dfp_channel_ranges ranges; /* of all groups; not with cells */
    /* If cell_h > 0, one pixel of the grid represents cell_h x cell_w pixels of the result, whose
     * channels are its columns; out_pixel is then the stride of the result's own pixels. */
    int64_t cell_h, cell_w, result_h, result_w;

    /* Derived by dfp_tap_plan. */
    int64_t pairs, column_blocks, segment_count;
    int in_place;
    int64_t scratch_w;
    int64_t *b_rows;
    dfp_segment *segments;
    int16_t *packed;
    dfp_span *spans;
    int64_t *span_counts;
    int64_t rows_per_task, row_tasks, column_tasks;
    char *workers;
    size_t worker_bytes, scratch_bytes, cell_bytes;
} dfp_tap_convolution;

static int dfp_consecutive(const dfp_taps *t) {
    for (int64_t i = 1; i < t->count; ++i)
        if (t->offset[i] != t->offset[i - 1] + 1) return 0;
    return 1;
}

static int dfp_never_leaves(const dfp_taps *t, int64_t grid, int64_t step, int64_t extent) {
    return t->offset[0] >= 0 && (grid - 1) * step + t->offset[t->count - 1] < extent;
}

/* Values of one scratch row: those of all planes of taps. */
static int64_t dfp_scratch_stride(const dfp_tap_convolution *t) {
    return t->planes.count * t->scratch_w * t->channels;
}

/* Lists the segments of the reduction and the position of each row of B in the weights. */
static void dfp_tap_order(dfp_tap_convolution *t) {
    int joined = dfp_consecutive(&t->columns);
    int64_t per_segment = joined ? t->columns.count : 1;
    int64_t k = 0, segment = 0;
    for (int64_t i = 0; i < t->planes.count * t->rows.count; ++i) {
        int64_t plane = i / t->rows.count, r = i % t->rows.count;
        int64_t row = (t->rows.offset[r] - t->rows.offset[0]) * dfp_scratch_stride(t);
        row += plane * t->scratch_w * t->channels;
        int64_t kernel_row = t->planes.kernel_index[plane] * t->kernel_h + t->rows.kernel_index[r];
        for (int64_t c = 0; c < t->columns.count; ++c) {
            if (c % per_segment == 0) {
                int64_t column = t->columns.offset[c] - t->columns.offset[0];
                int64_t pairs = dfp_ceil_div(per_segment * t->channels, 2);
                t->segments[segment++] = (dfp_segment){row + column * t->channels, pairs};
            }
            int64_t tap = kernel_row * t->kernel_w + t->columns.kernel_index[c];
            for (int64_t channel = 0; channel < t->channels; ++channel)
                t->b_rows[k++] = tap * t->kernel_stride + channel * t->inner_stride;
            if ((c + 1) % per_segment == 0 && k % 2) t->b_rows[k++] = -1;
        }
    }
    t->segments[segment] = (dfp_segment){0, 0};
    t->pairs = k / 2;
    t->segment_count = segment;
}

/* Enough for every subset of the kernel's taps. */
static size_t dfp_tap_plan_bytes(const dfp_tap_convolution *t, int64_t taps) {
    int64_t pairs = taps * dfp_ceil_div(t->channels, 2);
    int64_t blocks = t->groups * dfp_ceil_div(t->out_columns, DFP_BLOCK);
    return dfp_round_up((size_t)pairs * 2 * sizeof(int64_t), 64) +
           dfp_round_up((size_t)(taps + 1) * sizeof(dfp_segment), 64) +
           dfp_round_up((size_t)blocks * (size_t)pairs * 2 * DFP_BLOCK * sizeof(int16_t), 64) +
           dfp_round_up((size_t)blocks * (size_t)(pairs + taps) * sizeof(dfp_span), 64) +
           dfp_round_up((size_t)blocks * sizeof(int64_t), 64);
}

/* Pixels of a task: enough to reuse the packed weights of a block that comes from the second-level
 * cache, few enough that the input rows stay there too. */
#define DFP_LEAST_TASK_PIXELS 96
#define DFP_MOST_TASK_PIXELS 288
#define DFP_TASK_SCRATCH (192 << 10)
/* Pixels whose sums for one block of columns stay in the first-level cache until they are written in
 * blocks: whole tiles. */
#define DFP_STAGED_PIXELS 48
#define DFP_STAGED_BYTES ((size_t)(DFP_STAGED_PIXELS * DFP_BLOCK) * sizeof(float))
/* Tasks for each thread, so that a delayed thread does not make all others wait. */
#define DFP_TASKS_PER_THREAD 4

/* Rows of the grid of all images and planes. */
static int64_t dfp_grid_rows(const dfp_tap_convolution *t) {
    return t->batch * t->grid_d * t->grid_h;
}

static int64_t dfp_scratch_rows(const dfp_tap_convolution *t, int64_t rows) {
    int64_t reach = t->rows.offset[t->rows.count - 1] - t->rows.offset[0] + 1;
    int64_t images = rows / t->grid_h + 2;
    return rows * t->step_h + images * reach;
}

/* Floats from one cell to the next: whole panels, so that no tile has a border. */
static int64_t dfp_cell_stride(const dfp_tap_convolution *t) {
    return dfp_ceil_div(t->out_columns, DFP_PANEL) * DFP_PANEL;
}

static size_t dfp_scratch_bytes(const dfp_tap_convolution *t, int64_t rows) {
    if (t->in_place) return 0;
    int64_t values = dfp_scratch_rows(t, rows) * dfp_scratch_stride(t);
    return dfp_round_up((size_t)(values + 2) * sizeof(int16_t), 64);
}

/* Tiles that the busiest thread computes when tasks have `rows` rows of the grid. */
static int64_t dfp_busiest_thread(const dfp_tap_convolution *t, int64_t rows,
                                  int64_t *column_tasks) {
    int64_t threads = dfp_get_num_threads();
    int64_t tasks = t->groups * dfp_ceil_div(dfp_grid_rows(t), rows);
    int64_t cuts = dfp_ceil_div(DFP_TASKS_PER_THREAD * threads, tasks);
    if (cuts > t->column_blocks) cuts = t->column_blocks;
    *column_tasks = cuts;
    return dfp_ceil_div(tasks * cuts, threads) * dfp_ceil_div(t->column_blocks, cuts) *
           dfp_ceil_div(rows * t->grid_w, DFP_TILE_ROWS);
}

/* Cuts the grid into tasks, whole rows each, so that the busiest thread has the least to do;
 * results do not depend on the cut. */
static void dfp_tap_tasks(dfp_tap_convolution *t) {
    int64_t total = dfp_grid_rows(t), best = INT64_MAX, cuts;
    int64_t least = dfp_ceil_div(DFP_LEAST_TASK_PIXELS, t->grid_w);
    int64_t most = DFP_MOST_TASK_PIXELS / t->grid_w;
    if (least > total) least = total;
    if (most > total) most = total;
    if (most < least) most = least;
    while (most > 1 && dfp_scratch_bytes(t, most) > DFP_TASK_SCRATCH) most = (most + 1) / 2;
    if (least > most) least = most;
    for (int64_t rows = most; rows >= least; --rows) {
        int64_t work = dfp_busiest_thread(t, rows, &cuts);
        if (work >= best) continue;
        best = work;
        t->rows_per_task = rows;
        t->column_tasks = cuts;
    }
    t->row_tasks = dfp_ceil_div(total, t->rows_per_task);
}

/* Fills in what is derived from the description; `memory` holds dfp_tap_plan_bytes. */
static dfp_status dfp_tap_plan(dfp_tap_convolution *t, char *memory) {
    int64_t taps = t->planes.count * t->rows.count * t->columns.count;
    int64_t most_pairs = taps * dfp_ceil_div(t->channels, 2);
    int64_t last_column = t->columns.offset[t->columns.count - 1];
    t->in_place = taps == 1 && t->channels % 2 == 0 &&
                  dfp_never_leaves(&t->planes, t->grid_d, t->step_d, t->in_d) &&
                  dfp_never_leaves(&t->rows, t->grid_h, t->step_h, t->in_h) &&
                  dfp_never_leaves(&t->columns, t->grid_w, t->step_w, t->in_w);
    t->scratch_w = (t->grid_w - 1) * t->step_w + last_column - t->columns.offset[0] + 1;
    t->b_rows = dfp_take(&memory, (size_t)most_pairs * 2 * sizeof(int64_t));
    t->segments = dfp_take(&memory, (size_t)(taps + 1) * sizeof(dfp_segment));
    dfp_tap_order(t);
    t->column_blocks = dfp_ceil_div(t->out_columns, DFP_BLOCK);
    int64_t blocks = t->groups * t->column_blocks;
    size_t packed_bytes = (size_t)(blocks * t->pairs) * 2 * DFP_BLOCK * sizeof(int16_t);
    t->packed = dfp_take(&memory, packed_bytes);
    t->spans = dfp_take(&memory, (size_t)(blocks * (t->pairs + taps)) * sizeof(dfp_span));
    t->span_counts = dfp_take(&memory, (size_t)blocks * sizeof(int64_t));
    dfp_tap_tasks(t);
    t->scratch_bytes = dfp_scratch_bytes(t, t->rows_per_task);
    int64_t pixels = t->rows_per_task * t->grid_w;
    int64_t targets = pixels < DFP_STAGED_PIXELS ? DFP_STAGED_PIXELS : pixels;
    size_t pointers =
        (size_t)pixels * (sizeof(int16_t *) + sizeof(int64_t)) + (size_t)targets * sizeof(float *);
    size_t staged = t->blocks.integers && !t->cell_h ? DFP_STAGED_BYTES : 0;
    size_t ends = (size_t)t->pairs * sizeof(int32_t);
    size_t cells = t->cell_h ? (size_t)(pixels * dfp_cell_stride(t)) * sizeof(float) : 0;
    t->cell_bytes = dfp_round_up(cells, 64);
    size_t before = dfp_round_up(t->scratch_bytes + t->cell_bytes + staged + pointers, 64);
    if (before < ends) before = dfp_round_up(ends, 64);
    t->worker_bytes = dfp_round_up(before + dfp_channel_ranges_bytes(&t->ranges), 64);
    t->workers = dfp_worker_workspace(t->worker_bytes);
    t->ranges.workers = t->workers + before;
    t->ranges.worker_bytes = t->worker_bytes;
    return t->workers ? DFP_OK : DFP_OUT_OF_MEMORY;
}

static int64_t dfp_spans_per_block(const dfp_tap_convolution *t) {
    return t->pairs + t->segment_count;
}

static void dfp_tap_pack_task(void *context, int64_t task, int worker) {
    dfp_tap_convolution *t = context;
    int64_t group = task / t->column_blocks, block = task % t->column_blocks;
    dfp_pack_source source = {t->weights + group * t->group_stride,
                              t->b_rows,
                              t->pairs,
                              t->out_columns,
                              t->column_stride,
                              t->pairs * 2 * DFP_PANEL,
                              2 * t->pairs};
    int32_t *ends = (int32_t *)(t->workers + (size_t)worker * t->worker_bytes);
    int16_t *packed = t->packed + task * t->pairs * 2 * DFP_BLOCK;
    int64_t panels = dfp_block_panels(t->out_columns, block * DFP_BLOCK);
    dfp_pack_panels(&source, block * DFP_BLOCK, panels, packed);
    t->span_counts[task] = dfp_plan_block(packed, t->pairs, panels, t->rule, t->segments, 2, ends,
                                          t->spans + task * dfp_spans_per_block(t));
}

/* One input row of one group, from the first tap's column on, zeros where it leaves the input. */
static void dfp_copy_row(const dfp_tap_convolution *t, int64_t group, int64_t image, int64_t plane,
                         int64_t row, int16_t *to) {
    int64_t first = t->columns.offset[0], end = first + t->scratch_w;
    int64_t from_column = first > 0 ? first : 0, to_column = end < t->in_w ? end : t->in_w;
    size_t pixel = (size_t)t->channels * sizeof(int16_t);
    int inside_plane = plane >= 0 && plane < t->in_d && row >= 0 && row < t->in_h;
    if (!inside_plane || from_column >= to_column) {
        memset(to, 0, (size_t)t->scratch_w * pixel);
        return;
    }
    int64_t line = (image * t->in_d + plane) * t->in_h + row;
    const int16_t *from = t->in + (line * t->in_w + from_column) * t->in_channels;
    from += group * t->channels;
    int64_t before = from_column - first, inside = to_column - from_column;
    memset(to, 0, (size_t)before * pixel);
    to += before * t->channels;
    if (t->groups == 1) {
        memcpy(to, from, (size_t)inside * pixel);
    } else {
        for (int64_t i = 0; i < inside; ++i)
            memcpy(to + i * t->channels, from + i * t->in_channels, pixel);
    }
    memset(to + inside * t->channels, 0, (size_t)(t->scratch_w - before - inside) * pixel);
}

/* The pixels of one task: where each one's window begins and where its result goes. */
typedef struct {
    int64_t count;
    const int16_t **window;
    float **out;
    int64_t *place; /* the element of the result where each one's result goes */
    float *cells;   /* where cells go first, one after the other, or NULL */
    float *staged;  /* where blocks go first, or NULL */
} dfp_pixels;

/* Copies the rows [first, last] of one plane of one image's grid to scratch (or finds them in place)
 * and appends their pixels. `index` counts the planes of all images. Returns the scratch memory after
 * them. */
static int16_t *dfp_gather_rows(const dfp_tap_convolution *t, int64_t group, int64_t index,
                                int64_t first, int64_t last, int16_t *scratch, dfp_pixels *pixels) {
    int64_t image = index / t->grid_d, plane = index % t->grid_d;
    int64_t top = first * t->step_h + t->rows.offset[0];
    int64_t height =
        (last - first) * t->step_h + t->rows.offset[t->rows.count - 1] - t->rows.offset[0] + 1;
    int64_t line = t->scratch_w * t->channels, pixel_stride = t->step_w * t->channels;
    int64_t row_stride = dfp_scratch_stride(t);
    const int16_t *window = scratch;
    if (t->in_place) {
        row_stride = t->in_w * t->in_channels;
        pixel_stride = t->step_w * t->in_channels;
        int64_t front = image * t->in_d + plane * t->step_d + t->planes.offset[0];
        window = t->in + (front * t->in_h + top) * row_stride +
                 t->columns.offset[0] * t->in_channels + group * t->channels;
    } else {
        for (int64_t i = 0; i < height * t->planes.count; ++i, scratch += line)
            dfp_copy_row(t, group, image, plane * t->step_d + t->planes.offset[i % t->planes.count],
                         top + i / t->planes.count, scratch);
    }
    for (int64_t i = first; i <= last; ++i) {
        int64_t place = t->out_first + image * t->out_image + plane * t->out_plane;
        place += i * t->out_row + group * t->out_columns;
        for (int64_t j = 0; j < t->grid_w; ++j, ++pixels->count) {
            pixels->window[pixels->count] =
                window + (i - first) * t->step_h * row_stride + j * pixel_stride;
            pixels->place[pixels->count] = place + j * t->out_pixel;
            if (pixels->cells)
                pixels->out[pixels->count] = pixels->cells + pixels->count * dfp_cell_stride(t);
            else if (!pixels->staged)
                pixels->out[pixels->count] = t->out + place + j * t->out_pixel;
        }
    }
    return scratch;
}

/* Some pixels of a task times one block of columns, which begins at column `first` of `rows`. */
static void dfp_tap_block(const dfp_tap_convolution *t, int64_t group, int64_t block,
                          const dfp_row_list *rows, int64_t first, int64_t columns) {
    int64_t index = group * t->column_blocks + block;
    const dfp_span *spans = t->spans + index * dfp_spans_per_block(t);
    const float *bias = t->bias ? t->bias + group * t->out_columns : NULL;
    dfp_tile_arguments job = {.row_step = 2,
                              .spans = spans,
                              .spans_end = spans + t->span_counts[index],
                              .b = t->packed + index * t->pairs * 2 * DFP_BLOCK,
                              .panel_stride = t->pairs * 2 * DFP_PANEL,
                              .from_zero = 1,
                              .epilogue = {1, t->scale, bias}};
    job.epilogue = dfp_epilogue_at(job.epilogue, block * DFP_BLOCK - first);
    dfp_multiply_block(&job, rows, first, columns);
}

/* Distributes the cells of the grid rows [row, end) over the rows of the result. */
static void dfp_scatter_cells(const dfp_tap_convolution *t, int64_t row, int64_t end,
                              float *cells) {
    int64_t channels = t->out_pixel, line = t->cell_w * channels;
    for (; row < end; ++row) {
        int64_t image = row / t->grid_h / t->grid_d, plane = row / t->grid_h % t->grid_d;
        int64_t top = row % t->grid_h * t->cell_h;
        for (int64_t j = 0; j < t->grid_w; ++j, cells += dfp_cell_stride(t)) {
            int64_t left = j * t->cell_w, width = t->result_w - left;
            if (width > t->cell_w) width = t->cell_w;
            size_t bytes = (size_t)(width * channels) * sizeof(float);
            int64_t to = t->out_first + image * t->out_image + plane * t->out_plane;
            to += (top * t->result_w + left) * channels;
            for (int64_t i = 0; i < t->cell_h && top + i < t->result_h; ++i) {
                int64_t at = to + i * t->result_w * channels;
                if (t->out)
                    memcpy(t->out + at, cells + i * line, bytes);
                else
                    dfp_write_blocks(&t->blocks, cells + i * line, width * channels, 0, at);
            }
        }
    }
}

/* The ranges of a block's results, which have just been written and are still in a cache. */
static void dfp_find_channel_range(const dfp_tap_convolution *t, int64_t channel,
                                   const dfp_row_list *rows, int64_t first, int64_t columns,
                                   int worker) {
    float *minimum = dfp_ranges_of_worker(&t->ranges, worker) + channel - first;
    if (!t->ranges.minimum) return;
    dfp_widen_channel_range(rows->c, rows->count, first, columns, minimum,
                            minimum + t->ranges.channels);
}

/* One block of columns in FP32. */
static void dfp_tap_floats(const dfp_tap_convolution *t, int64_t group, int64_t block,
                           const dfp_pixels *pixels, int worker) {
    dfp_row_list rows = {pixels->count, pixels->window, pixels->out};
    int64_t columns = t->cell_h ? dfp_cell_stride(t) : t->out_columns, first = block * DFP_BLOCK;
    int64_t end = first + DFP_BLOCK < columns ? first + DFP_BLOCK : columns;
    dfp_tap_block(t, group, block, &rows, first, columns);
    dfp_find_channel_range(t, group * t->out_columns + first, &rows, first, end, worker);
}

/* One block of columns as blocks of INT16, by way of FP32 in a cache. */
static void dfp_tap_integers(const dfp_tap_convolution *t, int64_t group, int64_t block,
                             const dfp_pixels *pixels, int worker) {
    int64_t column = block * DFP_BLOCK, columns = t->out_columns - column;
    int keep = t->ranges.minimum != NULL;
    if (columns > DFP_BLOCK) columns = DFP_BLOCK;
    for (int64_t i = 0; i < DFP_STAGED_PIXELS; ++i) pixels->out[i] = pixels->staged + i * DFP_BLOCK;
    for (int64_t first = 0; first < pixels->count; first += DFP_STAGED_PIXELS) {
        int64_t left = pixels->count - first;
        dfp_row_list rows = {left < DFP_STAGED_PIXELS ? left : DFP_STAGED_PIXELS,
                             pixels->window + first, pixels->out};
        dfp_tap_block(t, group, block, &rows, 0, columns);
        dfp_write_pixels(&t->blocks, rows.c, pixels->place + first, rows.count, column, columns,
                         keep);
        dfp_find_channel_range(t, group * t->out_columns + column, &rows, 0, columns, worker);
    }
}

static void dfp_tap_task(void *context, int64_t task, int worker) {
    const dfp_tap_convolution *t = context;
    int64_t column_task = task % t->column_tasks, row_task = task / t->column_tasks % t->row_tasks;
    int64_t group = task / t->column_tasks / t->row_tasks;
    int64_t row = row_task * t->rows_per_task, end = row + t->rows_per_task;
    char *memory = t->workers + (size_t)worker * t->worker_bytes;
    int16_t *scratch = dfp_take(&memory, t->scratch_bytes);
    dfp_pixels pixels = {.count = 0};
    pixels.cells = t->cell_h ? dfp_take(&memory, t->cell_bytes) : NULL;
    int staged = t->blocks.integers && !t->cell_h;
    pixels.staged = staged ? dfp_take(&memory, DFP_STAGED_BYTES) : NULL;
    pixels.window = (const int16_t **)memory;
    pixels.place = (int64_t *)(pixels.window + t->rows_per_task * t->grid_w);
    pixels.out = (float **)(pixels.place + t->rows_per_task * t->grid_w);
    if (end > dfp_grid_rows(t)) end = dfp_grid_rows(t);
    for (int64_t at = row; at < end;) {
        int64_t index = at / t->grid_h, first = at % t->grid_h;
        int64_t count = t->grid_h - first < end - at ? t->grid_h - first : end - at;
        scratch = dfp_gather_rows(t, group, index, first, first + count - 1, scratch, &pixels);
        at += count;
    }
    int64_t first_block = column_task * t->column_blocks / t->column_tasks;
    int64_t end_block = (column_task + 1) * t->column_blocks / t->column_tasks;
    for (int64_t block = first_block; block < end_block; ++block) {
        if (staged)
            dfp_tap_integers(t, group, block, &pixels, worker);
        else
            dfp_tap_floats(t, group, block, &pixels, worker);
    }
    if (t->cell_h) dfp_scatter_cells(t, row, end, pixels.cells);
}

/* Plans, packs the weights and computes; `memory` holds dfp_tap_plan_bytes. */
static dfp_status dfp_tap_run(dfp_tap_convolution *t, char *memory) {
    dfp_status status = dfp_tap_plan(t, memory);
    if (status != DFP_OK) return status;
    dfp_parallel(t->groups * t->column_blocks, dfp_tap_pack_task, t);
    dfp_clear_channel_ranges(&t->ranges);
    dfp_parallel(t->groups * t->row_tasks * t->column_tasks, dfp_tap_task, t);
    dfp_merge_channel_ranges(&t->ranges);
    return DFP_OK;
}
