/* Portable C: the meaning of the multiply-add. */
#define DFP_INT8_OFFSET 0

/* sum + the four products of each lane, modulo 2^32. */
static inline dfp_vi dfp_multiply_add_int8(dfp_vi sum, dfp_vi a, dfp_vi b) {
    DFP_UNROLL for (int shift = 24; shift >= 0; shift -= 8) {
        dfp_vi a_part = (dfp_vi)((dfp_vu)a << shift) >> 24,
               b_part = (dfp_vi)((dfp_vu)b << shift) >> 24;
        sum = (dfp_vi)((dfp_vu)sum + (dfp_vu)(a_part * b_part));
    }
    return sum;
}
