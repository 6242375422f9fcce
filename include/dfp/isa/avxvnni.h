/* AVX-VNNI: the VEX-encoded vpdpwssd on 256 bits (never vpdpwssds, which saturates). */
#include "x86_ymm.h"

static inline dfp_vi dfp_multiply_add(dfp_vi sum, dfp_vi a, dfp_vi b) {
    return _mm256_dpwssd_avx_epi32(sum, a, b);
}
