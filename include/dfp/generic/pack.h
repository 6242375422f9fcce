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
} dfp_pack_source;

static inline void dfp_interleave(const int16_t *even, const int16_t *odd, int16_t *to) {
    for (int c = 0; c < DFP_PANEL; ++c) {
        to[2 * c] = even[c];
        to[2 * c + 1] = odd[c];
    }
}

/* All columns of the panels exist and lie side by side: rows are read once for all panels. */
static void dfp_pack_whole_panels(const dfp_pack_source *s, int64_t first_column, int64_t panels,
                                  int16_t *to) {
    static const int16_t zeros[DFP_BLOCK];
    const int16_t *matrix = s->matrix + first_column;
    int64_t panel_stride = s->pairs * 2 * DFP_PANEL;
    for (int64_t k = 0; k < s->pairs; ++k, to += 2 * DFP_PANEL) {
        const int16_t *even = matrix + s->rows[2 * k];
        const int16_t *odd = s->rows[2 * k + 1] < 0 ? zeros : matrix + s->rows[2 * k + 1];
        for (int64_t p = 0; p < panels; ++p)
            dfp_interleave(even + p * DFP_PANEL, odd + p * DFP_PANEL, to + p * panel_stride);
    }
}

static void dfp_pack_any_panel(const dfp_pack_source *s, int64_t first_column, int16_t *to) {
    int64_t columns = s->columns - first_column;
    const int16_t *matrix = s->matrix + first_column * s->column_stride;
    for (int64_t k = 0; k < s->pairs; ++k, to += 2 * DFP_PANEL) {
        int64_t even = s->rows[2 * k], odd = s->rows[2 * k + 1];
        for (int64_t c = 0; c < DFP_PANEL; ++c) {
            int64_t at = c * s->column_stride;
            to[2 * c] = c < columns ? matrix[even + at] : 0;
            to[2 * c + 1] = c < columns && odd >= 0 ? matrix[odd + at] : 0;
        }
    }
}

static void dfp_pack_panels(const dfp_pack_source *s, int64_t first_column, int64_t panels,
                            int16_t *to) {
    int64_t whole = s->column_stride == 1 ? (s->columns - first_column) / DFP_PANEL : 0;
    if (whole > panels) whole = panels;
    dfp_pack_whole_panels(s, first_column, whole, to);
    for (int64_t p = whole; p < panels; ++p)
        dfp_pack_any_panel(s, first_column + p * DFP_PANEL, to + p * s->pairs * 2 * DFP_PANEL);
}

static inline int64_t dfp_block_panels(int64_t columns, int64_t first_column) {
    int64_t left = columns - first_column;
    return left >= DFP_BLOCK ? DFP_BLOCK_PANELS : (left + DFP_PANEL - 1) / DFP_PANEL;
}

/* Cuts the segments at the ends of the runs; `spans` has room for segments + runs entries. */
static int64_t dfp_make_spans(const dfp_segment *segments, const int32_t *ends, dfp_span *spans) {
    int64_t count = 0, at = 0, last = 0;
    for (const dfp_segment *segment = segments; !last; ++segment) {
        int64_t offset = segment->offset, left = segment->pairs;
        last = segment->pairs == 0;
        while (left > 0) {
            int64_t pairs = *ends - at < left ? *ends - at : left;
            int flush = at + pairs == *ends;
            spans[count++] = (dfp_span){offset, (int32_t)pairs, flush};
            offset += 2 * pairs;
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

/* Packs the block of columns from `first_column` on, finds its schedule and writes its spans, whose
 * number it returns. `segments` ends with an empty one; `ends` has room for `pairs` entries. */
static int64_t dfp_pack_block(const dfp_pack_source *s, int64_t first_column, dfp_flush_rule rule,
                              const dfp_segment *segments, int16_t *to, int32_t *ends,
                              dfp_span *spans) {
    int64_t panels = dfp_block_panels(s->columns, first_column);
    dfp_pack_panels(s, first_column, panels, to);
    if (rule.flush_every)
        dfp_schedule_fixed(s->pairs, rule.flush_every, ends);
    else
        dfp_schedule(to, s->pairs, panels, rule.max_a, ends);
    return dfp_make_spans(segments, ends, spans);
}
