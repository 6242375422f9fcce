/* dw[kd, kh, kw, ci, co] = sum over output pixels of x[tap pixel, ci] * dy[pixel, co].
 *
 * The reduction runs over output pixels. The packed operand is dy, the broadcast one x, whose pairs of
 * pixels are laid out so that the micro-kernel reads them one after the other: see
 * backward_weights_pixels.h (1x1 without padding) and backward_weights_rows.h (everything else).
 *
 * The order of the FP32 additions depends on the shape alone:
 *   - a block is 512 consecutive output pixels, or max(1, 512 / out_w) of the batch * out_d *
 *     out_h output rows; the last block may be smaller; the flush schedule begins anew in each block;
 *   - blocks are dealt to P = min(blocks, 16, max(1, 2^20 / elements of dw)) parts, part p taking the
 *     blocks [p * blocks / P, (p + 1) * blocks / P);
 *   - within a part runs are added in ascending order, starting from 0; then parts, ascending. */

#define DFP_BLOCK_PIXELS 512
#define DFP_MOST_PARTS 16
#define DFP_PARTS_ELEMENTS (1 << 20)

/* dw, whose parts are added up and scaled at the end. */
typedef struct {
    float *dw;      /* part 0 */
    float *partial; /* parts 1, 2, ... */
    int64_t elements, count;
    float factor;
    dfp_power scale;
} dfp_weights_parts;

static int64_t dfp_count_parts(int64_t blocks, int64_t elements) {
    int64_t parts = DFP_PARTS_ELEMENTS / elements;
    if (parts > DFP_MOST_PARTS) parts = DFP_MOST_PARTS;
    if (parts > blocks) parts = blocks;
    return parts < 1 ? 1 : parts;
}

static size_t dfp_partial_bytes(const dfp_weights_parts *p) {
    return (size_t)((p->count - 1) * p->elements) * sizeof(float);
}

static float *dfp_weights_part(const dfp_weights_parts *p, int64_t part) {
    return part ? p->partial + (part - 1) * p->elements : p->dw;
}

/* Elements of dw that one task sums over the parts and scales. */
#define DFP_SUM_ELEMENTS 16384

static void dfp_sum_parts_task(void *context, int64_t task, int worker) {
    const dfp_weights_parts *p = context;
    int64_t first = task * DFP_SUM_ELEMENTS, last = first + DFP_SUM_ELEMENTS;
    (void)worker;
    if (last > p->elements) last = p->elements;
    for (int64_t part = 1; part < p->count; ++part) {
        const float *summand = dfp_weights_part(p, part);
        for (int64_t i = first; i < last; ++i) p->dw[i] += summand[i];
    }
    for (int64_t i = first; i < last; ++i)
        p->dw[i] = p->dw[i] * p->factor * p->scale.first * p->scale.second;
}

static void dfp_sum_parts(dfp_weights_parts *p) {
    dfp_parallel(dfp_ceil_div(p->elements, DFP_SUM_ELEMENTS), dfp_sum_parts_task, p);
}

/* INT16 that are copied at once into the broadcast operand. */
#define DFP_PIECE 16

typedef struct dfp_weights_gathering dfp_weights_gathering;

typedef struct {
    dfp_conv c;
    const dfp_weights_gathering *gathering;
    const int16_t *x, *dy;
    dfp_flush_rule rule;
    dfp_weights_parts parts;

    int64_t group_in, group_out, taps;
    int64_t blocks;
    int64_t segments_per_block, pairs_per_block; /* at most */
    int64_t channel_values; /* INT16 of one channel's broadcast operand in one block */
    int64_t row_step;

    /* Only where rows are gathered. */
    int64_t rows_per_block, pitch, row_values, reach_h, reach_w, phase_values;

    int64_t channels_per_task, channel_tasks, column_blocks_per_task, column_tasks;
    char *workers;
    size_t worker_bytes;
} dfp_weights_gradient;

