/* One micro-kernel: DFP_TILE_ROWS rows by PANELS panels of 16 columns in registers. Included once for
 * every PANELS that an instruction set's registers hold. */
#define VECTORS (PANELS * DFP_PANEL / DFP_LANES)
#define VECTORS_PER_PANEL (DFP_PANEL / DFP_LANES)

static void DFP_JOIN(dfp_tile_, PANELS)(const int16_t *const *rows, const dfp_span *span,
                                        const dfp_span *end, const int16_t *b,
                                        int64_t panel_stride, float *c) {
    const int16_t *row0 = rows[0], *row1 = rows[1], *row2 = rows[2];
    const int16_t *row3 = rows[3], *row4 = rows[4], *row5 = rows[5];
    dfp_vi sum[DFP_TILE_ROWS][VECTORS];
    DFP_UNROLL for (int r = 0; r < DFP_TILE_ROWS; ++r)
        DFP_UNROLL for (int v = 0; v < VECTORS; ++v) sum[r][v] = dfp_zero();
    for (; span < end; ++span) {
        int64_t k_end = span->offset + 2 * span->pairs;
        for (int64_t k = span->offset; k < k_end; k += 2) {
            dfp_vi column[VECTORS];
            DFP_UNROLL for (int v = 0; v < VECTORS; ++v) column[v] =
                dfp_load(b + v / VECTORS_PER_PANEL * panel_stride +
                         v % VECTORS_PER_PANEL * 2 * DFP_LANES);
#define DFP_ROW(r)                                               \
    {                                                            \
        dfp_vi a = dfp_broadcast_pair(row##r + k);               \
        DFP_UNROLL for (int v = 0; v < VECTORS; ++v) sum[r][v] = \
            dfp_multiply_add(sum[r][v], a, column[v]);           \
    }
            DFP_ROW(0) DFP_ROW(1) DFP_ROW(2) DFP_ROW(3) DFP_ROW(4) DFP_ROW(5)
#undef DFP_ROW
            b += 2 * DFP_PANEL;
        }
        if (!span->flush) continue;
        DFP_UNROLL for (int r = 0; r < DFP_TILE_ROWS; ++r) {
            DFP_UNROLL for (int v = 0; v < VECTORS; ++v) {
                float *p = c + r * DFP_BLOCK + v * DFP_LANES;
                dfp_store_float(p, dfp_add_float(dfp_load_float(p), dfp_to_float(sum[r][v])));
                sum[r][v] = dfp_zero();
            }
        }
    }
}

#undef VECTORS
#undef VECTORS_PER_PANEL
