/* The micro-kernel for short runs: FP32 sums stay in registers beside those of the run, so a flush
 * touches no memory; half as many columns fit. The same additions in the same order. */
static void DFP_NAME(DFP_JOIN(dfp_resident_tile_, PANELS))(const DFP_NAME(dfp_tile_arguments) * t) {
    const DFP_ELEMENT *row0 = t->rows[0], *row1 = t->rows[1], *row2 = t->rows[2];
    const DFP_ELEMENT *row3 = t->rows[3], *row4 = t->rows[4], *row5 = t->rows[5];
    const DFP_ELEMENT *b = t->b;
    int64_t panel_stride = t->panel_stride, row_step = t->row_step;
    dfp_vi sum[DFP_TILE_ROWS][VECTORS];
    dfp_vf total[DFP_TILE_ROWS][VECTORS];
    EACH_ROW EACH_VECTOR {
        sum[r][v] = dfp_zero();
        total[r][v] = dfp_broadcast_float(0.0f);
        if (!t->from_zero) total[r][v] = dfp_load_float(t->c[r] + v * DFP_LANES);
    }
    for (const dfp_span *span = t->spans; span < t->spans_end; ++span) {
#include "engine/span_products.h"
        if (!span->flush) continue;
        EACH_ROW EACH_VECTOR {
            total[r][v] = dfp_add_float(total[r][v], dfp_to_float(sum[r][v]));
            sum[r][v] = dfp_zero();
        }
    }
    DFP_NAME(dfp_epilogue) f = t->epilogue;
    dfp_vf first = dfp_broadcast_float(f.scale.first), second = dfp_broadcast_float(f.scale.second);
    EACH_ROW EACH_VECTOR {
        dfp_vf c = total[r][v];
        if (f.scaled) c = dfp_multiply_float(dfp_multiply_float(c, first), second);
        if (f.scaled && f.bias) c = dfp_add_float(c, dfp_load_float(f.bias + v * DFP_LANES));
        dfp_store_float(t->c[r] + v * DFP_LANES, c);
    }
}
