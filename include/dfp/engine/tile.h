/* The micro-kernels of one format and the loop over one block of packed columns.
 *
 * Included once for each format, whose header (formats/) defines what is in capitals here, and each
 * epilogue (engine/epilogue/), which defines what happens to finished sums. */

/* One tile: c[row][column] = epilogue(sum over k of row[k] * b[k]). */
typedef struct {
    const DFP_ELEMENT *rows[DFP_TILE_ROWS];
    DFP_RESULT *c[DFP_TILE_ROWS];
    /* Elements from one group of a row to the next. */
    int64_t row_step;
    const dfp_span *spans, *spans_end;
    const DFP_ELEMENT *b;
    int64_t panel_stride;
    int from_zero; /* or from what c holds */
    int resident;  /* whether runs are short, see resident_kernel.h */
    DFP_NAME(dfp_epilogue) epilogue;
} DFP_NAME(dfp_tile_arguments);

#define VECTORS (PANELS * DFP_PANEL / DFP_LANES)
#define VECTORS_PER_PANEL (DFP_PANEL / DFP_LANES)
#define EACH_ROW DFP_UNROLL for (int r = 0; r < DFP_TILE_ROWS; ++r)
#define EACH_VECTOR DFP_UNROLL for (int v = 0; v < VECTORS; ++v)
#define PANELS 1
#include "engine/micro_kernel.h"
#undef PANELS
#if DFP_TILE_PANELS >= 4
#define PANELS 2
#include "engine/micro_kernel.h"
#undef PANELS
#define PANELS 3
#include "engine/micro_kernel.h"
#undef PANELS
#define PANELS 4
#include "engine/micro_kernel.h"
#undef PANELS
#endif
#if DFP_RESIDENT_PANELS && DFP_FLUSHES
#define PANELS DFP_RESIDENT_PANELS
#include "engine/resident_kernel.h"
#undef PANELS
#endif
#undef VECTORS
#undef VECTORS_PER_PANEL
#undef EACH_ROW
#undef EACH_VECTOR

static inline void DFP_NAME(dfp_whole_tile)(const DFP_NAME(dfp_tile_arguments) * t,
                                            int64_t panels) {
#if DFP_RESIDENT_PANELS && DFP_FLUSHES
    if (t->resident && panels == DFP_RESIDENT_PANELS) {
        DFP_NAME(DFP_JOIN(dfp_resident_tile_, DFP_RESIDENT_PANELS))(t);
        return;
    }
#endif
#if DFP_TILE_PANELS >= 4
    switch (panels) {
        case 4: DFP_NAME(dfp_tile_4)(t); return;
        case 3: DFP_NAME(dfp_tile_3)(t); return;
        case 2: DFP_NAME(dfp_tile_2)(t); return;
    }
#endif
    (void)panels;
    DFP_NAME(dfp_tile_1)(t);
}

/* The tile at the right border of C, of which only `columns` columns exist: sums go to a buffer and
 * from there to C. */
static void DFP_NAME(dfp_border_tile)(const DFP_NAME(dfp_tile_arguments) * t, int64_t valid,
                                      int64_t panels, int64_t columns) {
    _Alignas(64) DFP_RESULT sums[DFP_TILE_ROWS * DFP_BLOCK];
    DFP_NAME(dfp_tile_arguments) inner = *t;
    size_t bytes = (size_t)columns * sizeof(DFP_RESULT);
    inner.epilogue = DFP_NAME(dfp_tile_epilogue)(t->epilogue);
    for (int64_t r = 0; r < DFP_TILE_ROWS; ++r) {
        inner.c[r] = sums + r * DFP_BLOCK;
        if (!t->from_zero) memset(inner.c[r], 0, (size_t)panels * DFP_PANEL * sizeof(DFP_RESULT));
        if (!t->from_zero && r < valid) memcpy(inner.c[r], t->c[r], bytes);
    }
    DFP_NAME(dfp_whole_tile)(&inner, panels);
    for (int64_t r = 0; r < valid; ++r) {
        DFP_NAME(dfp_apply_epilogue)(&t->epilogue, sums + r * DFP_BLOCK, columns);
        memcpy(t->c[r], sums + r * DFP_BLOCK, bytes);
    }
}

/* A tile of which only the first `valid` rows and `columns` columns exist. */
static inline void DFP_NAME(dfp_tile)(DFP_NAME(dfp_tile_arguments) * t, int64_t valid,
                                      int64_t panels, int64_t columns) {
    _Alignas(64) DFP_RESULT nowhere[DFP_BLOCK];
    if (valid < DFP_TILE_ROWS) memset(nowhere, 0, sizeof nowhere);
    for (int64_t r = valid; r < DFP_TILE_ROWS; ++r) {
        t->rows[r] = t->rows[valid - 1];
        t->c[r] = nowhere;
    }
    if (columns == panels * DFP_PANEL)
        DFP_NAME(dfp_whole_tile)(t, panels);
    else
        DFP_NAME(dfp_border_tile)(t, valid, panels, columns);
}
