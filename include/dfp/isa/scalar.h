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
 *   dfp_load_widen, dfp_narrow, dfp_store, dfp_max_int16, dfp_min_float, dfp_max_float,
 *   dfp_absolute_float, dfp_keep_between                       batch normalisation
 *   dfp_replace_equal, dfp_keep_equal, dfp_widen_low, dfp_widen_high
 *                                                              pooling
 *   dfp_pair_channels, dfp_order_channels                      depthwise convolution
 *   dfp_interleave, dfp_transpose_8x8, dfp_transpose_pairs     packing
 * and DFP_TILE_PANELS, the widest tile (in panels of 16 columns) that its registers hold.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define DFP_LANES 16
#define DFP_TILE_PANELS 1

typedef struct {
    int32_t lane[DFP_LANES];
} dfp_vi;

typedef struct {
    float lane[DFP_LANES];
} dfp_vf;

#define DFP_EACH_LANE for (int i = 0; i < DFP_LANES; ++i)

static inline dfp_vi dfp_zero(void) {
    dfp_vi r = {{0}};
    return r;
}

/* DFP_LANES pairs of INT16, each lane's even element in its low half. */
static inline dfp_vi dfp_load(const int16_t *pairs) {
    dfp_vi r;
    DFP_EACH_LANE r.lane[i] =
        (int32_t)((uint16_t)pairs[2 * i] | (uint32_t)(uint16_t)pairs[2 * i + 1] << 16);
    return r;
}

static inline dfp_vi dfp_broadcast_pair(const int16_t *pair) {
    dfp_vi r;
    int32_t both = (int32_t)((uint16_t)pair[0] | (uint32_t)(uint16_t)pair[1] << 16);
    DFP_EACH_LANE r.lane[i] = both;
    return r;
}

/* sum + a.even * b.even + a.odd * b.odd in each lane, modulo 2^32. */
static inline dfp_vi dfp_multiply_add(dfp_vi sum, dfp_vi a, dfp_vi b) {
    DFP_EACH_LANE {
        int32_t even = (int32_t)(int16_t)a.lane[i] * (int16_t)b.lane[i];
        int32_t odd = (a.lane[i] >> 16) * (b.lane[i] >> 16);
        sum.lane[i] = (int32_t)((uint32_t)sum.lane[i] + (uint32_t)even + (uint32_t)odd);
    }
    return sum;
}

/* The same vector, about whose value the compiler knows nothing; where there are vector registers, it
 * is in one of them. */
static inline dfp_vi dfp_in_register(dfp_vi v) {
    __asm__("" : "+m"(v));
    return v;
}

/* The magnitudes of the 2 * DFP_LANES INT16. */
static inline dfp_vi dfp_absolute(dfp_vi v) {
    DFP_EACH_LANE {
        int32_t even = (int16_t)v.lane[i], odd = v.lane[i] >> 16;
        even = even < 0 ? -even : even;
        odd = odd < 0 ? -odd : odd;
        v.lane[i] = (int32_t)((uint32_t)even | (uint32_t)odd << 16);
    }
    return v;
}

static inline dfp_vi dfp_add(dfp_vi a, dfp_vi b) {
    DFP_EACH_LANE a.lane[i] = (int32_t)((uint32_t)a.lane[i] + (uint32_t)b.lane[i]);
    return a;
}

