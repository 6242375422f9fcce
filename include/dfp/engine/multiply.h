/* Rows of A times one block of packed columns: the loop over the tiles of C. */

typedef struct {
    int64_t count;
    const DFP_ELEMENT *const *a;
    DFP_RESULT *const *c; /* column 0 of each row of C */
} DFP_NAME(dfp_row_list);

/* C += rows * B for the block of columns from `column` on, of `columns` in all, which is packed at
 * `block->b`; its epilogue is that of column 0. This function sets the rows and columns of each
 * tile. */
static void DFP_NAME(dfp_multiply_block)(const DFP_NAME(dfp_tile_arguments) * block,
                                         const DFP_NAME(dfp_row_list) * rows, int64_t column,
                                         int64_t columns) {
    int64_t panels = dfp_block_panels(columns, column);
    DFP_NAME(dfp_tile_arguments) job = *block;
    job.resident = dfp_has_short_runs(block->spans, block->spans_end);
    int64_t most = job.resident ? DFP_RESIDENT_PANELS : DFP_TILE_PANELS;
    for (int64_t panel = 0; panel < panels; panel += most) {
        int64_t count = panels - panel < most ? panels - panel : most;
        int64_t first = column + panel * DFP_PANEL, width = columns - first;
        if (width > count * DFP_PANEL) width = count * DFP_PANEL;
        job.b = block->b + panel * block->panel_stride;
        job.epilogue = DFP_NAME(dfp_epilogue_at)(block->epilogue, first);
        for (int64_t row = 0; row < rows->count; row += DFP_TILE_ROWS) {
            int64_t left = rows->count - row, valid = left < DFP_TILE_ROWS ? left : DFP_TILE_ROWS;
            for (int64_t r = 0; r < valid; ++r) {
                job.rows[r] = rows->a[row + r];
                job.c[r] = rows->c[row + r] + first;
            }
            DFP_NAME(dfp_tile)(&job, valid, count, width);
        }
    }
}
