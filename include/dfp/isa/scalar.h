/* Portable C: the meaning of the primitives, and the kernels of every machine without a faster file.
 *
 * An instruction set defines, for a vector of DFP_LANES INT32 or FP32 lanes:
 *   dfp_zero, dfp_load, dfp_broadcast_pair, dfp_multiply_add, dfp_in_register
 *                                                              the multiply-add of pairs
 *   dfp_to_float, dfp_load_float, dfp_store_float, dfp_add_float, dfp_multiply_float,
 *   dfp_broadcast_float                                        the flush into FP32
 *   dfp_round, dfp_clamp, dfp_store_narrow                     quantisation
 *   dfp_absolute, dfp_add, dfp_largest, dfp_load_sums, dfp_store_sums
 *                                                              the flush schedule
 *   dfp_float_bits, dfp_narrow_symmetric                       results in blocks
 *   dfp_store_nontemporal                                      large results
 *   dfp_load_widen, dfp_narrow, dfp_store, dfp_max_int16, dfp_min_float, dfp_max_float,
 *   dfp_absolute_float, dfp_keep_between                       batch normalisation
 *   dfp_replace_equal, dfp_keep_equal, dfp_widen_low, dfp_widen_high
 *                                                              pooling
 *   dfp_pair_channels, dfp_order_channels                      depthwise convolution
 *   dfp_subtract_float, dfp_largest_lanes                      Winograd's transforms
 *   dfp_interleave, dfp_transpose_8x8, dfp_transpose_pairs     packing
 * and DFP_TILE_PANELS, the widest tile (in panels of 16 columns) that its registers hold, and
 * DFP_RESIDENT_PANELS, the widest together with as many FP32 sums, 0 if none.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define DFP_LANES 4
#define DFP_TILE_PANELS 1
#define DFP_RESIDENT_PANELS 0

/* The vectors that GCC and Clang know on every machine, as long as the registers of SSE2 and NEON. */
typedef int32_t dfp_vi __attribute__((vector_size(4 * DFP_LANES)));
typedef uint32_t dfp_vu __attribute__((vector_size(4 * DFP_LANES)));
typedef float dfp_vf __attribute__((vector_size(4 * DFP_LANES)));
typedef int16_t dfp_vh __attribute__((vector_size(2 * DFP_LANES)));

#define DFP_EACH_LANE for (int i = 0; i < DFP_LANES; ++i)

static inline dfp_vi dfp_zero(void) { return (dfp_vi){0}; }

/* DFP_LANES pairs of INT16, each lane's even element in its low half. */
static inline dfp_vi dfp_load(const int16_t *pairs) {
    dfp_vi r;
    DFP_EACH_LANE r[i] =
        (int32_t)((uint16_t)pairs[2 * i] | (uint32_t)(uint16_t)pairs[2 * i + 1] << 16);
    return r;
}

static inline dfp_vi dfp_broadcast_pair(const int16_t *pair) {
    int32_t both = (int32_t)((uint16_t)pair[0] | (uint32_t)(uint16_t)pair[1] << 16);
    return (dfp_vi){both, both, both, both};
}

/* The elements at even and at odd positions, as INT32. */
static inline dfp_vi dfp_even(dfp_vi v) { return (dfp_vi)((dfp_vu)v << 16) >> 16; }

static inline dfp_vi dfp_odd(dfp_vi v) { return v >> 16; }

/* a where mask is all ones, b where it is 0. */
static inline dfp_vi dfp_select(dfp_vi mask, dfp_vi a, dfp_vi b) {
    return (mask & a) | (~mask & b);
}

static inline dfp_vf dfp_select_float(dfp_vi mask, dfp_vf a, dfp_vf b) {
    return (dfp_vf)dfp_select(mask, (dfp_vi)a, (dfp_vi)b);
}

/* The inverse of dfp_even and dfp_odd. */
static inline dfp_vi dfp_pair(dfp_vi even, dfp_vi odd) {
    return (even & 0xffff) | (dfp_vi)((dfp_vu)odd << 16);
}

/* sum + a.even * b.even + a.odd * b.odd in each lane, modulo 2^32. */
static inline dfp_vi dfp_multiply_add(dfp_vi sum, dfp_vi a, dfp_vi b) {
    dfp_vi even = dfp_even(a) * dfp_even(b), odd = dfp_odd(a) * dfp_odd(b);
    return (dfp_vi)((dfp_vu)sum + (dfp_vu)even + (dfp_vu)odd);
}

