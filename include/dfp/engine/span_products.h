/* Part of a micro-kernel: the products of one span are added to `sum`, and `b` moves past them. */
int64_t k_end = span->offset + row_step * span->groups;
for (int64_t k = span->offset; k < k_end; k += row_step) {
    dfp_vi column[VECTORS];
    EACH_VECTOR column[v] = DFP_LOAD(b + v / VECTORS_PER_PANEL * panel_stride +
                                     v % VECTORS_PER_PANEL * DFP_GROUP * DFP_LANES);
#define DFP_ROW(r)                                                                                 \
    do {                                                                                           \
        dfp_vi a = DFP_BROADCAST(row##r + k);                                                      \
        EACH_VECTOR sum[r][v] = DFP_MULTIPLY_ADD(sum[r][v], a, column[v]);                         \
    } while (0)
    DFP_ROW(0);
    DFP_ROW(1);
    DFP_ROW(2);
    DFP_ROW(3);
    DFP_ROW(4);
    DFP_ROW(5);
#undef DFP_ROW
    b += DFP_GROUP * DFP_PANEL;
}
