/* AVX-512BW: vpmaddwd and vpaddd on 512 bits. */
#include "x86_zmm.h"

static inline dfp_vi dfp_multiply_add(dfp_vi sum, dfp_vi a, dfp_vi b) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}
