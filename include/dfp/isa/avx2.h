/* AVX2: vpmaddwd and vpaddd on 256 bits. */
#include "x86_ymm.h"

static inline dfp_vi dfp_multiply_add(dfp_vi sum, dfp_vi a, dfp_vi b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
