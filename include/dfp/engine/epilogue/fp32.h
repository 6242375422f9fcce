/* Sums in FP32: runs are added up, then scaled by a power of two, and a bias is added. */

#define DFP_RESULT float
#define DFP_EPILOGUE "engine/epilogue/fp32_flush.h"
#define DFP_FLUSHES 1

/* What happens to finished FP32 sums: nothing, or multiplication by a power of two and then, unless
 * bias is NULL, the addition of one number per column. */
typedef struct {
    int scaled;
    dfp_power scale;
    const float *bias;
} DFP_NAME(dfp_epilogue);

/* The epilogue of the columns from `first` on. */
static inline DFP_NAME(dfp_epilogue)
    DFP_NAME(dfp_epilogue_at)(DFP_NAME(dfp_epilogue) f, int64_t first) {
    if (f.bias) f.bias += first;
    return f;
}

/* The part of a border tile's epilogue that the micro-kernel does; the rest is dfp_apply_epilogue. */
static inline DFP_NAME(dfp_epilogue) DFP_NAME(dfp_tile_epilogue)(DFP_NAME(dfp_epilogue) f) {
    f.scaled = 0;
    return f;
}

static inline void DFP_NAME(dfp_apply_epilogue)(const DFP_NAME(dfp_epilogue) * f, float *sum,
                                                int64_t columns) {
    for (int64_t c = 0; f->scaled && c < columns; ++c) {
        sum[c] = sum[c] * f->scale.first * f->scale.second;
        if (f->bias) sum[c] += f->bias[c];
    }
}

/* The initial value of the INT32 sums of vector v. */
static inline dfp_vi DFP_NAME(dfp_first_sum)(const DFP_NAME(dfp_epilogue) * f, int v) {
    (void)f, (void)v;
    return dfp_zero();
}