/* The same vector, but its value is opaque to the compiler; where there are vector registers, it is
 * in one of them. */
static inline dfp_vi dfp_in_register(dfp_vi v) {
    __asm__("" : "+m"(v));
    return v;
}

/* The magnitudes of the 2 * DFP_LANES INT16. */
static inline dfp_vi dfp_absolute(dfp_vi v) {
    dfp_vi even = dfp_even(v), odd = dfp_odd(v);
    return dfp_pair(dfp_select(even < 0, -even, even), dfp_select(odd < 0, -odd, odd));
}

static inline dfp_vi dfp_add(dfp_vi a, dfp_vi b) { return (dfp_vi)((dfp_vu)a + (dfp_vu)b); }

/* The larger of two unsigned numbers in each lane. */
static inline dfp_vi dfp_largest(dfp_vi a, dfp_vi b) {
    return dfp_select((dfp_vu)a > (dfp_vu)b, a, b);
}

static inline dfp_vi dfp_load_sums(const uint32_t *p) {
    dfp_vi r;
    memcpy(&r, p, sizeof r);
    return r;
}

static inline void dfp_store_sums(uint32_t *p, dfp_vi v) { memcpy(p, &v, sizeof v); }

static inline dfp_vf dfp_to_float(dfp_vi v) { return __builtin_convertvector(v, dfp_vf); }

/* The bits of FP32 numbers. */
static inline dfp_vi dfp_float_bits(dfp_vf v) { return (dfp_vi)v; }

static inline dfp_vf dfp_load_float(const float *p) {
    dfp_vf r;
    memcpy(&r, p, sizeof r);
    return r;
}

static inline void dfp_store_float(float *p, dfp_vf v) { memcpy(p, &v, sizeof v); }

static inline dfp_vf dfp_add_float(dfp_vf a, dfp_vf b) { return a + b; }

static inline dfp_vf dfp_subtract_float(dfp_vf a, dfp_vf b) { return a - b; }

static inline dfp_vf dfp_multiply_float(dfp_vf a, dfp_vf b) { return a * b; }

static inline dfp_vf dfp_broadcast_float(float x) { return (dfp_vf){x, x, x, x}; }

/* To the nearest integer, ties to even; |v| < 2^31. */
static inline dfp_vi dfp_round(dfp_vf v) {
    dfp_vi r;
    DFP_EACH_LANE r[i] = (int32_t)lrintf(v[i]);
    return r;
}

static inline dfp_vi dfp_clamp(dfp_vi v, int32_t limit) {
    dfp_vi most = {limit, limit, limit, limit};
    v = dfp_select(v > most, most, v);
    return dfp_select(v < -most, -most, v);
}

/* The 2 * DFP_LANES values of low, then high, which fit INT16, as consecutive INT16. */
static inline dfp_vi dfp_narrow(dfp_vi low, dfp_vi high) {
    dfp_vh narrow[2] = {__builtin_convertvector(low, dfp_vh),
                        __builtin_convertvector(high, dfp_vh)};
    dfp_vi r;
    memcpy(&r, narrow, sizeof r);
    return r;
}

static inline void dfp_store(int16_t *p, dfp_vi v) { memcpy(p, &v, sizeof v); }

/* The same past the caches, where a machine has such stores; p is aligned to the vector. */
static inline void dfp_store_nontemporal(int16_t *p, dfp_vi v) { dfp_store(p, v); }

static inline void dfp_store_narrow(int16_t *p, dfp_vi low, dfp_vi high) {
    dfp_store(p, dfp_narrow(low, high));
}

/* dfp_narrow of any values, clamped to -INT16_MAX to INT16_MAX. */
static inline dfp_vi dfp_narrow_symmetric(dfp_vi low, dfp_vi high) {
    return dfp_narrow(dfp_clamp(low, INT16_MAX), dfp_clamp(high, INT16_MAX));
}

/* DFP_LANES INT16 as INT32. */
static inline dfp_vi dfp_load_widen(const int16_t *p) {
    dfp_vh v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, dfp_vi);
}

