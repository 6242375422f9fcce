/* AVX2: vpmaddwd on the even and on the odd bytes, as INT16. vpmaddubsw would saturate. */
#define DFP_INT8_OFFSET 0

static inline dfp_vi dfp_multiply_add_int8(dfp_vi sum, dfp_vi a, dfp_vi b) {
    dfp_vi even_a = _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8), odd_a = _mm256_srai_epi16(a, 8);
    dfp_vi even_b = _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8), odd_b = _mm256_srai_epi16(b, 8);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even_a, even_b));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(odd_a, odd_b));
}
