/* The micro-kernels and the walk over one block of packed columns. */

#define DFP_TILE_ROWS 6
#define DFP_UNROLL _Pragma("GCC unroll 16")
#define DFP_JOIN_(a, b) a##b
#define DFP_JOIN(a, b) DFP_JOIN_(a, b)

/* `pairs` pairs of every row, `offset` INT16 behind the row's start. The INT32 sums go to FP32 behind
 * a span that has `flush` set, and live on in registers otherwise. */
typedef struct {
    int64_t offset;
    int32_t pairs;
    int32_t flush;
} dfp_span;

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

/* c[row][column] += rows * block, for DFP_TILE_ROWS rows and `panels` panels; the FP32 tile c has
 * rows of DFP_BLOCK floats and lies in the first-level cache. */
static inline void dfp_tile(const int16_t *const *rows, const dfp_span *spans, int64_t span_count,
                            const int16_t *b, int64_t panel_stride, int64_t panels, float *c) {
    const dfp_span *end = spans + span_count;
#if DFP_TILE_PANELS >= 4
    switch (panels) {
        case 4: dfp_tile_4(rows, spans, end, b, panel_stride, c); return;
        case 3: dfp_tile_3(rows, spans, end, b, panel_stride, c); return;
        case 2: dfp_tile_2(rows, spans, end, b, panel_stride, c); return;
    }
#endif
    (void)panels;
    dfp_tile_1(rows, spans, end, b, panel_stride, c);
}
