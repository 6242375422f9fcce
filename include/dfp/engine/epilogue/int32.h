/* Raw INT32 sums, of one run, modulo 2^32. */

#define DFP_RESULT int32_t
#define DFP_EPILOGUE "engine/epilogue/int32_flush.h"
#define DFP_FLUSHES 0

/* The initial values of the sums of each column. */
typedef struct {
    const uint32_t *start;
} DFP_NAME(dfp_epilogue);

static inline DFP_NAME(dfp_epilogue)
    DFP_NAME(dfp_epilogue_at)(DFP_NAME(dfp_epilogue) f, int64_t first) {
    f.start += first;
    return f;
}

static inline DFP_NAME(dfp_epilogue) DFP_NAME(dfp_tile_epilogue)(DFP_NAME(dfp_epilogue) f) {
    return f;
}

static inline void DFP_NAME(dfp_apply_epilogue)(const DFP_NAME(dfp_epilogue) * f, int32_t *sum,
                                                int64_t columns) {
    (void)f, (void)sum, (void)columns;
}

static inline dfp_vi DFP_NAME(dfp_first_sum)(const DFP_NAME(dfp_epilogue) * f, int v) {
    return dfp_load_sums(f->start + v * DFP_LANES);
}
