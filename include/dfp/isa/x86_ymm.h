/* What AVX2 and AVX-VNNI have in common: everything but the multiply-add. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "x86_packing.h"

#define DFP_LANES 8
#define DFP_TILE_PANELS 1
#define DFP_RESIDENT_PANELS 0

typedef __m256i dfp_vi;
typedef __m256 dfp_vf;

static inline dfp_vi dfp_zero(void) { return _mm256_setzero_si256(); }

static inline dfp_vi dfp_load(const int16_t *pairs) {
    return _mm256_loadu_si256((const __m256i *)pairs);
}

static inline dfp_vi dfp_broadcast_pair(const int16_t *pair) {
    int32_t both;
    memcpy(&both, pair, sizeof both);
    return _mm256_set1_epi32(both);
}

static inline dfp_vi dfp_in_register(dfp_vi v) {
    __asm__("" : "+x"(v));
    return v;
}

static inline dfp_vi dfp_absolute(dfp_vi v) { return _mm256_abs_epi16(v); }

static inline dfp_vi dfp_add(dfp_vi a, dfp_vi b) { return _mm256_add_epi32(a, b); }

static inline dfp_vi dfp_largest(dfp_vi a, dfp_vi b) { return _mm256_max_epu32(a, b); }

static inline dfp_vi dfp_load_sums(const uint32_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline void dfp_store_sums(uint32_t *p, dfp_vi v) { _mm256_storeu_si256((__m256i *)p, v); }

static inline dfp_vf dfp_to_float(dfp_vi v) { return _mm256_cvtepi32_ps(v); }

static inline dfp_vi dfp_float_bits(dfp_vf v) { return _mm256_castps_si256(v); }

static inline dfp_vf dfp_load_float(const float *p) { return _mm256_loadu_ps(p); }

static inline void dfp_store_float(float *p, dfp_vf v) { _mm256_storeu_ps(p, v); }

static inline dfp_vf dfp_add_float(dfp_vf a, dfp_vf b) { return _mm256_add_ps(a, b); }

static inline dfp_vf dfp_subtract_float(dfp_vf a, dfp_vf b) { return _mm256_sub_ps(a, b); }

static inline dfp_vf dfp_multiply_float(dfp_vf a, dfp_vf b) { return _mm256_mul_ps(a, b); }

static inline dfp_vf dfp_broadcast_float(float x) { return _mm256_set1_ps(x); }

static inline dfp_vi dfp_round(dfp_vf v) { return _mm256_cvtps_epi32(v); }

static inline dfp_vi dfp_clamp(dfp_vi v, int32_t limit) {
    v = _mm256_min_epi32(v, _mm256_set1_epi32(limit));
    return _mm256_max_epi32(v, _mm256_set1_epi32(-limit));
}

static inline dfp_vi dfp_narrow(dfp_vi low, dfp_vi high) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

static inline void dfp_store(int16_t *p, dfp_vi v) { _mm256_storeu_si256((__m256i *)p, v); }

static inline void dfp_store_nontemporal(int16_t *p, dfp_vi v) {
    _mm256_stream_si256((__m256i *)p, v);
}

static inline void dfp_store_narrow(int16_t *p, dfp_vi low, dfp_vi high) {
    dfp_store(p, dfp_narrow(low, high));
}

static inline dfp_vi dfp_narrow_symmetric(dfp_vi low, dfp_vi high) {
    return _mm256_max_epi16(dfp_narrow(low, high), _mm256_set1_epi16(-INT16_MAX));
}

static inline dfp_vi dfp_load_widen(const int16_t *p) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p));
}

static inline void dfp_pair_channels(const int16_t *even, const int16_t *odd, dfp_vi pairs[2]) {
    dfp_vi a = dfp_load(even), b = dfp_load(odd);
    pairs[0] = _mm256_unpacklo_epi16(a, b);
    pairs[1] = _mm256_unpackhi_epi16(a, b);
}

static inline void dfp_order_channels(dfp_vi v[2]) {
    dfp_vi low = _mm256_permute2x128_si256(v[0], v[1], 0x20);
    v[1] = _mm256_permute2x128_si256(v[0], v[1], 0x31);
    v[0] = low;
}

static inline dfp_vi dfp_max_int16(dfp_vi a, dfp_vi b) { return _mm256_max_epi16(a, b); }

static inline dfp_vf dfp_min_float(dfp_vf a, dfp_vf b) { return _mm256_min_ps(a, b); }

static inline dfp_vf dfp_max_float(dfp_vf a, dfp_vf b) { return _mm256_max_ps(a, b); }

static inline dfp_vf dfp_absolute_float(dfp_vf v) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

static inline void dfp_largest_lanes(const dfp_vf v[4], float *to) {
    dfp_vf a = _mm256_max_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
    dfp_vf b = _mm256_max_ps(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
    dfp_vf four = _mm256_max_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
    _mm_storeu_ps(to, _mm_max_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1)));
}

static inline dfp_vf dfp_keep_between(dfp_vf v, dfp_vi y, int32_t top) {
    __m256i above = _mm256_cmpgt_epi32(y, _mm256_set1_epi32(top));
    __m256i kept = _mm256_andnot_si256(above, _mm256_cmpgt_epi32(y, _mm256_setzero_si256()));
    return _mm256_and_ps(v, _mm256_castsi256_ps(kept));
}

static inline dfp_vi dfp_replace_equal(dfp_vi v, dfp_vi a, dfp_vi b, dfp_vi with) {
    return _mm256_blendv_epi8(v, with, _mm256_cmpeq_epi16(a, b));
}

static inline dfp_vi dfp_keep_equal(dfp_vi v, dfp_vi a, dfp_vi b) {
    return _mm256_and_si256(v, _mm256_cmpeq_epi16(a, b));
}

static inline dfp_vi dfp_widen_low(dfp_vi v) {
    return _mm256_cvtepi16_epi32(_mm256_castsi256_si128(v));
}

static inline dfp_vi dfp_widen_high(dfp_vi v) {
    return _mm256_cvtepi16_epi32(_mm256_extracti128_si256(v, 1));
}
