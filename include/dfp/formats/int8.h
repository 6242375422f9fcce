/* INT8 by INT8. One lane of the multiply-add combines four products; formats/int8/<isa>.h defines
 * it, and what it adds to each element of A (DFP_INT8_OFFSET), for instructions that take A as
 * unsigned: sum((a + offset) * b) - offset * sum(b) = sum(a * b), modulo 2^32.
 *
 * Overflow proof: |a * b| <= 2^14, so 2^31 - 1 holds 131071 products whatever the data; longer
 * reductions are refused. Sums stay INT32 and are not flushed. */
#define DFP_INT8_MOST_PRODUCTS 131071

/* clang-format off */
#define DFP_INT8_HEADER_(isa) DFP_STRING(formats/int8/isa.h)
/* clang-format on */
#define DFP_INT8_HEADER(isa) DFP_INT8_HEADER_(isa)
#include DFP_INT8_HEADER(DFP_ISA)

static inline dfp_vi dfp_load_quads(const int8_t *quads) {
    return dfp_load((const int16_t *)quads);
}

static inline dfp_vi dfp_broadcast_quad(const int8_t *quad) {
    return dfp_broadcast_pair((const int16_t *)quad);
}

static inline void dfp_interleave_quads(const int8_t *const row[4], int8_t *to) {
    for (int c = 0; c < DFP_PANEL; ++c)
        for (int i = 0; i < 4; ++i) to[4 * c + i] = row[i][c];
}

#define DFP_NAME(name) DFP_JOIN(name, _int8)
#define DFP_ELEMENT int8_t
#define DFP_GROUP 4
#define DFP_LOAD dfp_load_quads
#define DFP_BROADCAST dfp_broadcast_quad
#define DFP_MULTIPLY_ADD dfp_multiply_add_int8
#define DFP_INTERLEAVE dfp_interleave_quads
#include "engine/epilogue/int32.h"
#include "engine/tile.h"
#include "engine/pack.h"
#include "engine/multiply.h"
#include "formats/end.h"
