/* Packing, the parts shared by all formats. */

/* Rows of the matrix that are prefetched ahead of the one being packed: hardware prefetchers do not
 * follow two rows read at once. */
#define DFP_ROWS_AHEAD 16
#define DFP_LINE_BYTES 64

static inline int64_t dfp_block_panels(int64_t columns, int64_t first_column) {
    int64_t left = columns - first_column;
    return left >= DFP_BLOCK ? DFP_BLOCK_PANELS : (left + DFP_PANEL - 1) / DFP_PANEL;
}

static inline int64_t dfp_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static void *dfp_take(char **memory, size_t bytes) {
    void *taken = *memory;
    *memory += dfp_round_up(bytes, 64);
    return taken;
}
