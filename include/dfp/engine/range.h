/* The shared exponent of a result that is a sum of products, known before the result is. */

/* Bounds of a result: `bound` of its magnitude, `terms` of that of each factor, product and
 * summand, as far as FP32 must hold it. */
typedef struct {
    double bound, terms;
    int finite;
} dfp_range;

/* 2^-exponent must be an FP32 number. */
#define DFP_LEAST_RANGE_EXPONENT (-126)
/* Terms stay below 2^125 after multiplication by 2^-exponent: three of them can be added. */
#define DFP_MOST_TERM 124

/* Returns the term's magnitude. */
static inline double dfp_add_term(dfp_range *r, double term) {
    double magnitude = fabs(term);
    r->finite &= isfinite(term) != 0;
    if (magnitude > r->terms) r->terms = magnitude;
    return magnitude;
}

/* The range of two results. */
static inline dfp_range dfp_join_ranges(dfp_range a, dfp_range b) {
    a.finite &= b.finite;
    if (b.bound > a.bound) a.bound = b.bound;
    if (b.terms > a.terms) a.terms = b.terms;
    return a;
}

/* floor(log2(bound)) - (bits - 1), as in quantisation; more where FP32 would not hold the terms. */
static int32_t dfp_range_exponent(const dfp_range *r, int32_t bits) {
    if (!r->finite) return DFP_NONFINITE_EXPONENT;
    int32_t e = r->bound > 0 ? dfp_floor_log2_double(r->bound) - (bits - 1) : 0;
    int32_t least = dfp_floor_log2_double(r->terms) - DFP_MOST_TERM;
    if (least < DFP_LEAST_RANGE_EXPONENT) least = DFP_LEAST_RANGE_EXPONENT;
    if (e < least) e = least;
    return e > DFP_MAX_EXPONENT ? DFP_NONFINITE_EXPONENT : e;
}

/* Where to write a result of this exponent; NULL if it is not finite, which completes it. */
static int16_t *dfp_begin_result(dfp_result *result, int32_t exponent, int64_t n) {
    result->scale = (dfp_scale){exponent, 0};
    if (exponent != DFP_NONFINITE_EXPONENT) return result->data;
    memset(result->data, 0, (size_t)n * sizeof *result->data);
    return NULL;
}