/* The larger of two unsigned numbers in each lane. */
static inline dfp_vi dfp_largest(dfp_vi a, dfp_vi b) {
    DFP_EACH_LANE a.lane[i] =
        (uint32_t)a.lane[i] > (uint32_t)b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

static inline dfp_vi dfp_load_sums(const uint32_t *p) {
    dfp_vi r;
    memcpy(&r, p, sizeof r);
    return r;
}

static inline void dfp_store_sums(uint32_t *p, dfp_vi v) { memcpy(p, &v, sizeof v); }

static inline dfp_vf dfp_to_float(dfp_vi v) {
    dfp_vf r;
    DFP_EACH_LANE r.lane[i] = (float)v.lane[i];
    return r;
}

static inline dfp_vf dfp_load_float(const float *p) {
    dfp_vf r;
    memcpy(&r, p, sizeof r);
    return r;
}

static inline void dfp_store_float(float *p, dfp_vf v) { memcpy(p, &v, sizeof v); }

static inline dfp_vf dfp_add_float(dfp_vf a, dfp_vf b) {
    DFP_EACH_LANE a.lane[i] += b.lane[i];
    return a;
}

static inline dfp_vf dfp_multiply_float(dfp_vf a, dfp_vf b) {
    DFP_EACH_LANE a.lane[i] *= b.lane[i];
    return a;
}

static inline dfp_vf dfp_broadcast_float(float x) {
    dfp_vf r;
    DFP_EACH_LANE r.lane[i] = x;
    return r;
}

/* To the nearest integer, ties to even; |v| < 2^31. */
static inline dfp_vi dfp_round(dfp_vf v) {
    dfp_vi r;
    DFP_EACH_LANE r.lane[i] = (int32_t)lrintf(v.lane[i]);
    return r;
}

static inline dfp_vi dfp_clamp(dfp_vi v, int32_t limit) {
    DFP_EACH_LANE {
        int32_t x = v.lane[i];
        v.lane[i] = x > limit ? limit : x < -limit ? -limit : x;
    }
    return v;
}

/* The 2 * DFP_LANES values of low, then high, which fit INT16, as INT16 side by side. */
static inline dfp_vi dfp_narrow(dfp_vi low, dfp_vi high) {
    int16_t narrow[2 * DFP_LANES];
    dfp_vi r;
    DFP_EACH_LANE narrow[i] = (int16_t)low.lane[i];
    DFP_EACH_LANE narrow[DFP_LANES + i] = (int16_t)high.lane[i];
    memcpy(&r, narrow, sizeof r);
    return r;
}

static inline void dfp_store(int16_t *p, dfp_vi v) { memcpy(p, &v, sizeof v); }

static inline void dfp_store_narrow(int16_t *p, dfp_vi low, dfp_vi high) {
    dfp_store(p, dfp_narrow(low, high));
}

/* DFP_LANES INT16 as INT32. */
static inline dfp_vi dfp_load_widen(const int16_t *p) {
    dfp_vi r;
    DFP_EACH_LANE r.lane[i] = p[i];
    return r;
}

/* The magnitudes of the 2 * DFP_LANES INT16. */
/* The larger of two INT16 in each half lane. */
static inline dfp_vi dfp_max_int16(dfp_vi a, dfp_vi b) {
    DFP_EACH_LANE {
        int32_t even_a = (int16_t)a.lane[i], even_b = (int16_t)b.lane[i];
        int32_t odd_a = a.lane[i] >> 16, odd_b = b.lane[i] >> 16;
        uint32_t even = (uint16_t)(even_a > even_b ? even_a : even_b);
        a.lane[i] = (int32_t)(even | (uint32_t)(odd_a > odd_b ? odd_a : odd_b) << 16);
    }
    return a;
}

/* b where a is NaN. */
static inline dfp_vf dfp_min_float(dfp_vf a, dfp_vf b) {
    DFP_EACH_LANE a.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

/* b where a is NaN. */
static inline dfp_vf dfp_max_float(dfp_vf a, dfp_vf b) {
    DFP_EACH_LANE a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

static inline dfp_vf dfp_absolute_float(dfp_vf v) {
    DFP_EACH_LANE v.lane[i] = fabsf(v.lane[i]);
    return v;
}

/* v where 0 < y <= top, else 0. */
static inline dfp_vf dfp_keep_between(dfp_vf v, dfp_vi y, int32_t top) {
    DFP_EACH_LANE v.lane[i] = y.lane[i] > 0 && y.lane[i] <= top ? v.lane[i] : 0.0f;
    return v;
}

/* In each half lane: with where a equals b, else v. */
static inline dfp_vi dfp_replace_equal(dfp_vi v, dfp_vi a, dfp_vi b, dfp_vi with) {
    DFP_EACH_LANE {
        int32_t differ = a.lane[i] ^ b.lane[i];
        uint32_t equal = (differ & 0xffff ? 0u : 0xffffu) | (differ >> 16 ? 0u : 0xffff0000u);
        v.lane[i] = (int32_t)(((uint32_t)v.lane[i] & ~equal) | ((uint32_t)with.lane[i] & equal));
    }
    return v;
}

/* In each half lane: v where a equals b, else 0. */
static inline dfp_vi dfp_keep_equal(dfp_vi v, dfp_vi a, dfp_vi b) {
    return dfp_replace_equal(dfp_zero(), a, b, v);
}

/* The first and the last DFP_LANES of 2 * DFP_LANES INT16 as INT32. */
static inline dfp_vi dfp_widen_low(dfp_vi v) {
    int16_t narrow[2 * DFP_LANES];
    memcpy(narrow, &v, sizeof narrow);
    DFP_EACH_LANE v.lane[i] = narrow[i];
    return v;
}

static inline dfp_vi dfp_widen_high(dfp_vi v) {
    int16_t narrow[2 * DFP_LANES];
    memcpy(narrow, &v, sizeof narrow);
    DFP_EACH_LANE v.lane[i] = narrow[DFP_LANES + i];
    return v;
}

/* The pairs (even[c], odd[c]) for 0 <= c < 2 * DFP_LANES, in an order that dfp_order_channels undoes. */
static inline void dfp_pair_channels(const int16_t *even, const int16_t *odd, dfp_vi pairs[2]) {
    for (int h = 0; h < 2; ++h)
        DFP_EACH_LANE pairs[h].lane[i] =
            (int32_t)((uint16_t)even[h * DFP_LANES + i] |
                      (uint32_t)(uint16_t)odd[h * DFP_LANES + i] << 16);
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