/* The scratch memory of one thread, and what it holds of one block of pixels. */
typedef struct {
    int16_t *broadcast;
    int16_t *packed;
    int64_t *dy_rows, *x_rows;
    int32_t *ends;
    dfp_segment *segments;
    dfp_span *spans;
    int16_t *pair;
    /* Of each tap of each channel: its broadcast operand and its row of dw. */
    const int16_t **rows;
    float **dw_rows;
    int64_t pairs;
} dfp_weights_scratch;

/* How x becomes the broadcast operand. */
struct dfp_weights_gathering {
    void (*plan)(dfp_weights_gradient *g);
    /* Where the first pixel's value for this tap and channel lies in the broadcast operand. */
    int64_t (*place)(const dfp_weights_gradient *g, int64_t tap, int64_t channel);
    /* Lays out `channels` channels of one block of pixels, from `channel` on, and lists its rows of dy. */
    void (*gather)(const dfp_weights_gradient *g, int64_t block, int64_t channel, int64_t channels,
                   dfp_weights_scratch *s);
};

static int64_t dfp_count_weights_tasks(const dfp_weights_gradient *g) {
    return g->parts.count * g->c.groups * g->channel_tasks * g->column_tasks;
}

/* Cuts `total` into tasks of at most `most`, which it makes equal. */
static void dfp_cut(int64_t total, int64_t most, int64_t multiple, int64_t *each, int64_t *tasks) {
    *tasks = dfp_ceil_div(total, most);
    *each = dfp_ceil_div(dfp_ceil_div(total, *tasks), multiple) * multiple;
    *tasks = dfp_ceil_div(total, *each);
}

/* Cuts channels and columns into tasks; results do not depend on how. A task gathers x for its
 * channels and packs dy for its columns once per block of pixels, so both should be many: as many as
 * fit five eighths of the second-level cache together, fewer only if threads would have nothing to
 * do. */
static void dfp_plan_tasks(dfp_weights_gradient *g) {
    int64_t wanted = DFP_TASKS_PER_THREAD * dfp_get_num_threads();
    int64_t budget = dfp_second_level_cache() / 8 * 5 / (int64_t)sizeof(int16_t);
    int64_t block_values = 2 * g->pairs_per_block * DFP_BLOCK;
    int64_t column_blocks = dfp_ceil_div(g->group_out, DFP_BLOCK);
    int64_t most_blocks = budget / 2 / block_values;
    if (most_blocks < 1) most_blocks = 1;
    if (most_blocks > column_blocks) most_blocks = column_blocks;
    int64_t most_channels = (budget - most_blocks * block_values) / g->channel_values;
    if (most_channels > g->group_in) most_channels = g->group_in;
    if (most_channels < 4 * DFP_TILE_ROWS) most_channels = 4 * DFP_TILE_ROWS;
    for (;;) {
        dfp_cut(g->group_in, most_channels, DFP_TILE_ROWS, &g->channels_per_task,
                &g->channel_tasks);
        dfp_cut(column_blocks, most_blocks, 1, &g->column_blocks_per_task, &g->column_tasks);
        if (dfp_count_weights_tasks(g) >= wanted) return;
        if (most_blocks > 1 && most_blocks * DFP_BLOCK >= most_channels)
            most_blocks = dfp_ceil_div(g->column_blocks_per_task, 2);
        else if (most_channels > 8 * DFP_TILE_ROWS)
            most_channels = dfp_ceil_div(g->channels_per_task, 2);
        else if (most_blocks > 1)
            most_blocks = dfp_ceil_div(g->column_blocks_per_task, 2);
        else
            return;
    }
}

