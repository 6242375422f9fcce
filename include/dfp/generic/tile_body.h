/* One micro-kernel: DFP_TILE_ROWS rows by PANELS panels of 16 columns in registers. Included once for
 * every PANELS that an instruction set's registers hold. */
#define VECTORS (PANELS * DFP_PANEL / DFP_LANES)
#define VECTORS_PER_PANEL (DFP_PANEL / DFP_LANES)
#define EACH_ROW DFP_UNROLL for (int r = 0; r < DFP_TILE_ROWS; ++r)
#define EACH_VECTOR DFP_UNROLL for (int v = 0; v < VECTORS; ++v)

static void DFP_JOIN(dfp_tile_, PANELS)(const dfp_tile_job *t) {
    const int16_t *row0 = t->rows[0], *row1 = t->rows[1], *row2 = t->rows[2];
    const int16_t *row3 = t->rows[3], *row4 = t->rows[4], *row5 = t->rows[5];
    const int16_t *b = t->b;
    int64_t panel_stride = t->panel_stride, row_step = t->row_step;
    int from_zero = t->from_zero;
    dfp_vi sum[DFP_TILE_ROWS][VECTORS];
    EACH_ROW EACH_VECTOR sum[r][v] = dfp_zero();
    for (const dfp_span *span = t->spans;; ++span) {
        int64_t k_end = span->offset + row_step * span->pairs;
        for (int64_t k = span->offset; k < k_end; k += row_step) {
            dfp_vi column[VECTORS];
            EACH_VECTOR column[v] = dfp_load(b + v / VECTORS_PER_PANEL * panel_stride +
                                             v % VECTORS_PER_PANEL * 2 * DFP_LANES);
#define DFP_ROW(r)                                                                                 \
    do {                                                                                           \
        dfp_vi a = dfp_broadcast_pair(row##r + k);                                                 \
        EACH_VECTOR sum[r][v] = dfp_multiply_add(sum[r][v], a, column[v]);                         \
    } while (0)
            DFP_ROW(0);
            DFP_ROW(1);
            DFP_ROW(2);
            DFP_ROW(3);
            DFP_ROW(4);
            DFP_ROW(5);
#undef DFP_ROW
            b += 2 * DFP_PANEL;
        }
        if (!span->flush) continue;
        /* Without this, GCC 12 stores all sums to memory in every turn of the loop above, for the
         * sake of the conversions below. */
        EACH_ROW EACH_VECTOR sum[r][v] = dfp_in_register(sum[r][v]);
        int scaled = span + 1 == t->spans_end && t->finish.scaled;
        const float *bias = scaled ? t->finish.bias : NULL;
        dfp_vf first = dfp_broadcast_float(t->finish.scale.first);
        dfp_vf second = dfp_broadcast_float(t->finish.scale.second);
        if (!from_zero && !scaled) {
            EACH_ROW EACH_VECTOR {
                float *c = t->c[r] + v * DFP_LANES;
                dfp_store_float(c, dfp_add_float(dfp_load_float(c), dfp_to_float(sum[r][v])));
            }
        } else if (from_zero && scaled && !bias) {
            EACH_ROW EACH_VECTOR {
                dfp_vf total = dfp_multiply_float(dfp_to_float(sum[r][v]), first);
                dfp_store_float(t->c[r] + v * DFP_LANES, dfp_multiply_float(total, second));
            }
        } else {
            EACH_ROW EACH_VECTOR {
                float *c = t->c[r] + v * DFP_LANES;
                dfp_vf total = dfp_to_float(sum[r][v]);
                if (!from_zero) total = dfp_add_float(dfp_load_float(c), total);
                if (scaled) total = dfp_multiply_float(dfp_multiply_float(total, first), second);
                if (bias) total = dfp_add_float(total, dfp_load_float(bias + v * DFP_LANES));
                dfp_store_float(c, total);
            }
        }
        EACH_ROW EACH_VECTOR sum[r][v] = dfp_zero();
        if (span + 1 == t->spans_end) return;
        from_zero = 0;
    }
}

#undef VECTORS
#undef VECTORS_PER_PANEL
#undef EACH_ROW
#undef EACH_VECTOR