/* The larger of two INT16 in each half lane. */
static inline dfp_vi dfp_max_int16(dfp_vi a, dfp_vi b) {
    dfp_vi even_a = dfp_even(a), even_b = dfp_even(b), odd_a = dfp_odd(a), odd_b = dfp_odd(b);
    return dfp_pair(dfp_select(even_a > even_b, even_a, even_b),
                    dfp_select(odd_a > odd_b, odd_a, odd_b));
}

/* b where a is NaN. */
static inline dfp_vf dfp_min_float(dfp_vf a, dfp_vf b) { return dfp_select_float(a < b, a, b); }

/* b where a is NaN. */
static inline dfp_vf dfp_max_float(dfp_vf a, dfp_vf b) { return dfp_select_float(a > b, a, b); }

static inline dfp_vf dfp_absolute_float(dfp_vf v) { return (dfp_vf)((dfp_vi)v & INT32_MAX); }

/* to[i] = the largest lane of v[i], none of which is NaN. */
static inline void dfp_largest_lanes(const dfp_vf v[4], float *to) {
    for (int k = 0; k < 4; ++k) {
        to[k] = v[k][0];
        DFP_EACH_LANE to[k] = v[k][i] > to[k] ? v[k][i] : to[k];
    }
}

/* v where 0 < y <= top, else 0. */
static inline dfp_vf dfp_keep_between(dfp_vf v, dfp_vi y, int32_t top) {
    return (dfp_vf)((dfp_vi)v & (y > 0) & (y <= top));
}

/* In each half lane: with where a equals b, else v. */
static inline dfp_vi dfp_replace_equal(dfp_vi v, dfp_vi a, dfp_vi b, dfp_vi with) {
    dfp_vi differ = a ^ b;
    return dfp_select(dfp_pair(dfp_even(differ) == 0, dfp_odd(differ) == 0), with, v);
}

/* In each half lane: v where a equals b, else 0. */
static inline dfp_vi dfp_keep_equal(dfp_vi v, dfp_vi a, dfp_vi b) {
    return dfp_replace_equal(dfp_zero(), a, b, v);
}

/* The first and the last DFP_LANES of 2 * DFP_LANES INT16 as INT32. */
static inline dfp_vi dfp_widen_low(dfp_vi v) { return dfp_load_widen((const int16_t *)&v); }

static inline dfp_vi dfp_widen_high(dfp_vi v) {
    return dfp_load_widen((const int16_t *)&v + DFP_LANES);
}

/* The pairs (even[c], odd[c]) for 0 <= c < 2 * DFP_LANES, in an order that dfp_order_channels undoes. */
static inline void dfp_pair_channels(const int16_t *even, const int16_t *odd, dfp_vi pairs[2]) {
    for (int h = 0; h < 2; ++h)
        pairs[h] =
            dfp_pair(dfp_load_widen(even + h * DFP_LANES), dfp_load_widen(odd + h * DFP_LANES));
}

/* From the order of dfp_pair_channels to that of memory. */
static inline void dfp_order_channels(dfp_vi v[2]) { (void)v; }

/* to[j * to_stride + i] = from[i * from_stride + j] for 0 <= i, j < 8. */
static inline void dfp_transpose_8x8(const int16_t *from, int64_t from_stride, int16_t *to,
                                     int64_t to_stride) {
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) to[j * to_stride + i] = from[i * from_stride + j];
}

/* to[2 * c] = even[c] and to[2 * c + 1] = odd[c] for 0 <= c < 16. */
static inline void dfp_interleave(const int16_t *even, const int16_t *odd, int16_t *to) {
    for (int c = 0; c < 16; ++c) {
        to[2 * c] = even[c];
        to[2 * c + 1] = odd[c];
    }
}

/* The transposition of 8x8 pairs: to[k * to_stride + 2 * c + i] = from[c * from_stride + 2 * k + i]
 * for 0 <= c, k < 8 and i = 0, 1. */
static inline void dfp_transpose_pairs(const int16_t *from, int64_t from_stride, int16_t *to,
                                       int64_t to_stride) {
    for (int k = 0; k < 8; ++k)
        for (int c = 0; c < 8; ++c)
            memcpy(to + k * to_stride + 2 * c, from + c * from_stride + 2 * k, 2 * sizeof *to);
}
