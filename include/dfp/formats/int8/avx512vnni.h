/* AVX-512 VNNI: vpdpbusd takes A unsigned. */
#define DFP_INT8_OFFSET 128

static inline dfp_vi dfp_multiply_add_int8(dfp_vi sum, dfp_vi a, dfp_vi b) {
    dfp_vi unsigned_a = _mm512_xor_si512(a, _mm512_set1_epi8((char)0x80));
    return _mm512_dpbusd_epi32(sum, unsigned_a, b);
}
