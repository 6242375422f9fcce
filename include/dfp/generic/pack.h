/* The packed operand B: panels of 16 columns, [pairs][16][2], in blocks of up to four panels that
 * share a flush schedule, and for each block the spans that its micro-kernel walks. */

/* A stretch of the reduction in which the rows of A are contiguous. */
typedef struct {
    int64_t offset;
    int64_t pairs;
} dfp_segment;

typedef struct {
    const int16_t *matrix;
    /* Where in `matrix` row k of B begins, for 2 * pairs rows; negative for a row of zeros. */
    const int64_t *rows;
    int64_t pairs;
    int64_t columns;
    int64_t column_stride;
    /* INT16 from one packed panel to the next. */
    int64_t panel_stride;
    /* Entries of `rows`, which may be more than are packed: they are fetched ahead. */
    int64_t listed;
} dfp_pack_source;

static const int16_t dfp_zeros[DFP_PANEL];

static inline const int16_t *dfp_row_of(const dfp_pack_source *s, int64_t k, int64_t column) {
    return s->rows[k] < 0 ? dfp_zeros : s->matrix + s->rows[k] + column;
}

/* Rows of the matrix that are fetched ahead of the one being packed: hardware prefetchers lose the
 * thread of two rows read at once. */
#define DFP_ROWS_AHEAD 16
/* INT16 in a cache line. */
#define DFP_LINE 32

/* Asks for `values` INT16 of row k, where there is such a row. */
static inline void dfp_fetch_row(const int16_t *matrix, const int64_t *rows, int64_t count,
                                 int64_t k, int64_t values) {
    if (k >= count || rows[k] < 0) return;
    for (int64_t i = 0; i < values; i += DFP_LINE) __builtin_prefetch(matrix + rows[k] + i);
}

/* Columns lie side by side: a pair of rows is read once for all panels. */
static void dfp_pack_rows(const dfp_pack_source *s, int64_t first_column, int64_t panels,
                          int16_t *to) {
    const int16_t *matrix = s->matrix + first_column;
    for (int64_t k = 0; k < s->pairs; ++k, to += 2 * DFP_PANEL) {
        for (int64_t r = 2 * k + DFP_ROWS_AHEAD; r < 2 * k + DFP_ROWS_AHEAD + 2; ++r)
            dfp_fetch_row(matrix, s->rows, s->listed, r, panels * DFP_PANEL);
        const int16_t *even = dfp_row_of(s, 2 * k, first_column);
        const int16_t *odd = dfp_row_of(s, 2 * k + 1, first_column);
        int64_t even_step = even == dfp_zeros ? 0 : DFP_PANEL;
        int64_t odd_step = odd == dfp_zeros ? 0 : DFP_PANEL;
        for (int64_t p = 0; p < panels; ++p)
            dfp_interleave(even + p * even_step, odd + p * odd_step, to + p * s->panel_stride);
    }
}

/* Up to 16 columns of one row, zeros behind them. */
static inline void dfp_copy_columns(const dfp_pack_source *s, int64_t row, int64_t first_column,
                                    int64_t columns, int16_t *to) {
    memset(to, 0, DFP_PANEL * sizeof *to);
    if (row < 0) return;
    const int16_t *from = s->matrix + row + first_column * s->column_stride;
    for (int64_t c = 0; c < columns; ++c) to[c] = from[c * s->column_stride];
}

static void dfp_pack_pair(const dfp_pack_source *s, int64_t k, int64_t first_column,
                          int64_t columns, int16_t *to) {
    int16_t even[DFP_PANEL], odd[DFP_PANEL];
    if (columns > DFP_PANEL) columns = DFP_PANEL;
    dfp_copy_columns(s, s->rows[2 * k], first_column, columns, even);
    dfp_copy_columns(s, s->rows[2 * k + 1], first_column, columns, odd);
    dfp_interleave(even, odd, to);
}

static int dfp_pairs_are_consecutive(const int64_t *rows, int64_t pairs) {
    for (int64_t i = 1; i < 2 * pairs; ++i)
        if (rows[i] != rows[0] + i) return 0;
    return rows[0] >= 0;
}

/* Any layout of the matrix; quick where rows lie side by side, as in a transposed matrix. */
static void dfp_pack_columns(const dfp_pack_source *s, int64_t first_column, int16_t *to) {
    int64_t columns = s->columns - first_column, half = 8 * s->column_stride;
    const int16_t *matrix = s->matrix + first_column * s->column_stride;
    for (int64_t k = 0; k < s->pairs;) {
        if (columns >= DFP_PANEL && s->pairs - k >= 8 &&
            dfp_pairs_are_consecutive(s->rows + 2 * k, 8)) {
            const int16_t *from = matrix + s->rows[2 * k];
            dfp_transpose_pairs(from, s->column_stride, to, 2 * DFP_PANEL);
            dfp_transpose_pairs(from + half, s->column_stride, to + DFP_PANEL, 2 * DFP_PANEL);
            k += 8;
            to += 8 * 2 * DFP_PANEL;
        } else {
            dfp_pack_pair(s, k, first_column, columns, to);
            k += 1;
            to += 2 * DFP_PANEL;
        }
    }
}

/* Packs any number of panels, one behind the other. */
static void dfp_pack_panels(const dfp_pack_source *s, int64_t first_column, int64_t panels,
                            int16_t *to) {
    int64_t whole = s->column_stride == 1 ? (s->columns - first_column) / DFP_PANEL : 0;
    if (whole > panels) whole = panels;
    dfp_pack_rows(s, first_column, whole, to);
    for (int64_t p = whole; p < panels; ++p)
        dfp_pack_columns(s, first_column + p * DFP_PANEL, to + p * s->panel_stride);
}

static inline int64_t dfp_block_panels(int64_t columns, int64_t first_column) {
    int64_t left = columns - first_column;
    return left >= DFP_BLOCK ? DFP_BLOCK_PANELS : (left + DFP_PANEL - 1) / DFP_PANEL;
}

/* Cuts the segments at the ends of the runs; `spans` has room for segments + runs entries. */
static int64_t dfp_make_spans(const dfp_segment *segments, int64_t row_step, const int32_t *ends,
                              dfp_span *spans) {
    int64_t count = 0, at = 0;
    for (const dfp_segment *segment = segments; segment->pairs > 0; ++segment) {
        int64_t offset = segment->offset, left = segment->pairs;
        while (left > 0) {
            int64_t pairs = *ends - at < left ? *ends - at : left;
            int flush = at + pairs == *ends;
            spans[count++] = (dfp_span){offset, (int32_t)pairs, flush};
            offset += row_step * pairs;
            at += pairs;
            left -= pairs;
            ends += flush;
        }
    }
    return count;
}

typedef struct {
    int32_t max_a;
    int64_t flush_every;
} dfp_flush_rule;

/* The schedule of one packed block as spans, whose number it returns. `segments` ends with an empty
 * one; `ends` has room for `pairs` entries. */
static int64_t dfp_plan_block(const int16_t *block, int64_t pairs, int64_t panels,
                              dfp_flush_rule rule, const dfp_segment *segments, int64_t row_step,
                              int32_t *ends, dfp_span *spans) {
    if (rule.flush_every)
        dfp_schedule_fixed(pairs, rule.flush_every, ends);
    else
        dfp_schedule(block, pairs, panels, rule.max_a, ends);
    return dfp_make_spans(segments, row_step, ends, spans);
}
