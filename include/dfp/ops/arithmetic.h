/* Arithmetic of DFP tensors: sums and products in INT32, and down-conversion to INT16. These are
 * for element-wise use from Python; they run on the caller's thread. */

/* Bits by which the operand with the larger exponent is raised, at most: 2^15 * 2^14 + 2^15 < 2^31. */
#define DFP_MOST_HEADROOM 14

static inline uint32_t dfp_magnitude(int32_t v) { return v < 0 ? 0u - (uint32_t)v : (uint32_t)v; }

static uint32_t dfp_largest_int32(const int32_t *v, int64_t n) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; ++i) {
        uint32_t magnitude = dfp_magnitude(v[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

static inline uint32_t dfp_shift_magnitude(uint32_t m, int32_t shift, dfp_rounding rounding,
                                           uint64_t seed, uint64_t index) {
    if (shift == 0) return m;
    if (shift > 40) shift = 40;
    uint64_t wide = m, kept = wide >> shift, rest = wide - (kept << shift),
             half = 1ull << (shift - 1);
    switch (rounding) {
        case DFP_NEAREST: kept += rest > half || (rest == half && (kept & 1)); break;
        case DFP_BIASED: kept += 2 * rest >= half; break;
        case DFP_STOCHASTIC:
            kept += ((uint64_t)dfp_random24(seed, index) << shift) < (rest << 24);
            break;
        case DFP_TRUNCATE: break;
    }
    return (uint32_t)kept;
}

/* q * 2^result.exponent ~ v * 2^exponent: shifts by Rs = bit_length(max|v|) - bits where positive
 * (section 3 of the paper), or by more where the exponent would be too small. */
static dfp_scale dfp_down_convert(const int32_t *v, int64_t n, int32_t exponent, int32_t bits,
                                  dfp_rounding rounding, uint64_t seed, int16_t *q) {
    int32_t shift = -bits, limit = (1 << bits) - 1;
    for (uint32_t largest = dfp_largest_int32(v, n); largest; largest >>= 1) ++shift;
    if (shift < 0) shift = 0;
    if (exponent + shift < DFP_MIN_EXPONENT) shift = DFP_MIN_EXPONENT - exponent;
    if (exponent + shift > DFP_MAX_EXPONENT) {
        memset(q, 0, (size_t)n * sizeof(int16_t));
        return (dfp_scale){DFP_NONFINITE_EXPONENT, 0};
    }
    for (int64_t i = 0; i < n; ++i) {
        uint32_t m = dfp_shift_magnitude(dfp_magnitude(v[i]), shift, rounding, seed, (uint64_t)i);
        int32_t kept = m > (uint32_t)limit ? limit : (int32_t)m;
        q[i] = (int16_t)(v[i] < 0 ? -kept : kept);
    }
    return (dfp_scale){exponent + shift, dfp_largest_int16(q, n)};
}

/* sum[i] * 2^returned = large[i] * 2^large_exponent + small[i] * 2^small_exponent, where
 * large_exponent >= small_exponent. What the headroom of INT32 cannot hold of the small operand is
 * shifted out to the right, to the nearest integer. */
static int32_t dfp_add_aligned(const int16_t *large, int32_t large_exponent, const int16_t *small,
                               int32_t small_exponent, int64_t n, int32_t *sum) {
    int32_t distance = large_exponent - small_exponent;
    int32_t left = distance < DFP_MOST_HEADROOM ? distance : DFP_MOST_HEADROOM;
    int32_t right = distance - left;
    for (int64_t i = 0; i < n; ++i) {
        uint32_t m = dfp_shift_magnitude(dfp_magnitude(small[i]), right, DFP_NEAREST, 0, 0);
        sum[i] = large[i] * (1 << left) + (small[i] < 0 ? -(int32_t)m : (int32_t)m);
    }
    return large_exponent - left;
}

static void dfp_multiply(const int16_t *a, const int16_t *b, int64_t n, int32_t *product) {
    for (int64_t i = 0; i < n; ++i) product[i] = (int32_t)a[i] * b[i];
}
