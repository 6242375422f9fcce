/* Multiplication by a power of two that may itself lie outside FP32's range. */

typedef struct {
    float first, second;
} dfp_power;

static inline float dfp_exp2(int32_t exponent) {
    union {
        uint32_t bits;
        float value;
    } u = {(uint32_t)(exponent + 127) << 23};
    return u.value;
}

/* x * first * second = x * 2^exponent for exponent <= 254 and |x| < 2^63, rounded once if 1 <= |x| or
 * x = 0: the first factor alone cannot make such an x subnormal. */
static inline dfp_power dfp_power_of_two(int32_t exponent) {
    /* Below, all such products are 0, as they are at -252. */
    if (exponent < -252) exponent = -252;
    int32_t first = exponent < -126 ? -126 : exponent > 127 ? 127 : exponent;
    dfp_power p = {dfp_exp2(first), dfp_exp2(exponent - first)};
    return p;
}

/* 2^exponent for -1022 <= exponent <= 1023. */
static inline double dfp_exp2_double(int32_t exponent) {
    union {
        uint64_t bits;
        double value;
    } u = {(uint64_t)(exponent + 1023) << 52};
    return u.value;
}

/* floor(log2(|x|)) of a finite number, -1023 of 0. Products of FP32 numbers are never subnormal. */
static inline int32_t dfp_floor_log2_double(double x) {
    union {
        double value;
        uint64_t bits;
    } u = {x};
    return (int32_t)(u.bits >> 52 & 0x7ff) - 1023;
}
