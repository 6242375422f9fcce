/* The 8x8 transposition of every x86-64 instruction set: SSE2 is enough, memory is the limit. */
#include <emmintrin.h>
#include <stdint.h>

/* to[j * to_stride + i] = from[i * from_stride + j] for 0 <= i, j < 8. */
static inline void dfp_transpose_8x8(const int16_t *from, int64_t from_stride, int16_t *to,
                                     int64_t to_stride) {
    __m128i row[8], pair[8], quad[8];
    for (int i = 0; i < 8; ++i) row[i] = _mm_loadu_si128((const __m128i *)(from + i * from_stride));
    for (int i = 0; i < 4; ++i) {
        pair[2 * i] = _mm_unpacklo_epi16(row[2 * i], row[2 * i + 1]);
        pair[2 * i + 1] = _mm_unpackhi_epi16(row[2 * i], row[2 * i + 1]);
    }
    for (int half = 0; half < 2; ++half) {
        const __m128i *p = pair + 4 * half;
        __m128i *q = quad + 4 * half;
        q[0] = _mm_unpacklo_epi32(p[0], p[2]);
        q[1] = _mm_unpackhi_epi32(p[0], p[2]);
        q[2] = _mm_unpacklo_epi32(p[1], p[3]);
        q[3] = _mm_unpackhi_epi32(p[1], p[3]);
    }
    for (int j = 0; j < 4; ++j) {
        __m128i low = _mm_unpacklo_epi64(quad[j], quad[4 + j]);
        __m128i high = _mm_unpackhi_epi64(quad[j], quad[4 + j]);
        _mm_storeu_si128((__m128i *)(to + 2 * j * to_stride), low);
        _mm_storeu_si128((__m128i *)(to + (2 * j + 1) * to_stride), high);
    }
}