static dfp_weights_scratch dfp_weights_take(const dfp_weights_gradient *g, char *memory) {
    dfp_weights_scratch s;
    int64_t pairs = g->pairs_per_block, segments = g->segments_per_block;
    int64_t columns = g->column_blocks_per_task * DFP_BLOCK;
    size_t rows = (size_t)(g->taps * g->channels_per_task);
    s.broadcast =
        dfp_take(&memory, (size_t)(g->channels_per_task * g->channel_values) * sizeof(int16_t));
    s.packed = dfp_take(&memory, (size_t)(pairs * 2 * columns) * sizeof(int16_t));
    s.dy_rows = dfp_take(&memory, (size_t)pairs * 2 * sizeof(int64_t));
    s.x_rows = dfp_take(&memory, (size_t)pairs * 2 * sizeof(int64_t));
    s.ends = dfp_take(&memory, (size_t)pairs * sizeof(int32_t));
    s.segments = dfp_take(&memory, (size_t)(segments + 1) * sizeof(dfp_segment));
    s.pair = dfp_take(&memory, (size_t)(2 * g->channels_per_task + DFP_PIECE) * sizeof(int16_t));
    s.rows = dfp_take(&memory, rows * sizeof *s.rows);
    s.dw_rows = dfp_take(&memory, rows * sizeof *s.dw_rows);
    s.spans = dfp_take(&memory, (size_t)(pairs + segments) * sizeof(dfp_span));
    return s;
}

static size_t dfp_weights_scratch_bytes(const dfp_weights_gradient *g) {
    char *nowhere = (char *)(uintptr_t)64;
    dfp_weights_scratch s = dfp_weights_take(g, nowhere);
    return (size_t)((char *)(s.spans + g->pairs_per_block + g->segments_per_block) - nowhere);
}

/* Where the channels and columns of one task begin, and how many there are. */
typedef struct {
    int64_t channel, channels, column, columns;
    float *dw;
} dfp_weights_range;

static void dfp_list_weights_rows(const dfp_weights_gradient *g, const dfp_weights_range *range,
                                  const dfp_weights_scratch *s) {
    int64_t k = 0;
    for (int64_t tap = 0; tap < g->taps; ++tap) {
        float *dw = range->dw + (tap * g->group_in + range->channel) * g->c.out_channels;
        for (int64_t i = 0; i < range->channels; ++i, ++k, dw += g->c.out_channels) {
            s->rows[k] = s->broadcast + g->gathering->place(g, tap, i);
            s->dw_rows[k] = dw;
        }
    }
}

/* dw (one part) += one block of pixels, for the block of columns from `column` on. */
static void dfp_accumulate_block(const dfp_weights_gradient *g, const dfp_weights_scratch *s,
                                 const int16_t *packed, int64_t channels, int64_t column,
                                 dfp_flush_rule rule, int from_zero) {
    int64_t panels = dfp_block_panels(g->group_out, column);
    int64_t spans =
        dfp_plan_block(packed, s->pairs, panels, rule, s->segments, g->row_step, s->ends, s->spans);
    dfp_tile_arguments job = {.row_step = g->row_step,
                              .spans = s->spans,
                              .spans_end = s->spans + spans,
                              .b = packed,
                              .panel_stride = s->pairs * 2 * DFP_PANEL,
                              .from_zero = from_zero};
    dfp_row_list rows = {g->taps * channels, s->rows, s->dw_rows};
    dfp_multiply_block(&job, &rows, column, g->group_out);
}

/* One part's blocks of pixels for the channels and columns of `range`. */
static void dfp_accumulate_part(const dfp_weights_gradient *g, int64_t group, int64_t part,
                                const dfp_weights_range *range, dfp_weights_scratch *s) {
    int64_t parts = g->parts.count;
    int64_t first = part * g->blocks / parts, end = (part + 1) * g->blocks / parts;
    for (int64_t block = first; block < end; ++block) {
        int64_t in_channel = group * g->group_in + range->channel;
        g->gathering->gather(g, block, in_channel, range->channels, s);
        dfp_pack_source source = {
            g->dy + group * g->group_out, s->dy_rows,  s->pairs, g->group_out, 1,
            s->pairs * 2 * DFP_PANEL,     2 * s->pairs};
        dfp_flush_rule rule = g->rule;
        rule.continues = block > 0;
        dfp_pack_panels(&source, range->column, dfp_ceil_div(range->columns, DFP_PANEL), s->packed);
        for (int64_t done = 0; done < range->columns; done += DFP_BLOCK)
            dfp_accumulate_block(g, s, s->packed + done * 2 * s->pairs, range->channels,
                                 range->column + done, rule, block == first);
    }
}

