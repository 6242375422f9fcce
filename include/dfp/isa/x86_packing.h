/* Transpositions and interleaving, the same for every x86-64 instruction set from AVX2 on: wider
 * registers gain nothing where loads, stores and memory are the limit. */
#include <immintrin.h>
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

/* to[2 * c] = even[c] and to[2 * c + 1] = odd[c] for 0 <= c < 16. */
static inline void dfp_interleave(const int16_t *even, const int16_t *odd, int16_t *to) {
    __m256i a = _mm256_loadu_si256((const __m256i *)even);
    __m256i b = _mm256_loadu_si256((const __m256i *)odd);
    __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
    _mm256_storeu_si256((__m256i *)to, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256((__m256i *)(to + 16), _mm256_permute2x128_si256(low, high, 0x31));
}

/* The transposition of 8x8 pairs: to[k * to_stride + 2 * c + i] = from[c * from_stride + 2 * k + i]
 * for 0 <= c, k < 8 and i = 0, 1. */
static inline void dfp_transpose_pairs(const int16_t *from, int64_t from_stride, int16_t *to,
                                       int64_t to_stride) {
    __m256i row[8], two[8], four[8];
    for (int c = 0; c < 8; ++c)
        row[c] = _mm256_loadu_si256((const __m256i *)(from + c * from_stride));
    for (int c = 0; c < 4; ++c) {
        two[2 * c] = _mm256_unpacklo_epi32(row[2 * c], row[2 * c + 1]);
        two[2 * c + 1] = _mm256_unpackhi_epi32(row[2 * c], row[2 * c + 1]);
    }
    for (int half = 0; half < 2; ++half) {
        const __m256i *t = two + 4 * half;
        __m256i *f = four + 4 * half;
        f[0] = _mm256_unpacklo_epi64(t[0], t[2]);
        f[1] = _mm256_unpackhi_epi64(t[0], t[2]);
        f[2] = _mm256_unpacklo_epi64(t[1], t[3]);
        f[3] = _mm256_unpackhi_epi64(t[1], t[3]);
    }
    for (int k = 0; k < 4; ++k) {
        __m256i low = _mm256_permute2x128_si256(four[k], four[4 + k], 0x20);
        __m256i high = _mm256_permute2x128_si256(four[k], four[4 + k], 0x31);
        _mm256_storeu_si256((__m256i *)(to + k * to_stride), low);
        _mm256_storeu_si256((__m256i *)(to + (k + 4) * to_stride), high);
    }
}
