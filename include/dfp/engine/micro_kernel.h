/* One micro-kernel: DFP_TILE_ROWS rows by PANELS panels of 16 columns in registers. Included once
 * for every format and every PANELS that fits the registers of an instruction set. */

static void DFP_NAME(DFP_JOIN(dfp_tile_, PANELS))(const DFP_NAME(dfp_tile_arguments) * t) {
    const DFP_ELEMENT *row0 = t->rows[0], *row1 = t->rows[1], *row2 = t->rows[2];
    const DFP_ELEMENT *row3 = t->rows[3], *row4 = t->rows[4], *row5 = t->rows[5];
    const DFP_ELEMENT *b = t->b;
    int64_t panel_stride = t->panel_stride, row_step = t->row_step;
    int from_zero = t->from_zero;
    dfp_vi sum[DFP_TILE_ROWS][VECTORS];
    EACH_ROW EACH_VECTOR sum[r][v] = DFP_NAME(dfp_first_sum)(&t->epilogue, v);
    for (const dfp_span *span = t->spans;; ++span) {
#include "engine/span_products.h"
        if (!span->flush) continue;
        /* Without this, GCC 12 stores all sums to memory in every iteration of the loop above, for
         * the sake of the conversions below. */
        EACH_ROW EACH_VECTOR sum[r][v] = dfp_in_register(sum[r][v]);
#include DFP_EPILOGUE
        EACH_ROW EACH_VECTOR sum[r][v] = dfp_zero();
        if (span + 1 == t->spans_end) return;
        from_zero = 0;
    }
}