static void dfp_weights_task(void *context, int64_t task, int worker) {
    const dfp_weights_gradient *g = context;
    int64_t column_task = task % g->column_tasks, rest = task / g->column_tasks;
    int64_t channel_task = rest % g->channel_tasks, group = rest / g->channel_tasks % g->c.groups;
    int64_t part = rest / g->channel_tasks / g->c.groups;
    int64_t most_columns = g->column_blocks_per_task * DFP_BLOCK;
    dfp_weights_scratch s = dfp_weights_take(g, g->workers + (size_t)worker * g->worker_bytes);
    dfp_weights_range range = {.channel = channel_task * g->channels_per_task,
                               .column = column_task * most_columns};
    range.channels = g->group_in - range.channel;
    if (range.channels > g->channels_per_task) range.channels = g->channels_per_task;
    range.columns = g->group_out - range.column;
    if (range.columns > most_columns) range.columns = most_columns;
    range.dw = dfp_weights_part(&g->parts, part) + group * g->group_out;
    dfp_list_weights_rows(g, &range, &s);
    dfp_accumulate_part(g, group, part, &range, &s);
}

static dfp_status dfp_run_weights_gradient(dfp_weights_gradient *g) {
    g->parts.partial = dfp_shared_workspace(dfp_partial_bytes(&g->parts) + 64);
    g->workers = dfp_worker_workspace(g->worker_bytes);
    if (!g->parts.partial || !g->workers) return DFP_OUT_OF_MEMORY;
    dfp_parallel(dfp_count_weights_tasks(g), dfp_weights_task, g);
    dfp_sum_parts(&g->parts);
    return DFP_OK;
}

static dfp_status dfp_backward_weights_by(const dfp_weights_gathering *gathering, const dfp_conv *c,
                                          const dfp_tensor *x, const dfp_tensor *dy, float *dw) {
    dfp_weights_gradient g = {.c = *c, .gathering = gathering, .x = x->data, .dy = dy->data};
    g.rule = (dfp_flush_rule){x->max_abs, c->flush_every, 0};
    g.group_in = c->in_channels / c->groups;
    g.group_out = c->out_channels / c->groups;
    g.taps = c->kernel_d * c->kernel_h * c->kernel_w;
    gathering->plan(&g);
    int64_t elements = g.taps * g.group_in * c->out_channels;
    g.parts = (dfp_weights_parts){.dw = dw,
                                  .elements = elements,
                                  .count = dfp_count_parts(g.blocks, elements),
                                  .factor = 1.0f,
                                  .scale = dfp_power_of_two(x->exponent + dy->exponent)};
    dfp_begin();
    dfp_plan_tasks(&g);
    g.worker_bytes = dfp_round_up(dfp_weights_scratch_bytes(&g), 64);
    dfp_status status = dfp_run_weights_gradient(&g);
    dfp_end();
    return status;
}

/* The input plane that meets output plane `index`, counted over all images, at tap `kernel_plane`; -1 if
 * it is outside. */
static int64_t dfp_input_plane(const dfp_conv *c, int64_t index, int64_t kernel_plane) {
    int64_t plane = index % c->out_d * c->stride_d + kernel_plane * c->dilation_d - c->pad_front;
    return plane < 0 || plane >= c->in_d ? -1 : index / c->out_d * c->in_d + plane;
}

#include "ops/backward_weights_pixels.h"
#include "ops/backward_weights_rows.h"
