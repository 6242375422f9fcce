/* The packed operand B of one format: panels of 16 columns, [groups][16][DFP_GROUP], in blocks of up to
 * four panels. A group is what one lane of a multiply-add combines: 32 bits of the reduction. */

typedef struct {
    const DFP_ELEMENT *matrix;
    /* Where row k of B begins in `matrix`, for all rows of the groups; negative for a row of zeros.
     * */
    const int64_t *rows;
    int64_t groups;
    int64_t columns;
    int64_t column_stride;
    /* Elements from one packed panel to the next. */
    int64_t panel_stride;
    /* Entries of `rows`, which may be more than are packed: they are prefetched. */
    int64_t listed;
} DFP_NAME(dfp_pack_source);

static const DFP_ELEMENT DFP_NAME(dfp_zeros)[DFP_PANEL];

static inline const DFP_ELEMENT *DFP_NAME(dfp_row_of)(const DFP_NAME(dfp_pack_source) * s,
                                                      int64_t k, int64_t column) {
    return s->rows[k] < 0 ? DFP_NAME(dfp_zeros) : s->matrix + s->rows[k] + column;
}

/* Prefetches `values` elements of row k, if there is such a row. */
static inline void DFP_NAME(dfp_fetch_row)(const DFP_ELEMENT *matrix, const int64_t *rows,
                                           int64_t count, int64_t k, int64_t values) {
    const int64_t line = DFP_LINE_BYTES / sizeof(DFP_ELEMENT);
    if (k >= count || rows[k] < 0) return;
    for (int64_t i = 0; i < values; i += line) __builtin_prefetch(matrix + rows[k] + i);
}

/* Columns are contiguous: the rows of a group are read once for all panels. */
static void DFP_NAME(dfp_pack_rows)(const DFP_NAME(dfp_pack_source) * s, int64_t first_column,
                                    int64_t panels, DFP_ELEMENT *to) {
    const DFP_ELEMENT *matrix = s->matrix + first_column;
    for (int64_t k = 0; k < s->groups; ++k, to += DFP_GROUP * DFP_PANEL) {
        const DFP_ELEMENT *row[DFP_GROUP];
        int64_t step[DFP_GROUP];
        for (int64_t r = DFP_GROUP * k + DFP_ROWS_AHEAD; r < DFP_GROUP * (k + 1) + DFP_ROWS_AHEAD;
             ++r)
            DFP_NAME(dfp_fetch_row)(matrix, s->rows, s->listed, r, panels * DFP_PANEL);
        DFP_UNROLL for (int i = 0; i < DFP_GROUP; ++i) {
            row[i] = DFP_NAME(dfp_row_of)(s, DFP_GROUP * k + i, first_column);
            step[i] = row[i] == DFP_NAME(dfp_zeros) ? 0 : DFP_PANEL;
        }
        for (int64_t p = 0; p < panels; ++p) {
            const DFP_ELEMENT *at[DFP_GROUP];
            DFP_UNROLL for (int i = 0; i < DFP_GROUP; ++i) at[i] = row[i] + p * step[i];
            DFP_INTERLEAVE(at, to + p * s->panel_stride);
        }
    }
}

/* Up to 16 columns of one row, zeros after them. */
static inline void DFP_NAME(dfp_copy_columns)(const DFP_NAME(dfp_pack_source) * s, int64_t row,
                                              int64_t first_column, int64_t columns,
                                              DFP_ELEMENT *to) {
    memset(to, 0, DFP_PANEL * sizeof *to);
    if (row < 0) return;
    const DFP_ELEMENT *from = s->matrix + row + first_column * s->column_stride;
    for (int64_t c = 0; c < columns; ++c) to[c] = from[c * s->column_stride];
}

static void DFP_NAME(dfp_pack_group)(const DFP_NAME(dfp_pack_source) * s, int64_t k,
                                     int64_t first_column, int64_t columns, DFP_ELEMENT *to) {
    DFP_ELEMENT copied[DFP_GROUP][DFP_PANEL];
    const DFP_ELEMENT *row[DFP_GROUP];
    if (columns > DFP_PANEL) columns = DFP_PANEL;
    for (int i = 0; i < DFP_GROUP; ++i) {
        DFP_NAME(dfp_copy_columns)(s, s->rows[DFP_GROUP * k + i], first_column, columns, copied[i]);
        row[i] = copied[i];
    }
    DFP_INTERLEAVE(row, to);
}

#if defined(DFP_TRANSPOSE_GROUPS)
static int DFP_NAME(dfp_rows_are_consecutive)(const int64_t *rows, int64_t count) {
    for (int64_t i = 1; i < count; ++i)
        if (rows[i] != rows[0] + i) return 0;
    return rows[0] >= 0;
}

/* Packs the next 8 groups if they are contiguous in memory, as in a transposed matrix. */
static int DFP_NAME(dfp_pack_eight)(const DFP_NAME(dfp_pack_source) * s, int64_t k,
                                    int64_t first_column, DFP_ELEMENT *to) {
    int64_t half = 8 * s->column_stride, columns = s->columns - first_column;
    const DFP_ELEMENT *from = s->matrix + first_column * s->column_stride;
    if (columns < DFP_PANEL || s->groups - k < 8) return 0;
    if (!DFP_NAME(dfp_rows_are_consecutive)(s->rows + DFP_GROUP * k, 8 * DFP_GROUP)) return 0;
    from += s->rows[DFP_GROUP * k];
    DFP_TRANSPOSE_GROUPS(from, s->column_stride, to, DFP_GROUP * DFP_PANEL);
    DFP_TRANSPOSE_GROUPS(from + half, s->column_stride, to + DFP_GROUP * DFP_PANEL / 2,
                         DFP_GROUP * DFP_PANEL);
    return 8;
}
#else
static int DFP_NAME(dfp_pack_eight)(const DFP_NAME(dfp_pack_source) * s, int64_t k,
                                    int64_t first_column, DFP_ELEMENT *to) {
    (void)s, (void)k, (void)first_column, (void)to;
    return 0;
}
#endif

/* Any layout of the matrix. */
static void DFP_NAME(dfp_pack_columns)(const DFP_NAME(dfp_pack_source) * s, int64_t first_column,
                                       DFP_ELEMENT *to) {
    for (int64_t k = 0; k < s->groups;) {
        int packed = DFP_NAME(dfp_pack_eight)(s, k, first_column, to);
        if (!packed) {
            DFP_NAME(dfp_pack_group)(s, k, first_column, s->columns - first_column, to);
            packed = 1;
        }
        k += packed;
        to += packed * DFP_GROUP * DFP_PANEL;
    }
}

/* Packs any number of panels, one after the other. */
static void DFP_NAME(dfp_pack_panels)(const DFP_NAME(dfp_pack_source) * s, int64_t first_column,
                                      int64_t panels, DFP_ELEMENT *to) {
    int64_t whole = s->column_stride == 1 ? (s->columns - first_column) / DFP_PANEL : 0;
    if (whole > panels) whole = panels;
    DFP_NAME(dfp_pack_rows)(s, first_column, whole, to);
    for (int64_t p = whole; p < panels; ++p)
        DFP_NAME(dfp_pack_columns)(s, first_column + p * DFP_PANEL, to + p * s->panel_stride);
}
