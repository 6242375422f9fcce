/* What AVX-512BW and AVX-512 VNNI have in common: everything but the multiply-add. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "x86_packing.h"

#define DFP_LANES 16
#define DFP_TILE_PANELS 4
#define DFP_RESIDENT_PANELS 2

typedef __m512i dfp_vi;
typedef __m512 dfp_vf;

static inline dfp_vi dfp_zero(void) { return _mm512_setzero_si512(); }

static inline dfp_vi dfp_load(const int16_t *pairs) { return _mm512_loadu_si512(pairs); }

static inline dfp_vi dfp_broadcast_pair(const int16_t *pair) {
    int32_t both;
    memcpy(&both, pair, sizeof both);
    return _mm512_set1_epi32(both);
}

static inline dfp_vi dfp_in_register(dfp_vi v) {
    __asm__("" : "+v"(v));
    return v;
}

static inline dfp_vi dfp_absolute(dfp_vi v) { return _mm512_abs_epi16(v); }

static inline dfp_vi dfp_add(dfp_vi a, dfp_vi b) { return _mm512_add_epi32(a, b); }

static inline dfp_vi dfp_largest(dfp_vi a, dfp_vi b) { return _mm512_max_epu32(a, b); }

static inline dfp_vi dfp_load_sums(const uint32_t *p) { return _mm512_loadu_si512(p); }

static inline void dfp_store_sums(uint32_t *p, dfp_vi v) { _mm512_storeu_si512(p, v); }

static inline dfp_vf dfp_to_float(dfp_vi v) { return _mm512_cvtepi32_ps(v); }

static inline dfp_vi dfp_float_bits(dfp_vf v) { return _mm512_castps_si512(v); }

static inline dfp_vf dfp_load_float(const float *p) { return _mm512_loadu_ps(p); }

static inline void dfp_store_float(float *p, dfp_vf v) { _mm512_storeu_ps(p, v); }

static inline dfp_vf dfp_add_float(dfp_vf a, dfp_vf b) { return _mm512_add_ps(a, b); }

static inline dfp_vf dfp_subtract_float(dfp_vf a, dfp_vf b) { return _mm512_sub_ps(a, b); }

static inline dfp_vf dfp_multiply_float(dfp_vf a, dfp_vf b) { return _mm512_mul_ps(a, b); }

static inline dfp_vf dfp_broadcast_float(float x) { return _mm512_set1_ps(x); }

static inline dfp_vi dfp_round(dfp_vf v) { return _mm512_cvtps_epi32(v); }

static inline dfp_vi dfp_clamp(dfp_vi v, int32_t limit) {
    v = _mm512_min_epi32(v, _mm512_set1_epi32(limit));
    return _mm512_max_epi32(v, _mm512_set1_epi32(-limit));
}

static inline dfp_vi dfp_narrow(dfp_vi low, dfp_vi high) {
    __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return _mm512_permutexvar_epi64(order, _mm512_packs_epi32(low, high));
}

static inline void dfp_store(int16_t *p, dfp_vi v) { _mm512_storeu_si512(p, v); }

static inline void dfp_store_nontemporal(int16_t *p, dfp_vi v) {
    _mm512_stream_si512((void *)p, v);
}

static inline void dfp_store_narrow(int16_t *p, dfp_vi low, dfp_vi high) {
    dfp_store(p, dfp_narrow(low, high));
}

static inline dfp_vi dfp_narrow_symmetric(dfp_vi low, dfp_vi high) {
    return _mm512_max_epi16(dfp_narrow(low, high), _mm512_set1_epi16(-INT16_MAX));
}

static inline dfp_vi dfp_load_widen(const int16_t *p) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

static inline void dfp_pair_channels(const int16_t *even, const int16_t *odd, dfp_vi pairs[2]) {
    dfp_vi a = dfp_load(even), b = dfp_load(odd);
    pairs[0] = _mm512_unpacklo_epi16(a, b);
    pairs[1] = _mm512_unpackhi_epi16(a, b);
}

static inline void dfp_order_channels(dfp_vi v[2]) {
    __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    __m512i last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    dfp_vi low = _mm512_permutex2var_epi64(v[0], first, v[1]);
    v[1] = _mm512_permutex2var_epi64(v[0], last, v[1]);
    v[0] = low;
}

static inline dfp_vi dfp_max_int16(dfp_vi a, dfp_vi b) { return _mm512_max_epi16(a, b); }

static inline dfp_vf dfp_min_float(dfp_vf a, dfp_vf b) { return _mm512_min_ps(a, b); }

static inline dfp_vf dfp_max_float(dfp_vf a, dfp_vf b) { return _mm512_max_ps(a, b); }

static inline dfp_vf dfp_absolute_float(dfp_vf v) { return _mm512_abs_ps(v); }

static inline void dfp_largest_lanes(const dfp_vf v[4], float *to) {
    dfp_vf a = _mm512_max_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    dfp_vf b = _mm512_max_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    dfp_vf four = _mm512_max_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    __m256 low = _mm512_castps512_ps256(four);
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(four), 1));
    low = _mm256_max_ps(low, high);
    _mm_storeu_ps(to, _mm_max_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps(low, 1)));
}

static inline dfp_vf dfp_keep_between(dfp_vf v, dfp_vi y, int32_t top) {
    __mmask16 kept = _mm512_cmpgt_epi32_mask(y, _mm512_setzero_si512());
    kept = _mm512_mask_cmple_epi32_mask(kept, y, _mm512_set1_epi32(top));
    return _mm512_maskz_mov_ps(kept, v);
}

static inline dfp_vi dfp_replace_equal(dfp_vi v, dfp_vi a, dfp_vi b, dfp_vi with) {
    return _mm512_mask_mov_epi16(v, _mm512_cmpeq_epi16_mask(a, b), with);
}

static inline dfp_vi dfp_keep_equal(dfp_vi v, dfp_vi a, dfp_vi b) {
    return _mm512_maskz_mov_epi16(_mm512_cmpeq_epi16_mask(a, b), v);
}

static inline dfp_vi dfp_widen_low(dfp_vi v) {
    return _mm512_cvtepi16_epi32(_mm512_castsi512_si256(v));
}

static inline dfp_vi dfp_widen_high(dfp_vi v) {
    return _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(v, 1));
}
