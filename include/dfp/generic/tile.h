/* The micro-kernels and the walk over one block of packed columns. */

#define DFP_TILE_ROWS 6
#define DFP_UNROLL _Pragma("GCC unroll 16")
#define DFP_JOIN_(a, b) a##b
#define DFP_JOIN(a, b) DFP_JOIN_(a, b)

/* `pairs` pairs of every row, `offset` INT16 behind the row's start. The INT32 sums go to FP32 behind
 * a span that has `flush` set, and live on in registers otherwise. The last span has it set. */
typedef struct {
    int64_t offset;
    int32_t pairs;
    int32_t flush;
} dfp_span;

/* What happens to the FP32 sums once: nothing, or multiplication by a power of two and then, unless
 * bias is NULL, the addition of one number per column. */
typedef struct {
    int scaled;
    dfp_power scale;
    const float *bias;
} dfp_finish;

/* One tile: c[row][column] = finish((from_zero ? 0 : c[row][column]) + sum over k of row[k] * b[k]). */
typedef struct {
    const int16_t *rows[DFP_TILE_ROWS];
    float *c[DFP_TILE_ROWS];
    /* INT16 from one pair of a row to the next. */
    int64_t row_step;
    const dfp_span *spans, *spans_end;
    const int16_t *b;
    int64_t panel_stride;
    int from_zero;
    dfp_finish finish;
} dfp_tile_job;

#define PANELS 1
#include "tile_body.h"
#undef PANELS
#if DFP_TILE_PANELS >= 4
#define PANELS 2
#include "tile_body.h"
#undef PANELS
#define PANELS 3
#include "tile_body.h"
#undef PANELS
#define PANELS 4
#include "tile_body.h"
#undef PANELS
#endif

static inline void dfp_whole_tile(const dfp_tile_job *t, int64_t panels) {
#if DFP_TILE_PANELS >= 4
    switch (panels) {
        case 4: dfp_tile_4(t); return;
        case 3: dfp_tile_3(t); return;
        case 2: dfp_tile_2(t); return;
    }
#endif
    (void)panels;
    dfp_tile_1(t);
}

/* The tile at the right border of C, of which only `columns` columns exist: FP32 sums go to memory of
 * its own and from there to C. */
static void dfp_border_tile(const dfp_tile_job *t, int64_t valid, int64_t panels, int64_t columns) {
    _Alignas(64) float sums[DFP_TILE_ROWS * DFP_BLOCK];
    dfp_tile_job inner = *t;
    size_t bytes = (size_t)columns * sizeof(float);
    inner.finish.scaled = 0;
    for (int64_t r = 0; r < DFP_TILE_ROWS; ++r) {
        inner.c[r] = sums + r * DFP_BLOCK;
        if (!t->from_zero) memset(inner.c[r], 0, (size_t)panels * DFP_PANEL * sizeof(float));
        if (!t->from_zero && r < valid) memcpy(inner.c[r], t->c[r], bytes);
    }
    dfp_whole_tile(&inner, panels);
    for (int64_t r = 0; r < valid; ++r) {
        float *sum = sums + r * DFP_BLOCK;
        for (int64_t c = 0; t->finish.scaled && c < columns; ++c) {
            sum[c] = sum[c] * t->finish.scale.first * t->finish.scale.second;
            if (t->finish.bias) sum[c] += t->finish.bias[c];
        }
        memcpy(t->c[r], sum, bytes);
    }
}

/* A tile of which only the first `valid` rows and `columns` columns exist. */
static inline void dfp_tile(dfp_tile_job *t, int64_t valid, int64_t panels, int64_t columns) {
    _Alignas(64) float nowhere[DFP_BLOCK];
    if (valid < DFP_TILE_ROWS) memset(nowhere, 0, sizeof nowhere);
    for (int64_t r = valid; r < DFP_TILE_ROWS; ++r) {
        t->rows[r] = t->rows[valid - 1];
        t->c[r] = nowhere;
    }
    if (columns == panels * DFP_PANEL)
        dfp_whole_tile(t, panels);
    else
        dfp_border_tile(t, valid, panels, columns);
}
