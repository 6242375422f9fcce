/* AVX-512BW: vpmaddwd on the even and on the odd bytes, as INT16. */
#define DFP_INT8_OFFSET 0

static inline dfp_vi dfp_multiply_add_int8(dfp_vi sum, dfp_vi a, dfp_vi b) {
    dfp_vi even_a = _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8), odd_a = _mm512_srai_epi16(a, 8);
    dfp_vi even_b = _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8), odd_b = _mm512_srai_epi16(b, 8);
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(even_a, even_b));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(odd_a, odd_b));
}
