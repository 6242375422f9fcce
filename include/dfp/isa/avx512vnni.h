/* AVX-512 VNNI: vpdpwssd on 512 bits (never vpdpwssds, which saturates). */
#include "x86_zmm.h"

static inline dfp_vi dfp_multiply_add(dfp_vi sum, dfp_vi a, dfp_vi b) {
    return _mm512_dpwssd_epi32(sum, a, b);
}
